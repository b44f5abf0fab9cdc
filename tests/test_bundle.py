"""Bundles: what is written is read back; what was altered, contradicts or is missing is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import shutil
from pathlib import Path

import pytest

import miniclip.bundle
from miniclip.bundle import Bundle, installed_bundles, write_bundle
from miniclip.errors import BundleError
from miniclip.manifest import Manifest, Parity
from miniclip.tokenizer import TextSpec
from tests.tiny_bundle import (
    IMAGE_SPEC,
    MANIFEST,
    TEXT_SPEC,
    edit_manifest,
    images_alone,
    tiny_files,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "tiny", manifest=MANIFEST, files=tiny_files())


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the directory of shipped bundles."""
    monkeypatch.setattr(miniclip.bundle, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped"


def named(directory: Path, name: str) -> Bundle:
    manifest = dataclasses.replace(MANIFEST, name=name)
    return write_bundle(directory, manifest=manifest, files=tiny_files())


# Writing and reading back


def test_what_is_written_is_read_back(bundle: Bundle) -> None:
    again = Bundle.open(bundle.directory)
    assert again == bundle
    assert again.manifest == MANIFEST
    assert again.name == "tiny"
    assert again.size_bytes == sum(map(len, tiny_files().values()))


def test_every_file_is_hashed_and_the_card_may_come_along(tmp_path: Path) -> None:
    card = tmp_path / "notes.md"
    card.write_text("# A model")
    files: dict[str, Path | bytes] = {**tiny_files(), "model_card.md": card}
    bundle = write_bundle(tmp_path / "tiny", manifest=MANIFEST, files=files)
    assert set(bundle.files) == set(files)
    for name, digest in bundle.files.items():
        assert digest == hashlib.sha256(bundle.path(name).read_bytes()).hexdigest()
    bundle.path("model_card.md").write_text("# Another model")
    with pytest.raises(BundleError, match=r"model_card\.md was altered"):
        Bundle.open(bundle.directory)


def test_an_older_bundle_is_replaced_and_nothing_is_left_behind(bundle: Bundle) -> None:
    newer = named(bundle.directory, "newer")
    assert Bundle.open(bundle.directory).name == newer.name == "newer"
    assert [entry.name for entry in bundle.directory.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir], ids=["a file", "a directory"])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, make: object) -> None:
    make(tmp_path / "thesis")  # type: ignore[operator]
    with pytest.raises(BundleError, match="thesis exists and is no bundle"):
        write_bundle(tmp_path / "thesis", manifest=MANIFEST, files=tiny_files())
    assert (tmp_path / "thesis").exists()


def test_a_failure_on_the_way_leaves_the_old_bundle_alone(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: dict[str, Path | bytes] = {**tiny_files(), "text.onnx": Path("nowhere.onnx")}
    with pytest.raises(BundleError, match=r"cannot write the bundle.*nowhere\.onnx"):
        write_bundle(bundle.directory, manifest=MANIFEST, files=files)

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(bundle.directory, manifest=MANIFEST, files=tiny_files())
    assert Bundle.open(bundle.directory) == bundle
    assert [entry.name for entry in bundle.directory.parent.iterdir()] == ["tiny"]


def test_a_failed_last_step_puts_the_old_bundle_back(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fails_for_the_new_one(path: Path, target: Path) -> Path:
        if path.suffix == ".new":
            raise OSError("Device or resource busy")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(BundleError, match="resource busy"):
        named(bundle.directory, "newer")
    assert Bundle.open(bundle.directory) == bundle
    assert [entry.name for entry in bundle.directory.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text.onnx": None}, r"files lists no text\.onnx"),
        ({"weights.bin": b""}, r"files lists 'weights\.bin'"),
        ({"../escape": b""}, r"files lists '\.\./escape'"),
    ],
)
def test_only_the_files_of_a_bundle_are_written(
    tmp_path: Path, change: dict[str, bytes | None], message: str
) -> None:
    files = {
        name: content for name, content in {**tiny_files(), **change}.items() if content is not None
    }
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "tiny", manifest=MANIFEST, files=files)
    assert list(tmp_path.iterdir()) == []


# Refusing


def test_one_changed_byte_is_found(bundle: Bundle) -> None:
    path = bundle.path("image.onnx")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"image\.onnx was altered.*export it again"):
        Bundle.open(bundle.directory)
    assert Bundle.open(bundle.directory, verify=False).name == "tiny"


def test_a_second_open_hashes_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    Bundle.open(bundle.directory)
    monkeypatch.setattr(miniclip.bundle, "_sha256", lambda _: pytest.fail("hashed again"))
    Bundle.open(bundle.directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "format_version is 3 and this miniclip reads 1 and 2"),
        ({"name": "../up"}, r"name is '\.\./up'"),
        ({"name": 3}, "name is 3"),
        ({"embedding_dim": "4"}, "embedding_dim is '4'"),
        ({"embedding_dim": True}, "embedding_dim is True"),
        ({"feature_dim": 0}, "feature_dim is 0"),
        ({"logit_scale": -1}, "logit_scale is -1"),
        ({"logit_scale": float("nan")}, "logit_scale is nan"),
        ({"logit_bias": None}, "logit_bias is None"),
        ({"licence": " "}, "licence is ' '"),
        ({"image": {}}, "image is unusable"),
        ({"image": IMAGE_SPEC.to_dict() | {"side": "32"}}, "image is unusable.*side is '32'"),
        ({"text": TEXT_SPEC.to_dict() | {"pad": 1}}, "text is unusable.*pad is 1"),
        ({"text": []}, r"text is \[\], but must be a table"),
        ({"parity": {"samples": 1}}, r"missing key parity\.image_cosine_min"),
        ({"provenance": {"epochs": 3}}, "provenance is {'epochs': 3}"),
        ({"weights": ["int8"]}, r"weights is \['int8'\]"),
        ({"files": {"image.onnx": "123"}}, "files is .*sha256"),
        ({"files": {"image.onnx": "0" * 64}}, r"files lists no text\.onnx"),
        ({"colour": "red"}, "unknown key colour"),
    ],
)
def test_the_manifest_is_read_strictly(
    bundle: Bundle, change: dict[str, object], message: str
) -> None:
    edit_manifest(bundle, **change)
    with pytest.raises(BundleError, match=r"bundle\.json: |files lists no") as caught:
        Bundle.open(bundle.directory)
    assert caught.match(message)


@pytest.mark.parametrize("content", [b"", b"[]", b'"x"', b"{", b"\xff", b"{}"])
def test_a_manifest_that_is_no_manifest_is_named(bundle: Bundle, content: bytes) -> None:
    bundle.path("bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json: "):
        Bundle.open(bundle.directory)


def test_a_missing_key_is_named(bundle: Bundle) -> None:
    values = MANIFEST.to_dict()
    del values["licence"], values["weights"]
    with pytest.raises(BundleError, match="missing key licence, weights"):
        Manifest.from_dict(values)


def test_a_missing_or_an_extra_file_is_named(bundle: Bundle) -> None:
    (bundle.directory / ".DS_Store").touch()
    Bundle.open(bundle.directory)
    extra = bundle.directory / "text.onnx.data"
    extra.touch()
    with pytest.raises(BundleError, match=r"text\.onnx\.data is not listed"):
        Bundle.open(bundle.directory)
    extra.unlink()
    bundle.path("tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        Bundle.open(bundle.directory, verify=False)


def test_a_manifest_is_checked_when_it_is_made() -> None:
    with pytest.raises(BundleError, match=r"parity\.image_cosine_min is 2"):
        dataclasses.replace(MANIFEST, parity=Parity(2, 1, 1, 1))


# Models of images alone


def test_a_model_of_images_alone_has_no_text_files(tmp_path: Path) -> None:
    bundle = images_alone(tmp_path / "images")
    again = Bundle.open(bundle.directory)
    assert again == bundle
    assert again.manifest.text is None
    assert set(again.files) == {"image.onnx"}
    assert again.fingerprint == bundle.fingerprint


def test_text_files_and_a_text_tower_come_together_or_not_at_all(tmp_path: Path) -> None:
    bundle = images_alone(tmp_path / "images")
    with pytest.raises(BundleError, match=r"files lists 'text\.onnx', but text is null"):
        write_bundle(tmp_path / "other", manifest=bundle.manifest, files=tiny_files())
    with pytest.raises(BundleError, match="sentences is 1, but the model has no text tower"):
        dataclasses.replace(MANIFEST, text=None)
    files = {"image.onnx": tiny_files()["image.onnx"]}
    with pytest.raises(BundleError, match=r"files lists no text\.onnx"):
        write_bundle(tmp_path / "other", manifest=MANIFEST, files=files)


# Older formats


def test_a_bundle_of_the_first_format_is_read(bundle: Bundle) -> None:
    first = {"image_cosine_min": 0.9998, "text_cosine_min": 0.9993, "samples": 16}
    edit_manifest(bundle, format_version=1, parity=first)
    parity = Bundle.open(bundle.directory).manifest.parity
    assert parity == Parity(0.9998, 0.9993, photos=16, sentences=16)
    edit_manifest(bundle, parity=first | {"samples": 0})
    with pytest.raises(BundleError, match=r"parity\.photos is 0"):
        Bundle.open(bundle.directory)


# The fingerprint


def test_the_fingerprint_follows_what_decides_the_vectors_and_nothing_else(tmp_path: Path) -> None:
    def fingerprint(files: dict[str, bytes] | None = None, **changes: object) -> str:
        manifest = dataclasses.replace(MANIFEST, **changes)  # type: ignore[arg-type]
        content = tiny_files() | (files or {})
        return write_bundle(tmp_path / "tiny", manifest=manifest, files=content).fingerprint

    original = fingerprint()
    assert fingerprint() == original
    assert fingerprint(name="other", licence="MIT", provenance={}) == original
    assert fingerprint({"model_card.md": b"# A model"}) == original
    different = {
        fingerprint({"image.onnx": b"x"}),
        fingerprint({"text.onnx": b"x"}),
        fingerprint({"tokenizer.json": b"x"}),
        fingerprint(text=TextSpec(8)),
        fingerprint(image=dataclasses.replace(IMAGE_SPEC, interpolation="bicubic")),
        original,
    }
    assert len(different) == 6


# Finding


def test_names_are_looked_up_on_the_shelves_and_then_as_directories(
    shelf: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(shelf / "default", "shipped-default")
    named(home / "bundles" / "default", "hidden-by-the-shipped-one")
    named(home / "bundles" / "mine", "mine")
    named(tmp_path / "work" / "run1", "run1")
    monkeypatch.chdir(tmp_path / "work")
    assert Bundle.resolve().name == "shipped-default"
    assert Bundle.resolve("default").name == "shipped-default"
    assert Bundle.resolve("mine").name == "mine"
    assert Bundle.resolve("run1").name == "run1"
    assert Bundle.resolve("./run1").name == "run1"
    assert Bundle.resolve(tmp_path / "work" / "run1").name == "run1"
    assert [bundle.name for bundle in installed_bundles()] == ["shipped-default", "mine"]
    for name in ("shipped-default", "mine"):  # what `miniclip models` prints can be typed
        assert Bundle.resolve(name).name == name


def test_the_environment_chooses_when_nobody_else_does(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(shelf / "default", "shipped-default")
    named(tmp_path / "other", "other")
    monkeypatch.setenv("MINICLIP_BUNDLE", str(tmp_path / "other"))
    assert Bundle.resolve().name == "other"
    assert Bundle.resolve("default").name == "shipped-default"


def test_a_bundle_that_is_nowhere_is_reported_with_those_that_are(shelf: Path) -> None:
    named(shelf / "default", "default")
    with pytest.raises(BundleError, match=r"no bundle 'clip'.*installed ones \(default\)"):
        Bundle.resolve("clip")
    with pytest.raises(BundleError, match=r"no bundle '\.\./clip'"):
        Bundle.resolve("../clip")


def test_a_broken_bundle_hides_no_other(
    shelf: Path, caplog: pytest.LogCaptureFixture, home: Path
) -> None:
    good, bad = named(shelf / "good", "good"), named(shelf / "bad", "bad")
    edit_manifest(bad, name="")
    with caplog.at_level(logging.WARNING):
        assert installed_bundles() == [good]
    assert "bad" in caplog.text
    shutil.rmtree(shelf)
    assert installed_bundles() == []
    assert not home.exists(), "looking must not make directories"
