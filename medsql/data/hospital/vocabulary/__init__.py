"""The lists the hospital is made of, one TSV file each, written for this project.

`diagnoses`, `procedures`: ICD-9-CM codes with the titles MIMIC-III gives them, common ones first.
As in MIMICSQL, procedure codes have lost their leading zeros (00.66 is `66`) and diagnosis codes
have not. `drugs`: formulary codes, with comma-separated routes and doses. `lab_items`: item ids
with a normal range. `admission_diagnoses`: what an admitting clerk typed. `names`: invented people.
A `patients` column says whom an entry may happen to: any, adult, female, male or newborn.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path


@cache
def read(name: str) -> tuple[dict[str, str], ...]:
    """The rows of `{name}.tsv`, each a mapping from column to text."""
    with (Path(__file__).parent / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
