"""From an OpenCLIP checkpoint on disk (open_clip_config.json and weights) to a bundle.

The one file that imports open_clip, which loads the checkpoint and answers for it. Its towers are
exported in the layout of Immich, which `pull.immich` reads; checkpoints of transformers are the
business of `convert`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import TOKENIZER_FILE, Bundle
from miniclip.errors import BundleError
from miniclip.pull.documents import Document
from miniclip.pull.immich import read_immich
from miniclip.pull.layouts import Precision, check_precision
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.pull.ready_made import Label, ReadyMade, bundle_of
from miniclip.pull.text_files import CONFIG_FILE
from miniclip.train.export.onnx_graphs import traced
from miniclip.train.export.small_weights import shrink

OPEN_CLIP_CONFIG = "open_clip_config.json"
_EXAMPLE_BATCH = 2  # 0 and 1 would be taken for constants


class Loaded(NamedTuple):
    """What open_clip makes of a checkpoint. preprocess_cfg: the whole of it, defaults included."""

    model: Any
    transform: Any
    tokenizer: Any
    preprocess_cfg: Mapping[str, Any]


def convert_open_clip(
    source: Path | str,
    out: Path | str,
    *,
    name: str,
    licence: str,
    precision: Precision = "float32",
    origin: str | None = None,
    revision: str | None = None,
    card: str | None = None,
    accept: Collection[str] = (),
) -> Bundle:
    """Write the checkpoint in a directory as a bundle; arguments and errors as of `convert`.

    BundleError when open_clip cannot be imported.
    """
    check_precision(precision)
    directory = Path(source)
    config = Document.read(directory / OPEN_CLIP_CONFIG).part("model_cfg")
    loaded = _load(directory)
    model = loaded.model
    bias = getattr(model, "logit_bias", None)
    with tempfile.TemporaryDirectory(prefix="miniclip-open-clip-") as folder:
        files = _export(loaded, directory, config, Path(folder))
        ready = read_immich(
            Path(folder),
            files,
            "float32",
            logit_scale=float(model.logit_scale.exp()),
            logit_bias=0.0 if bias is None else float(bias),
            accept=accept,
        )
    ready = replace(ready, image_spec=replace(ready.image_spec, crop="round"))  # torchvision's way
    history = {"source": origin or directory.absolute().name, "revision": revision or ""}
    history |= {"layout": "open_clip", "converted_by": f"torch {torch.__version__}"}
    label = Label(name, licence, {key: text for key, text in history.items() if text}, card)
    return bundle_of(_stored(ready, precision), out, label, original=lambda: _answers(loaded))


def _load(directory: Path) -> Loaded:
    try:
        import open_clip  # type: ignore[import-not-found]  # noqa: PLC0415 -- seldom installed
    except Exception as error:  # beside another build of torch it fails in many ways
        raise BundleError(
            f"{directory} is an OpenCLIP checkpoint, and open_clip cannot be imported ({error}); "
            "install it with: pip install open_clip_torch, or pull the same model in the form of "
            "transformers or of ONNX graphs"
        ) from error
    where = f"local-dir:{directory.absolute()}"
    try:
        model, _, transform = open_clip.create_model_and_transforms(where)
        tokenizer = open_clip.get_tokenizer(where)
        cfg = dict(open_clip.get_model_preprocess_cfg(model))
    except Exception as error:  # whatever loading raises
        raise BundleError(
            f"open_clip cannot load {directory} ({error}); version 3 or later is needed, and a "
            "complete checkpoint"
        ) from error
    return Loaded(model.float().eval().requires_grad_(False), transform, tokenizer, cfg)


class _Images(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        embedding: Tensor = self.model.encode_image(image)
        return embedding


class _Texts(_Images):
    def forward(self, text: Tensor) -> Tensor:
        embedding: Tensor = self.model.encode_text(text)
        return embedding


def _export(loaded: Loaded, directory: Path, config: Document, folder: Path) -> list[str]:
    """Write the layout of Immich, and return the names of its files."""
    side = Document("preprocess_cfg", loaded.preprocess_cfg).need("size")
    side = side[0] if isinstance(side, list | tuple) else side
    length = config.part("text_cfg").need_as("context_length", int)
    batch = {0: torch.export.Dim("B")}
    graphs = {
        "visual": (_Images, {"image": torch.zeros(_EXAMPLE_BATCH, 3, side, side)}),
        "textual": (_Texts, {"text": torch.ones(_EXAMPLE_BATCH, length, dtype=torch.int64)}),
    }
    for tower, (wrapper, inputs) in graphs.items():
        (folder / tower).mkdir()
        proto = traced(wrapper(loaded.model), inputs, dict.fromkeys(inputs, batch), ("embedding",))
        (folder / tower / "model.onnx").write_bytes(proto.SerializeToString())
    for name in (TOKENIZER_FILE, CONFIG_FILE):
        if not (directory / name).is_file():
            raise BundleError(f"{directory} has no {name}; put the original model's one there")
        shutil.copyfile(directory / name, folder / "textual" / name)
    for name, values in (
        ("config.json", config.values),
        ("visual/preprocess_cfg.json", loaded.preprocess_cfg),
    ):
        (folder / name).write_text(json.dumps(values))
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _stored(ready: ReadyMade, precision: Precision) -> ReadyMade:
    image = replace(ready.image, proto=shrink(ready.image.proto, precision))
    text = replace(ready.text, proto=shrink(ready.text.proto, precision))
    return replace(ready, image=image, text=text, precision=precision)


def _answers(loaded: Loaded) -> tuple[FloatArray, FloatArray]:
    """Ask the original about one probe at a time."""
    model = loaded.model
    with torch.no_grad():
        images = [model.encode_image(loaded.transform(photo)[None]) for photo in probe_photos()]
        texts = [model.encode_text(loaded.tokenizer([text])) for text in PROBE_SENTENCES]
    return unit_rows(torch.cat(images).numpy()), unit_rows(torch.cat(texts).numpy())
