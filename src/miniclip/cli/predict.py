"""`miniclip predict`: label images with a fitted model, and say which a person should look at."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from json import dumps
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from miniclip.atomic import replacing
from miniclip.cli import engine, options, output
from miniclip.cli.folders import refuse_empty

if TYPE_CHECKING:
    from miniclip.embed import Skipped
    from miniclip.probe.predict import Prediction

    Taker = Callable[[Prediction], None]

# Images whose features are in memory at a time: a cluster wants more in hand.
AT_ONCE = {engine.Engine.local: 512, engine.Engine.ray: 16_384}


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A fitted model.", show_default=False)
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Images or folders.", show_default=False),
    ],
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write a row for each image.")
    ] = None,
    review_dir: Annotated[
        Path | None,
        typer.Option(
            "--review-dir",
            metavar="DIR",
            help="Put a copy of each image that a person should look at into DIR.",
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Put links into --review-dir in place of copies.")
    ] = False,
    on: engine.Option = engine.Engine.local,
    address: engine.Address = None,
    bundle: options.Bundle = None,
    runtime: options.Runtime = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Label images, with calibrated probabilities and a decision for each.

    auto: the label needs no person. review: a person should look, and the set says among which
    labels. out-of-scope: not the kind of image that the model has learnt. Any number of images.
    """
    from miniclip.embed import Skipped
    from miniclip.images import ImageSource
    from miniclip.index.scan import find_images
    from miniclip.index.vector_cache import VectorCache
    from miniclip.probe.model import ClassifierModel
    from miniclip.probe.predict import Predictor, predict_stream
    from miniclip.probe.review import ReviewFolder
    from miniclip.runtimes import open_encoder

    opened = ClassifierModel.open(model)
    source = opened.find_bundle(bundle)
    encoder = open_encoder(source, runtime=runtime)
    skipped: list[Skipped] = []
    unreadable = find_images(
        images, on_unreadable=lambda path, why: skipped.append(Skipped(str(path), why))
    )
    total = sum(1 for _ in unreadable)
    decisions: Counter[str] = Counter()
    with ExitStack() as stack:
        takers: list[Taker] = [stack.enter_context(_rows(table))] if table else []
        if review_dir:
            takers.append(ReviewFolder(review_dir, link=link).take)
        facts = {"model": str(model), "bundle": encoder.name}
        takers.append(stack.enter_context(_one_object(facts, skipped)) if json else _print_line)
        cache = stack.enter_context(VectorCache.open())
        progress = stack.enter_context(output.progress_bar("predicting", total))
        paths = find_images(images, on_unreadable=lambda _path, _why: None)
        sources = map(ImageSource.of, paths)
        stream = stack.enter_context(engine.stream_of(on, address, source, runtime))
        predictions = predict_stream(
            Predictor(opened), encoder, sources, cache, batch_images=AT_ONCE[on], stream=stream
        )
        for done, said in enumerate(predictions, start=1):
            progress(done)
            if isinstance(said, Skipped):
                skipped.append(said)
                continue
            decisions[said.decision] += 1
            for take in takers:
                take(said)
        refuse_empty(decisions.total(), skipped, images)
    output.note(", ".join(f"{count:,} {name}" for name, count in sorted(decisions.items())))
    output.warn_skipped(skipped, decisions.total() + len(skipped), strict=strict)


def _print_line(said: Prediction) -> None:
    likely = f"{said.label} {said.probability:.1%}"
    others = f" of {{{', '.join(said.label_set)}}}" if len(said.label_set) > 1 else ""
    output.print_line(f"{said.name}: {likely}  {said.decision}{others}")


@contextmanager
def _rows(path: Path) -> Iterator[Taker]:
    """Write a CSV, whole or not at all, a row for each prediction."""
    with replacing(path) as stream:
        text = io.TextIOWrapper(
            stream, encoding="utf-8", errors="surrogateescape", newline="", write_through=True
        )
        rows = csv.writer(text)
        rows.writerow(("path", "label", "probability", "set", "decision", "reason", "nearest"))
        yield lambda said: rows.writerow(
            (
                said.name,
                said.label,
                f"{said.probability:.6f}",
                "|".join(said.label_set),
                said.decision,
                said.reason,
                "|".join(neighbour.name for neighbour in said.nearest),
            )
        )
        text.detach()


@contextmanager
def _one_object(facts: dict[str, str], skipped: list[Skipped]) -> Iterator[Taker]:
    """Print one JSON object at the end; until then predictions wait on disk, however many."""
    with TemporaryFile("w+", encoding="ascii") as waiting:

        def take(said: Prediction) -> None:
            waiting.write(("," if waiting.tell() else "") + dumps(said.to_dict(), allow_nan=False))

        yield take
        waiting.seek(0)
        start = dumps(facts, allow_nan=False).removesuffix("}")
        sys.stdout.write(f'{start}, "images": [')
        shutil.copyfileobj(waiting, sys.stdout)
        end = dumps([entry.to_dict() for entry in skipped], allow_nan=False)
        sys.stdout.write(f'], "skipped": {end}}}\n')
