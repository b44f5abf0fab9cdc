"""The parity record: measured when a bundle is made, checked once on every machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import miniclip.pull.parity
from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import PARITY_FILE, Bundle, write_bundle
from miniclip.encoder import Encoder
from miniclip.errors import BundleError, ExportError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.preprocess import ImageSpec, preprocess
from miniclip.pull.parity import (
    ProbeVectors,
    check_once,
    check_parity,
    compare,
    encode_probes,
    read_parity,
    write_parity,
)
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.runtimes import load_encoder
from miniclip.tokenizer import Tokenizer, Tokens
from tests.tiny_bundle import MANIFEST, D, F, images_alone, tiny_files


@pytest.fixture(scope="module")
def said(tiny_bundle: Bundle) -> ProbeVectors:
    return encode_probes(OnnxEncoder.open(tiny_bundle))


@pytest.fixture
def recorded(tiny_bundle: Bundle, said: ProbeVectors, tmp_path: Path) -> Bundle:
    encoder = OnnxEncoder.open(tiny_bundle)
    return write_parity(tmp_path / "recorded", tiny_bundle, said, encoder)


def nudged(rows: np.ndarray, row: int, amount: float) -> np.ndarray:
    """Turn one unit row away by an angle whose sine is about `amount`."""
    changed = rows.copy()
    aside = np.roll(changed[row], 1)
    aside -= aside @ changed[row] * changed[row]
    changed[row] += amount * aside / np.linalg.norm(aside)
    return unit_rows(changed)


# The probes


def test_the_probes_are_as_many_and_as_odd_as_promised(tiny_bundle: Bundle) -> None:
    photos = probe_photos()
    assert len(photos) == 32
    assert all(photo.mode == "RGB" for photo in photos)
    assert len({photo.size for photo in photos}) >= 12
    assert max(photo.width / photo.height for photo in photos) == 16
    assert len(PROBE_SENTENCES) == len(set(PROBE_SENTENCES)) == 64
    assert {"", " "} < set(PROBE_SENTENCES)
    assert max(map(len, PROBE_SENTENCES)) > 1000
    for script in ("猫", "🐶", "כ", "ع", "\x00", "\u202e"):
        assert any(script in sentence for sentence in PROBE_SENTENCES)


def test_the_probes_are_the_same_every_time() -> None:
    for one, other in zip(probe_photos(), probe_photos(), strict=True):
        assert one.tobytes() == other.tobytes()


# Writing


def test_what_is_measured_is_what_a_loop_measures(said: ProbeVectors) -> None:
    assert said.texts is not None
    found = dataclasses.replace(
        said, images=nudged(said.images, 3, 0.01), texts=nudged(said.texts, 7, 0.02)
    )
    parity = compare(said, found, least=0.9)
    assert found.texts is not None
    cosines = [float(a @ b) for a, b in zip(said.images, found.images, strict=True)]
    assert parity.image_cosine_min == pytest.approx(min(cosines), abs=1e-6)
    assert parity.image_max_abs == pytest.approx(np.abs(said.images - found.images).max())
    assert parity.text_max_abs == pytest.approx(np.abs(said.texts - found.texts).max())
    assert (parity.photos, parity.sentences) == (32, 64)
    assert parity.text_cosine_min is not None
    assert parity.limit == pytest.approx(parity.text_cosine_min - 0.001)


def test_a_model_that_differs_is_refused_by_its_worst_probe(
    tiny_bundle: Bundle, said: ProbeVectors, tmp_path: Path
) -> None:
    assert said.texts is not None
    expected = dataclasses.replace(said, texts=nudged(said.texts, 7, 0.1))
    with pytest.raises(ExportError, match=r"the cosine of sentence 7 'a dog' is 0\.99\d+, but"):
        write_parity(tmp_path / "out", tiny_bundle, expected, OnnxEncoder.open(tiny_bundle))
    features = said.features.copy()
    features[5] *= -1
    with pytest.raises(ExportError, match=r"the features of photo 5 is -1\.0"):
        compare(said, dataclasses.replace(said, features=features))
    assert not (tmp_path / "out").exists()


def test_vectors_of_nothing_are_equal_to_vectors_of_nothing(said: ProbeVectors) -> None:
    images = said.images.copy()
    images[0] = 0
    blank = dataclasses.replace(said, images=images)
    assert compare(blank, blank).image_cosine_min == pytest.approx(1)
    with pytest.raises(ExportError, match="photo 0 is 0"):
        compare(said, blank)


def test_a_record_is_a_file_like_the_others_and_leaves_the_fingerprint_alone(
    recorded: Bundle, tiny_bundle: Bundle, said: ProbeVectors
) -> None:
    assert recorded.fingerprint == tiny_bundle.fingerprint
    found = read_parity(recorded)
    assert found is not None
    for name in ("images", "features", "texts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(said, name))
    path = recorded.path(PARITY_FILE)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BundleError, match=r"parity\.npz was altered"):
        Bundle.open(recorded.directory)


def test_equal_vectors_give_equal_bytes(said: ProbeVectors) -> None:
    assert said.to_bytes() == dataclasses.replace(said).to_bytes()


# Checking


def test_the_first_load_checks_and_later_ones_do_not(
    recorded: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def counted(bundle: Bundle, encoder: Encoder) -> None:
        checked.append(bundle.name)
        check_parity(bundle, encoder)

    monkeypatch.setattr(miniclip.pull.parity, "check_parity", counted)
    for _ in range(3):
        load_encoder(recorded.directory)
    assert len(checked) == 1
    encoder = OnnxEncoder.open(recorded)
    check_once(recorded, encoder, "another runtime 1.0")
    assert len(checked) == 2


def test_a_place_that_cannot_remember_checks_again(
    recorded: Bundle, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "cache").write_text("a file where a folder should be")
    load_encoder(recorded.directory)
    assert load_encoder(recorded.directory).encode_texts(["red"]).shape == (1, D)


@pytest.mark.parametrize("part", ["pixels", "tokens"])
def test_a_machine_that_computes_otherwise_is_told(
    part: str, recorded: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a library of another version might: turn pictures, or cut texts elsewhere."""
    if part == "pixels":

        def turned(image: Image.Image, spec: ImageSpec) -> FloatArray:
            return preprocess(image.transpose(Image.Transpose.ROTATE_180), spec)

        monkeypatch.setattr("miniclip.pull.parity.preprocess", turned)
        message = r"does not give on this machine.* the features of photo \d+ is -?0\.\d+, but"
    else:
        made = Tokenizer.__call__

        def other_words(self: Tokenizer, texts: Sequence[str]) -> Tokens:
            return made(self, ["red"] * len(texts))

        monkeypatch.setattr(Tokenizer, "__call__", other_words)
        message = r"does not give on this machine.* sentence \d+ '.*' is -?\d\.\d+, but"
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(BundleError, match=message):
            load_encoder(recorded.directory)


def test_a_bundle_without_a_record_is_not_checked(tiny_bundle: Bundle, home: Path) -> None:
    check_parity(tiny_bundle, OnnxEncoder.open(tiny_bundle))
    assert not (home / "cache" / "parity").exists()


def test_a_record_of_other_probes_is_left_alone(
    recorded: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miniclip.pull.parity, "PROBES_VERSION", 2)
    assert read_parity(recorded) is None
    load_encoder(recorded.directory)


def test_a_damaged_record_is_named(tmp_path: Path, said: ProbeVectors) -> None:
    for number, content in enumerate((b"", b"PK", said.to_bytes()[:1000])):
        files = {**tiny_files(), PARITY_FILE: content}
        bundle = write_bundle(tmp_path / str(number), manifest=MANIFEST, files=files)
        with pytest.raises(BundleError, match=r"parity\.npz is damaged"):
            load_encoder(bundle.directory)
    few = dataclasses.replace(said, images=said.images[:5])
    files = {**tiny_files(), PARITY_FILE: few.to_bytes()}
    bundle = write_bundle(tmp_path / "few", manifest=MANIFEST, files=files)
    with pytest.raises(BundleError, match=r"parity\.npz: images is not"):
        load_encoder(bundle.directory)


def test_a_model_of_images_alone_has_a_record_too(tmp_path: Path) -> None:
    trial = images_alone(tmp_path / "trial")
    encoder = OnnxEncoder.open(trial)
    said = encode_probes(encoder, texts=False)
    bundle = write_parity(tmp_path / "out", trial, said, encoder)
    parity = bundle.manifest.parity
    assert (parity.sentences, parity.text_cosine_min, parity.text_max_abs) == (0, None, None)
    assert load_encoder(bundle.directory).feature_dim == F
