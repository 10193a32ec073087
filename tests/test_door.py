"""What a failed job leaves behind for the others of its sweep: an error to report, and no memory."""

from __future__ import annotations

import weakref

from medsql.door import forget_frames


class Model:
    """Stands for what fills the memory."""


def failing(models: list[weakref.ref[Model]]) -> None:
    model = Model()
    models.append(weakref.ref(model))
    try:
        raise MemoryError("too large")
    except MemoryError as error:
        raise RuntimeError("out of memory") from error


def test_an_error_that_is_kept_does_not_keep_what_the_job_had_loaded():
    models: list[weakref.ref[Model]] = []
    kept = None
    try:
        failing(models)
    except RuntimeError as error:
        kept = error
    assert models[0]() is not None
    forget_frames(kept)
    assert models[0]() is None
    assert str(kept) == "out of memory" and str(kept.__cause__) == "too large"
