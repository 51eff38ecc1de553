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
from audiotk.store.storage import StoreDamaged, check_row, connect_sqlite, explained, shown, to_operation
from audiotk.store.storage import operations_table as table

CHUNK = 20_000  # operations held at once
SHOWN = 20  # problems told in words
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
            with closing(connect_sqlite(str(url.database))) as source, closing(sqlite3.connect(draft)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        finally:
            for end in ("-wal", "-shm", "-journal"):
                Path(f"{draft}{end}").unlink(missing_ok=True)
    return path


# --- Parquet ----------------------------------------------------------------------------------------------------------


def export_parquet(engine: sa.Engine, url: sa.URL, path: Path, salvage: bool = False) -> tuple[int, int]:
    """Write all operations to a Parquet file; returns how many were written and how many could not be read."""
    written = lost = 0
    with atomic(path) as draft, pq.ParquetWriter(draft, PARQUET) as file:
        last = _last(engine, url, salvage)
        for start in range(1, last + 1, CHUNK):
            stop = min(start + CHUNK, last + 1)
            rows = list(_span(engine, url, start, stop, salvage))
            columns = {name: [getattr(row, name) for row in rows] for name in PARQUET.names}
            columns["at"] = pa.array(columns["at"], pa.int64()).cast(pa.timestamp("us", "UTC"))
            file.write_table(pa.table(columns, schema=PARQUET))
            written += len(rows)
            lost += stop - start - len(rows)
    return written, lost


def _last(engine: sa.Engine, url: sa.URL, salvage: bool) -> int:
    """The largest number; from an index if the table's own end cannot be read."""
    questions = ["SELECT max(seq) FROM operations"]
    if salvage and engine.dialect.name == "sqlite":
        questions.append("SELECT max(seq) FROM operations INDEXED BY operations_by_recording WHERE recording > ''")
    for question in questions:
        try:
            with explained(url), engine.connect() as connection:
                return int(connection.exec_driver_sql(question).scalar() or 0)
        except StoreDamaged:
            if question == questions[-1]:
                raise
    return 0


def _span(engine: sa.Engine, url: sa.URL, start: int, stop: int, salvage: bool) -> Iterator[Any]:
    """Rows numbered `start` to `stop` - 1; with `salvage`, halves again and again around what is unreadable."""
    query = sa.select(table).where(table.c.seq >= start, table.c.seq < stop).order_by(table.c.seq)
    try:
        with explained(url), engine.connect() as connection:
            found = connection.execute(query).all()
        for row in found:
            check_row(row, shown(url))
    except StoreDamaged:
        if not salvage:
            raise
        if stop - start > 1:
            middle = (start + stop) // 2
            yield from _span(engine, url, start, middle, salvage)
            yield from _span(engine, url, middle, stop, salvage)
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
