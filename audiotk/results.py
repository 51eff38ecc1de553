"""Result rows: the one table in which every experiment states its numbers (``results.jsonl`` in a run folder).

==========  =======================================================================================================
experiment  what was asked, ``B1.1`` or ``quickstart``
arm         which variant, ``clip labels``
seed        int; null when the row sums several seeds up
data        data set name
scale       ``smoke``, ``demo`` or ``paper``
split       ``train``, ``val`` or ``test``
metric      ``mAP``, ``AP``, ``false positives per hour``, ...
class_name  null for the mean over classes
value       the number; null = undefined
low, high   95 % interval; null when there is none
n           how many units (recordings, seeds) the value rests on; null when that says nothing
==========  =======================================================================================================

Each line also says where it comes from, in the columns of `ORIGIN_COLUMNS`, which no notebook has to give:

==========  =======================================================================================================
notebook    which wrote it: the name of its folder
seed_list   the notebook's parameter seeds, ``0,1,2``
settings    its other parameters that differ from their defaults, ``teacher=yamnet``; neither data nor scale
date        of the day on which the row was written (UTC)
commit      of audiotk, ``-dirty`` after local edits; empty outside a checkout
versions    ``audiotk 1.0, python 3.12.1, torch 2.9.0, numpy 2.3.0``
==========  =======================================================================================================

Parameters are known only to ``audiotk run``: of a notebook run by hand seed_list is empty and settings say so.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from audiotk.errors import AudiotkError
from audiotk.files import circumstances

_TEXT = ("experiment", "arm", "data", "scale", "split", "metric")
RESULT_COLUMNS = (*_TEXT[:2], "seed", *_TEXT[2:], "class_name", "value", "low", "high", "n")
_WHOLE = ("seed", "n")
_REAL = ("value", "low", "high")
RESULTS_FILE = "results.jsonl"
ORIGIN_COLUMNS = ("notebook", "seed_list", "settings", "date", "commit", "versions")
BY_HAND = "run by hand"
_NO_SETTINGS = ("out", "data", "data_root", "train_root", "scale", "seeds")  # parameters that rows state elsewhere


def append_results(out: str | Path, rows: pd.DataFrame | Sequence[Mapping[str, Any]]) -> None:
    """Append `rows` to ``results.jsonl`` in the folder `out`, all of them or none.

    Parameters
    ----------
    out
        The run folder, made when missing.
    rows
        A DataFrame or a list of dicts with exactly the columns `RESULT_COLUMNS`, in any order; NaN and NA are stored
        as null. Those of `ORIGIN_COLUMNS` are added.

    Raises
    ------
    AudiotkError
        A column is unknown, missing or of the wrong type; nothing is written then.
    """
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else list(rows)
    checked = [_checked(record, f"row {number}", origin(out)) for number, record in enumerate(records)]
    append_lines(Path(out) / RESULTS_FILE, checked)


def origin(out: str | Path) -> dict[str, Any]:
    """The columns of `ORIGIN_COLUMNS` for rows that are written now into the folder `out` of a notebook."""
    told = {"notebook": Path(out).resolve().name, "seed_list": "", "settings": BY_HAND}
    return told | {"date": f"{datetime.now(UTC):%Y-%m-%d}"} | _made_with()


@functools.cache
def _made_with() -> dict[str, str]:
    made = circumstances()
    versions = {"audiotk": made["versions"]["audiotk"], "python": made["python"]}
    versions |= {name: made["versions"][name] or "absent" for name in ("torch", "numpy")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {"commit": made["commit"] or "", "versions": told}


def parameters_told(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, str]:
    """The columns seed_list and settings of a notebook whose parameters are `values`; of a path its last part."""
    others = sorted(name for name, value in values.items() if name not in _NO_SETTINGS and value != defaults[name])
    seed_list = str(values.get("seeds", "")).strip("[]").replace(" ", "")
    return {"seed_list": seed_list, "settings": ", ".join(f"{name}={Path(str(values[name])).name}" for name in others)}


def checked_origin(record: Mapping[str, Any], where: str) -> dict[str, str]:
    """The columns of `ORIGIN_COLUMNS` in a row; empty in rows that an audiotk before these columns wrote."""
    told = {name: record.get(name, "") for name in ORIGIN_COLUMNS}
    if wrong := [name for name, text in told.items() if not isinstance(text, str)]:
        raise AudiotkError(f"{where}: {wrong[0]!r} should be text, got {told[wrong[0]]!r}")
    return told


def append_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Append one line of JSON a record to the file at `path`, made when missing."""
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:  # one write in append mode: processes do not mix their lines
        file.write(text.encode())
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[tuple[str, Any]]:
    """Where each line is ("PATH, line 1") and what it holds; none if there is no file.

    Raises
    ------
    AudiotkError
        A line is not JSON.
    """
    lines = path.read_text("utf-8").split("\n") if path.exists() else [""]
    found = []
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        try:
            found.append((f"{path}, line {number}", json.loads(line)))
        except json.JSONDecodeError as err:
            raise AudiotkError(f"{path}, line {number}: not JSON ({err.msg}): {line[:80]!r}") from err
    return found


def read_results(out: str | Path) -> pd.DataFrame:
    """Read the rows of a run.

    Parameters
    ----------
    out
        A run folder, or a ``.jsonl`` file. A folder without results gives an empty table.

    Returns
    -------
    DataFrame
        Columns `RESULT_COLUMNS` and `ORIGIN_COLUMNS`; text as str (missing: NaN), ``seed`` and ``n`` as Int64
        (missing: NA), the others float64.

    Raises
    ------
    AudiotkError
        The folder is missing, or a line is not a result row; the text names the line.
    """
    path = Path(out)
    if not path.exists():
        raise AudiotkError(f"{path}: no such run folder")
    path = path / RESULTS_FILE if path.is_dir() else path
    records = [_checked(record, where) for where, record in read_lines(path)]
    table = pd.DataFrame(records, columns=[*RESULT_COLUMNS, *ORIGIN_COLUMNS])
    types = dict.fromkeys((*_TEXT, "class_name", *ORIGIN_COLUMNS), "str")
    return table.astype(types | dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_REAL, "float64"))


def _checked(record: Any, where: str, begun: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`record`, with what `begun` adds, as plain JSON values in order, or an AudiotkError that begins with `where`."""
    if not isinstance(record, Mapping):
        raise AudiotkError(f"{where}: expected a result row (an object), got {type(record).__name__}")
    if wrong := (set(record) - set(ORIGIN_COLUMNS)) ^ set(RESULT_COLUMNS):
        unknown, missing = sorted(wrong & set(record)), sorted(wrong - set(record))
        raise AudiotkError(
            f"{where}: unknown columns {unknown}, missing columns {missing}; expected {list(RESULT_COLUMNS)}"
        )
    return {name: _plain(record[name], name, where) for name in RESULT_COLUMNS} | checked_origin(
        {**(begun or {}), **record}, where
    )


def _plain(value: Any, name: str, where: str) -> Any:
    """One value as str, int, float or None, as its column asks."""
    value = value.item() if hasattr(value, "item") else value  # numpy scalar
    if value is None or value is pd.NA or value != value:  # NaN
        if name in _TEXT:
            raise AudiotkError(f"{where}: {name!r} is empty; only seed, class_name and the numbers may be null")
        return None
    if name in _REAL and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) == float("inf"):
            raise AudiotkError(f"{where}: {name!r} is infinite; use NaN for a value that is not defined")
        return float(value)
    if name in _WHOLE and isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
        return int(value)
    if name not in _REAL + _WHOLE and isinstance(value, str):
        return value
    kind = "a number" if name in _REAL else "a whole number" if name in _WHOLE else "text"
    raise AudiotkError(f"{where}: {name!r} should be {kind}, got {value!r}")
