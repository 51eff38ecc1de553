"""The append-only store of what labelers do: an SQLite file by default, a PostgreSQL database by URL for a team.

Operations (:mod:`audiotk.store.operations`) are only ever appended; segments, claims, undo and "labels as of a date"
are derived by replay (:mod:`audiotk.store.history`). ``append`` returns when the disk has the operations. Any thread
and any number of processes may use one store. Keep an SQLite file on a local disk: on a network disk its locks fail;
there use one file a labeler and :meth:`Store.merge`, or PostgreSQL.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from audiotk.errors import AudiotkError
from audiotk.store import upkeep
from audiotk.store.appending import append_to, parts
from audiotk.store.history import (
    State,
    active,
    claim_rows,
    heard_ranges,
    judgement_rows,
    promotion_rows,
    replay,
    segment_rows,
)
from audiotk.store.history import dataset_tables as tables_of
from audiotk.store.operations import Operation, check_operation
from audiotk.store.operations import make_operation as make_operation
from audiotk.store.storage import StoreUnavailable as StoreUnavailable
from audiotk.store.storage import (
    explained,
    make_engine,
    meta_table,
    microseconds,
    place_of,
    prepare,
    shown,
    to_operation,
    use_log,
    writable,
    writing,
)
from audiotk.store.storage import operations_table as table
from audiotk.tables import segment_id

Moment = datetime | str | None


def open_store(store: str | Path, create: bool = True, read_only: bool = False) -> Store:
    """Open the store at a path (``labels.sqlite``) or SQLAlchemy URL. To open and read it does not change its file.

    Parameters
    ----------
    store
        Where it is.
    create
        Make it if it is missing. False also opens what cannot be written, a read-only disk say, for reading.
    read_only
        Make nothing and refuse to append.

    Raises
    ------
    AudiotkError
        It cannot be opened or made, is damaged, is something else, or was written by a newer audiotk.
    """
    return Store(place_of(store), create, read_only)


def operations_of(source: Store | str | Path) -> list[Operation]:
    """All operations of a store, or of a Parquet file of :meth:`Store.export_parquet`, in their order."""
    if isinstance(source, Store):
        return upkeep.read_all(source._engine, source.url)
    if str(source).endswith(".parquet"):
        return upkeep.read_parquet(Path(source))
    with open_store(source, read_only=True) as store:
        return operations_of(store)


class Store:
    """Operations of labelers in a database; see the module's docstring. Made by :func:`open_store`."""

    def __init__(self, url: sa.URL, create: bool = True, read_only: bool = False) -> None:
        self.url = url
        create = create and not read_only
        self._read_only = read_only or not (create or writable(url))
        self._engine = make_engine(url, self._read_only)
        self._lock = threading.Lock()  # one writer of this process at a time
        self._pid = os.getpid()
        with explained(url):
            prepare(self._engine, url, create, self._read_only, self.backup)
            with self._engine.connect() as connection:
                query = sa.select(meta_table.c.value).where(meta_table.c.name == "id")
                self.id = str(connection.execute(query).scalar())  # of this store, the same for everyone who opens it
        self._file = self._identity()
        self._logs = False  # whether its file is known to have a write-ahead log

    def __repr__(self) -> str:
        return f"Store({shown(self.url)!r})"

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; the store opens new ones when it is used again."""
        self._engine.dispose()

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, operations: Iterable[Operation], patience_s: float | None = None) -> list[int]:
        """Write all `operations` or none, wait for the disk, and return their numbers.

        An operation whose uuid is there already with the same content is acknowledged again with its first number (so
        after a lost answer the same ones may be sent again); what is stored stays. An `at` in the past is kept, for
        what was done offline; one to come becomes now. Others who write are waited for, at most
        `patience_s` (default 30 s).

        Raises
        ------
        StoreUnavailable
            The disk is full, the file locked, read-only or gone, the server away: the same may be sent again later.
        AudiotkError
            An operation is not valid, lies outside of its recording, has the uuid of another one, or takes back what
            is not there or another's.
        """
        checked = [check_operation(operation) for operation in operations]
        if not checked:
            return []
        if self._read_only:
            raise StoreUnavailable(f"{shown(self.url)}: is open for reading only; make it writable and open it again")
        self._after_fork()
        with explained(self.url), self._lock:
            if not self._logs:
                use_log(self.url)
                self._logs = True
        with explained(self.url), self._lock, writing(self._engine, patience_s) as connection:
            numbers = append_to(connection, checked, shown(self.url))
            if self._identity() != self._file:
                raise StoreUnavailable(f"{shown(self.url)}: was removed or replaced while open; open the store again")
        return numbers

    def register(self, recordings: pd.DataFrame, claims: Mapping[str, str | None] | None = None) -> int:
        """Append what is new among `recordings` (see ``tables``) and `claims` (recording -> class); returns how many.

        A recording that `claims` does not name keeps the claim that is registered.
        """
        old = {row.pop("recording"): row for row in self.recordings().drop(columns="at").to_dict("records")}
        new = []
        for row in recordings.to_dict("records"):
            name = str(row["recording"])
            about = {key: row[key] for key in ("path", "duration_s", "sr", "group")}
            about["claim"] = ({} if claims is None else claims).get(name, old.get(name, {}).get("claim"))
            operation = make_operation("recording", "", name, **about)
            if operation.payload != old.get(name):
                new.append(operation)
        self.append(new)
        return len(new)

    def merge(self, source: Store | str | Path | Sequence[Operation]) -> int:
        """Append the operations of another store or exported file (see :func:`operations_of`); returns how many.

        Nothing is doubled: operations that are here already are passed over, and so are registrations of recordings
        that are registered here: their paths and claims stay. Of what a labeler said here and there the latest counts.
        """
        other = operations_of(source) if isinstance(source, Store | str | Path) else source
        with self._reading() as connection:
            query = sa.select(table.c.recording).where(table.c.kind == "recording").distinct()
            here = set(connection.execute(query).scalars())
        other = [operation for operation in other if operation.kind != "recording" or operation.recording not in here]
        before = self._last()
        return sum(
            number > before
            for start in range(0, len(other), 10_000)
            for number in self.append(other[start : start + 10_000])
        )

    # --- reading ------------------------------------------------------------------------------------------------------

    def operations(
        self, recording: str | None = None, labeler: str | None = None, as_of: Moment = None, after_seq: int = 0
    ) -> pd.DataFrame:
        """The operations themselves, in their order: seq, uuid, kind, labeler, ..., payload (dict)."""
        conditions = [table.c.seq > after_seq]
        if recording is not None:
            conditions.append(table.c.recording == recording)
        if labeler is not None:
            conditions.append(table.c.labeler == labeler)
        rows = [{"seq": seq, **_columns(operation)} for seq, operation in self._numbered(conditions, as_of)]
        return _frame(rows, "seq:int64 uuid kind labeler recording at tool seen_teacher:bool payload:object")

    def state(self, recording: str, labeler: str | None = None, as_of: Moment = None) -> State:
        """What the operations on one recording leave: of one labeler, or of all."""
        return replay(recording, self._read([table.c.recording == recording], as_of), labeler)

    def recordings(self, limit: int | None = None, start: int = 0) -> pd.DataFrame:
        """Registered recordings by id: recording, path, duration_s, sr, group, claim, at; `limit` rows from `start`."""
        registered = sa.select(sa.func.max(table.c.seq)).where(table.c.kind == "recording")
        page = registered.group_by(table.c.recording).order_by(table.c.recording).limit(limit).offset(start)
        with self._reading() as connection:
            numbers = list(connection.execute(page).scalars())
        found = [op for part in parts(numbers) for op in self._read([table.c.seq.in_(part)])]
        rows = [{"recording": op.recording, **op.payload, "at": op.at} for op in found]
        rows.sort(key=lambda row: row["recording"])
        return _frame(rows, "recording path duration_s:float64 sr:int64 group claim:object at")

    def segments(self, labeler: str | None = None, as_of: Moment = None) -> pd.DataFrame:
        """Segments that are left: recording, segment (its uuid), start_s, end_s, class_name, labeler, note, ..."""
        rows = segment_rows(self._counting(("segment", "delete"), labeler, as_of))
        names = "recording segment start_s:float64 end_s:float64 class_name labeler note at seen_teacher:bool"
        return _frame([{"segment": row["id"], **row} for row in rows], names)

    def claims(self, labeler: str | None = None, as_of: Moment = None) -> pd.DataFrame:
        """The last claim of each recording, labeler and class (None: every class): recording, verdict, labeler"""
        rows = claim_rows(self._counting(("claim",), labeler, as_of))
        return _frame(rows, "recording class_name:object verdict labeler at seen_teacher:bool")

    def heard(self, labeler: str | None = None, as_of: Moment = None) -> pd.DataFrame:
        """What each labeler heard: recording, labeler, start_s, end_s; disjoint ranges."""
        heard = heard_ranges(self._counting(("heard",), labeler, as_of))
        rows = [
            {"recording": recording, "labeler": who, "start_s": start, "end_s": end}
            for (recording, who), pairs in heard.items()
            for start, end in pairs
        ]
        return _frame(rows, "recording labeler start_s:float64 end_s:float64")

    def judgements(self, labeler: str | None = None, as_of: Moment = None) -> pd.DataFrame:
        """The last judgement of each range, class and labeler: recording, segment, ..., value (1, 0, NaN), reason."""
        rows = judgement_rows(self._counting(("judgement",), labeler, as_of))
        for row in rows:
            row["segment"] = row["segment_id"] or segment_id(row["recording"], row["start_s"], row["end_s"])
        names = "recording segment start_s:float64 end_s:float64 class_name value:float64 reason labeler at"
        return _frame(rows, f"{names} seen_teacher:bool")

    def promotions(self, labeler: str | None = None, as_of: Moment = None) -> pd.DataFrame:
        """Members of promoted clusters that count: uuid, recording, segment, ...; see :mod:`audiotk.mining`."""
        rows = promotion_rows(self._counting(("promotion",), labeler, as_of))
        for row in rows:
            row["segment"] = segment_id(row["recording"], row["start_s"], row["end_s"])
        names = "promotion theme cluster recording segment start_s:float64 end_s:float64 class_name absent:object"
        return _frame(rows, f"{names} verdict heard:int64 right:int64 purity_low:float64 note labeler at")

    def labelers(self) -> list[str]:
        """Names of all who wrote something."""
        with self._reading() as connection:
            return sorted(name for name in connection.execute(sa.select(table.c.labeler).distinct()).scalars() if name)

    def tally(self, labeler: str) -> pd.DataFrame:
        """How many operations a labeler made, taken back or not: recording, kind, n; quick for millions of them."""
        names = (table.c.recording, table.c.kind)
        query = sa.select(*names, sa.func.count()).where(table.c.labeler == labeler).group_by(*names)
        with self._reading() as connection:
            return pd.DataFrame(connection.execute(query).all(), columns=["recording", "kind", "n"])

    def dataset_tables(
        self,
        classes: Sequence[str] | None = None,
        as_of: Moment = None,
        labelers: Sequence[str] | None = None,
        complete: bool = False,
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """(segments, annotations, sources) for a ``tables.Dataset``; see :func:`audiotk.store.history.dataset_tables`.

        Raises
        ------
        AudiotkError
            A labelled range now lies outside of its recording.
        """
        counting = self._counting(("recording", "segment", "delete", "claim", "heard"), None, as_of)
        return tables_of(counting, classes, labelers, complete)

    # --- upkeep -------------------------------------------------------------------------------------------------------

    def check(self) -> upkeep.Report:
        """Read everything: the database's own check, each operation against its checksum and the rules, and gaps."""
        return upkeep.check(self._engine, self.url)

    def backup(self, path: str | Path) -> Path:
        """Copy the store to a new file while others go on writing; returns its path. Never overwrites.

        Raises
        ------
        AudiotkError
            The file is there already, cannot be written, or the store is a PostgreSQL database (use ``pg_dump``).
        """
        return upkeep.backup(self.url, Path(path))

    def export_parquet(self, path: str | Path, salvage: bool = False) -> tuple[int, int]:
        """Write all operations to a Parquet file (payload as JSON text); returns how many, and how many were lost.

        With `salvage`, operations that cannot be read are left out and counted; without, they are an error. Never
        overwrites.
        """
        return upkeep.export_parquet(self._engine, self.url, Path(path), salvage)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _identity(self) -> tuple[int, int] | None:
        """Which file it is; None for a server, and for a file that is gone."""
        if self.url.get_backend_name() != "sqlite":
            return None
        try:
            found = os.stat(str(self.url.database))
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _after_fork(self) -> None:
        """A forked process must not touch its parent's connections and lock."""
        if self._pid != os.getpid():
            self._engine.dispose(close=False)
            self._lock, self._pid = threading.Lock(), os.getpid()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self._after_fork()
        with explained(self.url), self._engine.connect() as connection:
            yield connection

    def _numbered(self, conditions: Sequence[Any], as_of: Moment = None) -> list[tuple[int, Operation]]:
        if as_of is not None:
            conditions = [*conditions, table.c.at <= _moment(as_of)]
        query = sa.select(table).where(*conditions).order_by(table.c.seq)
        where = shown(self.url)
        with self._reading() as connection:
            return [(row[0], to_operation(row, where)) for row in connection.execute(query)]

    def _read(self, conditions: Sequence[Any] = (), as_of: Moment = None) -> list[Operation]:
        return [operation for _, operation in self._numbered(conditions, as_of)]

    def _counting(self, kinds: Sequence[str], labeler: str | None, as_of: Moment) -> list[Operation]:
        """Operations of some kinds that are not taken back."""
        conditions: list[Any] = [table.c.kind.in_([*kinds, "undo"])]
        if labeler is not None:
            conditions.append(table.c.labeler == labeler)
        return active(self._read(conditions, as_of))

    def _last(self) -> int:
        with self._reading() as connection:
            return int(connection.execute(sa.select(sa.func.max(table.c.seq))).scalar() or 0)


def _moment(as_of: datetime | str) -> int:
    try:
        moment = pd.Timestamp(as_of)
    except ValueError as err:
        raise AudiotkError(f"as_of: expected a date or time like 2026-01-31T12:00, got {as_of!r}") from err
    if pd.isna(moment):
        raise AudiotkError(f"as_of: expected a date or time like 2026-01-31T12:00, got {as_of!r}")
    moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    return microseconds(moment.to_pydatetime(warn=False))


def _columns(operation: Operation) -> dict[str, Any]:
    return {name: getattr(operation, name) for name in Operation.__slots__}


def _frame(rows: Sequence[Mapping[str, Any]], columns: str) -> pd.DataFrame:
    """A table of `rows`; `columns` as ``name:dtype`` (text if none is said, and UTC for ``at``)."""
    kinds = {name: dtype for name, _, dtype in (word.partition(":") for word in columns.split())}
    data = {name: [row[name] for row in rows] for name in kinds}
    series = {
        name: pd.Series(data[name], dtype=dtype or ("datetime64[us, UTC]" if name == "at" else "str"))
        for name, dtype in kinds.items()
    }
    return pd.DataFrame(series)
