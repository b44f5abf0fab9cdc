"""Large contrastive batches in little memory: GradCache (Gao et al. 2021, arXiv 2101.06983).

A contrastive loss needs the vectors of the whole batch at once, but not their graphs. So: encode
in micro-batches without a graph; take the loss and its gradient with respect to the vectors; then
encode each micro-batch again, with a graph, and send its part of that gradient on. The result is
the gradient of the whole batch for the memory of one micro-batch and one more forward pass.

It does not synchronise processes. Under DDP gather inside `loss_fn`, call this within
`model.no_sync()`, and call `gather.average_gradients` afterwards. Layers that look across the
batch (batch normalisation in training mode) see micro-batches, and see them twice: freeze them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from miniclip.errors import TrainingError

_RandomState = list[tuple[Any, Tensor]]


def cached_backward(
    encoders: Sequence[Callable[[Any], Tensor]],
    micro_batches: Sequence[Sequence[Any]],
    loss_fn: Callable[..., Tensor],
) -> Tensor:
    """Add the gradients of the whole batch to `.grad`, as `loss.backward()` would.

    encoders:      one callable per tower, micro-batch -> (n, D) rows.
    micro_batches: for each tower its list of inputs, whatever the callable takes; the sizes need
                   not be equal, neither within a tower nor between towers.
    loss_fn:       receives one (sum of n, D) tensor per tower and returns a scalar. Its own
                   parameters (the temperature) get their gradients too.
    Returns the loss, detached. Random numbers (dropout) are the same in both passes, and
    afterwards the generators stand where one plain pass would have left them. Works inside
    autocast. Raises TrainingError when the lists do not fit.
    """
    if len(encoders) != len(micro_batches) or not all(micro_batches):
        raise TrainingError(
            f"{len(encoders)} encoders but micro-batches of sizes "
            f"{[len(parts) for parts in micro_batches]}; give each encoder at least one"
        )
    towers = [_Tower(encode, parts) for encode, parts in zip(encoders, micro_batches, strict=True)]
    # Torch before its pull request 165068 would reuse weights that autocast cast without a graph.
    torch.clear_autocast_cache()
    loss = loss_fn(*(tower.rows for tower in towers))
    torch.autograd.backward(loss)
    for tower in towers:
        tower.backward()
    return loss.detach()


class _Tower:
    """One encoder, its micro-batches, the random state before each, and the cached rows."""

    def __init__(self, encode: Callable[[Any], Tensor], parts: Sequence[Any]) -> None:
        self.encode = encode
        self.parts = parts
        self.states: list[_RandomState] = []
        rows = []
        with torch.no_grad():
            for part in parts:
                self.states.append(_random_state())
                rows.append(encode(part))
        self.sizes = [len(part) for part in rows]
        self.rows = torch.cat(rows).requires_grad_()

    def backward(self) -> None:
        if self.rows.grad is None:  # the loss does not look at this tower
            return
        gradients = torch.split(self.rows.grad, self.sizes)
        for part, state, gradient in zip(self.parts, self.states, gradients, strict=True):
            with _replayed(state):
                rows = self.encode(part)
            if not rows.requires_grad:  # a frozen tower
                return
            torch.autograd.backward(rows, gradient)


def _random_state() -> _RandomState:
    """Return the state of every generator that a layer may draw from without being told which."""
    modules: list[Any] = [torch]
    if torch.cuda.is_available():
        modules.append(torch.cuda)
    if torch.backends.mps.is_available():
        modules.append(torch.mps)
    return [(module, module.get_rng_state()) for module in modules]


@contextmanager
def _replayed(state: _RandomState) -> Iterator[None]:
    """Draw again what was drawn after `state`, then go on as if nothing had happened."""
    now = _random_state()
    _restore(state)
    try:
        yield
    finally:
        _restore(now)


def _restore(state: _RandomState) -> None:
    for module, numbers in state:
        module.set_rng_state(numbers)
