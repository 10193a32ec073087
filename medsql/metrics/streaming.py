"""The text measures as torchmetrics, for predictions that arrive batch by batch.

The states are a sum and a count, so they stay right however unequally several processes share
the rows: torchmetrics adds the states up before the division, never the averages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from medsql.metrics.text import exact_match, token_overlap


class ExactMatch(Metric):
    """Share of predictions equal to their reference, a scalar tensor from 0 to 1 (NaN before any row)."""

    full_state_update = False
    higher_is_better = True
    matches: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("matches", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("rows", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[str], references: Sequence[str]) -> None:
        """Raises `ValueError` where the two differ in length."""
        pairs = list(zip(predictions, references, strict=True))
        self.matches += sum(exact_match(*pair) for pair in pairs)
        self.rows += len(pairs)

    def compute(self) -> Tensor:
        """The share over all processes' rows."""
        return self.matches / self.rows


class TokenOverlapScores(Metric):
    """Means over rows of token F1, precision and recall, as a dict of scalar tensors from 0 to 1."""

    full_state_update = False
    higher_is_better = True
    sums: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", default=torch.zeros(3), dist_reduce_fx="sum")
        self.add_state("rows", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[str], references: Sequence[str]) -> None:
        """Raises `ValueError` where the two differ in length."""
        overlaps = [token_overlap(*pair) for pair in zip(predictions, references, strict=True)]
        self.sums += torch.tensor(overlaps, device=self.sums.device).sum(dim=0)
        self.rows += len(overlaps)

    def compute(self) -> dict[str, Tensor]:
        """The three means over all processes' rows."""
        precision, recall, f1 = self.sums / self.rows
        return {"token_f1": f1, "token_precision": precision, "token_recall": recall}
