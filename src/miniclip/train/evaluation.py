"""How well a model finds dev images by caption and captions by image, in the midst of training.

The recalls are those of `miniclip.metrics`; the published evaluation, with intervals and on a
bundle, is `miniclip.evaluate`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from miniclip.arrays import FloatArray, IntArray
from miniclip.datasets.captions import CaptionSet
from miniclip.errors import DatasetError
from miniclip.metrics import recall_at, retrieval_ranks
from miniclip.tokenizer import Tokenizer
from miniclip.train.data.image_rows import ImageRows
from miniclip.train.data.text_batches import trimmed
from miniclip.train.model import TwoTower

RECALLS_AT = (1, 5, 10)
_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 64, 128


class DevResult(NamedTuple):
    """scores: "dev_text_to_image_recall@1" and its like, and "dev_recall_mean", their mean.

    image: (N, D), text: (M, D) unit rows; image_of_text: (M,).
    """

    scores: dict[str, float]
    image: FloatArray
    text: FloatArray
    image_of_text: IntArray


class DevSet:
    """The dev split, tokenised once, its images cached where the tower allows it."""

    def __init__(self, captions: CaptionSet, rows: ImageRows, tokenizer: Tokenizer) -> None:
        self._rows = rows
        position = {int(image): place for place, image in enumerate(rows.usable)}
        texts = [
            (text, position[image])
            for image, text in zip(captions.image_of_text.tolist(), captions.texts, strict=True)
            if image in position
        ]
        if len(position) < 2:
            raise DatasetError(f"{len(position)} usable dev images are too few; give at least 2")
        self.image_of_text: IntArray = np.array([place for _, place in texts], dtype=np.int64)
        tokens = tokenizer([text for text, _ in texts])
        self._input_ids = torch.from_numpy(tokens.input_ids)  # (M, T)
        self._attention_mask = torch.from_numpy(tokens.attention_mask)

    @torch.no_grad()
    def evaluate(self, model: TwoTower) -> DevResult:
        """Encode all of it in eval mode and rank; the model's mode is as before afterwards."""
        training = model.training
        model.eval()
        device = model.log_scale.device
        image, kept = self._encode_images(model, device)
        text = self._encode_texts(model, device)
        model.train(training)
        # Images that became unreadable since the start leave, and their texts with them.
        place = np.full(len(self._rows.usable), -1)
        place[kept] = np.arange(len(kept))
        owners = place[self.image_of_text]
        text, owners = text[owners >= 0], owners[owners >= 0]
        return DevResult(_scores(image, text, owners), image, text, owners)

    def _encode_images(self, model: TwoTower, device: torch.device) -> tuple[FloatArray, IntArray]:
        parts, kept = [], []
        for start in range(0, len(self._rows.usable), _IMAGES_AT_ONCE):
            wanted = self._rows.usable[start : start + _IMAGES_AT_ONCE]
            rows, places = self._rows.plain(wanted)
            if len(places):
                features = image_features(model, torch.from_numpy(rows).to(device))
                parts.append(model.project_image(features).float().cpu())
                kept.append(places + start)
        return torch.cat(parts).numpy(), np.concatenate(kept)

    def _encode_texts(self, model: TwoTower, device: torch.device) -> FloatArray:
        order = self._attention_mask.sum(dim=1).argsort(stable=True)
        parts = []
        for part in torch.split(order, _TEXTS_AT_ONCE):
            ids, mask = self._input_ids[part], self._attention_mask[part]
            if model.text_tower.text_spec.pad == "longest":
                ids, mask = trimmed(ids, mask)
            parts.append(model.encode_text(ids.to(device), mask.to(device)).float().cpu())
        rows: FloatArray = torch.cat(parts)[order.argsort()].numpy()
        return rows


def image_features(model: TwoTower, images: Tensor) -> Tensor:
    """Take rows of either kind, cached (B, ...) float16 or pixels, to features (B, F) float32."""
    rows = images.float()
    return model.image_features(rows if model.caches_trunk else model.trunk(rows))


def _scores(image: FloatArray, text: FloatArray, image_of_text: IntArray) -> dict[str, float]:
    ranks = retrieval_ranks(image, text, image_of_text)
    scores = {
        f"dev_{way}_recall@{k}": recall_at(of_way, k)
        for way, of_way in ranks._asdict().items()
        for k in RECALLS_AT
    }
    return {"dev_recall_mean": sum(scores.values()) / len(scores)} | scores
