"""From the beams of a row to its prediction: which is taken, and what is repaired in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from medsql.data.pairs import Prediction
from medsql.sql.choice import Chooser
from medsql.sql.grounding import is_grounded
from medsql.sql.repair import Repairer


@dataclass(frozen=True)
class Guidance:
    """Chooses a beam, repairs it, or both, in this order; never with a look at a gold query.

    With `grounded`, which needs both, beams come first whose values are known, once repaired, or asked for,
    and values are then read again in the question.
    """

    chooser: Chooser | None = None
    repairer: Repairer | None = None
    grounded: bool = False

    def __call__(self, beams: Sequence[Prediction], asked: str = "") -> Prediction:
        """The prediction of one row out of its beams, best first; without a chooser the best.

        `asked` is the question.
        """
        judge = partial(self._is_grounded, asked=asked) if self.grounded else None
        choice = self.chooser([beam.sql for beam in beams], judge) if self.chooser else None
        taken = beams[choice.beam if choice else 0]._replace(choice=choice)
        if self.repairer is None:
            return taken
        repaired, repairs = self.repairer.repair(taken.sql)
        if self.grounded:
            repaired, read_again = self.repairer.read_again(repaired, asked)
            repairs += read_again
        return taken._replace(sql=repaired, written=taken.sql, repairs=repairs)

    def _is_grounded(self, sql: str, asked: str) -> bool:
        assert self.repairer is not None
        return is_grounded(self.repairer.repair(sql)[0], asked, self.repairer.known)
