"""Lessons of uploaded photos, and the classifiers that come of them."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from miniclip import images
from miniclip.datasets.labelled_splits import read_labelled_splits
from miniclip.errors import DatasetError, ImageError
from miniclip.index.vector_cache import VectorCache
from miniclip.probe.fit import Fitted, fit_classifier
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.model import ClassifierModel
from miniclip.serve.failures import BusyError, LimitError
from miniclip.serve.lesson import Example, Lesson, Limits
from miniclip.serve.service import Service
from miniclip.serve.settings import Settings
from miniclip.serve.teaching import Teaching, zipped
from miniclip.testing import FakeEncoder
from tests.probe.photos import make_photos
from tests.serve.running import png

LIMITS = Limits(images=100, bytes=1 << 20, one=1 << 16)
SETTINGS = FitSettings(folds=3)


def zip_of(path: Path, files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("lesson") / "photos", 6)


def told(lesson: Lesson) -> list[tuple[str, str, str]]:
    return [(one.name, one.label, one.part) for one in lesson.examples]


# Lessons


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a/1.png", "b/2.png"], [("a/1.png", "a", "train"), ("b/2.png", "b", "train")]),
        (["d/a/1.png", "d/b/x/2.JPG"], [("a/1.png", "a", "train"), ("b/x/2.JPG", "b", "train")]),
        (["a/1.png", "a/2.png"], [("a/1.png", "a", "train"), ("a/2.png", "a", "train")]),
        (
            ["d/train/a/1.png", "d/test/b/2.png"],
            [("train/a/1.png", "a", "train"), ("test/b/2.png", "b", "test")],
        ),
        (["1.png", "a/2.png"], [("1.png", "", "train"), ("a/2.png", "a", "train")]),
        (["../../etc/1.png", "a/.hidden.png", "__MACOSX/a/1.png", "a/1.txt", "a/2.png"],
         [("a/2.png", "a", "train")]),
    ],
)  # fmt: skip
def test_the_folders_of_a_zip_are_classes(
    tmp_path: Path, files: list[str], expected: list[tuple[str, str, str]]
) -> None:
    path = zip_of(tmp_path / "photos.zip", dict.fromkeys(files, b"photo"))
    lesson = Lesson().with_files([path], "", LIMITS)
    assert told(lesson) == expected
    assert {one.read() for one in lesson.examples} == {b"photo"}
    one_class = Lesson().with_files([path], " mine ", LIMITS)
    assert one_class.classes == ("mine",)


def test_photos_get_their_class_with_the_upload_or_one_by_one(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"photo")
    paths = [tmp_path / "1.png", tmp_path / "2.png"]
    lesson = Lesson().with_files(paths, "cat", LIMITS).with_files(paths, "", LIMITS)
    assert [one.name for one in lesson.unlabelled] == ["1.png (2)", "2.png (2)"]
    assert str(lesson) == "cat: 2, without a class: 2"
    lesson = lesson.labelled("1.png (2)", "dog").without("2.png (2)")
    assert str(lesson) == "cat: 2, dog: 1"
    with pytest.raises(DatasetError, match="no class"):
        lesson.labelled("1.png", "two\nlines")


def test_a_lesson_is_bounded_before_anything_is_unpacked(tmp_path: Path) -> None:
    many = zip_of(tmp_path / "many.zip", {f"a/{n}.png": b"" for n in range(101)})
    large = zip_of(tmp_path / "large.zip", {"a/1.png": bytes(1 << 17)})
    heavy = zip_of(tmp_path / "heavy.zip", {f"a/{n}.png": bytes(1 << 16) for n in range(17)})
    assert heavy.stat().st_size < 1 << 14, "it is a bomb"
    for path, words in (
        (many, "101 photos"),
        (large, "a photo may have"),
        (heavy, "1 MB of photos"),
    ):
        with pytest.raises(LimitError, match=words):
            Lesson().with_files([path], "", LIMITS)


def test_zips_that_are_traps_are_refused(tmp_path: Path) -> None:
    lists = zip_of(tmp_path / "lists.zip", {f"{n:0>60000}": b"" for n in range(80)})
    odd = zip_of(tmp_path / "odd.zip", {"a/1.png": b"photo"}, zipfile.ZIP_LZMA)
    none = zip_of(tmp_path / "none.zip", {"a/1.txt": b""})
    cut = tmp_path / "cut.zip"
    cut.write_bytes(odd.read_bytes()[:-10])
    huge = tmp_path / "huge.zip"
    huge.write_bytes(b"PK\6\7" + bytes(16) + odd.read_bytes()[-22:])
    for path, words in (
        (lists, "too many files"), (odd, "unusual"), (none, "no photos"), (cut, "no end"),
        (huge, "too many files"),
    ):  # fmt: skip
        with pytest.raises(DatasetError, match=words):
            Lesson().with_files([path], "", LIMITS)


def test_a_damaged_photo_of_a_zip_is_an_image_error(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "photos.zip", {"a/1.png": bytes(range(256))})
    damaged = bytearray(path.read_bytes())
    damaged[60] ^= 0xFF
    path.write_bytes(damaged)
    (example,) = Lesson().with_files([path], "", LIMITS).examples
    with pytest.raises(ImageError, match="cannot be read"):
        example.read()


# Classifiers


async def taught(lesson: Lesson, settings: FitSettings = SETTINGS) -> tuple[list[str], Fitted]:
    """Teach with a service that was started for it."""
    service = Service(FakeEncoder(), settings=Settings(decoders=2))
    await service.start()
    try:
        news = [what async for what in Teaching(service).teach(lesson, settings)]
    finally:
        await service.close()
    assert isinstance(news[-1], Fitted)
    return [what for what in news if isinstance(what, str)], news[-1]


def test_what_is_taught_is_what_fit_would_fit(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        path.relative_to(photos).as_posix(): path.read_bytes() for path in photos.rglob("*.png")
    }
    files["apple/broken.png"] = b"no photo"
    lesson = Lesson().with_files([zip_of(tmp_path / "photos.zip", files)], "", LIMITS)
    with VectorCache.open(tmp_path / "cache.sqlite3") as cache:
        expected = fit_classifier(FakeEncoder(), read_labelled_splits(photos), cache, SETTINGS)

    def refuse(*_values: object, **_named: object) -> None:
        raise AssertionError("a picture was decoded in the process of the server")

    monkeypatch.setattr(images, "_decode", refuse)
    monkeypatch.setattr(images, "read_header", refuse)
    said, fitted = asyncio.run(taught(lesson))
    assert said[0] == "looked at 0 of 19 photos"
    assert "measuring" in said
    assert [one.name for one in fitted.result.skipped] == ["apple/broken.png"]
    assert fitted.result.figures.scores == expected.result.figures.scores
    assert fitted.result.repeats == expected.result.repeats
    packed = zipped(fitted.contents(), "model")
    zipfile.ZipFile(io.BytesIO(packed)).extractall(tmp_path)
    model = ClassifierModel.open(tmp_path / "model")
    assert model.files()["head.npz"] == expected.model.files()["head.npz"]
    assert packed == zipped(fitted.contents(), "model"), "equal models give equal zips"


def test_a_lesson_of_one_class_or_of_no_photo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png("red"))
    (tmp_path / "2.png").write_bytes(b"no photo")
    one = Lesson().with_files([tmp_path / "1.png"], "red", LIMITS)
    none = Lesson(tuple(Example(name, tmp_path / "2.png", name) for name in "ab"))
    for lesson, words in ((one, "at least two classes"), (none, "no photo can be read")):
        with pytest.raises(DatasetError, match=words):
            asyncio.run(taught(lesson))


def test_one_lesson_at_a_time_and_its_end_makes_room(photos: Path) -> None:
    bad = Lesson(tuple(Example(name, Path(__file__), name) for name in "ab"))
    lesson = Lesson()
    for folder in sorted(photos.iterdir()):
        lesson = lesson.with_files(sorted(folder.iterdir()), folder.name, LIMITS)

    async def story() -> None:
        service = Service(FakeEncoder(), settings=Settings(decoders=2))
        await service.start()
        teaching = Teaching(service)
        first = teaching.teach(lesson, SETTINGS)
        assert str(await anext(first)).startswith("looked at 0")
        with pytest.raises(BusyError):
            await anext(teaching.teach(lesson, SETTINGS))
        await first.aclose()
        with pytest.raises(DatasetError):
            [what async for what in teaching.teach(bad, SETTINGS)]
        assert isinstance([what async for what in teaching.teach(lesson, SETTINGS)][-1], Fitted)
        await service.close()

    asyncio.run(story())
