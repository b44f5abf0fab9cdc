"""`miniclip audit`: whom a model serves worse, what it associates, what lies in a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miniclip.cli import audit_options, options, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from miniclip.audit.answers import Asked
    from miniclip.audit.association import NamedSet
    from miniclip.audit.groups import GroupsAudit
    from miniclip.audit.provenance import DataAudit
    from miniclip.embed import Skipped
    from miniclip.encoder import Encoder
    from miniclip.probe.model import ClassifierModel

app = typer.Typer(
    name="audit",
    help="Hold a model or a data set to account: subgroups, associations, identities.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def groups(
    model: audit_options.Model,
    data: audit_options.Data,
    column: audit_options.Column = None,
    metadata: audit_options.Metadata = None,
    discover: audit_options.Discover = 0,
    at_least: audit_options.AtLeast = 10,
    html: audit_options.Html = None,
    card: audit_options.ModelCard = None,
    skip_unknown: audit_options.SkipUnknown = False,
    group_regex: options.GroupRegex = None,
    group_column: options.GroupColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    seed: audit_options.Seed = 0,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Measure a fitted classifier on each subgroup, and test the gaps between them.

    Accuracy, recall, calibration, coverage and who decides by itself; parity gaps by fairlearn's
    definitions; an alarm only where chance does not explain a gap, however many were looked at.
    """
    if not (column or discover):
        raise typer.BadParameter("name at least one --column, or --discover K clusters")
    from miniclip.audit.answers import ask_model
    from miniclip.audit.groups import audit_groups
    from miniclip.datasets.labelled_splits import read_labelled_splits
    from miniclip.index.vector_cache import VectorCache
    from miniclip.probe.model import ClassifierModel
    from miniclip.runtimes import open_encoder

    opened = ClassifierModel.open(model)
    splits = read_labelled_splits(
        data,
        group_regex=group_regex,
        group_column=group_column,
        image_column=image_column,
        label_column=label_column,
    )
    encoder = open_encoder(opened.find_bundle(bundle), runtime=runtime)
    total = len(splits) * len(opened.views)
    with VectorCache.open() as cache, output.progress_bar("embedding", total) as progress:
        asked = ask_model(
            opened, encoder, splits, cache, skip_unknown=skip_unknown, progress=progress
        )
    table = metadata or (None if data.is_dir() else data)
    columns = _columns(asked, column or [], table, image_column, discover, seed)
    result = audit_groups(asked, columns, model=str(model), fewest=at_least, seed=seed)
    if html:
        from miniclip.report.audit import write_groups_page

        files = dict(zip(asked.answers.names, asked.answers.paths, strict=True))
        write_groups_page(html, result, files=files, command=output.command_line())
    if card:
        _write_model_card(card, opened, result)
    _show(result, json)
    for warning in result.warnings:
        output.warn(warning)
    total = len(asked.answers) + len(result.skipped)
    output.warn_skipped(result.skipped, total, strict=strict, what="images or rows")


@app.command()
def bias(
    x: audit_options.SetX,
    y: audit_options.SetY,
    a: audit_options.SetA,
    b: audit_options.SetB,
    template: audit_options.Template = "{}",
    html: audit_options.Html = None,
    seed: audit_options.Seed = 0,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Test whether a model lays some words or images nearer to others (WEAT, iEAT).

    Each set is a text file, one word or sentence a line, or a folder of images: X and Y are
    compared by how they lie to A and B. Effect size and permutation p-value.
    """
    from miniclip import load_encoder
    from miniclip.audit.association import associate

    for one, other in ((x, y), (a, b)):
        if one.is_dir() != other.is_dir():
            raise typer.BadParameter(f"{one} and {other} have to be both words, or both images")
    encoder = load_encoder(bundle, runtime=runtime)
    skipped: list[Skipped] = []
    sets = [_read_set(encoder, path, template, skipped) for path in (x, y, a, b)]
    result = associate(*sets, seed=seed)
    if html:
        from miniclip.report.audit import write_bias_page

        command = output.command_line()
        write_bias_page(html, result, sets=sets, bundle=encoder.name, command=command)
    facts = [entry.to_dict() for entry in skipped]
    if json:
        output.print_json({"bundle": encoder.name, **result.to_dict(), "skipped": facts})
    else:
        print(result)
    total = sum(result.sizes) + len(skipped)
    output.warn_skipped(skipped, total, strict=strict)


@app.command()
def data(
    folder: audit_options.Folder,
    strip: audit_options.Strip = None,
    card: audit_options.DataCard = None,
    html: audit_options.Html = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Say what a folder of images holds: kinds, dates, repeats, licences, traces of people.

    Places, owners, serial numbers, persons and patients are counted by kind and tag, and their
    values are never shown.
    """
    from dataclasses import replace

    from miniclip.audit.provenance import audit_data
    from miniclip.cli.folders import list_images, refuse_nothing

    paths, unreadable = list_images([folder])
    root = folder if folder.is_dir() else folder.parent
    with output.progress_bar("looking", len(paths)) as progress:
        result = audit_data(paths, root=root, progress=progress)
    if not result.images:
        refuse_nothing(result.skipped)
    result = replace(result, skipped=(*unreadable, *result.skipped))
    if strip:
        result = _strip(result, root, paths, strip)
    _write_data(result, card, html)
    _show(result, json)
    output.warn_skipped(result.skipped, len(paths), strict=strict)
    if result.stripped:
        left = result.stripped.skipped
        output.warn_skipped(left, len(paths), strict=strict, what="images, for --strip,")


def _show(result: GroupsAudit | DataAudit, json: bool) -> None:
    if json:
        output.print_json(result.to_dict())
    else:
        print(result)


def _strip(result: DataAudit, root: Path, paths: Sequence[Path], out: Path) -> DataAudit:
    import secrets
    from dataclasses import replace

    from miniclip.audit.copies import strip_folder

    with output.progress_bar("stripping", len(paths)) as progress:
        written = strip_folder(root, paths, out, salt=secrets.token_bytes(32), progress=progress)
    return replace(result, stripped=written)


def _write_data(result: DataAudit, card: Path | None, html: Path | None) -> None:
    if card:
        from miniclip.audit.cards import data_card

        _write_text(card, data_card(result, command=output.command_line()))
    if html:
        from miniclip.report.audit import write_data_page

        write_data_page(html, result, command=output.command_line())


def _write_model_card(path: Path, model: ClassifierModel, result: GroupsAudit) -> None:
    from miniclip.audit.cards import with_subgroups
    from miniclip.probe.model import CARD_FILE

    own = model.directory / CARD_FILE if model.directory else None
    text = own.read_text(encoding="utf-8") if own and own.is_file() else f"# {result.model}\n"
    _write_text(path, with_subgroups(text, result))


def _write_text(path: Path, text: str) -> None:
    from miniclip.atomic import replacing

    with replacing(path) as stream:
        stream.write(text.encode("utf-8", errors="backslashreplace"))
    output.note(f"wrote {path}")


def _read_set(encoder: Encoder, path: Path, template: str, skipped: list[Skipped]) -> NamedSet:
    """Embed the words of a file, or the images of a folder."""
    from miniclip.audit.association import NamedSet
    from miniclip.cli.folders import embed_folders
    from miniclip.prompts import check_templates
    from miniclip.textfile import read_lines

    if path.is_dir():
        found = embed_folders(encoder, [path])
        skipped += found.skipped
        names = tuple(one.relative_to(path).as_posix() for one in found.paths)
        return NamedSet(path.resolve().name, names, found.embeddings)
    check_templates([template])
    words = [line.text for line in read_lines(path, "words", comments=True)]
    rows = encoder.encode_texts([template.replace("{}", word) for word in words])
    return NamedSet(path.stem, tuple(words), rows)


def _columns(
    asked: Asked,
    wanted: list[str],
    table: Path | None,
    image_column: str | None,
    clusters: int,
    seed: int,
) -> dict[str, list[str]]:
    """Give the subgroup of each image by each column."""
    from miniclip.audit.columns import DISCOVERED, discover, subgroups_of

    answers = asked.answers
    found = {
        column: subgroups_of(
            column, answers.names, answers.paths, table=table, image_column=image_column
        )
        for column in wanted
    }
    if clusters and answers.features is not None:
        found[DISCOVERED] = discover(answers.features, clusters, seed=seed)
    return found
