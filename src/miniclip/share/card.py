"""README.md of a shared model: what it is, under which licence, and how other programs load it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from miniclip.bundle import CARD_FILE, Bundle
from miniclip.manifest import Manifest

CARD = "README.md"
# Licences that the hub knows by the lower case of their SPDX identifier; others are "other".
_KNOWN_LICENCES = {
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
    *("gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0"),
}

_TRANSFORMERS = """
## transformers

```python
from transformers import VisionTextDualEncoderModel, VisionTextDualEncoderProcessor

model = VisionTextDualEncoderModel.from_pretrained(DIR).eval()
processor = VisionTextDualEncoderProcessor.from_pretrained(DIR, use_fast=False)
inputs = processor(text=["a photo of a dog"], images=photo, padding=True, return_tensors="pt")
probabilities = model(**inputs).logits_per_image.softmax(-1)
```
"""
_TRANSFORMERS_JS = """
## transformers.js

```js
import { pipeline } from "@huggingface/transformers";

const classify = await pipeline("zero-shot-image-classification", DIR, { dtype: "fp32" });
const answer = await classify(url, ["a dog", "a cat"]);
```
"""
_ONNX = """
## onnxruntime

`onnx/vision_model.onnx` takes `pixel_values` (B, 3, {side}, {side}) and gives `image_embeds` \
(B, {width}); `onnx/text_model.onnx` takes `input_ids` and `attention_mask` (B, {tokens}) and \
gives `text_embeds` (B, {width}); `onnx/model.onnx` takes all three and gives the logits too. \
`preprocessor_config.json` and `tokenizer.json` say how pixels and tokens are made{padding}. Scale \
each row to length 1; the product of two rows is then their cosine c, and the logit is \
{logit}, of which {link} makes probabilities.
"""
_ONNX_ALONE = """
## onnxruntime

`onnx/model.onnx` takes `pixel_values` (B, 3, {side}, {side}), made as `preprocessor_config.json` \
says, and gives `pooler_output` (B, {width}).
"""


def write_card(bundle: Bundle, *, dual_encoder: bool) -> str:
    """Return the card. dual_encoder: whether transformers loads the model too."""
    manifest = bundle.manifest
    parts = [_front_matter(manifest, dual_encoder), f"\n# {manifest.name}\n", _about(manifest)]
    if dual_encoder:
        parts.append(_TRANSFORMERS)
    if manifest.text:
        parts.append(_TRANSFORMERS_JS)
    parts.append(_onnx(manifest))
    parts.append("\n## Where it comes from\n\n" + "\n".join(_provenance(manifest)) + "\n")
    if CARD_FILE in bundle.files:
        own = bundle.path(CARD_FILE).read_text(encoding="utf-8", errors="replace")
        parts.append(f"\n---\n\n{_without_front_matter(own)}\n")
    return "".join(parts)


def _front_matter(manifest: Manifest, dual_encoder: bool) -> str:
    known = manifest.licence.lower() in _KNOWN_LICENCES
    facts = {
        "license": manifest.licence.lower() if known else "other",
        **({} if known else {"license_name": manifest.licence}),
        "library_name": "transformers" if dual_encoder else "transformers.js",
        "pipeline_tag": "zero-shot-image-classification"
        if manifest.text
        else "image-feature-extraction",
        "tags": ["onnx", "transformers.js", "miniclip", *(["clip"] if manifest.text else [])],
    }
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items())
    return "\n".join(["---", *lines, "---", ""])  # JSON is YAML


def _about(manifest: Manifest) -> str:
    if manifest.text is None:
        return f"\nA model of images: photos to vectors of {manifest.embedding_dim} numbers.\n"
    return (
        "\nA two-tower model: photos and sentences to vectors of "
        f"{manifest.embedding_dim} numbers, in one space.\n"
    )


def _onnx(manifest: Manifest) -> str:
    side, width, spec = manifest.image.side, manifest.embedding_dim, manifest.text
    if spec is None:
        return _ONNX_ALONE.format(side=side, width=width)
    fixed = spec.pad == "max"
    return _ONNX.format(
        side=side,
        width=width,
        tokens=spec.context_length if fixed else "T",
        padding=f"; texts are padded to {spec.context_length} tokens" if fixed else "",
        logit=f"{manifest.logit_scale:.6g} c"
        + (f" {manifest.logit_bias:+.6g}" if manifest.logit_bias else ""),
        link="a sigmoid" if manifest.logit_bias else "softmax",
    )


def _provenance(manifest: Manifest) -> Iterator[str]:
    yield f"- licence: {manifest.licence}"
    for tower, kind in manifest.weights.items():
        yield f"- weights of the {tower} tower: {kind}"
    for key, value in manifest.provenance.items():
        if value:  # of a path on this machine, only its end is anybody's business
            shown = Path(value).name if Path(value).is_absolute() else value
            yield f"- {key.replace('_', ' ')}: {shown}"
    parity = manifest.parity
    yield (
        f"- held against the model that it was made from, on {parity.photos} photos and "
        f"{parity.sentences} sentences: least cosine of images {parity.image_cosine_min:.6f}"
        + ("" if parity.text_cosine_min is None else f", of texts {parity.text_cosine_min:.6f}")
    )


def _without_front_matter(card: str) -> str:
    """Drop the front matter of the model's own card: it speaks of other files."""
    if not card.startswith("---"):
        return card.strip()
    return card.split("\n---", 1)[-1].strip()
