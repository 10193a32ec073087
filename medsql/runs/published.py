"""Figures that others published, to lay beside one's own where that is fair.

The report is the published experiment that this project checks: FLAN-T5-base with LoRA on MIMIC-III in
MIMICSQL's five tables.
"""

from __future__ import annotations

from medsql.runs.recorded import Recorded

CHECKPOINT = "google/flan-t5-base"
LABEL_SMOOTHING = 0.05

STEPS = tuple(range(200, 3201, 200))
TRAINING_LOSS = (
    *(1.718, 1.214, 1.092, 1.041, 0.997, 0.992, 0.969, 0.957),
    *(0.949, 0.919, 0.932, 0.928, 0.925, 0.917, 0.920, 0.917),
)
VALIDATION_LOSS = (
    *(1.391, 1.087, 0.998, 0.951, 0.934, 0.918, 0.907, 0.896),
    *(0.890, 0.884, 0.879, 0.882, 0.874, 0.872, 0.872, 0.871),
)
"""The report's Table 1, at `STEPS`; both losses with its label smoothing of 0.05."""

MARKS = (
    ("TREQS (Wang, Shi and Reddy 2020)", "48.2", "61.1"),
    ("TREQS with value recovery", "54.7", "69.0"),
    ("GPT-3.5-Turbo, LLaMA-2-7B (Mellah et al. 2024)", "60", ""),
    ("SQLCoder (Mellah et al. 2024)", "65", ""),
    ("GPT-4 (Mellah et al. 2024)", "70", ""),
    ("MedTS (2021)", "78.4", "89.9"),
    ("MedT5SQL (2024), exact match on its own split", "80.6", ""),
    ("FLAN-T5-large, question only (Mellah et al. 2024)", "85", ""),
    ("the published report, exact match on 100 rows of its own split", "33.0", ""),
)
"""System, logical form and execution in percent, on MIMICSQL's natural questions."""

SOURCES = ("mimicsql", "medical_text_to_sql")
"""The data sources whose questions are of the kind that `MARKS` are about."""


def same_scale(run: Recorded) -> bool:
    """Whether a run's losses are on the scale of the report's Table 1.

    A loss is a mean over the pieces of a vocabulary, raised by label smoothing: with another of
    either, the same model would have another loss.
    """
    return run.checkpoint == CHECKPOINT and run.settings.get("optim.label_smoothing") == LABEL_SMOOTHING
