"""Care of an annotation store: check it, back it up, write it to Parquet and read it back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from audiotk.errors import AudiotkError
from audiotk.files import atomic
from audiotk.store.operations import Operation, check_operation
from audiotk.store.storage import StoreDamaged, check_row, connect_reading, damaged, explained, shown, to_operation
from audiotk.store.storage import operations_table as table

CHUNK = 20_000  # operations held at once
SHOWN = 20  # problems told in words
INDEXES = {"operations_by_recording": "recording", "sqlite_autoindex_operations_1": "uuid"}  # with all operations
PARQUET = pa.schema(
    [
        ("seq", pa.int64()), ("uuid", pa.string()), ("kind", pa.string()), ("labeler", pa.string()),
        ("recording", pa.string()), ("at", pa.timestamp("us", "UTC")), ("tool", pa.string()),
        ("seen_teacher", pa.bool_()), ("payload", pa.string()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What a check found: `problems` in words (none: all is well), and how much is there."""

    problems: list[str]
    operations: int
    labelers: int
    recordings: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check(engine: sa.Engine, url: sa.URL) -> Report:
    """Read everything: the database's own check, each operation against its checksum and the rules, and gaps."""
    problems: list[str] = []
    seen: dict[str, tuple[str, str]] = {}  # uuid -> labeler, recording
    last = 0
    try:
        with explained(url), engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                found = connection.exec_driver_sql(f"PRAGMA integrity_check({SHOWN})").scalars().all()
                problems += [str(line) for line in found if line != "ok"]
            for row in connection.execution_options(yield_per=CHUNK).execute(sa.select(table).order_by(table.c.seq)):
                problems += _problems(row, seen, last, shown(url))
                seen[row.uuid], last = (row.labeler, row.recording), row.seq
    except StoreDamaged as err:
        problems.append(str(err))
    told = problems[:SHOWN] + [f"and {len(problems) - SHOWN} more"] * (len(problems) > SHOWN)
    labelers = {labeler for labeler, _ in seen.values() if labeler}
    return Report(told, len(seen), len(labelers), len({recording for _, recording in seen.values()}))


def _problems(row: Any, seen: dict[str, tuple[str, str]], last: int, where: str) -> Iterator[str]:
    """What is wrong with one row, the rows before it being `seen`."""
    if row.seq != last + 1:
        yield f"operations {last + 1} to {row.seq - 1} are missing"
    try:
        operation = check_operation(to_operation(row, where))
    except StoreDamaged:
        yield f"operation {row.seq} ({row.uuid!r}) is not what was written"
        return
    except AudiotkError as err:
        yield f"operation {row.seq}: {err}"
        return
    if operation.uuid in seen:
        yield f"operation {row.seq}: its uuid {row.uuid!r} is there twice"
    if operation.kind == "undo" and seen.get(operation.payload["target"]) != (operation.labeler, operation.recording):
        yield f"operation {row.seq}: takes back what is not there or another's"


def backup(url: sa.URL, path: Path) -> Path:
    """Copy an SQLite store to a new file while others go on writing."""
    if url.get_backend_name() != "sqlite":
        raise AudiotkError(f"{shown(url)}: the backup of a PostgreSQL database is made with pg_dump")
    if path.exists():
        raise AudiotkError(f"{path}: is there already and will not be overwritten")
    with explained(url), atomic(path, overwrite=False) as draft:
        try:
            with closing(connect_reading(str(url.database))) as source, closing(sqlite3.connect(draft)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        finally:
            for end in ("-wal", "-shm", "-journal"):
                Path(f"{draft}{end}").unlink(missing_ok=True)
    return path


# --- Parquet ----------------------------------------------------------------------------------------------------------


def export_parquet(engine: sa.Engine, url: sa.URL, path: Path, salvage: bool = False) -> tuple[int, int]:
    """Write all operations to a new Parquet file; returns how many were written and how many could not be read."""
    if path.exists():
        raise AudiotkError(f"{path}: is there already and will not be overwritten")
    written = lost = 0
    with atomic(path, overwrite=False) as draft, pq.ParquetWriter(draft, PARQUET) as file:
        for rows, missing in _parts(engine, url, salvage):
            columns = {name: [getattr(row, name) for row in rows] for name in PARQUET.names}
            columns["at"] = pa.array(columns["at"], pa.int64()).cast(pa.timestamp("us", "UTC"))
            file.write_table(pa.table(columns, schema=PARQUET))
            written, lost = written + len(rows), lost + missing
    return written, lost


def read_all(engine: sa.Engine, url: sa.URL) -> list[Operation]:
    """All operations in their order, or :class:`StoreDamaged` if any is missing."""
    return [to_operation(row, shown(url)) for rows, _ in _parts(engine, url) for row in rows]


def _parts(engine: sa.Engine, url: sa.URL, salvage: bool = False) -> Iterator[tuple[list[Any], int]]:
    """Some operations at a time, and how many are missing among them."""
    with explained(url), engine.connect() as connection:
        last = _last(connection, url, salvage)
        for start in range(1, last + 1, CHUNK):
            stop = min(start + CHUNK, last + 1)
            rows = list(_span(connection, url, start, stop, salvage))
            yield rows, stop - start - len(rows)


def _last(connection: sa.Connection, url: sa.URL, salvage: bool) -> int:
    """The largest number that the table or an index knows: each may have lost its end."""
    questions, bound = ["SELECT max(seq) FROM operations"], None
    if connection.dialect.name == "sqlite":
        questions += [f"{questions[0]} INDEXED BY {name} WHERE {column} > ''" for name, column in INDEXES.items()]
        bound = Path(str(url.database)).stat().st_size  # more operations than bytes there are none
    found = []
    for question in questions:
        try:
            with explained(url):
                number = connection.exec_driver_sql(question).scalar() or 0
            if not isinstance(number, int) or (bound and number > bound):
                raise damaged(shown(url), f"operation number {number!r}")
            found.append(number)
        except StoreDamaged:
            if not salvage or (question == questions[-1] and not found):
                raise
    return max(found)


def _span(connection: sa.Connection, url: sa.URL, start: int, stop: int, salvage: bool) -> Iterator[Any]:
    """Rows numbered `start` to `stop` - 1; with `salvage`, halves again and again around what is unreadable.

    Numbers have no gaps, in no database (see `appending`): a row that does not come is one that cannot be read. SQLite
    passes over parts of a damaged file without a word, and still finds a row there that is asked for alone.
    """
    alone = stop - start == 1
    numbers = [table.c.seq == start] if alone else [table.c.seq >= start, table.c.seq < stop]
    try:
        with explained(url):
            found = connection.execute(sa.select(table).where(*numbers).order_by(table.c.seq)).all()
        for row in found:
            check_row(row, shown(url))
        if [row.seq for row in found] != list(range(start, stop)):
            raise damaged(shown(url), f"operations between {start} and {stop - 1} are missing or out of order")
    except StoreDamaged:
        if not salvage:
            raise
        if not alone:
            middle = (start + stop) // 2
            yield from _span(connection, url, start, middle, salvage)
            yield from _span(connection, url, middle, stop, salvage)
        return
    yield from found


def read_parquet(path: Path) -> list[Operation]:
    """The operations in a file of :func:`export_parquet`."""
    try:
        rows = pq.read_table(path, schema=PARQUET).to_pylist()
    except (OSError, pa.ArrowInvalid) as err:
        raise AudiotkError(f"{path}: cannot be read as an exported store: {err}") from err
    return [
        Operation(**{name: row[name] for name in PARQUET.names[1:-1]}, payload=json.loads(row["payload"]))
        for row in rows
    ]
