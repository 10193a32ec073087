"""Measures medsql beside the alternatives: what is named, or everything, and then writes the docs page."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import tempfile
from pathlib import Path

from benchmarks.report import Place, print_table, write_page
from benchmarks.timing import Comparison

NAMES = (
    "startup",
    "scoring",
    "constrained",
    "training",
    "lora",
    "muon",
    "sweep",
    "growth",
    "profiles",
    "gpu",
)
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
THREADS = 2
"""PyTorch's, on both sides: those of a small machine, so that figures from larger ones compare."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; none: all")
    names = parser.parse_args().names
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}: choose from {', '.join(NAMES)}")
    place = Place.here(_set_threads())
    with tempfile.TemporaryDirectory() as cache:
        os.environ["MEDSQL_CACHE"] = cache  # not the user's own: what lies there must not matter
        comparisons = _measure(names or list(NAMES))
    print_table(comparisons, place)
    if names:
        print("docs/benchmarks.md is only written when all are run")
    else:
        write_page(PAGE, comparisons, place)
        print("written to docs/benchmarks.md")


def _set_threads() -> int:
    """The same for both sides and all child processes; PyTorch reads this when it is imported."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(min(THREADS, os.cpu_count() or 1))
    os.environ["OMP_NUM_THREADS"] = threads
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as medsql's commands do; see medsql/door.py
    return int(threads.split(",")[0])  # of a list, one for each level, the first counts here


def _measure(names: list[str]) -> list[Comparison]:
    logging.getLogger("medsql").setLevel(logging.ERROR)  # the progress of runs is not the subject here
    comparisons = []
    for name in names:  # imported one by one: start-up is measured without PyTorch in this process
        comparisons += importlib.import_module(f"benchmarks.{name}").measure()
    return comparisons


if __name__ == "__main__":
    main()
