"""From a run directory to a folder for others: the bundle's graphs, and a checkpoint if it can be.

What is written is read back by transformers, with its own processor and tokenizer, and must give
the vectors of the trained model.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from miniclip.bundle import Bundle
from miniclip.errors import ConfigError, ExportError
from miniclip.pull.parity import MIN_COSINE, compare, read_parity
from miniclip.share.write import Shared, processor_files, refuse_occupied, share_bundle
from miniclip.train.convert.original import (
    Original,
    load_image_processor,
    load_model,
    load_tokenizer,
)
from miniclip.train.export.dual_encoder import dual_encoder
from miniclip.train.export.run import export_run
from miniclip.train.model import TwoTower
from miniclip.train.run import load_trained

_ARCHITECTURE = "VisionTextDualEncoderModel"


def share_run(run: Path, directory: Path) -> Shared:
    """Write the best model of a run for others, in float32, whole or not at all.

    Always in the layout of transformers.js; and as a VisionTextDualEncoder where the model can be
    said as one, else the result tells why not. Errors as `export_run` and `share_bundle`.
    """
    refuse_occupied(directory)
    with tempfile.TemporaryDirectory(prefix="miniclip-share-") as folder:
        bundle = export_run(run, Path(folder, "bundle"), full_weights=True)
        checkpoint = Path(folder, "checkpoint")
        try:
            _write_checkpoint(load_trained(run).model, bundle, checkpoint)
        except ExportError as error:
            return share_bundle(bundle, directory, reason=str(error))
        return share_bundle(bundle, directory, checkpoint=checkpoint)


def _write_checkpoint(model: TwoTower, bundle: Bundle, folder: Path) -> None:
    """Write config.json and model.safetensors, and prove them. ExportError where that fails."""
    dual = dual_encoder(model)
    dual.save_pretrained(folder)
    for name, content in processor_files(bundle).items():
        (folder / name).write_bytes(content)
    expected, spec = read_parity(bundle), bundle.manifest.text
    if expected is None or spec is None:
        raise ConfigError(f"{bundle.directory} has no parity record; export the run again")
    loaded = load_model(folder, _ARCHITECTURE)
    if amiss := (*loaded.untrained, *loaded.unused, *loaded.misfits):
        raise ExportError(
            f"transformers does not read back the weights {', '.join(map(str, amiss))}"
        )
    original = Original(
        loaded.model,
        load_image_processor(folder),
        load_tokenizer(folder),
        pads=spec.pad,
        context_length=spec.context_length,
    )
    found = replace(original.encode_probes(), features=expected.features)  # they may be shifted
    compare(expected, found, least=MIN_COSINE)
