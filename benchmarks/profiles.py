"""Where the time of training and generation goes on a CPU, and how near their matrix products that comes."""

from __future__ import annotations

import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import scoring, training
from benchmarks.materials import Materials, train
from benchmarks.timing import Comparison, alternate, say
from medsql.config import DecodeSettings

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or each profile tells the terminal that it starts and ends

TIMES = 3

KINDS = {
    "attention": "attention",
    "matrix products": "mm$",
    "optimiser": "_fused_|_foreach_|vector_norm",
    "copies": "copy|cat$|clone|index|gather",
    "views and memory": "view|transpose|aten::t$|as_strided|reshape|expand|slice|empty|detach|squeeze|select",
}
"""What is found in the names of PyTorch's operators on a CPU; what no kind claims is elementwise or a sum."""

DROPOUT = {"dropout": "random_|aten::where|aten::ge$|aten::mul_$|dropout|bernoulli"}
"""What `medsql.model.cpu.dropout` is made of: operators that little else uses in training."""

ELSE = "elementwise, sums, norms"
OUTSIDE = "outside of PyTorch's operators"

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)
ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu
ATTENTION_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward

Run = Callable[[AbstractContextManager[Any]], None]
"""Does its work once, the part that is looked at within the context."""


def measure() -> list[Comparison]:
    return [*map(_training, training.STEPS), *map(_generation, scoring.DECODE)]


def _training(prompt: str) -> Comparison:
    steps = training.STEPS[prompt]
    materials = training.prepared(prompt, steps, "data.validation_rows=1")  # one is always validated
    what = f"{steps - training.WARM_UP} steps of training, {prompt} prompt"
    return _beside_its_products(what, partial(_train, materials), DROPOUT | KINDS)


def _train(materials: Materials, context: AbstractContextManager[Any]) -> None:
    with TemporaryDirectory() as folder:
        train(materials, materials.model(), Path(folder), Within(context, training.WARM_UP))


def _generation(decode: DecodeSettings) -> Comparison:
    contest = scoring.Contest(*scoring.taught(), decode)

    def run(context: AbstractContextManager[Any]) -> None:
        with context:
            contest.medsql()

    return _beside_its_products(f"generation for {contest.rows} rows, {scoring.how(decode)}", run, KINDS)


def _beside_its_products(what: str, run: Run, kinds: Mapping[str, str]) -> Comparison:
    products = Products()
    run(products)
    remark = f"{_where_time_goes(run, kinds)}; {products}"
    say(f"{what}: {remark}")
    figures = alternate(what, lambda: _seconds(run), products.seconds, TIMES)
    return Comparison(what, "its matrix products alone", "s", figures, remark)


class Within(pl.Callback):
    """Enters `context` at the end of step `first`, and leaves it at that of the last.

    Validations in between are within.
    """

    def __init__(self, context: AbstractContextManager[Any], first: int) -> None:
        self.context = context
        self.first = first

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.first:
            self.context.__enter__()
        if trainer.global_step == trainer.num_training_batches:
            self.context.__exit__(None, None, None)


# --- wall-clock time, and the kinds it divides into --------------------------------------------------


class Clock:
    """Seconds spent within it."""

    seconds = 0.0

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self.started


def _seconds(run: Run) -> float:
    clock = Clock()
    run(clock)
    return clock.seconds


def _where_time_goes(run: Run, kinds: Mapping[str, str]) -> str:
    """Shares of the wall-clock time while profiled: each operator's own time, and what is left over."""
    clock, profiled = Clock(), profile(activities=[ProfilerActivity.CPU])

    @contextmanager
    def watched() -> Iterator[None]:
        with profiled, clock:  # the profiler takes its time to start and to end
            yield

    run(watched())
    own = {event.key: event.self_cpu_time_total / 1e6 for event in profiled.key_averages()}
    # What is no operator is a span that autograd, an optimiser or a loader gives a name to.
    found = by_kind({name: spent for name, spent in own.items() if name.startswith("aten::")}, kinds, ELSE)
    found[OUTSIDE] = clock.seconds - sum(found.values())
    return shares(found)


def by_kind(times: Mapping[str, float], kinds: Mapping[str, str], unclaimed: str) -> dict[str, float]:
    """The sums of `times` by the first of `kinds` whose pattern is found in the name."""
    sums: defaultdict[str, float] = defaultdict(float)
    for name, spent in times.items():
        sums[next((kind for kind, pattern in kinds.items() if re.search(pattern, name)), unclaimed)] += spent
    return dict(sums)


def shares(times: Mapping[str, float]) -> str:
    """Each one's share of all of them, the largest first."""
    whole = sum(times.values())
    return ", ".join(
        f"{kind} {spent / whole:.0%}" for kind, spent in sorted(times.items(), key=lambda pair: -pair[1])
    )


# --- the floor ---------------------------------------------------------------------------------------


class Operand(NamedTuple):
    """What of a tensor decides how long its products take."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> Operand:
        return cls(tuple(tensor.size()), tensor.stride(), tensor.dtype)

    def made(self) -> Tensor:
        """Such a tensor, of random numbers."""
        reach = sum((length - 1) * step for length, step in zip(self.size, self.stride, strict=True))
        return torch.randn(1 + reach, dtype=self.dtype).as_strided(self.size, self.stride)


class Products(TorchDispatchMode):
    """Counts the matrix products computed within it, and times as many of the same shapes alone.

    The products within the fused attention are counted as if each were computed by itself. Raises
    `NotImplementedError` where something is multiplied in a way that is not known here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[Any, tuple[Operand, ...]]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operator = func.overloadpacket
        if operator in PRODUCTS:
            self._count(operator, args)
        elif operator in (ATTENTION, ATTENTION_BACKWARD):
            for operands in _within_attention(operator, args):
                self._count(aten.bmm, operands)
        elif operator in flop_registry:
            raise NotImplementedError(f"{operator} multiplies matrices, and the floor does not hold it")
        return func(*args, **kwargs or {})

    def _count(self, operator: Any, operands: Iterable[Tensor]) -> None:
        self.counts[operator, tuple(map(Operand.of, operands))] += 1

    def __str__(self) -> str:
        return f"{self.counts.total():,} matrix products of {len(self.counts):,} shapes"

    def seconds(self) -> float:
        """What all of them take, those of a shape one after the other, with memory for the result at hand."""
        spent = 0.0
        for (operator, operands), count in self.counts.items():
            made = [operand.made() for operand in operands]
            out, clock = operator(*made), Clock()
            with clock:
                for _ in range(count):
                    operator(*made, out=out)
            spent += clock.seconds
        return spent


def _within_attention(operator: Any, args: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The factors of its products: two forward, and five backward, which makes the scores again.

    Dao et al. 2022, algorithms 1 and 4.
    """
    query, key = args[:2] if operator is ATTENTION else args[1:3]
    rows, heads, tokens, width = query.shape
    made = partial(torch.empty, rows * heads, dtype=query.dtype, device="meta")
    queries, keys, weights = made(tokens, width), made(key.shape[2], width), made(tokens, key.shape[2])
    scores, mixed, turned = (queries, keys.mT), (weights, keys), (weights.mT, queries)
    return [scores, mixed] if operator is ATTENTION else [scores, scores, mixed, turned, turned]
