"""What a report's CSV files hold: the numbers of runs, scores, differences and errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medsql.metrics.estimate import Estimate
from medsql.runs.differences import Comparison
from medsql.runs.labels import short
from medsql.runs.recorded import Recorded, score_names
from medsql.runs.seeds import Configuration, SeedComparison

if TYPE_CHECKING:
    from medsql.metrics.significance import Difference

Row = Mapping[str, Any]


def numbers_of(
    records: Sequence[Recorded],
    comparisons: Iterable[Comparison],
    seeds: Sequence[Configuration] = (),
    over_seeds: Iterable[SeedComparison] = (),
    importances: Mapping[str, float] | None = None,
) -> dict[str, list[Row]]:
    """The rows of each file, by its name without `.csv`."""
    return {
        "runs": [_run(record) for record in records if record.kind != "evaluate"],
        "scores": [*_scores(records)],
        "differences": [*_differences(comparisons)],
        "errors": [*_errors(records)],
        "seeds": [*_seeds(seeds)],
        "seed_differences": [*_seed_differences(over_seeds)],
        "importances": [
            {"parameter": key, "importance": value} for key, value in (importances or {}).items()
        ],
    }


def _run(run: Recorded) -> Row:
    settings = {key: value for key, value in run.identity.items() if key != "objective"}  # a metric's name
    return {
        "folder": short(run.folder),
        "state": run.state,
        "trial": run.trial,
        "objective": run.objective,
        "last_objective": run.last,
        "last_step": run.step,
        "objective_metric": run.metric,
        **run.validation,
        "test_rows": run.n,
        **{f"test_{name}": score.value for name, score in run.scores.items()},
        **{f"{name}_weights": count for name, count in run.parameters.items()},
        "steps": run.steps,
        "training_minutes": run.minutes,
        "git_commit": run.commit,
        "error": run.error,
        **settings,
    }


def _scores(records: Iterable[Recorded]) -> Iterator[Row]:
    for record in records:
        about = {
            "folder": short(record.folder),
            "scored": record.scored,
            "split": record.split,
            "rows": record.n,
            "num_beams": record.settings.get("decode.num_beams"),
        }
        for name, score in record.scores.items():
            yield {**about, "score": name, **score._asdict()}


def _differences(comparisons: Iterable[Comparison]) -> Iterator[Row]:
    for first, others in comparisons:
        for other, found in others.items():
            for name, difference in found.items():
                about = {"folder": short(other.folder), "against": short(first.folder), "score": name}
                yield {**about, **_difference(difference)}


def _difference(found: Difference) -> Row:
    """Without an interval, or p, that there is none of: where all differences are the same."""
    no_spread = found.low == found.high
    none = dict.fromkeys(("low", "high") if no_spread else ()) | dict.fromkeys(
        ("p",) if found.p != found.p else ()
    )
    return found._asdict() | none


def _seeds(found: Iterable[Configuration]) -> Iterator[Row]:
    for each in found:
        runs = list(each.runs.values())
        spreads = {"objective": each.objective()} | {name: each.score(name) for name in score_names(runs)}
        for name, spread in spreads.items():
            if spread is not None:
                ends = spread.interval
                about = {"configuration": each.label, "seeds": each.seeds, "score": name, "mean": spread.mean}
                yield {**about, "low": ends and ends.low, "high": ends and ends.high, "n": len(runs)}


def _seed_differences(comparisons: Iterable[SeedComparison]) -> Iterator[Row]:
    for first, second, seeds, over_rows, over_seeds in comparisons:
        for covers, found in (("rows", over_rows), ("seeds", over_seeds)):
            for name, difference in found.items():
                about = {"configuration": second.label, "against": first.label, "score": name}
                about |= {"seeds": ", ".join(map(str, seeds)), "covers": covers}
                yield {**about, **_difference(difference)}


def _errors(records: Sequence[Recorded]) -> Iterator[Row]:
    found = [record for record in records if record.patterns]
    patterns = most_frequent(found)
    for record in found:
        shares = [("patterns", pattern, share_of(record, pattern)) for pattern in patterns]
        shares += [("report_classes", name, share) for name, share in record.classes.items()]
        for kind, name, share in shares:
            about = {"folder": short(record.folder), "kind": kind, "name": name, "count": count_of(share)}
            value, low, high, wrong = share
            claimed = record.claimed.get(name) if kind == "report_classes" else None
            yield {**about, "wrong": wrong, "value": value, "low": low, "high": high, "claimed": claimed}


def most_frequent(records: Iterable[Recorded]) -> list[str]:
    """All patterns that occur, those first that occur most often over all."""
    counts: Counter[str] = Counter()
    for record in records:
        counts.update({pattern: count_of(share) for pattern, share in (record.patterns or {}).items()})
    return [pattern for pattern, count in counts.most_common() if count]


def count_of(share: Estimate) -> int:
    """How many of its rows a share is."""
    return round(share.value * share.n)


def share_of(record: Recorded, pattern: str) -> Estimate:
    """A pattern's share of the wrong predictions, which is 0 where it is not recorded."""
    from medsql.metrics.intervals import share  # imports scipy

    return (record.patterns or {}).get(pattern) or share(0, record.wrong)
