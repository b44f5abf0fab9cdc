"""From a tiny trained model to a bundle, through the encoder that users run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch

from miniclip.bundle import Bundle
from miniclip.encoder import Encoder
from miniclip.errors import ExportError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import preprocess
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.train.export import bundle as export
from miniclip.train.export.bundle import FULL, Label, Weights, export_model, export_smallest
from miniclip.train.export.onnx_graphs import image_graph, ready_to_export, text_graph
from miniclip.train.model import TwoTower
from tests.train.tiny_model import D, tiny_model

LABEL = Label("tiny", "Apache-2.0", {"recipe": "a test", "data": "none"}, card="# Tiny\n")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TwoTower:
    built = tiny_model(tmp_path_factory.mktemp("tiny"), image_trainable="all", bias=-1.5)
    with torch.no_grad():
        for parameter in built.image_head.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # no zero layer left
    built.standardise_features(torch.full((16,), 0.2), torch.full((16,), 0.7))
    return built


class Graphs(NamedTuple):
    image: onnx.ModelProto
    text: onnx.ModelProto


@pytest.fixture(scope="module")
def graphs(model: TwoTower) -> Graphs:
    ready = ready_to_export(model)
    return Graphs(image_graph(ready), text_graph(ready))


@pytest.fixture
def traced(graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing takes seconds, so tests of what comes after it share one pair of graphs."""
    monkeypatch.setattr(export, "image_graph", lambda model: graphs.image)
    monkeypatch.setattr(export, "text_graph", lambda model: graphs.text)


@pytest.fixture
def bundle(model: TwoTower, traced: None, tmp_path: Path) -> Bundle:
    return export_model(model, tmp_path / "tiny", label=LABEL, weights=FULL)


def test_the_bundle_says_what_the_model_is(bundle: Bundle, model: TwoTower) -> None:
    manifest = Bundle.open(bundle.directory).manifest
    assert (manifest.embedding_dim, manifest.feature_dim) == (D, 16)
    assert manifest.image == model.image_tower.image_spec
    assert manifest.text == model.text_tower.text_spec
    assert manifest.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert manifest.logit_bias == -1.5
    assert manifest.provenance == LABEL.provenance
    assert manifest.weights == {"image": "float32", "text": "float32"}
    assert bundle.path("model_card.md").read_text() == "# Tiny\n"


def test_the_parity_on_record_was_measured(bundle: Bundle, model: TwoTower) -> None:
    """Again, by hand, with other batches than the export used."""
    encoder = OnnxEncoder.open(bundle)
    photos = probe_photos()
    pixels = np.stack([preprocess(photo, encoder.image_spec) for photo in photos])
    model.eval()
    with torch.no_grad():
        expected = model.encode_image(torch.from_numpy(pixels)).numpy()
    for row, photo in zip(expected, pixels, strict=True):
        found = encoder.encode_pixels(photo[None]).embeddings[0]
        assert found @ row >= 0.99999
    parity = bundle.manifest.parity
    assert (parity.photos, parity.sentences) == (len(photos), len(PROBE_SENTENCES))
    assert parity.limit == 0.9999
    assert 0.9999 <= parity.image_cosine_min <= 1.00001
    assert 0.9999 <= (parity.text_cosine_min or 0) <= 1.00001


def test_a_text_has_the_same_vector_alone_and_among_longer_ones(bundle: Bundle) -> None:
    encoder = OnnxEncoder.open(bundle)
    together = encoder.encode_texts(PROBE_SENTENCES)
    for row, sentence in zip(together, PROBE_SENTENCES, strict=True):
        np.testing.assert_allclose(encoder.encode_texts([sentence])[0], row, atol=1e-5)


@pytest.mark.parametrize(("image", "text"), [("vit", "bert"), ("convnext", "clip")])
def test_other_architectures_survive_the_way(image: str, text: str, tmp_path: Path) -> None:
    built = tiny_model(tmp_path / "model", image=image, text=text, head="projection")
    written = export_model(built, tmp_path / "out", label=LABEL)
    assert written.manifest.weights == {"image": "float16", "text": "int8-embeddings"}
    assert written.manifest.parity.image_cosine_min > 0.999
    assert (written.manifest.parity.text_cosine_min or 0) > 0.999


def test_export_leaves_the_model_as_it_was(model: TwoTower, bundle: Bundle) -> None:
    assert any(parameter.requires_grad for parameter in model.image_tower.parameters())


def test_the_graphs_have_the_promised_ports_and_tell_no_paths(graphs: Graphs) -> None:
    for graph, inputs in (
        (graphs.image, ["pixels"]),
        (graphs.text, ["input_ids", "attention_mask"]),
    ):
        onnx.checker.check_model(graph)
        assert [port.name for port in graph.graph.input] == inputs
        assert [port.name for port in graph.graph.output] == ["embedding", "features"]
        assert b"site-packages" not in graph.SerializeToString()
        assert str(Path(__file__).parents[2]).encode() not in graph.SerializeToString()


def test_a_graph_that_differs_from_its_model_is_refused(
    model: TwoTower, traced: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = ready_to_export(model)
    with torch.no_grad():
        twin.feature_mean += 0.5  # as if the trained model moved on after it was traced
    monkeypatch.setattr(export, "ready_to_export", lambda model: twin)
    with pytest.raises(ExportError, match=r"the cosine of photo \d+ is 0\.\d+"):
        export_model(model, tmp_path / "out", label=LABEL)
    assert not (tmp_path / "out").exists()


def test_smaller_weights_are_kept_while_the_score_holds(
    model: TwoTower, traced: None, tmp_path: Path
) -> None:
    small, middle = Weights("int8", "int8"), Weights("float16", "float16")
    scores = iter([0.800, 0.790, 0.799])  # float32, small, middle

    def score(encoder: Encoder) -> float:
        assert encoder.embedding_dim == D
        return next(scores)

    written = export_smallest(
        model, tmp_path / "out", label=LABEL, score=score, candidates=(small, middle)
    )
    assert written.manifest.weights == {"image": "float16", "text": "float16"}
    verdict = written.manifest.provenance["weights_verdict"]
    assert "kept float16+float16" in verdict
    assert "float32 0.8000, int8+int8 0.7900, float16+float16 0.7990" in verdict
    assert written.manifest.provenance["recipe"] == "a test"


def test_full_weights_are_kept_when_every_smaller_one_costs_too_much(
    model: TwoTower, traced: None, tmp_path: Path
) -> None:
    scores = iter([0.800, 0.797])
    written = export_smallest(
        model,
        tmp_path / "out",
        label=LABEL,
        score=lambda encoder: next(scores),
        candidates=(Weights("float16", "float16"),),
    )
    assert written.manifest.weights == {"image": "float32", "text": "float32"}
    assert "kept float32+float32" in written.manifest.provenance["weights_verdict"]
