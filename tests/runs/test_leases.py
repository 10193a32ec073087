"""Leases: one worker at a time has a key, and a dead worker's is taken over."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine

from medsql.runs.leases import METADATA, Leases


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{tmp_path / 'leases.db'}")
    METADATA.create_all(engine)
    return engine


def workers(folder: Path) -> list[str]:
    """Those that have a folder of their own there."""
    return sorted(home.name for home in folder.glob(".workers/*/*/"))


def test_a_key_has_one_holder(engine, tmp_path):
    with Leases(engine, "s", tmp_path, 60) as one, Leases(engine, "s", tmp_path, 60) as other:
        assert one.take("trial 1")
        assert one.take("trial 1"), "it holds it already"
        assert not other.take("trial 1")
        assert other.take("trial 2")


def test_studies_do_not_share_keys(engine, tmp_path):
    with Leases(engine, "s", tmp_path, 60) as one, Leases(engine, "t", tmp_path, 60) as other:
        assert one.take("trial 1") and other.take("trial 1")


def test_what_is_released_or_left_is_free(engine, tmp_path):
    with Leases(engine, "s", tmp_path, 60) as other:
        with Leases(engine, "s", tmp_path, 60) as one:
            assert one.take("trial 1") and one.take("trial 2")
            one.release("trial 1")
            assert other.take("trial 1") and not other.take("trial 2")
        assert other.take("trial 2")
    assert workers(tmp_path) == [], "nobody is left"


def killed_worker(tmp_path: Path, folder: Path) -> None:
    """Take a key in another process, which then ends as `kill -9` would end it."""
    code = f"""
import os, pathlib, signal
from sqlalchemy import create_engine
from medsql.runs.leases import Leases
leases = Leases(create_engine("sqlite:///{tmp_path / "leases.db"}"), "s", pathlib.Path("{folder}"), 60)
leases.__enter__()
assert leases.take("trial 1")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=False)


def test_a_killed_worker_of_the_same_folder_is_known_to_be_dead_at_once(engine, tmp_path):
    killed_worker(tmp_path, tmp_path)
    with Leases(engine, "s", tmp_path, 60) as other:
        assert other.take("trial 1")


def test_a_killed_worker_leaves_nothing_behind_once_its_keys_are_taken_over(engine, tmp_path):
    killed_worker(tmp_path, tmp_path)
    (dead,) = workers(tmp_path)
    with Leases(engine, "s", tmp_path, 60) as living:
        with Leases(engine, "s", tmp_path, 60):
            pass
        assert workers(tmp_path) == sorted([dead, living.worker]), "who has to take a key over looks there"
        with Leases(engine, "s", tmp_path, 60) as other:
            assert other.take("trial 1")
        assert workers(tmp_path) == [living.worker]


def test_a_worker_elsewhere_counts_as_dead_after_its_silence(engine, tmp_path):
    killed_worker(tmp_path, tmp_path / "elsewhere")
    with Leases(engine, "s", tmp_path, 60) as patient, Leases(engine, "s", tmp_path, 1) as impatient:
        assert not patient.take("trial 1")
        time.sleep(2.1)  # SQLite's clock counts whole seconds
        assert not patient.take("trial 1")
        assert impatient.take("trial 1")


def test_a_living_worker_elsewhere_keeps_its_keys(engine, tmp_path):
    with (
        Leases(engine, "s", tmp_path / "here", 2) as one,
        Leases(engine, "s", tmp_path / "there", 2) as other,
    ):
        assert one.take("trial 1")
        time.sleep(4.1)
        assert not other.take("trial 1")
