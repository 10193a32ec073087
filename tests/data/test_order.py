"""The training order: every epoch a permutation, and a position in the run is all that resuming needs."""

from collections import Counter

import pytest

from medsql.config import SettingsError
from medsql.data.order import Mixture, StagedOrder, TrainingOrder, epoch_permutation


def stream(batches):
    return [row for batch in batches for row in batch]


def test_each_epoch_shows_every_row_once_though_batches_cross_its_border():
    order = list(TrainingOrder(rows=10, batch_size=4, batches=10, seed=1))
    assert [len(batch) for batch in order] == [4] * 10
    rows = stream(order)
    for epoch in range(4):
        assert sorted(rows[epoch * 10 : (epoch + 1) * 10]) == list(range(10))


def test_epochs_and_seeds_differ():
    rows = stream(TrainingOrder(rows=50, batch_size=10, batches=10, seed=1))
    assert rows[:50] != rows[50:]
    assert rows != stream(TrainingOrder(rows=50, batch_size=10, batches=10, seed=2))
    # Seed and epoch must not add up to the same order.
    assert epoch_permutation(50, seed=1, epoch=1).tolist() != epoch_permutation(50, seed=2, epoch=0).tolist()


def test_starting_anywhere_continues_the_same_order():
    whole = list(TrainingOrder(rows=7, batch_size=3, batches=12, seed=5))
    for start in range(13):
        assert list(TrainingOrder(rows=7, batch_size=3, batches=12, seed=5, start=start)) == whole[start:]


def test_iterating_again_gives_the_same_batches():
    order = TrainingOrder(rows=7, batch_size=3, batches=5, seed=5)
    assert list(order) == list(order)


def test_the_length_is_that_of_the_whole_run_wherever_it_starts():
    assert len(TrainingOrder(rows=7, batch_size=3, batches=12, seed=5, start=9)) == 12


def test_a_batch_larger_than_the_data_goes_on_with_the_next_epoch():
    (batch,) = TrainingOrder(rows=3, batch_size=7, batches=1, seed=0)
    assert len(batch) == 7 and sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]


def test_the_order_is_the_same_on_every_machine():
    """Recorded once: another NumPy must not silently change what a seed means."""
    order = TrainingOrder(rows=5, batch_size=5, batches=2, seed=42)
    assert list(order) == [[4, 2, 3, 1, 0], [4, 0, 1, 2, 3]]


def test_and_so_is_that_by_length():
    lengths = [(1, 1), (0, 3), (1, 0), (0, 2), (0, 3), (1, 1)]
    order = TrainingOrder(rows=6, batch_size=2, batches=3, seed=42, lengths=lengths)
    assert list(order) == [[1, 2], [5, 0], [3, 4]]


def lengths_of(rows):
    return [((row * 7) % 11, (row * 5) % 13) for row in range(rows)]


def test_batches_by_length_hold_rows_of_like_length_and_show_every_row_once_an_epoch():
    lengths = lengths_of(1000)
    by_length = list(TrainingOrder(rows=1000, batch_size=10, batches=200, seed=1, lengths=lengths))
    rows = stream(by_length)
    assert sorted(rows[:1000]) == sorted(rows[1000:]) == list(range(1000))
    as_it_comes = TrainingOrder(rows=1000, batch_size=10, batches=200, seed=1)

    def padding(batches):
        return sum(
            max(lengths[row][0] for row in batch) - lengths[row][0] for batch in batches for row in batch
        )

    assert padding(by_length) < padding(as_it_comes) / 10
    firsts = [lengths[batch[0]] for batch in by_length[:100]]
    assert firsts != sorted(firsts), "batches of a window must not come in the order of their length"


def test_windows_and_epochs_need_not_end_together():
    rows = stream(TrainingOrder(rows=1010, batch_size=10, batches=202, seed=1, lengths=lengths_of(1010)))
    assert len(rows) == 2020 and {rows.count(row) for row in range(1010)} == {2}


def test_starting_anywhere_continues_the_same_order_by_length():
    order = {"rows": 40, "batch_size": 3, "batches": 250, "seed": 5, "lengths": lengths_of(40)}
    whole = list(TrainingOrder(**order))
    for start in (0, 1, 99, 100, 101, 200, 249, 250):
        assert list(TrainingOrder(**order, start=start)) == whole[start:]


# Rows of another source among them


MIXED = {"rows": 10, "others": 7, "in_epoch": 3, "batch_size": 4, "batches": 91, "seed": 1}


def test_an_epoch_shows_every_row_once_and_the_others_in_turn():
    rows = stream(TrainingOrder(**MIXED))
    others = []
    for epoch in range(28):
        shown = rows[epoch * 13 : (epoch + 1) * 13]
        assert sorted(row for row in shown if row < 10) == list(range(10))
        others += [row for row in shown if row >= 10]
    assert Counter(others) == dict.fromkeys(range(10, 17), 12)  # 28 epochs, 3 of 7 in each


def test_the_others_may_come_more_than_once_an_epoch():
    rows = stream(TrainingOrder(rows=2, others=3, in_epoch=6, batch_size=8, batches=1, seed=1))
    assert sorted(rows) == [0, 1, 2, 2, 3, 3, 4, 4]


def test_a_weight_too_small_for_one_row_is_refused():
    assert Mixture(3000, weight=0.0004).in_epoch == 1
    with pytest.raises(SettingsError, match=r"data\.hospital_weight=0\.0001: not one of 3000 rows"):
        Mixture(3000, weight=0.0001)


def test_starting_anywhere_continues_the_same_order_of_mixed_rows():
    whole = list(TrainingOrder(**MIXED))
    for start in range(92):
        assert list(TrainingOrder(**MIXED, start=start)) == whole[start:]


def test_stages_follow_one_another_and_each_has_its_own_rows():
    stages = [
        TrainingOrder(rows=4, first=6, batch_size=2, batches=2, seed=1),
        TrainingOrder(rows=6, batch_size=2, batches=3, seed=1),
    ]
    order = StagedOrder(stages)
    assert len(order) == len(list(order)) == 5
    assert sorted(stream(list(order)[:2])) == [6, 7, 8, 9]
    assert sorted(stream(list(order)[2:])) == list(range(6))
