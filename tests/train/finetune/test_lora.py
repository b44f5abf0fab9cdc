"""Updates of low rank: nothing at first, learnt alone, and the same function when merged."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from miniclip.errors import TrainingError
from miniclip.train.finetune.lora import add_lora, merge_lora

pytestmark = pytest.mark.train


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 4, bias=False)).double()


def test_it_starts_as_the_network_and_learns_by_its_updates_alone() -> None:
    plain, adapted = network(), network()
    add_lora(adapted, 2, seed=1)
    adapted.double()
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(adapted(x), plain(x))
    learning = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(learning) == 4
    assert all(name.endswith((".up", ".down")) for name in learning)


def test_merging_changes_no_output_and_restores_the_names() -> None:
    plain, adapted = network(), network()
    add_lora(adapted, 2, seed=1)
    adapted.double()
    for name, parameter in adapted.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
    x = torch.randn(5, 6, dtype=torch.float64)
    unmerged = adapted(x).detach()
    assert not torch.allclose(unmerged, plain(x))
    merge_lora(adapted)
    torch.testing.assert_close(adapted(x), unmerged)
    assert dict(adapted.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    merged, weight = (net.get_parameter("0.weight") for net in (adapted, plain))
    difference = merged - weight
    assert torch.linalg.matrix_rank(difference) == 2


def test_a_seed_decides_where_it_starts() -> None:
    starts = []
    for seed in (1, 1, 2):
        adapted = network()
        add_lora(adapted, 2, seed=seed)
        starts.append({n: p for n, p in adapted.named_parameters() if n.endswith(".down")})
    one, same, other = starts
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_a_module_without_linear_layers_is_refused() -> None:
    with pytest.raises(TrainingError, match="no linear layers"):
        add_lora(nn.Conv2d(3, 4, 1), 2, seed=0)
