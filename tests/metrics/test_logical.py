"""Logical form as a score of one prediction."""

import pytest

from medsql.metrics.logical import logical_form

GOLD = 'SELECT MAX ( LAB."ITEMID" ) FROM LAB WHERE LAB."FLUID" = "Blood" AND LAB."FLAG" = "delta"'


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        (GOLD, True),
        ('select max(itemid) from lab where flag = "delta" and fluid = "Blood";', True),
        (GOLD.replace("Blood", "blood"), False),
        (GOLD.replace("MAX", "MIN"), False),
        (GOLD[:-1], False),
        ("", False),
    ],
)
def test_a_prediction_is_right_however_it_is_written(prediction: str, right: bool) -> None:
    assert logical_form(prediction, GOLD) is right


@pytest.mark.parametrize("broken", ["", "SELECT", "SELECT MAX ( FROM LAB"])
def test_what_does_not_parse_equals_nothing(broken: str) -> None:
    assert logical_form(broken, broken) is False
