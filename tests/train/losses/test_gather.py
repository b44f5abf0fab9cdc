"""Two processes with half a batch each learn what one process learns from the whole batch.

Two gloo processes on this machine run every scenario once and write their gradients to files; the
tests compare them with one process. Arithmetic is float64, the tolerance 1e-12: what remains is
the order of sums.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from miniclip.train.losses import positive_pairs
from miniclip.train.losses.gather import average_gradients, gather_rows, world_size
from miniclip.train.losses.gradient_cache import cached_backward
from tests.train.losses.pair_loss import NAMES, PairLoss

TOLERANCE = 1e-12
# Six images, of which the first and the last are the same picture, on different processes.
IMAGE_GROUPS = torch.tensor([10, 11, 12, 13, 14, 10])
# Eleven texts; the processes get five and six of them.
TEXT_GROUPS = torch.tensor([10, 10, 11, 12, 12, 13, 13, 13, 14, 10, 14])
WORDINGS = torch.tensor([0, 1, 2, 3, 4, 5, 2, 6, 7, 8, 9])  # text 6 reads like text 2
IMAGES_OF = (slice(0, 3), slice(3, 6))
TEXTS_OF = (slice(0, 5), slice(5, 11))


class Model(nn.Module):
    """Two linear towers and a loss over the gathered batch."""

    def __init__(self, loss: str, *, gather: bool = True) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.image = nn.Linear(7, 4)
        self.text = nn.Linear(5, 4)
        self.loss = PairLoss(loss)
        self.gather = gather
        self.double()

    def encode_image(self, pixels: Tensor) -> Tensor:
        return F.normalize(self.image(pixels), dim=1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.text(tokens), dim=1)

    def loss_of(self, image: Tensor, text: Tensor, *ids: Tensor) -> Tensor:
        rows = [image, text, *ids]
        if self.gather:
            rows = [gather_rows(part) for part in rows]
        image, text, *ids_all = rows
        loss: Tensor = self.loss(image, text, positive_pairs(*ids_all))
        return loss

    def forward(self, pixels: Tensor, tokens: Tensor, *ids: Tensor) -> Tensor:
        return self.loss_of(self.encode_image(pixels), self.encode_text(tokens), *ids)


def whole_batch() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(6, 7, dtype=torch.float64, generator=generator)
    tokens = torch.randn(11, 5, dtype=torch.float64, generator=generator)
    return [pixels, tokens, IMAGE_GROUPS, TEXT_GROUPS, WORDINGS]


def share_of(rank: int) -> list[Tensor]:
    pixels, tokens, image_groups, text_groups, wordings = whole_batch()
    mine, texts = IMAGES_OF[rank], TEXTS_OF[rank]
    return [pixels[mine], tokens[texts], image_groups[mine], text_groups[texts], wordings[texts]]


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def through_ddp(rank: int, loss: str, *, gather: bool) -> dict[str, Tensor]:
    model = Model(loss, gather=gather)
    wrapped = DistributedDataParallel(model)  # must outlive the backward pass
    wrapped(*share_of(rank)).backward()
    return gradients_of(model)


def through_gradient_cache(rank: int, loss: str) -> dict[str, Tensor]:
    model = Model(loss)
    wrapped = DistributedDataParallel(model)
    pixels, tokens, *ids = share_of(rank)
    with wrapped.no_sync():
        cached_backward(
            (model.encode_image, model.encode_text),
            (torch.split(pixels, 2), torch.split(tokens, 2)),
            lambda image, text: model.loss_of(image, text, *ids),
        )
    average_gradients(model.parameters())
    return gradients_of(model)


def process(rank: int, folder: str) -> None:
    """One of the two processes; it runs in an interpreter of its own."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # this machine only
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    results: dict[str, object] = {
        "world": world_size(),
        "uneven": gather_rows(torch.full((rank + 1, 2), float(rank))),
        "flags": gather_rows(torch.tensor([rank == 0, True])),
        "none": gather_rows(torch.ones(2 * rank, 3)),
    }
    for loss in NAMES:
        results[loss] = through_ddp(rank, loss, gather=True)
        results[f"{loss} local"] = through_ddp(rank, loss, gather=False)
        results[f"{loss} cached"] = through_gradient_cache(rank, loss)
    lonely = torch.zeros(2, requires_grad=True)
    if rank == 0:
        lonely.grad = torch.tensor([2.0, 4.0])
    average_gradients([lonely])
    results["lonely"] = lonely.grad
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # a thread of torch's own that still runs may abort an interpreter that tidies up


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("gloo")
    spawn(process, args=(str(folder),), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def one_process(loss: str) -> dict[str, Tensor]:
    model = Model(loss)
    model(*whole_batch()).backward()
    return gradients_of(model)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("loss", NAMES)
def test_half_a_batch_each_gives_the_gradients_of_the_whole(
    two_processes: list[dict[str, object]], loss: str, rank: int
) -> None:
    expected = one_process(loss)
    assert "loss.log_scale" in expected
    torch.testing.assert_close(two_processes[rank][loss], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("loss", NAMES)
def test_without_the_gather_the_gradients_are_others(
    two_processes: list[dict[str, object]], loss: str
) -> None:
    local = two_processes[0][f"{loss} local"]
    assert isinstance(local, dict)
    difference = (local["image.weight"] - one_process(loss)["image.weight"]).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("loss", NAMES)
def test_gradient_caching_works_across_processes(
    two_processes: list[dict[str, object]], loss: str, rank: int
) -> None:
    cached = two_processes[rank][f"{loss} cached"]
    torch.testing.assert_close(cached, one_process(loss), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rank", [0, 1])
def test_rows_arrive_in_the_order_of_ranks_however_many_each_has(
    two_processes: list[dict[str, object]], rank: int
) -> None:
    results = two_processes[rank]
    assert results["world"] == 2
    assert isinstance(results["uneven"], Tensor)
    assert results["uneven"].tolist() == [[0, 0], [1, 1], [1, 1]]
    assert isinstance(results["flags"], Tensor)
    assert results["flags"].tolist() == [True, True, False, True]
    assert isinstance(results["none"], Tensor)
    assert results["none"].shape == (2, 3)


def test_a_gradient_that_only_one_process_has_is_shared(
    two_processes: list[dict[str, object]],
) -> None:
    for results in two_processes:
        assert isinstance(results["lonely"], Tensor)
        assert results["lonely"].tolist() == [1, 2]


def test_one_process_gathers_nothing_and_averages_nothing() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    assert world_size() == 1
    assert gather_rows(rows) is rows
    rows.grad = torch.ones(3, 2)
    average_gradients([rows])
    assert torch.equal(rows.grad, torch.ones(3, 2))
