"""An image tower cut in two: what keeps still, and may run anywhere, and what learns.

Between them travel plain rows, one per picture, whatever the towers are and however many were
joined: pixels, if something learns from the first layer on, then each frozen part's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from miniclip.errors import TrainingError
from miniclip.train.finetune.lora import add_lora
from miniclip.train.finetune.settings import FinetuneSettings
from miniclip.train.finetune.still_convs import with_still_convs
from miniclip.train.towers.freezing import Trainable, find_blocks
from miniclip.train.towers.image import ImageTower, LiteTower
from miniclip.train.towers.joined import JoinedTower

Shape = tuple[int, ...]


class FrozenHalf(nn.Module):
    """Pixels (B, 3, S, S) to rows (B, M), without gradients."""

    def __init__(self, parts: Sequence[nn.Module], *, keeps_pixels: bool) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.keeps_pixels = keeps_pixels

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        kept = [pixels] if self.keeps_pixels else []
        return torch.cat([part.flatten(1) for part in (*kept, *(p(pixels) for p in self.parts))], 1)


class LiveHalf(nn.Module):
    """Rows (B, M) to features (B, F).

    shapes: of what lies side by side in a row; parts: each with the place of its input among them.
    """

    def __init__(self, shapes: Sequence[Shape], parts: Sequence[tuple[int, nn.Module]]) -> None:
        super().__init__()
        self.shapes = tuple(shapes)
        self.places = tuple(place for place, _ in parts)
        self.parts = nn.ModuleList(part for _, part in parts)

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        flat = torch.split(rows, sizes, dim=1)
        inputs = [piece.reshape(-1, *shape) for piece, shape in zip(flat, self.shapes, strict=True)]
        features = [
            part(_in_order(inputs[place]))
            for place, part in zip(self.places, self.parts, strict=True)
        ]
        return torch.cat(features, dim=1)


class Halves(NamedTuple):
    """live(frozen(pixels)) is the tower."""

    frozen: FrozenHalf
    live: LiveHalf


def cut(tower: ImageTower, settings: FinetuneSettings, *, seed: int) -> Halves:
    """Freeze all of a tower but what is to learn, and cut it there.

    The halves share the tower's parameters. On a CPU the live one computes them in a faster way.
    TrainingError for more blocks than there are, and for LoRA in a tower without linear layers.
    """
    members = _members(tower)
    learners = settings.learners or len(members)
    side = tower.image_spec.side
    frozen: list[nn.Module] = []
    shapes: list[Shape] = []
    live: list[tuple[int, nn.Module]] = []
    halves = [
        _cut_one(member, settings, seed=seed + place) if place < learners else member.split("none")
        for place, member in enumerate(members)
    ]
    keeps_pixels = any(isinstance(still, nn.Identity) for still, _ in halves)
    if keeps_pixels:
        shapes.append((3, side, side))
    for still, moving in halves:
        if isinstance(still, nn.Identity):
            live.append((0, moving))
            continue
        with torch.no_grad():
            shapes.append(tuple(still(torch.zeros(1, 3, side, side)).shape[1:]))
        frozen.append(still)
        live.append((len(shapes) - 1, moving))
    return Halves(FrozenHalf(frozen, keeps_pixels=keeps_pixels), LiveHalf(shapes, live))


def layers_of(tower: ImageTower) -> list[list[nn.Parameter]]:
    """Return the parameters of each layer, from the top layer down.

    Layers of joined towers that are equally far from their top stand together.
    """
    layers: list[list[nn.Parameter]] = []
    for member in _members(tower):
        for depth, layer in enumerate(reversed(_layers(member))):
            if depth == len(layers):
                layers.append([])
            layers[depth] += layer
    return layers


def _members(tower: ImageTower) -> list[ImageTower]:
    if not isinstance(tower, JoinedTower):
        return [tower]
    return [member for member in tower.members if isinstance(member, ImageTower)]


def _cut_one(
    tower: ImageTower, settings: FinetuneSettings, *, seed: int
) -> tuple[nn.Module, nn.Module]:
    if not settings.lora_rank:
        still, moving = tower.split(settings.unfreeze)
        return still, with_still_convs(moving) if isinstance(tower, LiteTower) else moving
    if isinstance(tower, LiteTower):
        raise TrainingError(
            f"LoRA adapts the linear layers of transformers, and {tower.source} has none; "
            "set finetune.lora_rank to 0"
        )
    whole = tower.split("all")
    tower.requires_grad_(False)
    blocks = find_blocks(tower)[1]
    last = Trainable.parse(settings.unfreeze, available=len(blocks))
    adapted = blocks[len(blocks) - last.blocks :] if last.extent == "last" else blocks
    add_lora(adapted, settings.lora_rank, seed=seed)
    return whole


def _layers(tower: ImageTower) -> list[list[nn.Parameter]]:
    """Parameters of each layer, from the bottom up; what lies before and after the blocks too."""
    if isinstance(tower, LiteTower):
        return [list(step.parameters()) for step in tower.steps]
    blocks = find_blocks(tower)[1]
    inner = [list(block.parameters()) for block in blocks]
    known = {id(parameter) for layer in inner for parameter in layer}
    layers: list[list[nn.Parameter]] = [[], *inner, []]
    passed = False
    for parameter in tower.parameters():
        passed = passed or id(parameter) in known
        if id(parameter) not in known:
            layers[-1 if passed else 0].append(parameter)
    return layers


def _in_order(piece: Tensor) -> Tensor:
    """Put the channels of a map last in memory, where CPUs convolve them faster."""
    return piece.contiguous(memory_format=torch.channels_last) if piece.ndim == 4 else piece
