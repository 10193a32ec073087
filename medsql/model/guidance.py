"""From the beams of a row to its prediction: which is taken, and what is repaired in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medsql.data.pairs import Prediction
from medsql.sql.choice import Chooser
from medsql.sql.repair import Repairer


@dataclass(frozen=True)
class Guidance:
    """Chooses a beam, repairs it, or both, in this order; never with a look at a gold query."""

    chooser: Chooser | None = None
    repairer: Repairer | None = None

    def __call__(self, beams: Sequence[Prediction]) -> Prediction:
        """The prediction of one row out of its beams, best first; without a chooser the best."""
        choice = self.chooser([beam.sql for beam in beams]) if self.chooser else None
        taken = beams[choice.beam if choice else 0]._replace(choice=choice)
        if self.repairer is None:
            return taken
        repaired, repairs = self.repairer.repair(taken.sql)
        return taken._replace(sql=repaired, written=taken.sql, repairs=repairs)
