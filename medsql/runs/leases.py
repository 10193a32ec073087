"""Who is at work on what, among processes and machines that share a database.

A lease is a row: a key, the worker that holds it, and that worker's last sign of life by the
database's own clock. A worker that was killed leaves its rows behind. Another worker takes one over
at once where the dead one ran on the same machine in the same folder, whose lock file is free then,
and after `grace` seconds of silence otherwise.
"""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from filelock import FileLock
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Engine, Row
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from medsql.runs.folder import is_locked

log = logging.getLogger(__name__)

BEATS_PER_GRACE = 6
"""How often a worker shows that it lives while another would wait for it."""

METADATA = MetaData()
TABLE = Table(
    "medsql_leases",
    METADATA,
    Column("study", String(512), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("worker", String(64), nullable=False),
    Column("host", String(256), nullable=False),
    Column("beats", Integer, nullable=False),
    Column("beat", DateTime(timezone=True), nullable=False),  # when the last one was
)


class Leases:
    """This process as a worker on a study, as a context: leaving it gives all its leases back.

    `folder` is where this machine keeps the study's runs.
    """

    def __init__(self, engine: Engine, study: str, folder: Path, grace: float) -> None:
        self.engine = engine
        self.study = study
        # A lock that another machine holds cannot be seen on every file system.
        self.folder = folder / ".workers" / socket.gethostname()
        self.grace = grace
        self.worker = uuid.uuid4().hex
        self.host = socket.gethostname()
        self._lock = FileLock(self._home(self.worker) / ".lock")
        self._tidying = FileLock(self.folder / ".lock")
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._tidying:
            self._home(self.worker).mkdir()
            self._lock.acquire()
        self._heart.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._heart.join()
        with self.engine.begin() as connection:
            connection.execute(delete(TABLE).where(self._mine()))
        self._lock.release()
        self._tidy()

    def _tidy(self) -> None:
        """Remove the folders of this machine's workers that have ended, be it long ago and by a kill."""
        with self._tidying:
            with self.engine.begin() as connection:  # by its folder a holder is known to be dead
                holders = {row.worker for row in connection.execute(select(TABLE.c.worker))}
            for home in self.folder.glob("*/"):
                if home.name not in holders and not is_locked(home):
                    shutil.rmtree(home, ignore_errors=True)  # somebody may just look at its lock

    def take(self, key: str) -> bool:
        """Whether this worker holds the key from now on, or did already; False where another one does."""
        with self.engine.begin() as connection:
            now = func.now().label("now")
            row = connection.execute(select(TABLE, now).where(self._is(key))).first()
        if row is None:
            return self._insert(key)
        if row.worker == self.worker:
            return True
        return not self._lives(row) and self._take_over(row)

    def holds(self, key: str) -> bool:
        """Whether this worker has the key still: one that was silent for too long has lost it."""
        with self.engine.begin() as connection:
            row = connection.execute(select(TABLE.c.worker).where(self._is(key))).first()
        return row is not None and bool(row.worker == self.worker)

    def release(self, key: str) -> None:
        """Give one key back."""
        with self.engine.begin() as connection:
            connection.execute(delete(TABLE).where(and_(self._is(key), self._mine())))

    def settle(self, keys: Sequence[str]) -> None:
        """Forget who holds these keys, which nobody will take again."""
        held = and_(TABLE.c.study == self.study, TABLE.c.key.in_(keys))
        with self.engine.begin() as connection:
            connection.execute(delete(TABLE).where(held))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A moment that no other worker on the study is in; waits for it."""
        while not self.take("study"):
            time.sleep(0.1)
        try:
            yield
        finally:
            self.release("study")

    def _insert(self, key: str) -> bool:
        values = {"study": self.study, "key": key, "worker": self.worker, "host": self.host}
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(TABLE).values(**values, beats=0, beat=func.now()))
        except IntegrityError:  # another worker was faster
            return False
        return True

    def _take_over(self, row: Row) -> bool:
        """Whether no other worker did in the meantime, and the dead one was not only slow."""
        unchanged = and_(self._is(row.key), TABLE.c.worker == row.worker, TABLE.c.beats == row.beats)
        mine = {"worker": self.worker, "host": self.host, "beats": 0, "beat": func.now()}
        with self.engine.begin() as connection:
            taken = connection.execute(update(TABLE).where(unchanged).values(**mine)).rowcount == 1
        return bool(taken)

    def _lives(self, row: Row) -> bool:
        home = self._home(row.worker)
        if row.host == self.host and home.exists():
            return is_locked(home)
        return bool(row.now - row.beat < timedelta(seconds=self.grace))

    def _beat(self) -> None:
        while not self._stopped.wait(self.grace / BEATS_PER_GRACE):
            try:
                with self.engine.begin() as connection:
                    beat = {"beats": TABLE.c.beats + 1, "beat": func.now()}
                    connection.execute(update(TABLE).where(self._mine()).values(beat))
            except SQLAlchemyError as error:
                log.warning("no sign of life could be given: %s", str(error).splitlines()[0])

    def _is(self, key: str) -> Any:
        return and_(TABLE.c.study == self.study, TABLE.c.key == key)

    def _mine(self) -> Any:
        return and_(TABLE.c.study == self.study, TABLE.c.worker == self.worker)

    def _home(self, worker: str) -> Path:
        return self.folder / worker
