"""The pages: complete in one file, escaped, and honest about images that are gone."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from miniclip.demo import DemoResult, Found, Named, Question
from miniclip.errors import StoreError
from miniclip.images import ImageSource
from miniclip.index.relevance import CUT
from miniclip.index.search import Hit
from miniclip.report.demo import write_demo_page
from miniclip.report.page import THUMBNAIL_SIDE, thumbnail
from miniclip.report.search import Tile, write_search_page

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects the tags and checks that they nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a photo.png"
    Image.new("RGB", (800, 400), (10, 200, 30)).save(path)
    return path


def search_page(tmp_path: Path, query: str | Path, hits: list[Hit], command: str = "x") -> Page:
    page = tmp_path / "page.html"
    example = query if isinstance(query, Path) else None
    title = query.name if isinstance(query, Path) else query
    tiles = [
        Tile(
            ImageSource.of(hit.path),
            hit.score,
            (hit.confidence or 1) < CUT,
            tuple(map(str, hit.alike)),
        )
        for hit in hits
    ]
    write_search_page(page, title=title, example=example, hits=tiles, command=command)
    return Page(page)


def test_a_thumbnail_is_a_small_jpeg_in_a_data_uri(photo: Path) -> None:
    uri = thumbnail(photo)

    assert uri is not None
    kind, data = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    image = Image.open(BytesIO(base64.b64decode(data)))
    assert image.size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2)


def test_a_search_page_shows_each_hit_with_an_alternative_text(tmp_path: Path, photo: Path) -> None:
    page = search_page(tmp_path, "a green field", [Hit(photo, 0.51234)], "miniclip search x")

    (image,) = page.all("img")
    assert image["alt"] == "hit 1: a photo.png"
    assert str(image["src"]).startswith("data:image/jpeg;base64,")
    assert "0.512" in page.source
    assert "<code>miniclip search x</code>" in page.source


def test_a_search_by_image_shows_the_example(tmp_path: Path, photo: Path) -> None:
    page = search_page(tmp_path, photo, [Hit(photo, 1.0)])

    assert [image["alt"] for image in page.all("img")] == [
        "the example image a photo.png",
        "hit 1: a photo.png",
    ]


def test_nothing_is_asked_from_elsewhere(tmp_path: Path, photo: Path) -> None:
    page = search_page(tmp_path, "x", [Hit(photo, 0.5)])

    assert page.all("script") == page.all("link") == []
    assert re.findall(r"https?:|url\(|@import", page.source) == []
    assert "prefers-color-scheme: dark" in page.source
    assert "width=device-width" in page.source


def test_names_and_queries_are_escaped(tmp_path: Path) -> None:
    nasty = tmp_path / '<img src=x onerror="alert(1)">.png'
    Image.new("RGB", (8, 8)).save(nasty)

    page = search_page(tmp_path, "<script>alert(1)</script>", [Hit(nasty, 0.1)], "a <b> & c")

    assert page.all("script") == page.all("b") == []
    assert len(page.all("img")) == 1
    assert "a &lt;b&gt; &amp; c" in page.source


def test_an_image_that_is_gone_is_said_so(tmp_path: Path) -> None:
    page = search_page(tmp_path, "x", [Hit(tmp_path / "gone.jpg", 0.1)])

    assert page.all("img") == []
    assert "hit 1: gone.jpg: no longer readable" in page.source


def test_a_name_that_is_no_text_does_not_break_the_page(tmp_path: Path, photo: Path) -> None:
    odd = tmp_path / "odd\udcff.png"

    assert "odd" in search_page(tmp_path, "x", [Hit(odd, 0.1)]).source


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*missing"):
        write_search_page(
            tmp_path / "missing" / "p.html", title="x", example=None, hits=[], command="x"
        )


def test_the_demo_page_shows_both_directions_and_the_labels(tmp_path: Path, photo: Path) -> None:
    question = Question(photo.name, "a green field", "field")
    result = DemoResult(
        "model",
        found=(Found(question, (Hit(photo, 0.4), Hit(photo, 0.3))),),
        named=(Named(question, photo, "a red field", 0.2, (("field", 0.9), ("sea", 0.1))),),
    )

    write_demo_page(tmp_path / "demo.html", result, command="miniclip demo")

    page = Page(tmp_path / "demo.html")
    assert "Sentence to photo: 1 of 1 right at rank 1" in page.source
    assert "Photo to sentence: 0 of 1 right. Photo to label: 1 of 1 right" in page.source
    assert [meter["aria-label"] for meter in page.all("meter")] == [
        "probability of field",
        "probability of sea",
    ]
    assert len(page.all("img")) == 3


def test_a_search_page_shows_what_ranks_and_marks_doubt(tmp_path: Path, photo: Path) -> None:
    twin = Path("<i>twin</i>.png")

    page = search_page(tmp_path, "x", [Hit(photo, 0.5, confidence=0.875, alike=(twin,))])
    doubtful = search_page(tmp_path, "x", [Hit(photo, 0.5, confidence=0.25)])

    assert "0.500<" in page.source
    assert "marks those" not in page.source
    assert "0.500 ?<" in doubtful.source
    assert "? marks those" in doubtful.source
    assert "88 %" not in page.source
    assert "1 near-duplicate</summary>" in page.source
    assert "&lt;i&gt;twin&lt;/i&gt;.png" in page.source
    assert "Nothing here matches" in search_page(tmp_path, "x", []).source
