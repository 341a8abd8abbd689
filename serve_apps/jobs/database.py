"""The database of jobs, SQLite or PostgreSQL: how it is opened, and how long one waits for it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from cutray.config import JobSettings
from cutray.errors import ConfigError, CutrayError, MissingExtraError
from serve_apps.jobs.tables import METADATA

PATIENT_S = 30.0  # for processes that have nothing else to do
_DIALECT = "postgresql"
_ALLOWED = "postgresql+psycopg://USER@HOST/DATABASE"


class DatabaseError(CutrayError):
    """The database is busy or does not answer; later it may."""

    code = "unavailable"


class Database:
    """The database of one process. Objects may be shared by threads."""

    def __init__(self, settings: JobSettings, wait_s: float = PATIENT_S) -> None:
        """Keep what is needed to open it, which happens when it is first asked.

        Args:
            settings: Folder, and address of a PostgreSQL if one is used.
            wait_s: Longest time to wait for the connection, and for others who write.
        """
        self._settings, self._wait_s = settings, wait_s

    @cached_property
    def engine(self) -> sa.Engine:
        """The open database.

        Raises:
            MissingExtraError: The driver of PostgreSQL is not installed.
            ConfigError: The address is malformed.
        """
        engine = make_engine(self._settings, self._wait_s)
        _create_tables(engine)
        return engine

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Read within one transaction, which waits for nobody who writes.

        Raises:
            DatabaseError: The database does not answer.
        """
        with _errors(), self.engine.execution_options(reading=True).begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Write within one transaction: all of it, or nothing where the block raises.

        Raises:
            DatabaseError: The database is busy for too long, or does not answer.
        """
        with _errors(), self.engine.begin() as connection:
            yield connection


def check_database(settings: JobSettings) -> None:
    """Make sure that the database can be used, before anything needs it.

    Args:
        settings: Folder, and address of a PostgreSQL if one is used.

    Raises:
        MissingExtraError: The driver of PostgreSQL is not installed.
        ConfigError: The address is malformed, nobody answers there, or the folder cannot be written.
    """
    database = Database(settings, wait_s=10.0)
    try:
        with database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")
        database.engine.dispose()
    except DatabaseError as error:
        where = f"{_ALLOWED} that answers" if settings.database else "a folder that can be written"
        raise ConfigError(got=error.got, allowed=where, fix="check jobs.folder and jobs.database") from error


def make_engine(settings: JobSettings, wait_s: float = PATIENT_S) -> sa.Engine:
    """Make what connects to the database; nothing is contacted yet.

    Args:
        settings: Folder, and address of a PostgreSQL if one is used.
        wait_s: Longest time to wait for the connection, and for others who write.

    Raises:
        MissingExtraError: The driver of PostgreSQL is not installed.
        ConfigError: The address is malformed.
    """
    shared: dict[str, Any] = {"pool_timeout": wait_s, "hide_parameters": True}  # tokens of webhooks are among them
    if not settings.database:
        file = os.path.join(settings.folder, "jobs.sqlite")
        engine = sa.create_engine(f"sqlite:///{file}", connect_args={"timeout": wait_s}, **shared)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        url = sa.engine.make_url(settings.database)
        if url.get_backend_name() != _DIALECT or not url.database:
            raise ValueError
        # A wish that the address itself has goes first.
        wishes = {"connect_timeout": round(max(2, wait_s)), "options": f"-c lock_timeout={round(wait_s * 1000)}"}
        wanted = {name: value for name, value in wishes.items() if name not in url.query}
        return sa.create_engine(url, pool_pre_ping=True, connect_args=wanted, **shared)
    except ModuleNotFoundError as error:
        raise MissingExtraError(got=f"{error.name} is not installed", fix="pip install 'cutray[postgres]'") from error
    except (sa.exc.SQLAlchemyError, ValueError) as error:  # the address may hold a password, and is not repeated
        raise ConfigError(
            got="jobs.database is no address of a PostgreSQL", allowed=_ALLOWED, fix="correct it"
        ) from error


@contextmanager
def _errors() -> Iterator[None]:
    """Turn whatever the database raises into the one error that passes."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise DatabaseError(got=f"the database of jobs does not answer: {type(error).__name__}", fix="try again") from (
            error
        )


def _create_tables(engine: sa.Engine) -> None:
    """Make the folder and the tables, where they are not there; of several processes that come at a time, one does."""
    if engine.url.get_backend_name() == "sqlite":
        os.makedirs(os.path.dirname(str(engine.url.database)), mode=0o700, exist_ok=True)
    try:
        _add_what_is_missing(engine)
    except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError):
        _add_what_is_missing(engine)


def _add_what_is_missing(engine: sa.Engine) -> None:
    """Add tables, and columns that an older version did not have; each of these has a default."""
    with engine.execution_options(reading=True).begin() as connection:
        inspector = sa.inspect(connection)
        present = {
            name: {column["name"] for column in inspector.get_columns(name)} for name in inspector.get_table_names()
        }
    if any(table.name not in present for table in METADATA.sorted_tables):
        METADATA.create_all(engine)
    for table in METADATA.sorted_tables:
        for column in table.columns:
            if column.name not in present.get(table.name, {column.name}):
                described = sa.schema.CreateColumn(column).compile(dialect=engine.dialect)
                with engine.begin() as connection:
                    connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {described}")


def _begin_sqlite(connection: sa.Connection) -> None:
    """Begin a transaction: who writes waits for others at once, instead of failing when it first writes."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    """Let readers and one writer work at a time, and leave the beginning of transactions to SQLAlchemy."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
