"""The pipeline against a plain loop, and its promises: order, laziness, flat memory, clean ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count

import numpy as np
import pytest
from PIL import Image

from miniclip import embed
from miniclip.arrays import FloatArray
from miniclip.embed import Embedded, Skipped, embed_all, embed_stream
from miniclip.encoder import ImageVectors
from miniclip.errors import ConfigError, ImageError
from miniclip.images import ImageSource, decode
from miniclip.preprocess import preprocess
from miniclip.testing import COLOURS, FakeEncoder, picture
from miniclip.views import named_views

ENCODER = FakeEncoder()
BAD = ImageSource("bad.jpg", data=b"not a picture")


def photo(number: int) -> ImageSource:
    """Draw the n-th photo: two colours, so that no two neighbours look alike."""
    colours = list(COLOURS)
    image = picture(colours[number % 11])
    image.paste(picture(colours[number // 11 % 11], (8 + number % 5, 24)))
    stream = BytesIO()
    image.save(stream, "PNG")
    return ImageSource(f"{number}.png", data=stream.getvalue())


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "miniclip-decode" in thread.name]


@dataclass(frozen=True)
class Recorder(FakeEncoder):
    """A fake encoder that remembers the batch sizes it saw."""

    seen: list[int] = field(default_factory=list)

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        self.seen.append(len(pixels))
        return super().encode_pixels(pixels)


@pytest.mark.parametrize("number", [0, 1, 3, 8, 9, 41])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_pipeline_equals_a_plain_loop(number: int, threads: int) -> None:
    sources = [photo(i) for i in range(number)]
    result = embed_all(ENCODER, sources, batch_size=8, threads=threads)
    assert result.names == tuple(source.name for source in sources)
    assert result.skipped == ()
    assert result.embeddings.shape == (number, ENCODER.embedding_dim)
    assert result.features.shape == (number, ENCODER.feature_dim)
    for row, source in enumerate(sources):
        pixels = preprocess(decode(source), ENCODER.image_spec)
        alone = ENCODER.encode_pixels(pixels[None])
        np.testing.assert_allclose(result.embeddings[row], alone.embeddings[0], atol=1e-6)
        np.testing.assert_allclose(result.features[row], alone.features[0], atol=1e-6)


def test_bad_images_are_skipped_by_name_and_the_rest_keep_their_order() -> None:
    sources = [BAD, photo(0), BAD, photo(1), photo(2), ImageSource("empty.png", data=b"")]
    result = embed_all(ENCODER, sources, batch_size=2)
    assert result.names == ("0.png", "1.png", "2.png")
    assert [skipped.name for skipped in result.skipped] == ["bad.jpg", "bad.jpg", "empty.png"]
    assert result.skipped[0].reason.startswith("not an image of a known format")
    assert "0 bytes" in result.skipped[2].reason


def test_nothing_but_bad_images_is_no_error() -> None:
    result = embed_all(ENCODER, [BAD] * 5)
    assert result.embeddings.shape == (0, ENCODER.embedding_dim)
    assert len(result.skipped) == 5


def test_the_model_sees_two_batch_shapes_at_most() -> None:
    for number, shapes in ((32, [16, 16]), (35, [16, 16, 4]), (25, [16, 16]), (1, [1])):
        encoder = Recorder()
        embed_all(encoder, map(photo, range(number)), batch_size=16)
        assert encoder.seen == shapes
    encoder = Recorder()
    embed_all(encoder, map(photo, range(11)), batch_size=6)
    assert encoder.seen == [6, 6], "padding never goes beyond the batch size"


def test_progress_counts_every_image_once() -> None:
    calls: list[int] = []
    sources = [photo(0), BAD, photo(1), photo(2), BAD, photo(3), photo(4)]
    embed_all(ENCODER, sources, batch_size=2, progress=calls.append)
    assert calls == sorted(calls)
    assert calls[-1] == len(sources)


def test_sources_without_end_are_read_a_bounded_way_ahead() -> None:
    taken = 0

    def endless() -> Iterator[ImageSource]:
        nonlocal taken
        for taken in count(1):
            yield photo(taken) if taken % 3 else BAD

    stream = embed_stream(ENCODER, endless(), batch_size=4)
    assert taken == 0, "nothing happens before the first result is asked for"
    done = 0
    for result in stream:
        done += 1 if isinstance(result, Skipped) else len(result.sources)
        assert taken - done <= 3 * 4
        if done > 200:
            break
    stream.close()
    assert decoding_threads() == []


def test_the_next_batch_is_decoded_while_the_model_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    next_batch = threading.Event()
    waited: list[bool] = []

    def watched(source: ImageSource, **options: int) -> Image.Image:
        if source.name == "7.png":
            next_batch.set()
        return decode(source, at_least=options["at_least"])

    class Slow(FakeEncoder):
        def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
            waited.append(next_batch.wait(timeout=10))
            return super().encode_pixels(pixels)

    monkeypatch.setattr(embed, "decode", watched)
    embed_all(Slow(), map(photo, range(8)), batch_size=4, threads=1)
    assert waited == [True, True]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_in_the_model_stops_the_threads(error: type[BaseException]) -> None:
    class Broken(FakeEncoder):
        def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
            raise error

    with pytest.raises(error):
        embed_all(Broken(), map(photo, count()), batch_size=4)
    assert decoding_threads() == []


def test_an_error_in_the_sources_comes_through_and_stops_the_threads() -> None:
    def failing() -> Iterator[ImageSource]:
        yield photo(0)
        raise ConnectionError("the share is gone")

    with pytest.raises(ConnectionError, match="the share is gone"):
        embed_all(ENCODER, failing())
    assert decoding_threads() == []


def test_a_large_jpeg_gives_nearly_the_vector_of_its_full_decode() -> None:
    blobs = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(blobs).resize((640, 480), Image.Resampling.NEAREST)
    stream = BytesIO()
    image.save(stream, "JPEG", quality=95)
    (batch,) = embed_stream(ENCODER, [ImageSource("big.jpg", data=stream.getvalue())])
    assert isinstance(batch, Embedded)
    full = ENCODER.encode_pixels(preprocess(decode(stream.getvalue()), ENCODER.image_spec)[None])
    assert float(batch.embeddings[0] @ full.embeddings[0]) > 0.999


def test_sizes_below_one_are_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        embed_stream(ENCODER, [], batch_size=0)
    with pytest.raises(ConfigError, match="threads is -1"):
        embed_stream(ENCODER, [], threads=-1)


def test_the_model_sees_the_view_that_is_asked_for() -> None:
    for view in named_views("flip,crops,tiles"):
        (batch,) = embed_stream(ENCODER, [photo(13)], view=view)
        assert isinstance(batch, Embedded)
        pixels = preprocess(view.apply(decode(photo(13))), ENCODER.image_spec)
        np.testing.assert_array_equal(
            batch.features, ENCODER.encode_pixels(pixels[None]).features, strict=True
        )


def test_a_look_gets_every_whole_picture_and_may_refuse_one() -> None:
    seen: dict[str, tuple[int, int]] = {}

    def look(source: ImageSource, image: Image.Image) -> None:
        seen[source.name] = image.size
        if source.name == "1.png":
            raise ImageError("1.png: not this one")

    sources = [photo(0), BAD, photo(1), photo(2)]
    result = embed_all(ENCODER, sources, view=named_views("flip")[1], look=look)
    assert seen == dict.fromkeys(("0.png", "1.png", "2.png"), (32, 24))
    assert result.names == ("0.png", "2.png")
    assert result.skipped[1] == Skipped("1.png", "not this one")
