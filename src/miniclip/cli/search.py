"""`miniclip search`: rank the images of an index or of folders by sentences and example images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.cli import answers, options, output
from miniclip.errors import ConfigError

if TYPE_CHECKING:
    from miniclip.cli.places import Places
    from miniclip.index.store import Filter


class By(StrEnum):
    """What ranks the images."""

    vectors = "vectors"
    text = "text"
    both = "both"


Sentence = Annotated[
    str,
    typer.Argument(
        metavar="SENTENCE",
        help="What to look for, such as 'beach -people' or '\"a dog on grass\":2 \"snow\"'. "
        "May be left out with --image.",
        show_default=False,
    ),
]
Folders = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FOLDER", help="Where to look.", show_default=False),
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="FILE",
        help="Search by this image; FILE:2 counts it twice, -FILE is not wanted. May be repeated "
        "and joined with a sentence.",
    ),
]
Page = Annotated[int, typer.Option("--page", min=1, metavar="N", help="Which page of results.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only images with such metadata: \"taken >= 2024 and camera like '%Nikon%'\".",
    ),
]
Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Only images below this folder.")
]
After = Annotated[
    str | None, typer.Option("--after", metavar="DATE", help="Only images taken then or later.")
]
Before = Annotated[
    str | None, typer.Option("--before", metavar="DATE", help="Only images taken until then.")
]
RankBy = Annotated[
    By,
    typer.Option("--by", help="The model, the words of captions and file names, or both."),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        "--min-confidence",
        min=0,
        max=1,
        metavar="P",
        help="Leave out images that are less sure to show what the sentence says. Default: 0.5 "
        "with an index, 0 without.",
        show_default=False,
    ),
]
NearDuplicates = Annotated[
    bool, typer.Option("--near-duplicates", help="Fold near-duplicates into one result.")
]
Open = Annotated[bool, typer.Option("--open", help="Open the best image, or the page of --html.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with thumbnails.")
]
Csv = Annotated[bool, typer.Option("--csv", help="Print a table with a header on stdout.")]


def search(
    sentence: Sentence = "",
    folders: Folders = None,
    image: Images = None,
    top: options.Top = 12,
    page: Page = 1,
    where: Where = None,
    folder: Folder = None,
    after: After = None,
    before: Before = None,
    by: RankBy = By.vectors,
    min_confidence: MinConfidence = None,
    near_duplicates: NearDuplicates = False,
    open_best: Open = False,
    html: Html = None,
    directory: options.IndexDirectory = None,
    store: options.Store = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    csv: Csv = False,
    json: options.Json = False,
) -> None:
    """Find the images that fit sentences or example images.

    An index of the folder is used when there is one (see 'miniclip index'). Otherwise images are
    embedded on the first search and remembered by content and model.
    """
    sentence, named = _split(sentence, folders or [], by_image=bool(image))
    if not (named or directory or store) or not (image or sentence.strip()):
        raise typer.BadParameter(
            "say what to look for and name at least one folder: "
            'miniclip search "a dog on the beach" FOLDER'
        )
    if csv and json:
        raise typer.BadParameter("give --csv or --json, not both")
    from miniclip import load_encoder
    from miniclip.cli.places import address_of, open_places
    from miniclip.index.ask import Question, ask
    from miniclip.index.query import parse_query
    from miniclip.index.relevance import CUT, Relevance

    address = address_of(directory, store)
    query = parse_query(sentence, image or [])
    encoder = load_encoder(bundle, runtime=runtime)
    with open_places(named, address, encoder) as places:
        cut = min_confidence if min_confidence is not None else CUT if places.index else 0.0
        question = Question.of(
            encoder,
            query,
            top=top,
            skip=(page - 1) * top,
            by=by.value,
            where=_filter(places, where, folder, after, before),
            min_confidence=cut,
            near_duplicates=near_duplicates,
        )
        judged = query.wanted and (places.index or cut)
        relevance = Relevance.of(encoder) if judged else None
        answer = ask(places.store, question, relevance, sources_of=places.sources_of)
        shown = answers.Shown(places, answer, sentence, tuple(image or ()), page, cut, html)
        if html:
            answers.write_page(html, shown, str(query))
        if json:
            output.print_json({"bundle": encoder.name, **answers.to_dict(shown)})
        else:
            answers.print_table(shown) if csv else answers.print_lines(shown)
        if open_best:
            answers.open_best(shown)
    total = places.count + len(places.skipped)
    output.warn_skipped(places.skipped, total, strict=strict)


def _split(sentence: str, folders: list[Path], *, by_image: bool) -> tuple[str, list[Path]]:
    """With an example image the sentence may be left out: then what stands there is a folder."""
    if by_image and sentence and (not folders or Path(sentence).exists()):
        return "", [Path(sentence), *folders]
    return sentence, folders


def _filter(
    places: Places, where: str | None, folder: Path | None, after: str | None, before: str | None
) -> Filter | None:
    if where is None and not (folder or after or before):
        return places.within
    if not places.index:
        raise ConfigError(
            "--where, --folder, --after and --before need an index; make one with: "
            "miniclip index FOLDER"
        )
    from miniclip.index.address import absolute
    from miniclip.index.store import Both
    from miniclip.index.where import in_folder, parse_where, taken_between  # slow: a grammar

    parts = [places.within] if places.within else []
    if where is not None:
        parts.append(parse_where(where))
    if folder and (place := places.index.location.place(absolute(folder)).path) != ".":
        parts.append(in_folder(place))
    if after or before:
        parts.append(taken_between(after, before))
    return Both(tuple(parts)) if parts else None
