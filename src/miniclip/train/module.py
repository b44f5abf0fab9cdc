"""One training step: losses, gradients, clipping, rates, averages. Lightning calls it.

It keeps no state that a checkpoint lacks, and every random number of a step follows from (seed,
step, rank): so a resumed run repeats what the unbroken one would have done. Evaluating and saving
is done by `keeper`.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from miniclip.train.averaging import WeightAverage
from miniclip.train.build import learning_rates
from miniclip.train.data.batches import Batch
from miniclip.train.data.text_batches import drop_tokens, encode_by_length
from miniclip.train.evaluation import image_features
from miniclip.train.losses import positive_pairs
from miniclip.train.losses.gather import average_gradients, gather_rows, world_size
from miniclip.train.losses.gradient_cache import cached_backward
from miniclip.train.losses.objective import contrast
from miniclip.train.model import TwoTower
from miniclip.train.names.class_names import ClassNameTask
from miniclip.train.recipe import Recipe, Training

Metrics = dict[str, float]


class Contrastive(lightning.LightningModule):  # type: ignore[misc]
    """A `TwoTower` that learns by the recipe.

    done: optimiser steps so far, resumed ones included; total: of the whole run.
    """

    def __init__(
        self, model: TwoTower, recipe: Recipe, *, total: int, class_names: ClassNameTask | None
    ) -> None:
        super().__init__()
        # Lightning would call an optimiser for us, but gradient caching has its own backward pass.
        self.automatic_optimization = False
        self.model = model
        self.recipe = recipe
        self.total = total
        self.done = 0
        self.class_names = class_names
        self.metrics: Metrics = {}
        self.optimiser = _optimiser(model, recipe)
        self.peaks = [float(group["lr"]) for group in self.optimiser.param_groups]
        decay = recipe.train.average
        self.average = WeightAverage(model, decay=decay) if decay else None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Hand Lightning the optimiser, which exists before, so that it can be restored."""
        return self.optimiser

    def on_train_start(self) -> None:
        """Let the state of a resumed optimiser follow its weights to their device.

        Lightning moves all but the step counts, which the fused AdamW wants there too.
        """
        self.optimiser.load_state_dict(self.optimiser.state_dict())

    def training_step(self, batch: Batch, _index: int) -> None:
        """Take one optimiser step; `metrics` then tells of it."""
        settings = self.recipe.train
        generator = seed_step(self.recipe.seed, batch.step, self.global_rank)
        factor = rate_factor(batch.step, self.total, settings)
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimiser.zero_grad()
        with _attention(self.device):
            losses = self._backward(batch, generator)
        norms = clip_gradients(self.optimiser, settings.clip)
        self.optimizers().step()
        self.model.clamp_scale()
        if self.average:
            self.average.update()
        self.done = batch.step + 1
        self.metrics = {
            **{name: float(loss) for name, loss in losses.items()},
            "logit_scale": float(self.model.scale.detach()),
            "rate_factor": factor,
            **{f"gradient_{part}": float(norm) for part, norm in norms.items()},
        }
        self.log("loss", losses["loss"], prog_bar=True, logger=False)

    def _backward(self, batch: Batch, generator: np.random.Generator) -> dict[str, Tensor]:
        """Put the gradients of the step in place; return the losses, detached."""
        weight = self.recipe.class_names.weight
        mask = drop_tokens(batch.attention_mask, self.recipe.text.token_dropout)
        batch = batch._replace(attention_mask=mask)
        micro = self.recipe.train.micro_batch
        # Not of the rows at hand: a bad image may leave one process fewer, but all must agree.
        planned = self.recipe.train.batch // world_size()
        if micro and micro < planned:
            captions = self._cached_backward(batch, micro)
            names = self._names_loss(generator)
            if names is not None:
                torch.autograd.backward(weight * names)
            average_gradients(self.model.parameters())  # DDP could not follow
        else:
            image = self._encode_image(batch.images)
            text = self._encode_text(batch.input_ids, batch.attention_mask)
            captions = self._caption_loss(batch, image, text)
            names = self._names_loss(generator)
            self.manual_backward(captions if names is None else captions + weight * names)
        captions = captions.detach()
        if names is None:
            return {"loss": captions}
        names = names.detach()
        total = captions + weight * names
        return {"loss": total, "loss_captions": captions, "loss_class_names": names}

    def _names_loss(self, generator: np.random.Generator) -> Tensor | None:
        if self.class_names is None:
            return None
        return self.class_names.loss(self.model, generator)

    def _cached_backward(self, batch: Batch, micro: int) -> Tensor:
        """Add the same gradients with graphs of `micro` rows only (see `gradient_cache`)."""
        images = torch.split(batch.images, micro)
        ids, masks = torch.split(batch.input_ids, micro), torch.split(batch.attention_mask, micro)
        return cached_backward(
            (self._encode_image, lambda tokens: self._encode_text(*tokens)),
            (images, list(zip(ids, masks, strict=True))),
            lambda image, text: self._caption_loss(batch, image, text),
        )

    def _encode_image(self, images: Tensor) -> Tensor:
        """(b, ...) cached rows or pixels to (b, D) unit rows."""
        return self.model.project_image(image_features(self.model, images))

    def _encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Ids and mask (b, T) to (b, D) unit rows."""
        if self.model.text_tower.text_spec.pad == "max":  # a fixed length belongs to the model
            return self.model.encode_text(ids, mask)
        return encode_by_length(self.model.encode_text, ids, mask, self.recipe.text.chunk)

    def _caption_loss(self, batch: Batch, image: Tensor, text: Tensor) -> Tensor:
        """Contrast the rows (b, D) of all processes with each other."""
        groups = gather_rows(batch.groups)
        positives = positive_pairs(groups, groups, gather_rows(batch.wordings))
        image, text = gather_rows(image), gather_rows(text)
        return contrast(self.model, image, text, positives, self.recipe.loss)


def seed_step(seed: int, step: int, rank: int) -> np.random.Generator:
    """Seed torch for one step of one process, and return a NumPy generator for it."""
    source = np.random.SeedSequence((seed, step, rank))
    torch.manual_seed(int(source.generate_state(1, np.uint64)[0] >> np.uint64(1)))
    return np.random.default_rng(source.spawn(1)[0])


def rate_factor(step: int, total: int, settings: Training) -> float:
    """Share of the peak rate at a step: linear warm-up, then half a cosine down to the floor."""
    warm_up = round(settings.warm_up * total)
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, total - warm_up)
    return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * progress))


def clip_gradients(optimiser: torch.optim.Optimizer, largest: float) -> dict[str, Tensor]:
    """Scale all gradients so that their joint norm is at most `largest`, unless that is 0.

    Returns the norm of each part before clipping, by the name of its group.
    """
    squares: dict[str, Tensor] = {}
    gradients = []
    for group in optimiser.param_groups:
        part = str(group["name"]).removesuffix(".plain")
        for weight in group["params"]:
            if weight.grad is not None:
                gradients.append(weight.grad)
                square = weight.grad.float().square().sum()
                squares[part] = squares[part] + square if part in squares else square
    total = sum(squares.values(), torch.zeros(())).sqrt()
    if largest and total > largest:
        for gradient in gradients:
            gradient.mul_(largest / total)
    return {part: square.sqrt() for part, square in squares.items()}


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """Choose the kernel of attention; on a CPU the fused one's backward pass is far slower."""
    kernel: AbstractContextManager[None] = (
        sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    )
    return kernel


def _optimiser(model: TwoTower, recipe: Recipe) -> torch.optim.Optimizer:
    settings = recipe.train
    groups: list[dict[str, Any]] = model.parameter_groups(
        learning_rates(recipe), weight_decay=settings.weight_decay
    )
    return torch.optim.AdamW(groups, betas=(0.9, settings.beta2), fused=True)
