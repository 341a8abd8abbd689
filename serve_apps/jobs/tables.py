"""The tables of jobs, in SQLite or PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import sqlalchemy as sa

from cutray.config import JobSettings
from cutray.errors import ConfigError, MissingExtraError

METADATA = sa.MetaData()
JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),  # of JobState
    sa.Column("photos", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),  # of photos, and of results once it has ended
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("model", sa.Text, nullable=False, default=""),  # chosen when it starts, kept over restarts
    sa.Column("webhook", sa.Text, nullable=False, default=""),
    sa.Column("target", sa.Text, nullable=False, default=""),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),  # without a new photo
    sa.Column("error", sa.JSON),
    sa.Column("created_at", sa.Float, nullable=False),  # all times in seconds since 1970
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("expires_at", sa.Float, index=True),
    sa.UniqueConstraint("owner", "idempotency_key"),
)
PHOTOS = sa.Table(
    "photos",
    METADATA,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),  # from 1, in the order in which they came
    sa.Column("name", sa.Text, nullable=False),  # in the client's words
    sa.Column("file", sa.Text, nullable=False),  # what its result is called
    sa.Column("source", sa.Text, nullable=False),  # where it is fetched from; empty if it came with the request
    sa.Column("status", sa.String(16), nullable=False),  # pending, ok, no_subject, failed
    sa.Column("output", sa.Text, nullable=False, default=""),  # name of the result below the job's folder
    sa.Column("details", sa.JSON, nullable=False),
    sa.UniqueConstraint("job_id", "file"),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("job_id", sa.String(64), nullable=False, unique=True),  # a job ends once
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # waiting, delivered, given_up
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Float, nullable=False),
)
OWNERS = sa.Table("owners", METADATA, sa.Column("name", sa.String(255), primary_key=True))
_BUSY_MS = 30_000
_ISOLATION = "BEGIN IMMEDIATE"  # who writes waits for others at once, instead of failing when it first writes


def open_database(settings: JobSettings) -> sa.Engine:
    """Open the database, and make the tables if they are not there.

    Args:
        settings: Folder, and address of a PostgreSQL if one is used.

    Raises:
        MissingExtraError: The driver of PostgreSQL is not installed.
        ConfigError: The database cannot be opened.
    """
    try:
        if settings.database:
            engine = sa.create_engine(settings.database, pool_pre_ping=True, hide_parameters=True)
        else:
            os.makedirs(settings.folder, mode=0o700, exist_ok=True)
            file = os.path.join(settings.folder, "jobs.sqlite")
            engine = sa.create_engine(f"sqlite:///{file}", hide_parameters=True)  # tokens of webhooks are among them
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(_ISOLATION))
        _create_tables(engine)
    except ModuleNotFoundError as error:
        raise MissingExtraError(got=f"{error.name} is not installed", fix="pip install 'cutray[postgres]'") from error
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise ConfigError(
            got=f"the database of jobs cannot be opened: {type(error).__name__}",
            allowed="a folder that can be written, or postgresql+psycopg://USER@HOST/DATABASE",
            fix="check jobs.folder and jobs.database",
        ) from error
    return engine


def _create_tables(engine: sa.Engine) -> None:
    """Make the tables; of several processes that come at the same moment, one does."""
    try:
        METADATA.create_all(engine)
    except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError):
        METADATA.create_all(engine)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    """Let readers and one writer work at a time, and leave the beginning of transactions to SQLAlchemy."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {_BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
