"""What is wrong with a wrong prediction: error patterns, decided on the parts of parsed queries.

A prediction may show several patterns at once. The five classes of errors of the published report (section
7.2) are a view of them, so that its shares can stand beside counted ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from rapidfuzz import fuzz
from scipy.optimize import linear_sum_assignment

from medsql.metrics.intervals import share
from medsql.metrics.logical import logical_form
from medsql.sql.parsing import is_cut_short
from medsql.sql.parts import Column, Condition, Output, Parts, take_apart
from medsql.sql.schema import TABLES

PATTERNS = (
    "unknown column",
    "wrong column",
    "wrong table or join",
    "string literal: case",
    "string literal: near",
    "string literal: other",
    "number or date literal",
    "operator",
    "missing condition",
    "extra condition",
    "aggregate or DISTINCT",
    "time condition",
    "unparsable",
    "truncated",
    "other",
)
"""All names, in the order in which reports show them."""

REPORT_CLASSES: dict[str, tuple[str, ...]] = {
    "column names": ("unknown column", "wrong column"),
    "string literals": ("string literal: case", "string literal: near", "string literal: other"),
    "condition logic": ("operator", "missing condition", "extra condition"),
    "time": ("time condition",),
    "schema ambiguity": ("wrong table or join",),
}
"""The report's classes by the patterns that come nearest; a pattern it has no class for is in none."""

REPORT_SHARES: dict[str, float] = {
    "column names": 0.35,
    "string literals": 0.25,
    "condition logic": 0.20,
    "time": 0.15,
    "schema ambiguity": 0.05,
}
"""The share of errors that the report gives each class (section 7.2); there they add up to 1."""

NEAR = 80.0
"""From which similarity on (rapidfuzz's `ratio`, 0 to 100) one literal is a slip of the other.

Measured on the string values of MIMICSQL's 1,000 development queries: 99 % of values with one random typo
(two from 16 letters on) reach it, and four of five titles that lost a word, but of two different values of
one column, neither within the other, only 0.1 %. These differ in a word or a digit ("Reticulocyte Count,
Automated" and "Manual", WARF1 and WARF2) and count as near.
"""

_TIME = re.compile(r"DOB|DOD|ADMITTIME|DISCHTIME|CHARTTIME|ADMITYEAR|.*_YEAR")  # invented years as well
_CASE, _NEAR, _OTHER, _NUMBER = PATTERNS[3:7]
_NUMBER_OR_DATE = re.compile(r"-?\d+(\.\d+)?|\d{4}-\d\d?(-\d\d?)?([ T]\d\d?:\d\d(:\d\d(\.\d+)?)?)?")


def error_patterns(prediction: str, gold: str, truncated: bool = False) -> list[str]:
    """The patterns of a prediction that is not the gold query's `logical_form`, in the order of `PATTERNS`.

    A right prediction has none, a wrong one at least one. `truncated` says that generation reached its
    bound. One that does not parse is "unparsable", and "truncated" where it also ends too early, and
    nothing further; where the gold query does not parse, the error is "other". Raises nothing, whatever
    the texts are.

    A column is unknown where none of the prediction's tables has it, nor the table it stands behind. That
    can be said of MIMICSQL's tables only: with any other table in the prediction, a column other
    than gold's is a "wrong column". A column that gold uses itself is never unknown.
    """
    if logical_form(prediction, gold):
        return []
    predicted, expected = take_apart(prediction), take_apart(gold)
    found = {"truncated"} if truncated else set()
    if predicted is None:
        found |= {"unparsable", "truncated"} if is_cut_short(prediction) else {"unparsable"}
    elif expected is not None:
        found |= _differences(predicted, expected)
    return [pattern for pattern in PATTERNS if pattern in found] or ["other"]


def _differences(predicted: Parts, gold: Parts) -> set[str]:
    unknown = _unknown_columns(predicted, gold)
    found = {"unknown column"} if unknown else set()
    if (predicted.tables, predicted.joins) != (gold.tables, gold.joins):
        found.add("wrong table or join")
    if predicted.distinct != gold.distinct:
        found.add("aggregate or DISTINCT")
    found.update(_output_errors(predicted.outputs, gold.outputs, unknown))
    found.update(_condition_errors(predicted.conditions, gold.conditions, unknown))
    if predicted.connectives and gold.connectives and predicted.connectives != gold.connectives:
        found.add("operator")
    return found


# ---- columns and outputs ------------------------------------------------------------------------


def _unknown_columns(predicted: Parts, gold: Parts) -> set[str]:
    """Names of columns that exist nowhere in the prediction's tables."""
    if not predicted.sources <= TABLES.keys():
        return set()
    known = predicted.names.union({"*"}, *(TABLES[table] for table in predicted.sources))
    return {
        column.name
        for column in predicted.columns - gold.columns
        if column.name not in known and column.name not in TABLES.get(column.table, {})
    }


def _column_errors(predicted: Sequence[Column], gold: Sequence[Column], unknown: set[str]) -> Iterator[str]:
    for ours, theirs in zip_longest(predicted, gold):
        if ours is None or theirs is None or ours.name != theirs.name:
            if ours is None or ours.name not in unknown:
                yield "wrong column"
        elif ours.table != theirs.table:
            yield "wrong table or join"


def _output_errors(predicted: Sequence[Output], gold: Sequence[Output], unknown: set[str]) -> Iterator[str]:
    """Outputs pair in order, equal ones apart: the same outputs in another order are no error of theirs."""
    for ours, theirs in zip_longest(*_unequal(predicted, gold)):
        if ours is not None and theirs is not None and ours.functions != theirs.functions:
            yield "aggregate or DISTINCT"
        yield from _column_errors(ours.columns if ours else (), theirs.columns if theirs else (), unknown)


def _unequal(predicted: Sequence[Any], gold: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What is left of both, in order, once equal ones are paired off."""
    return (
        list((Counter(predicted) - Counter(gold)).elements()),
        list((Counter(gold) - Counter(predicted)).elements()),
    )


# ---- conditions ---------------------------------------------------------------------------------


def _condition_errors(
    predicted: Sequence[Condition], gold: Sequence[Condition], unknown: set[str]
) -> Iterator[str]:
    for ours, theirs in _aligned(*_unequal(predicted, gold)):
        if ours is None:
            yield "missing condition"
        elif theirs is None:
            yield "extra condition"
        else:
            yield from _column_errors(ours.columns, theirs.columns, unknown)
            if ours.operator != theirs.operator:
                yield "operator"
            yield from _literal_errors(ours, theirs)
        columns = [column for condition in (ours, theirs) if condition for column in condition.columns]
        if any(_TIME.fullmatch(column.name) for column in columns):
            yield "time condition"


def _aligned(
    predicted: Sequence[Condition], gold: Sequence[Condition]
) -> list[tuple[Condition | None, Condition | None]]:
    """Each condition beside the one it is a wrong version of, or beside none.

    Of all ways to pair them, the one with the fewest differences altogether.
    """
    costs = np.array([[_cost(ours, theirs) for theirs in gold] for ours in predicted])
    if not costs.size:
        return list(zip_longest(predicted, gold))  # one of the two is empty
    rows, columns = linear_sum_assignment(costs)
    pairs = [(i, j) for i, j in zip(rows, columns, strict=True) if costs[i, j] < _UNRELATED]
    missing = set(range(len(gold))) - {j for _, j in pairs}
    extra = set(range(len(predicted))) - {i for i, _ in pairs}
    return [
        *((predicted[i], gold[j]) for i, j in pairs),
        *((predicted[i], None) for i in extra),
        *((None, gold[j]) for j in missing),
    ]


def _cost(predicted: Condition, gold: Condition) -> int:
    """How far two conditions differ; another column outweighs all else.

    They are unrelated where they share neither a column's name nor, nearly, the literals.
    """
    names, gold_names = ({column.name for column in condition.columns} for condition in (predicted, gold))
    literals = _literal_cost(predicted, gold)
    if not names & gold_names and (literals == _FAR or not _is_telling(predicted, gold)):
        return _UNRELATED
    return 4 * (predicted.columns != gold.columns) + (predicted.operator != gold.operator) + literals


_UNRELATED = 1_000  # more than all pairs of any query cost together
_FAR = 2


def _literal_cost(predicted: Condition, gold: Condition) -> int:
    errors = set(_literal_errors(predicted, gold))
    if not predicted.literals or not gold.literals or not errors <= {_CASE, _NEAR}:
        return _FAR
    return int(bool(errors))


def _is_telling(predicted: Condition, gold: Condition) -> bool:
    """Whether alike literals say that two conditions mean the same: "M" is in "MAIN", too."""
    return predicted.literals == gold.literals or min(map(len, predicted.literals + gold.literals)) > 2


# ---- literals -----------------------------------------------------------------------------------


def _literal_errors(predicted: Condition, gold: Condition) -> Iterator[str]:
    """The patterns of the literals that differ; none where a condition has no literal at all."""
    if predicted.literals and gold.literals:
        is_number = any(column.type in ("INTEGER", "REAL") for column in gold.columns)
        for ours, theirs in zip_longest(*_unequal(predicted.literals, gold.literals), fillvalue=""):
            yield _NUMBER if is_number else _literal_error(ours, theirs)


def _literal_error(predicted: str, gold: str) -> str:
    if _NUMBER_OR_DATE.fullmatch(predicted) and _NUMBER_OR_DATE.fullmatch(gold):
        return _NUMBER
    if predicted.casefold() == gold.casefold():
        return _CASE
    return _NEAR if _is_near(predicted.casefold(), gold.casefold()) else _OTHER


def _is_near(one: str, other: str) -> bool:
    """Whether one is the other with a slip, or stands in it from the start of a word on."""
    part, whole = sorted((one, other), key=len)
    within = part != "" and re.search(rf"(?<!\w){re.escape(part)}", whole) is not None
    return within or fuzz.ratio(one, other) >= NEAR


# ---- summary ------------------------------------------------------------------------------------


def summarize(patterns: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How often each pattern, and each of the report's classes, occurs among the wrong predictions.

    `patterns` holds what `error_patterns` found for each *wrong* prediction. Returns `{"wrong": n,
    "patterns": {name: {"count", "value", "low", "high"}}, "report_classes": {class: {…, "claimed"}}}`, ready
    for JSON: patterns that occur, in the order of `PATTERNS`, and all five classes. A value is a share of the
    wrong predictions, from 0 to 1, with Wilson's 95 % interval. A prediction may show several patterns, so
    the shares add up to more than 1; the report's, in `claimed`, add up to 1. Without a wrong
    prediction there are no shares, and both are empty.
    """
    n = len(patterns)
    if not n:
        return {"wrong": 0, "patterns": {}, "report_classes": {}}
    counts = Counter(name for row in patterns for name in set(row))
    classes = {
        name: _share(sum(not members.isdisjoint(row) for row in patterns), n)
        | {"claimed": REPORT_SHARES[name]}
        for name, members in ((name, frozenset(members)) for name, members in REPORT_CLASSES.items())
    }
    return {
        "wrong": n,
        "patterns": {name: _share(counts[name], n) for name in PATTERNS if counts[name]},
        "report_classes": classes,
    }


def _share(count: int, n: int) -> dict[str, float]:
    estimate = share(count, n)
    return {"count": count, "value": estimate.value, "low": estimate.low, "high": estimate.high}
