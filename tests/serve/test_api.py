"""What the API answers is what the library says, whoever asks and however."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from miniclip.client import Client, ServerError
from miniclip.embed import embed_all
from miniclip.images import ImageSource
from miniclip.probe.predict import Predictor
from miniclip.serve.schemas import EmbeddedImage, EmbeddedText, PredictedImage, Skipped
from miniclip.testing import FakeEncoder
from miniclip.zeroshot import class_vectors, probabilities
from tests.serve.running import Running, jpeg, png

THREADS = """
import json
from threadpoolctl import threadpool_info
from miniclip.serve.app import create_app
from miniclip.serve.server import Server, listen
from miniclip.serve.service import Service
from miniclip.serve.settings import Settings
from miniclip.testing import FakeEncoder

def threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

def started():
    seen.append(threads())
    server.should_exit = True

seen = [threads()]
settings = Settings(port=0, decoders=1)
server = Server(create_app(Service(FakeEncoder(), settings=settings)), settings, started)
with listen(settings) as listener:
    server.run([listener])
print(json.dumps([*seen, threads()]))
"""


def test_vectors_are_those_of_the_library(client: Client) -> None:
    photos = [png("red"), jpeg(Image.effect_noise((700, 500), 90).convert("RGB"))]
    sources = [ImageSource(str(place), data=data) for place, data in enumerate(photos)]
    expected = embed_all(FakeEncoder(), sources)

    found = client.embed(photos, ["a red wall", "sea"], features=True)

    assert [image.image for image in found.images] == [0, 1]
    np.testing.assert_allclose([one.embedding for one in found.images], expected.embeddings)
    np.testing.assert_allclose([one.features or [] for one in found.images], expected.features)
    np.testing.assert_allclose(
        [one.embedding for one in found.texts], FakeEncoder().encode_texts(["a red wall", "sea"])
    )
    assert found.fingerprint == FakeEncoder().fingerprint


def test_what_is_no_image_is_skipped_with_its_place_and_reason(client: Client) -> None:
    found = client.embed([png("red"), b"no image", png("blue")])

    assert [image.image for image in found.images] == [0, 2]
    assert [entry.image for entry in found.skipped] == [1]
    assert found.skipped[0].reason.startswith("not an image of a known format")


def test_lines_come_in_order_and_hold_the_same(client: Client) -> None:
    photos = [png("red"), b"", png("blue")]

    lines = list(client.embed_lines(photos, ["sea"]))

    whole = client.embed(photos, ["sea"])
    assert [type(line) for line in lines] == [EmbeddedText, EmbeddedImage, Skipped, EmbeddedImage]
    assert lines == [whole.texts[0], whole.images[0], whole.skipped[0], whole.images[1]]


def test_words_and_examples_find_images(client: Client) -> None:
    by_words = client.search("a green thing", min_confidence=0, top=3)
    by_image = client.search(images=[png("green")], top=3)
    both = client.search("blue -green", images=[png("yellow")], min_confidence=0, top=2)

    assert by_words.hits[0].path == by_image.hits[0].path == "green.png"
    assert by_words.more
    assert {hit.path for hit in both.hits} == {"blue.png", "yellow.png"}
    assert by_image.min_confidence == 0


def test_more_like_an_image_leaves_it_out(client: Client) -> None:
    (red, *_) = client.search("red", min_confidence=0).hits

    assert red.captions == ["a red wall"]
    others = client.search(like=[red.id], top=20)
    assert red.id not in {hit.id for hit in others.hits}
    assert len(others.hits) == 10


def test_pages_and_conditions(client: Client) -> None:
    first = client.search("red", min_confidence=0, top=2)
    second = client.search("red", min_confidence=0, top=2, page=2)
    written = client.search("sea", by="text", min_confidence=0)
    small = client.search("red", where="path like 'b%'", min_confidence=0)

    assert not {hit.id for hit in first.hits} & {hit.id for hit in second.hits}
    assert [hit.path for hit in written.hits] == ["blue.png"]
    assert {hit.path for hit in small.hits} == {"black.png", "blue.png", "brown.png"}


def test_nothing_matches_is_said_with_what_came_nearest(client: Client) -> None:
    found = client.search("red", min_confidence=1)

    assert found.hits == []
    assert found.closest is not None


def test_images_of_the_index_come_by_id_without_metadata(client: Client) -> None:
    (hit, *_) = client.search("blue", min_confidence=0).hits

    image = Image.open(io.BytesIO(client.image(hit, side=16)))

    assert (image.format, image.size) == ("JPEG", (16, 12))
    assert image.getpixel((5, 5)) == pytest.approx((20, 60, 220), abs=8)
    with pytest.raises(ServerError, match="no image 4711") as failed:
        client.image(4711)
    assert failed.value.status == 404


def test_texts_are_matched_with_an_image(client: Client) -> None:
    own = client.match(png("blue"), ["a red wall", "the blue sea", "grey"], top=2)
    of_the_index = client.match(png("red"), top=1)

    assert own.hits[0].text == "the blue sea"
    assert len(own.hits) == 2
    assert [hit.text for hit in of_the_index.hits] == ["a red wall"]


def test_labels_have_the_probabilities_of_the_library(client: Client) -> None:
    labels = ["red", "blue", "green"]
    classes = class_vectors(FakeEncoder(), labels, ["{} wall"])
    vectors = embed_all(FakeEncoder(), [ImageSource("x", data=png("blue"))]).embeddings
    expected = dict(zip(labels, probabilities(FakeEncoder(), vectors, classes)[0], strict=True))

    found = client.classify([png("blue"), b"?"], labels, templates=["{} wall"], top=2)

    (image,) = found.images
    assert image.labels[0].label == "blue"
    assert len(image.labels) == 2
    for label in image.labels:
        assert label.probability == pytest.approx(expected[label.label])
    assert [entry.image for entry in found.skipped] == [1]


def test_a_classifier_says_what_it_says_on_the_command_line(
    client: Client, server: Running
) -> None:
    model = server.service.models["made"].model
    name = model.reference.names[0]
    photo = (server.place / "labelled" / name).read_bytes()

    found = client.predict("made", [photo, b"?"])

    (image,) = found.images
    assert {label.label for label in image.labels} == set(model.classes)
    assert image.nearest[0].path == name
    assert image.nearest[0].cosine == pytest.approx(1, abs=1e-3)
    assert image.decision in {"auto", "review"}
    assert [type(line) for line in client.predict_lines("made", [photo, b"?"])] == [
        PredictedImage,
        Skipped,
    ]
    assert isinstance(server.service.models["made"], Predictor)


def test_an_explanation_says_how_far_it_can_be_believed(client: Client) -> None:
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste((20, 60, 220), (0, 0, 32, 32))

    found = client.explain(jpeg(picture), text="blue", method="occlusion")

    grid = np.array(found.map)
    row, column = divmod(int(grid.argmax()), grid.shape[1])
    assert row < 7
    assert column < 7
    assert found.unit == "cosine"
    assert "verdict" in found.credibility


def test_the_server_says_what_it_has(client: Client) -> None:
    models = client.models()

    assert models.encoder.name == "fake"
    assert [card.name for card in models.classifiers] == ["made"]
    assert models.index is not None
    assert models.index.images == 11
    assert models.limits.max_images == 64


@pytest.mark.parametrize(
    ("verb", "form", "code"),
    [
        ("search", {"text": ""}, "request"),
        ("search", {"text": "red", "where": "no such"}, "request"),
        ("search", {"like": "99"}, "missing"),
        ("search", {"text": "red", "top": "0"}, "request"),
        ("search", {"text": "x" * 3000}, "limit"),
        ("embed", {"text": ["a"] * 950}, "limit"),
        ("embed", {"text": ["a"] * 1100}, "request"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_reason(
    server: Running, verb: str, form: dict[str, object], code: str
) -> None:
    with server.http() as http:
        answer = http.post(f"/v1/{verb}", data=form)

    assert 400 <= answer.status_code < 500
    problem = answer.json()["error"]
    assert problem["code"] == code
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_an_unknown_classifier_is_named(client: Client) -> None:
    with pytest.raises(ServerError, match="no classifier 'other'; choose one of made") as failed:
        client.predict("other", [png("red")])
    assert (failed.value.status, failed.value.code) == (404, "missing")


def test_many_ask_at_once_and_each_gets_his_own(client: Client) -> None:
    colours = ["red", "blue", "green", "yellow"] * 8

    def ask(colour: str) -> str:
        (best,) = client.search(images=[png(colour)], top=1).hits
        return best.path

    with ThreadPoolExecutor(16) as people:
        assert list(people.map(ask, colours)) == [f"{colour}.png" for colour in colours]


def test_small_products_take_one_thread_while_it_serves() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", THREADS],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    before, meanwhile, after = json.loads(asked.stdout)
    assert meanwhile == [1] * len(before)
    assert before == after


def test_ids_of_requests_are_kept_when_sane_and_made_otherwise(server: Running) -> None:
    with server.http() as http:
        sane = http.get("/healthz", headers={"x-request-id": "abc-1.2_3"})
        mad = http.get("/healthz", headers={"x-request-id": "a b<script>"})

    assert sane.headers["x-request-id"] == "abc-1.2_3"
    assert mad.headers["x-request-id"].isalnum()


def test_metrics_count_routes_and_never_what_was_asked(server: Running, client: Client) -> None:
    client.search("a secret wish", min_confidence=0)
    with server.http() as http:
        http.get("/secret/path")
        text = http.get("/metrics").text

    assert 'route="/v1/search",status="200"' in text
    assert 'route="other",status="404"' in text
    assert "miniclip_batch_size_bucket" in text
    assert "secret" not in text


def test_the_description_has_every_route_and_examples(server: Running) -> None:
    with server.http() as http:
        document = http.get("/openapi.json").json()

    verbs = {"embed", "search", "match", "classify", "predict", "explain", "models"}
    assert verbs <= {path.removeprefix("/v1/") for path in document["paths"]}
    assert {"/healthz", "/readyz", "/metrics", "/v1/images/{id}"} <= set(document["paths"])
    assert "a dog" in json.dumps(document)
