"""Whether a predicted query says what the gold query says, however it is written."""

from __future__ import annotations

from medsql.sql.logical_form import normal_form


def logical_form(prediction: str, reference: str) -> bool:
    """Whether both have the same normal form; text that does not parse equals nothing, not even itself.

    The logical-form accuracy of WikiSQL (Zhong, Xiong and Socher 2017, arXiv:1709.00103), on a form of
    MIMICSQL's dialect: see `medsql.sql.logical_form`.
    """
    form = normal_form(prediction)
    return form is not None and form == normal_form(reference)
