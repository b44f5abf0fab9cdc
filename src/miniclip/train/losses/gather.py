"""One batch out of the batches of all processes, with gradients. No loss and no model in here.

The gather is an autograd function of our own: the one in torch.distributed.nn is deprecated, and
ours takes a different number of rows from each process. Every process computes the loss of the
whole gathered batch. The backward pass sums, over processes, the gradients that each computed for
my rows: W times the gradient, for W processes. The averaging of DDP divides by W, so what the
optimiser sees is the gradient of one process with the whole batch.

With one process, or no process group at all, every function here changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def world_size() -> int:
    """Count the processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their ranks, differentiable in one's own.

    rows: (N_r, ...), any dtype; N_r may differ between processes, the rest of the shape may not.
    Returns (sum of N_r, ...). Every process must call it, the same number of times.
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over processes, as DDP does during backward.

    For backward passes that DDP cannot follow (see `gradient_cache`). A gradient that is missing
    here may exist elsewhere, so it takes part as zeros.
    """
    processes = world_size()
    if processes == 1:
        return
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= processes


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        counts = _row_counts(rows)
        ctx.start = sum(counts[: dist.get_rank()])
        ctx.count = rows.shape[0]
        # Collectives want equal shapes: pad to the longest, then cut.
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: rows.shape[0]] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.count]


def _row_counts(rows: Tensor) -> list[int]:
    mine = torch.tensor([rows.shape[0]], device=rows.device)
    counts = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(counts, mine)
    return [int(count) for count in counts]
