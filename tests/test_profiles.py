"""The floor that the profiles measure against holds each matrix product once, and time is sorted by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny import TinyRun
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.profiles import DROPOUT, ELSE, KINDS, Products, Within, by_kind, shares
from medsql.model import cpu


def shapes(products: Products) -> Counter[tuple[tuple[int, ...], ...]]:
    """The factors' sizes, whatever their layout."""
    counts: Counter[tuple[tuple[int, ...], ...]] = Counter()
    for (_, operands), count in products.counts.items():
        counts[tuple(operand.size for operand in operands)] += count
    return counts


def test_a_layer_is_one_product_forward_and_two_backward() -> None:
    layer, values = nn.Linear(3, 5, bias=False), torch.randn(7, 3, requires_grad=True)
    with Products() as products:
        layer(values).sum().backward()
    assert shapes(products) == {((7, 3), (3, 5)): 1, ((5, 7), (7, 3)): 1, ((7, 5), (5, 3)): 1}


def test_the_same_product_again_is_counted_not_listed() -> None:
    layer, values = nn.Linear(3, 5, bias=False), torch.randn(7, 3)
    with torch.no_grad(), Products() as products:
        layer(values), layer(values)
        values @ torch.randn(3, 5)  # its second factor lies the other way round in memory
    assert sorted(products.counts.values()) == [1, 2]


def test_fused_attention_counts_as_its_formula_with_the_scores_made_twice() -> None:
    query = torch.randn(2, 3, 8, 4, requires_grad=True)
    key, value = (torch.randn(2, 3, 6, 4, requires_grad=True) for _ in range(2))

    def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return (query @ key.transpose(2, 3)).softmax(-1) @ value

    fused, formula = (
        inner_and_outer(attention, query, key, value)
        for attention in (F.scaled_dot_product_attention, written_out)
    )
    assert formula == {(4, (6, 8)): 2, (6, (4, 8)): 2, (8, (4, 6)): 2}
    assert fused == formula + Counter({(4, (6, 8)): 1})


def inner_and_outer(
    attention: Callable[..., Tensor], *inputs: Tensor
) -> Counter[tuple[int, tuple[int, ...]]]:
    """The length that is summed over and the two that remain, of the products forward and backward."""
    with Products() as products:
        attention(*inputs).sum().backward()
    counts: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for ((_, left, inner), (_, _, right)), count in shapes(products).items():
        counts[inner, tuple(sorted((left, right)))] += count
    return counts


def test_a_product_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="convolution"), Products():
        F.conv1d(torch.randn(1, 2, 5), torch.randn(3, 2, 2))


def test_the_floor_runs_what_was_counted_and_once_more_for_memory() -> None:
    with Products() as products:
        F.linear(torch.randn(7, 3), torch.randn(5, 3), torch.randn(5))
        torch.randn(4, 2, 3) @ torch.randn(4, 3, 2)
    with Products() as again:
        assert products.seconds() > 0
    assert again.counts == Counter({product: count + 1 for product, count in products.counts.items()})


def test_steps_behind_the_first_are_looked_at_and_not_the_validation_at_the_end(tmp_path: Path) -> None:
    def counted(first: int) -> int:
        products = Products()
        run = TinyRun(tmp_path / str(first), Within(products, first), steps=4, every_steps=4)
        run.fit()
        return products.counts.total()

    assert counted(first=2) == 2 * counted(first=3) > 0


def test_time_goes_to_the_first_kind_that_claims_a_name() -> None:
    times = {"aten::bmm": 2.0, "aten::mm": 4.0, "aten::attention_copy_": 1.0, "aten::mul": 1.0}
    found = by_kind(times, KINDS, ELSE)
    assert found == {"matrix products": 6.0, "attention": 1.0, ELSE: 1.0}
    assert shares(found).startswith("matrix products 75%, ")


def test_what_dropout_draws_compares_and_sets_to_zero_counts_as_dropout() -> None:
    values = torch.randn(8, 8)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        cpu.dropout(values, 0.1)
    found = by_kind({event.key: 1.0 for event in profiled.key_averages()}, DROPOUT | KINDS, ELSE)
    assert found["dropout"] == 4  # the scaling is the fourth
    assert not found.keys() & {"matrix products", "attention", "optimiser"}
