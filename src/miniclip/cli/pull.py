"""`miniclip pull`: turn a public or local model into a bundle."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from miniclip.cli import options, output
from miniclip.errors import BundleError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from miniclip.bundle import Bundle
    from miniclip.pull.sources import Source


class Precision(StrEnum):
    """How weights are stored and, for ready-made graphs, computed with."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


From = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A model on the Hugging Face hub, such as openai/clip-vit-base-patch32, or a "
        "directory that holds one.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="BUNDLE",
        help="Directory of the bundle. Default: NAME among the user's bundles, where --bundle NAME "
        "finds it.",
        show_default=False,
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="Name of the bundle. Default: the source's name."),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="R", help="Branch, tag or commit on the hub."),
]
Storage = Annotated[Precision, typer.Option("--precision", help="Which numbers hold the weights.")]
Scale = Annotated[
    float | None,
    typer.Option(
        "--logit-scale",
        metavar="S",
        help="Factor from cosine to logit, where no file of a ready-made model says it.",
    ),
]
Bias = Annotated[
    float | None,
    typer.Option("--logit-bias", metavar="B", help="Added to the logits of sigmoid models."),
]
Licence = Annotated[
    str | None,
    typer.Option(
        "--licence", metavar="SPDX", help="Licence of the model, where its card states none."
    ),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="KEY",
        help="A key of the model's files whose value is unusual and yet right. May be repeated.",
    ),
]
CommercialOk = Annotated[
    bool,
    typer.Option(
        "--commercial-ok", help="Warn unless the licence is known to allow commercial use."
    ),
]


def pull(
    source: From,
    out: Output = None,
    name: Name = None,
    revision: Revision = None,
    precision: Storage = Precision.float32,
    logit_scale: Scale = None,
    logit_bias: Bias = None,
    accept: Accept = None,
    licence: Licence = None,
    commercial_ok: CommercialOk = False,
    json: options.Json = False,
) -> None:
    """Turn a public or local model into a bundle with the same vectors.

    The hub is asked once, here; afterwards everything works without a network.
    """
    _require_extra()
    from miniclip.home import data_dir
    from miniclip.pull.cards import UNKNOWN, commercial_doubt, licence_of, read_card
    from miniclip.pull.sources import find_source

    found = find_source(
        source, precision=precision.value, revision=revision, progress=sys.stderr.isatty()
    )
    name = name or _plain_name(out.name if out else found.origin)
    card = read_card(found.directory)
    stated = licence_of(card)
    if licence and stated != UNKNOWN and licence.lower() != stated.lower():
        raise BundleError(f"--licence is {licence}, but the card says {stated}; leave it away")
    label = _Label(name, licence or stated, card)
    place = out or data_dir() / "bundles" / name
    if found.layout.needs_torch:
        if logit_scale is not None or logit_bias is not None:
            raise ConfigError(
                "--logit-scale and --logit-bias are for ready-made graphs; a checkpoint holds "
                "its own, so leave them away"
            )
        bundle = _convert(found, place, label, precision, accept or [])
    else:
        bundle = _adopt(found, place, label, precision, logit_scale, logit_bias, accept or [])
    warnings = []
    if bundle.manifest.licence == UNKNOWN:
        warnings.append("the model's card states no licence; if you know it, give it by --licence")
    if commercial_ok and (doubt := commercial_doubt(bundle.manifest.licence)):
        warnings.append(doubt)
    for warning in warnings:
        output.warn(warning)
    if json:
        output.print_json(_to_dict(bundle, found, warnings))
    else:
        _print(bundle, found)


def _require_extra() -> None:
    from importlib.util import find_spec

    if not all(map(find_spec, ("huggingface_hub", "onnx", "safetensors", "yaml"))):
        raise MissingExtraError("miniclip pull", "pull")


class _Label(NamedTuple):
    name: str
    licence: str
    card: str | None


def _convert(
    found: Source, out: Path, label: _Label, precision: Precision, accept: list[str]
) -> Bundle:
    """Trace a checkpoint; needs torch."""
    from miniclip.pull.layouts import Layout

    output.require_training(f"pulling {found.origin}, which comes as weights without graphs,")
    options: dict[str, Any] = {
        **label._asdict(),
        "precision": precision.value,
        "origin": found.origin,
        "revision": found.revision,
        "accept": accept,
    }
    if found.layout is Layout.open_clip:
        from miniclip.train.convert.open_clip import convert_open_clip

        return convert_open_clip(found.directory, out, **options)
    from miniclip.train.convert import convert

    return convert(found.directory, out, **options)


def _adopt(
    found: Source,
    out: Path,
    label: _Label,
    precision: Precision,
    logit_scale: float | None,
    logit_bias: float | None,
    accept: list[str],
) -> Bundle:
    """Give ready-made graphs the ports of a bundle."""
    from miniclip.pull.immich import read_immich
    from miniclip.pull.layouts import Layout
    from miniclip.pull.ready_made import Label, bundle_of
    from miniclip.pull.transformers_js import read_transformers_js

    read = read_immich if found.layout is Layout.immich else read_transformers_js
    model = read(
        found.directory,
        found.files,
        precision.value,
        logit_scale=logit_scale,
        logit_bias=logit_bias,
        accept=accept,
    )
    known = {"source": found.origin, "revision": found.revision, "layout": found.layout.value}
    known["accepted"] = ", ".join(accept)
    provenance = {key: value for key, value in known.items() if value}
    return bundle_of(model, out, Label(label.name, label.licence, provenance, label.card))


def _plain_name(text: str) -> str:
    """Take the last part of OWNER/NAME, with the signs that a name may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text.rpartition("/")[2]).lstrip("._-") or "model"


def _to_dict(bundle: Bundle, found: Source, warnings: list[str]) -> dict[str, Any]:
    from dataclasses import asdict

    manifest = bundle.manifest
    return {
        "name": bundle.name,
        "directory": str(bundle.directory),
        "source": found.origin,
        "revision": found.revision,
        "layout": found.layout.value,
        "size_bytes": bundle.size_bytes,
        "embedding_dim": manifest.embedding_dim,
        "feature_dim": manifest.feature_dim,
        "image_side": manifest.image.side,
        "logit_scale": manifest.logit_scale,
        "logit_bias": manifest.logit_bias,
        "weights": dict(manifest.weights),
        "licence": manifest.licence,
        "parity": asdict(manifest.parity),
        "fingerprint": bundle.fingerprint,
        "warnings": warnings,
    }


def _print(bundle: Bundle, found: Source) -> None:
    manifest, parity = bundle.manifest, bundle.manifest.parity
    revision = f" at {found.revision[:12]}" if found.revision else ""
    print(f"{bundle.name}  ({bundle.directory})")
    print(f"  source      {found.origin}{revision}, {found.layout.value}")
    print(f"  size        {bundle.size_bytes / 1e6:.1f} MB, {precision_of(bundle)}")
    print(f"  dimensions  {manifest.embedding_dim} shared, {manifest.feature_dim} image features")
    print(f"  licence     {manifest.licence}")
    print(
        f"  parity      images {parity.image_cosine_min:.6f} ({parity.photos} photos)"
        + (
            f", texts {parity.text_cosine_min:.6f} ({parity.sentences} sentences)"
            if parity.text_cosine_min is not None
            else ""
        )
        + ": least cosines to the original"
    )


def precision_of(bundle: Bundle) -> str:
    """Say how the towers' weights are stored: "float32", or "image float32, text int8"."""
    kinds = bundle.manifest.weights
    same = set(kinds.values())
    return same.pop() if len(same) == 1 else ", ".join(f"{t} {kind}" for t, kind in kinds.items())
