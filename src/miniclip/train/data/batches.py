"""From a plan to tensors: one item of the data set is one process's share of one step.

So the loader needs no sampler, no collate function and no state: to resume is to begin at another
step. Images come from `image_rows`, the order from `plan`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from miniclip.datasets.captions import CaptionSet
from miniclip.tokenizer import Tokenizer
from miniclip.train.data.image_rows import ImageRows
from miniclip.train.data.plan import Plan


class Batch(NamedTuple):
    """A share of a step: one caption per image, so b images and b texts.

    images: (b, ...) what `ImageRows` gives. input_ids, attention_mask: (b, T) int64.
    groups: (b,) int64, the image in the data set. wordings: (b,) int64, equal for equal captions.
    """

    step: int
    images: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    groups: Tensor
    wordings: Tensor


class Batches(Dataset[Batch]):
    """Item k is the share of step k that belongs to one process."""

    def __init__(
        self,
        captions: CaptionSet,
        rows: ImageRows,
        plan: Plan,
        tokenizer: Tokenizer,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """plan: over `rows.usable`, in that order."""
        self._captions = captions
        self._rows = rows
        self._plan = plan
        self._tokenizer = tokenizer
        self._rank, self._world_size = rank, world_size
        self._wordings = {text: place for place, text in enumerate(dict.fromkeys(captions.texts))}

    def __getitem__(self, step: int) -> Batch:
        """Make the share of one step."""
        plan = self._plan.batch(step).share(self._rank, self._world_size)
        images = self._rows.usable[plan.images]
        rows, kept = self._rows.viewed(images, plan.views, step)
        images = images[kept]
        texts = [
            self._captions.images[image].captions[caption]
            for image, caption in zip(images, plan.captions[kept], strict=True)
        ]
        tokens = self._tokenizer(texts)
        return Batch(
            step=step,
            images=torch.from_numpy(rows),
            input_ids=torch.from_numpy(tokens.input_ids),
            attention_mask=torch.from_numpy(tokens.attention_mask),
            groups=torch.from_numpy(images),
            wordings=torch.tensor([self._wordings[text] for text in texts], dtype=torch.int64),
        )

    def loader(self, first: int, end: int, *, workers: int) -> DataLoader[Batch]:
        """Load steps first to end - 1, in order."""
        return DataLoader(
            self,
            batch_size=None,
            sampler=range(first, end),
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
        )
