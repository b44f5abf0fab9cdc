"""How near an exported bundle comes to its model: the same photos and sentences through both.

It measures and judges nothing; limits are in `bundle`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from miniclip.arrays import FloatArray, unit_rows
from miniclip.encoder import Encoder
from miniclip.manifest import Parity
from miniclip.preprocess import preprocess
from miniclip.tokenizer import Tokenizer
from miniclip.train.model import TwoTower

SENTENCES = (
    "",
    " ",
    "a",
    "a photo of a cat",
    "A dog runs along the beach, and the sun is going down.",
    "two people in red jackets stand on a snowy mountain",
    "THE SAME WORDS IN CAPITALS!!! ...",
    "a crowded street at night with neon signs and a yellow taxi in the rain",
    "MRI of a brain without a tumour, axial, T1",
    "crushed aluminium can (330 ml), no. 7 / 12",
    "ein Hund spielt im Schnee; un café à la crème; naïve señor",
    "一只猫坐在窗台上",
    "собака на пляже",
    "🐶🏖️ a dog 👩‍👩‍👧 and a family 🎉",
    "qwrtzx lkjhgf 0x7f3a %$#@ <b>&amp;</b>\t\n",
    "a very long sentence that goes on and on about a small brown dog, " * 40,
)


def sample_photos() -> list[Image.Image]:
    """Return 16 pictures: crops, turns and sizes of two photos, a flat one and noise."""
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    pictures = []
    for photo in photos:
        width, height = photo.size
        pictures += [
            photo,
            photo.crop((0, 0, width // 2, height)),
            photo.crop((width // 3, height // 4, width, height // 2)),
            photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            photo.transpose(Image.Transpose.ROTATE_90),
            photo.resize((97, 64)),
            photo.convert("L").convert("RGB"),
        ]
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    return [*pictures, Image.new("RGB", (300, 200), (200, 30, 60)), Image.fromarray(noise)]


def measure_parity(
    model: TwoTower,
    encoder: Encoder,
    *,
    photos: Sequence[Image.Image] | None = None,
    sentences: Sequence[str] = SENTENCES,
) -> Parity:
    """Compare a model in eval mode on the CPU with an encoder, row by row.

    The model takes one text at a time, without padding (unless its spec pads to "max"), the encoder
    all of them in its own batches, so that masks are proved too. Image features count as well as
    embeddings. photos: RGB; None for `sample_photos`.
    """
    pictures = sample_photos() if photos is None else photos
    spec = model.image_tower.image_spec
    pixels = np.stack([preprocess(picture, spec) for picture in pictures])
    with torch.no_grad():
        features = model.pixel_features(torch.from_numpy(pixels))
        embeddings = model.project_image(features).numpy()
    seen = encoder.encode_pixels(pixels)
    image_cosines = [
        _cosines(embeddings, seen.embeddings),
        _cosines(features.numpy(), seen.features),
    ]
    text_cosines = _cosines(_encode_singly(model, sentences), encoder.encode_texts(sentences))
    return Parity(
        image_cosine_min=float(np.min(image_cosines)),
        text_cosine_min=float(np.min(text_cosines)),
        samples=min(len(pictures), len(sentences)),
    )


def _encode_singly(model: TwoTower, sentences: Sequence[str]) -> FloatArray:
    tower = model.text_tower
    tokenizer = Tokenizer.from_file(tower.tokenizer_path, tower.text_spec)
    rows = []
    for sentence in sentences:
        ids, mask = tokenizer([sentence])
        kept = len(ids[0]) if tower.text_spec.pad == "max" else max(1, int(mask.sum()))
        with torch.no_grad():
            row = model.encode_text(
                torch.from_numpy(ids[:, :kept]), torch.from_numpy(mask[:, :kept])
            )
        rows.append(row.numpy())
    return np.concatenate(rows)


def _cosines(one: FloatArray, other: FloatArray) -> NDArray[np.float64]:
    products = np.float64(unit_rows(one)) * np.float64(unit_rows(other))
    cosines: NDArray[np.float64] = products.sum(axis=1)
    return cosines
