"""The database of jobs that is busy, away, older, or wrongly configured."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from cutray.config import JobSettings
from cutray.errors import ConfigError
from serve_apps.jobs.database import DatabaseError, check_database, make_engine
from serve_apps.jobs.records import NewJob, NewPhoto
from serve_apps.jobs.store import JobStore
from serve_apps.jobs.tables import METADATA

POSTGRES = os.environ.get("CUTRAY_TEST_POSTGRES", "")  # address of an empty database
JOB = NewJob("a", "shop", [NewPhoto("a.jpg", "a.png")], 10, {}, "hash")


@contextmanager
def written_by_another(folder: Path) -> Iterator[None]:
    """Hold the lock of whoever writes, as another process does."""
    with closing(sqlite3.connect(folder / "jobs.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_nobody_who_reads_waits_for_who_writes(tmp_path: Path) -> None:
    """While another process writes, everything can be read; what is to be written waits, and is refused in the end."""
    settings = JobSettings(folder=str(tmp_path))
    JobStore(settings).add(JOB)
    store = JobStore(settings, wait_s=0.1)
    with written_by_another(tmp_path):
        job = store.get("a")
        assert job is not None and job["owner"] == "shop"
        assert store.list_jobs("shop", 0, 10) == store.startable() == [job]
        assert store.progress(job).counts == store.counts("a") == {"pending": 1}
        assert store.knows("a") and not store.expired() and not store.due_events() and not store.cancelling()
        assert store.counts_by_state()[0] == {"queued": 1}
        assert store.quota_of("shop") is not None
        with pytest.raises(DatabaseError, match="does not answer"):
            store.start("a", "u2netp")
    assert store.start("a", "u2netp")


def test_an_older_database_is_brought_up_to_date(tmp_path: Path) -> None:
    """A database without the columns that came later is used as it is, with its jobs."""
    settings = JobSettings(folder=str(tmp_path))
    JobStore(settings).add(JOB)
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)) as older:
        for column in ("model_name", "model_sha256"):
            older.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
    job = JobStore(settings).get("a")
    assert job is not None and (job["model_name"], job["model_sha256"]) == ("", "")


@pytest.mark.parametrize(
    "database",
    [
        "no address",
        "mysql://user@host/jobs",
        "sqlite:///elsewhere.sqlite",
        "postgresql+psycopg://user:s3cret@host:port/jobs",
        "postgresql+psycopg://user:s3cret@host",
        "postgresql+nothing://user:s3cret@host/jobs",
    ],
)
def test_a_wrong_address_is_told_without_its_password(tmp_path: Path, database: str) -> None:
    """What is no address of a PostgreSQL is an error of the configuration."""
    with pytest.raises(ConfigError, match=r"jobs\.database is no address") as caught:
        check_database(JobSettings(folder=str(tmp_path), database=database))
    assert "s3cret" not in str(caught.value)


def test_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    """Nobody listens, or the folder is a file: an error that says where to look."""
    pytest.importorskip("psycopg")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = f"postgresql+psycopg://user@127.0.0.1:{free.getsockname()[1]}/jobs"
        with pytest.raises(ConfigError, match=r"jobs\.database"):
            check_database(JobSettings(folder=str(tmp_path), database=away))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"jobs\.folder"):
        check_database(JobSettings(folder=str(tmp_path / "file")))


@pytest.mark.skipif(not POSTGRES, reason="CUTRAY_TEST_POSTGRES names no database")
def test_a_busy_postgresql_is_told(tmp_path: Path) -> None:
    """While another process holds the tables, what is to be written waits, and is refused in the end."""
    settings = JobSettings(folder=str(tmp_path), database=POSTGRES)
    check_database(settings)
    other = make_engine(settings)
    try:
        with other.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE owners IN EXCLUSIVE MODE")
            store = JobStore(settings, wait_s=0.2)
            assert store.list_jobs("shop", 0, 10) == []
            with pytest.raises(DatabaseError, match="does not answer"):
                store.add(JOB)
        assert store.add(JOB)[1] is False
    finally:
        METADATA.drop_all(other)
