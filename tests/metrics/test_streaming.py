"""Scores that arrive in parts are the scores of the whole, also over processes with unequal parts."""

import subprocess
import sys
from pathlib import Path

import pytest

from medsql.metrics.streaming import ExactMatch, TokenOverlapScores

GOLD = ["a b", "c d", "e f", "g h", "i j"]
PREDICTED = ["A B", "c x", "e f", "y z", ""]
OVERLAPS = {"token_f1": 0.5, "token_precision": 0.5, "token_recall": 0.5}  # 1, ½, 1, 0 and 0


@pytest.mark.parametrize("sizes", [[5], [1, 4], [2, 2, 1]])
def test_batching_does_not_matter(sizes: list[int]) -> None:
    exact, overlap = ExactMatch(), TokenOverlapScores()
    start = 0
    for size in sizes:
        rows = slice(start, start + size)
        exact.update(PREDICTED[rows], GOLD[rows])
        overlap.update(PREDICTED[rows], GOLD[rows])
        start += size
    assert float(exact.compute()) == pytest.approx(2 / 5)
    assert {name: float(value) for name, value in overlap.compute().items()} == pytest.approx(OVERLAPS)


def test_reset_forgets() -> None:
    exact = ExactMatch()
    exact.update(["a"], ["b"])
    exact.reset()
    exact.update(["a"], ["a"])
    assert float(exact.compute()) == 1.0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        ExactMatch().update(["a"], [])
    with pytest.raises(ValueError, match="zip"):
        TokenOverlapScores().update(["a"], ["a", "b"])


PROCESS = f"""
import sys
import torch.distributed as dist
from medsql.metrics.streaming import ExactMatch, TokenOverlapScores

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
gold, predicted = {GOLD!r}, {PREDICTED!r}
rows = slice(0, 1) if rank == 0 else slice(1, 5)
exact, overlap = ExactMatch(), TokenOverlapScores()
exact.update(predicted[rows], gold[rows])
overlap.update(predicted[rows], gold[rows])
print(float(exact.compute()), *(float(value) for value in overlap.compute().values()))
dist.destroy_process_group()
"""


def test_two_processes_with_one_and_four_rows_agree_on_the_whole(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        # An average of the two processes' averages would be (1 + ¼) / 2.
        assert [float(word) for word in output.split()] == pytest.approx([0.4, 0.5, 0.5, 0.5])
