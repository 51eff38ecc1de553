"""The database under the annotation store: its tables, connections, schema version, and errors in plain words."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid as uuids
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sys import intern
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from audiotk.errors import AudiotkError
from audiotk.store.operations import TOOL, Operation, to_text

SCHEMA = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PATIENCE_S = 30.0  # how long a writer waits for the others

_tables = sa.MetaData()
operations_table = sa.Table(
    "operations",
    _tables,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("uuid", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("labeler", sa.Text, nullable=False),
    sa.Column("recording", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),  # microseconds since 1970, UTC
    sa.Column("tool", sa.Text, nullable=False),
    sa.Column("seen_teacher", sa.Boolean, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),  # JSON
    sa.Column("crc", sa.BigInteger, nullable=False),  # of all other columns
    sa.Index("operations_by_recording", "recording"),
    sa.Index("operations_by_labeler", "labeler", "recording"),
    sa.Index("operations_by_kind", "kind", "recording"),
)
meta_table = sa.Table(
    "meta", _tables, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
APPEND_ONLY = {
    "sqlite": [
        "CREATE TRIGGER operations_stay BEFORE UPDATE ON operations "
        "BEGIN SELECT RAISE(ABORT, 'operations are append-only'); END",
        "CREATE TRIGGER operations_are_kept BEFORE DELETE ON operations "
        "BEGIN SELECT RAISE(ABORT, 'operations are append-only'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION operations_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'operations are append-only'; END $$",
        "CREATE TRIGGER operations_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON operations "
        "FOR EACH STATEMENT EXECUTE FUNCTION operations_append_only()",
    ],
}
# From a schema version to the next: MIGRATIONS[v] changes a store of version v to v + 1, in one transaction.
MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {}


class StoreUnavailable(AudiotkError):
    """The store cannot be used now (disk full, locked, read-only, server away); the same may be sent again later."""


class StoreDamaged(AudiotkError):
    """The file of the store is damaged; `reason` says how, in the words of the database."""

    reason = ""


def place_of(store: str | Path) -> sa.URL:
    """The database that a path (``labels.sqlite``) or an SQLAlchemy URL (``postgresql://user@host/name``) means."""
    text = str(store)
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError as err:
        raise AudiotkError("store: expected a path or a URL like postgresql://user@host/database") from err
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:") or url.database.startswith("file:"):
            raise AudiotkError("store: expected sqlite:///PATH of a file; labels in memory would be lost")
        return place_of(url.database)
    if url.get_backend_name() != "postgresql":
        raise AudiotkError(f"store: expected sqlite or postgresql, got {url.get_backend_name()}")
    return url.set(drivername="postgresql+psycopg")


def shown(url: sa.URL) -> str:
    """The place of a store in words, without a password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


# --- rows -------------------------------------------------------------------------------------------------------------


def to_row(seq: int, operation: Operation) -> dict[str, Any]:
    """The row of a checked operation; an `at` of None becomes now."""
    at = datetime.now(UTC) if operation.at is None else operation.at
    row: dict[str, Any] = {
        "seq": seq,
        "uuid": operation.uuid,
        "kind": operation.kind,
        "labeler": operation.labeler,
        "recording": operation.recording,
        "at": microseconds(at),
        "tool": operation.tool,
        "seen_teacher": operation.seen_teacher,
        "payload": to_text(operation.payload),
    }
    return row | {"crc": crc_of(*row.values())}


def check_row(row: Sequence[Any], where: str) -> None:
    """Refuse a row (all columns in their order) that is not what was written, with :class:`StoreDamaged`."""
    if crc_of(*row[:-1]) != row[-1]:
        raise damaged(where, f"operation {row[0]} is not what was written")


def to_operation(row: Sequence[Any], where: str) -> Operation:
    """The operation of a row; see :func:`check_row`. Names that come again and again are kept once."""
    check_row(row, where)
    _, uuid, kind, labeler, recording, at, tool, seen_teacher, text, _ = row
    payload = {intern(name): value for name, value in json.loads(text).items()}
    if payload.get("class_name"):
        payload["class_name"] = intern(payload["class_name"])
    about = intern(kind), intern(labeler), intern(recording)
    return Operation(uuid, *about, payload, moment_of(at), intern(tool), seen_teacher)


def crc_of(
    seq: int, uuid: str, kind: str, labeler: str, recording: str, at: int, tool: str, seen: bool, payload: str
) -> int:
    """CRC-32 of a row's columns; none of the texts holds the NUL that separates them."""
    text = f"{seq}\0{uuid}\0{kind}\0{labeler}\0{recording}\0{at}\0{tool}\0{int(bool(seen))}\0{payload}"
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def moment_of(microseconds: int) -> datetime:
    """The moment so many microseconds after the beginning of 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of a moment with time zone."""
    return (moment - EPOCH) // timedelta(microseconds=1)


# --- errors -----------------------------------------------------------------------------------------------------------


ADVICE = {  # beginning of SQLite's name of an error -> what to do
    "SQLITE_FULL": "the disk is full: free some space",
    "SQLITE_READONLY": "it is read-only: make the file and its folder writable",
    "SQLITE_PERM": "make the file and its folder writable",
    "SQLITE_CANTOPEN": "check that the file and its folder are there and writable",
    "SQLITE_BUSY": "another process keeps it locked: end that one or wait",
    "SQLITE_LOCKED": "another process keeps it locked: end that one or wait",
    "SQLITE_IOERR": "the disk does not answer: check the disk and that it is a local one",
    "SQLITE_PROTOCOL": "its locks fail: keep it on a local disk",
    "SQLITE_NOMEM": "free some memory",
}


@contextmanager
def explained(url: sa.URL) -> Iterator[None]:
    """Turn errors of the database into :class:`StoreUnavailable` or :class:`StoreDamaged`."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as err:
        cause = err.orig if isinstance(err, sa.exc.DBAPIError) else err
        if isinstance(cause, sqlite3.Error):
            raise _explain_sqlite(shown(url), cause) from err
        if isinstance(err, sa.exc.OperationalError | sa.exc.InterfaceError):
            told = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
            raise StoreUnavailable(f"{shown(url)}: cannot be reached now: {told}; nothing was written") from err
        raise
    except UnicodeDecodeError as err:  # of what SQLite says about a damaged file
        raise damaged(shown(url), "text that cannot be decoded") from err
    except sa.exc.TimeoutError as err:
        raise StoreUnavailable(f"{shown(url)}: no connection became free within {PATIENCE_S:.0f} s") from err


def _explain_sqlite(where: str, cause: sqlite3.Error) -> AudiotkError:
    name = getattr(cause, "sqlite_errorname", "")
    for beginning, advice in ADVICE.items():
        if name.startswith(beginning):
            return StoreUnavailable(f"{where}: {cause}; {advice}. Nothing of this call was written; try again then")
    return damaged(where, str(cause))


def damaged(where: str, reason: str) -> StoreDamaged:
    """The error about a damaged file, with the ways out."""
    error = StoreDamaged(
        f"{where}: is damaged ({reason}). See what with 'audiotk store check', restore the last backup, "
        "or save what is readable with 'audiotk store export --salvage'"
    )
    error.reason = reason
    return error


# --- connections ------------------------------------------------------------------------------------------------------


def connect_sqlite(path: str, how: str = "mode=rw") -> sqlite3.Connection:
    """A connection whose commits are on the disk when they return; `how` as in SQLite's URIs."""
    address = f"file:{quote(path)}?{how}"
    connection = sqlite3.connect(
        address, uri=True, timeout=PATIENCE_S, check_same_thread=False, isolation_level=None, cached_statements=256
    )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=1")  # macOS
    connection.execute("PRAGMA cell_size_check=1")  # finds more of the damage while reading
    return connection


def connect_reading(path: str) -> sqlite3.Connection:
    """A connection that changes neither the file nor what lies beside it."""
    if Path(f"{path}-wal").exists():  # of others who have it open, or were killed: closing must not clear it away
        return connect_sqlite(path, "mode=ro")
    if not _may_write(Path(path)):
        return connect_sqlite(path, "mode=ro&immutable=1")  # without the lock and log beside it that cannot be made
    connection = connect_sqlite(path)
    connection.execute("PRAGMA query_only=1")
    return connection


def writable(url: sa.URL) -> bool:
    """Whether a store may be written, as far as its file tells; what is missing may be."""
    return url.get_backend_name() != "sqlite" or _may_write(Path(str(url.database)))


def _may_write(path: Path) -> bool:
    return not path.exists() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def make_engine(url: sa.URL, read_only: bool = False) -> sa.Engine:
    """An engine for `url`: any thread may take a connection; ``write=True`` among its options takes the write lock."""
    if url.get_backend_name() != "sqlite":
        try:
            return sa.create_engine(url, pool_pre_ping=True, pool_timeout=PATIENCE_S)
        except ModuleNotFoundError as err:
            raise AudiotkError(f"{shown(url)}: needs psycopg: pip install 'audiotk[scale]'") from err
    path = str(url.database)
    if read_only:  # each time anew: what is right depends on who else has it open
        engine = sa.create_engine(url, creator=lambda: connect_reading(path), poolclass=sa.pool.NullPool)
    else:
        engine = sa.create_engine(
            url, creator=lambda: connect_sqlite(path), poolclass=sa.pool.QueuePool, pool_timeout=PATIENCE_S
        )
    sa.event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    patience_s = options.get("patience_s")
    if patience_s is not None and connection.info.get("patience_s") != patience_s:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={1000 * patience_s:.0f}")
        connection.info["patience_s"] = patience_s
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("write", False) else "BEGIN")


@contextmanager
def writing(engine: sa.Engine, patience_s: float | None = None) -> Iterator[sa.Connection]:
    """A transaction of the only writer, who waits `patience_s` (PATIENCE_S) for the others; readers go on."""
    patience_s = PATIENCE_S if patience_s is None else patience_s
    with engine.connect().execution_options(write=True, patience_s=patience_s) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{1000 * patience_s:.0f}ms'")
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6247108)")
        yield connection


# --- schema -----------------------------------------------------------------------------------------------------------


def prepare(engine: sa.Engine, url: sa.URL, create: bool, read_only: bool, backup: Callable[[Path], object]) -> None:
    """Make the tables where there are none, and bring an older schema up to date (after a backup, for a file).

    Raises
    ------
    AudiotkError
        Nothing is there and `create` is false, it is something else than a store, a newer audiotk wrote it, or an
        older one and it is `read_only`.
    """
    if engine.dialect.name == "sqlite":
        _make_file(Path(str(url.database)), create)
    with engine.connect() as connection:
        version = _version(connection, url)
    if version == 0 and not create:
        raise AudiotkError(f"{shown(url)}: holds no annotation store; check the name, or open it with create=True")
    if version == SCHEMA:
        return
    if read_only:
        raise AudiotkError(
            f"{shown(url)}: was written by an older audiotk (schema {version}); open it once for writing"
        )
    use_log(url)
    if 0 < version < SCHEMA and engine.dialect.name == "sqlite":
        keep = Path(f"{url.database}.schema{version}")
        if not keep.exists():
            backup(keep)
    with writing(engine) as connection:
        version = _version(connection, url)  # another process may have been first
        if version == 0:
            _tables.create_all(connection)
            for statement in APPEND_ONLY[engine.dialect.name]:
                connection.exec_driver_sql(statement)
            facts = {"schema": SCHEMA, "id": uuids.uuid4(), "made_by": TOOL, "made_at": datetime.now(UTC).isoformat()}
            rows = [{"name": name, "value": str(value)} for name, value in facts.items()]
            connection.execute(meta_table.insert(), rows)
        for step in range(version, SCHEMA if version else 0):
            MIGRATIONS[step](connection)
        connection.execute(meta_table.update().where(meta_table.c.name == "schema").values(value=str(SCHEMA)))


def _make_file(path: Path, create: bool) -> None:
    """Make an empty file if it is missing."""
    if path.exists():
        return
    if not create:
        raise AudiotkError(f"{path}: is not there; check the name, or open it with create=True")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise StoreUnavailable(f"{path}: its folder cannot be made: {err.strerror or err}") from err
    connect_sqlite(str(path), "mode=rwc").close()


def use_log(url: sa.URL) -> None:
    """Set the write-ahead log of a file that is to be written: with it, readers go on while one writes."""
    deadline = time.monotonic() + PATIENCE_S
    while url.get_backend_name() == "sqlite":  # SQLite does not wait by itself when several processes set it at once
        try:
            with closing(connect_sqlite(str(url.database))) as connection:
                if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    connection.execute("PRAGMA journal_mode=WAL").fetchone()
            return
        except sqlite3.OperationalError as err:
            if getattr(err, "sqlite_errorname", "") != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _version(connection: sa.Connection, url: sa.URL) -> int:
    """Schema version of the store; 0 where there is none yet."""
    names = set(sa.inspect(connection).get_table_names())
    if {"meta", "operations"} <= names:
        value = connection.execute(sa.select(meta_table.c.value).where(meta_table.c.name == "schema")).scalar()
        if value is None or not value.isdigit():
            raise AudiotkError(f"{shown(url)}: has tables like an annotation store's, but no schema version")
        if int(value) > SCHEMA:
            raise AudiotkError(
                f"{shown(url)}: was written by a newer audiotk (schema {value}, this one, {TOOL}, knows {SCHEMA}): "
                "update audiotk"
            )
        return int(value)
    if names & {"meta", "operations"} or (names and connection.dialect.name == "sqlite"):
        raise AudiotkError(f"{shown(url)}: is a database of something else (tables {', '.join(sorted(names))})")
    return 0
