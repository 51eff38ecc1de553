"""What runs say of the sources' claims: ``claims.jsonl``, beside the ledger and beside what was recorded before.

A notebook calls :func:`append_claims` with the rows of :func:`audiotk.stats.claim_row`; the runner joins the files of
all finished notebooks into one in the run folder, as it does with ``results.jsonl``. The ledger, ``claims.json``, holds
under ``recorded`` the rows that were found in this repository.

==========  =======================================================================================================
id          the claim, ``B1.1``
value       the effect, as the ledger says; null if it could not be measured
low, high   its 95 % interval; null = unbounded
n           units behind the interval
seeds       training runs an arm; null where nothing was trained
verdict     one of `VERDICTS`
data, scale of the run
==========  =======================================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk.errors import AudiotkError
from audiotk.files import atomic
from audiotk.results import append_lines, read_lines
from audiotk.stats import INCONCLUSIVE, MIN_SEEDS, NEEDS_DATA, Interval, claim_verdict
from audiotk.stats import claims as ledger

CLAIMS_FILE = "claims.jsonl"
VERDICTS = ("reproduced", "not reproduced", INCONCLUSIVE, NEEDS_DATA)
NOT_RUN = "not run"
NUMBERS, WHOLE, TEXT = ("value", "low", "high"), ("n", "seeds"), ("verdict", "data", "scale")
COLUMNS = ("id", *NUMBERS, *WHOLE, *TEXT)
RECORDED = ("data", "scale", "seeds", "value", "low", "high", "n", "verdict")


def append_claims(out: str | Path, rows: pd.DataFrame | Sequence[Mapping[str, Any]]) -> None:
    """Append what was found to ``claims.jsonl`` in the folder `out`, all rows or none.

    Parameters
    ----------
    out
        The folder of a notebook, made when missing.
    rows
        As from :func:`audiotk.stats.claim_row`: a list of them, or a DataFrame of them with index id. Further columns
        (of the ledger) are left out.

    Raises
    ------
    AudiotkError
        A claim or verdict is unknown, a column is missing, or a number is none.
    """
    records = rows.reset_index().to_dict("records") if isinstance(rows, pd.DataFrame) else list(rows)
    checked = [_checked(record, f"row {number}") for number, record in enumerate(records)]
    append_lines(Path(out) / CLAIMS_FILE, checked)


def read_claims(run: str | Path) -> pd.DataFrame:
    """What a run found: the last row of each claim.

    Parameters
    ----------
    run
        A run folder; without a ``claims.jsonl`` of its own, what the folders in it hold counts (notebooks that were
        run by hand, each with its own ``out``).

    Returns
    -------
    DataFrame
        Index id; the columns of `COLUMNS`; empty where no claim was tested.

    Raises
    ------
    AudiotkError
        The folder is missing, or a line is not a row of claims; the text names the line.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise AudiotkError(f"{folder}: no such run folder; first: audiotk run notebooks --out {folder}")
    own = folder / CLAIMS_FILE
    files = [own] if own.exists() else sorted(folder.glob(f"*/{CLAIMS_FILE}"))
    records = [_checked(record, where) for file in files for where, record in read_lines(file)]
    table = pd.DataFrame(records, columns=list(COLUMNS)).astype(dict.fromkeys(("id", *TEXT), "str"))
    table = table.astype(dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(WHOLE, "Int64"))
    return table.drop_duplicates("id", keep="last").set_index("id")


def table(run: str | Path | None) -> pd.DataFrame:
    """Every claim of the ledger with what `run` found, or (None) with what was recorded.

    Returns
    -------
    DataFrame
        Index id, sorted; columns of the ledger, those of :func:`read_claims` (verdict "not run" and no
        numbers where the run has no row), then ``recorded_verdict`` ("" = nothing for this data and scale),
        ``standing`` ("contradicts", "differs", "as recorded", "new", "") and ``open`` (what would settle it).
    """
    known = ledger().sort_index()
    for name, recorded in known["recorded"].items():
        for row in recorded:
            _check_verdict({"id": name, **row}, "claims.json, recorded")
    if run is None:
        entries = {name: recorded[-1] for name, recorded in known["recorded"].items() if recorded}
        found = pd.DataFrame.from_dict(entries, orient="index").reindex(columns=list(COLUMNS[1:]))
    else:
        found = read_claims(run)
    joined = known.join(found, how="left")
    joined["verdict"] = joined["verdict"].fillna(NOT_RUN)
    joined[["data", "scale"]] = joined[["data", "scale"]].fillna("")
    joined["recorded_verdict"] = [_recorded(item) for item in joined.to_dict("records")]
    joined["standing"] = [_standing(item) for item in joined.to_dict("records")]
    joined["open"] = [needed(item) for item in joined.to_dict("records")]
    return joined


def of_notebook(run: str, out: str | Path) -> pd.DataFrame:
    """The :func:`table` of the folder `run`, or ("") of the one in which the folder `out` of a notebook lies."""
    if not run:
        Path(out).parent.mkdir(parents=True, exist_ok=True)  # where nothing was run yet, nothing was found
    return table(run or Path(out).parent)


def record(run: str | Path, path: str | Path) -> list[str]:
    """Write what a run found into the ledger's file at `path`, in place of rows of the same data and scale.

    Rows of scale "smoke" are left out: they say nothing of a claim. Returns the ids that were recorded.
    """
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    found = read_claims(run)
    found = found[found["scale"] != "smoke"]
    for row in rows:
        if row["id"] in found.index:
            item = found.loc[row["id"], list(RECORDED)]
            new = {name: None if pd.isna(item[name]) else _rounded(item[name]) for name in RECORDED}
            same = [(new["data"], new["scale"])]
            row["recorded"] = [one for one in row.get("recorded", []) if (one["data"], one["scale"]) not in same] + [
                new
            ]
    with atomic(path) as draft:
        draft.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [row["id"] for row in rows if row["id"] in found.index]


def _rounded(value: Any) -> Any:
    return value if isinstance(value, str) else round(float(value), 4) if isinstance(value, float) else int(value)


def contradictions(found: pd.DataFrame) -> list[str]:
    """Ids of the rows of :func:`table` whose verdict is the opposite of the recorded one."""
    return list(found.index[found["standing"] == "contradicts"])


def effect_text(item: Mapping[Any, Any]) -> str:
    """``+0.021 [+0.005, +0.037]``; "" without a number, "unbounded" for an interval without ends."""
    if pd.isna(item["value"]):
        return ""
    bounded = pd.notna(item["low"]) and pd.notna(item["high"])
    return f"{item['value']:+.3f} " + (f"[{item['low']:+.3f}, {item['high']:+.3f}]" if bounded else "[unbounded]")


def needed(item: Mapping[Any, Any]) -> str:
    """What would settle a claim (a row of :func:`table`), in words."""
    told = []
    if item["verdict"] == INCONCLUSIVE:
        if pd.notna(item["seeds"]) and item["seeds"] < MIN_SEEDS:
            told.append(f"at least {MIN_SEEDS} seeds")
        if item["scale"] == "smoke":
            told.append("training that is long enough to mean anything: scale demo or paper")
        elif pd.isna(item["low"]) or pd.isna(item["high"]):
            told.append("more recordings: the interval has no ends")
        else:
            sign = -1 if item["direction"].endswith("lower") else 1
            away, half = abs(sign * item["value"] - item["smallest_effect"]), (item["high"] - item["low"]) / 2
            if away < half:
                told.append(f"an interval of ± {away:.2g}, not ± {half:.2g}, if the effect is as large as here")
    return "; ".join([*told, str(item["settles"])] if item["settles"] else told)


def _recorded(item: Mapping[Any, Any]) -> str:
    """The verdict in the repository for this data and scale."""
    same = [one for one in item["recorded"] if (one["data"], one["scale"]) == (item["data"], item["scale"])]
    return str(same[-1]["verdict"]) if same else ""


def _standing(item: Mapping[Any, Any]) -> str:
    """A verdict beside the recorded one; "" at scale smoke, which says nothing.

    Only opposite verdicts contradict: with other seeds or on another processor an interval may end on the other side of
    the limit, and "inconclusive" says no more than that.
    """
    verdict, recorded = item["verdict"], item["recorded_verdict"]
    if verdict == NOT_RUN or item["scale"] == "smoke":
        return ""
    if not recorded:
        return "new"
    if verdict == recorded:
        return "as recorded"
    return "contradicts" if {verdict, recorded} == set(VERDICTS[:2]) else "differs"


def _checked(record: Any, where: str) -> dict[str, Any]:
    """The columns of a row as plain values, or an AudiotkError that begins with `where`."""
    if not isinstance(record, Mapping) or (missing := [name for name in COLUMNS if name not in record]):
        told = f"lacks {missing}" if isinstance(record, Mapping) else f"got {type(record).__name__}"
        raise AudiotkError(f"{where}: expected a row of claims with {list(COLUMNS)}, {told}")
    row = {name: _plain(record[name], name, where) for name in COLUMNS}
    if row["id"] not in ledger().index:
        raise AudiotkError(f"{where}: claim {row['id']!r} is not in the ledger: {list(ledger().index)}")
    if row["verdict"] not in VERDICTS:
        raise AudiotkError(f"{where}: expected a verdict of {VERDICTS}, got {row['verdict']!r}")
    _check_verdict(row, where)
    return row


def _check_verdict(row: Mapping[str, Any], where: str) -> None:
    """Refuse a verdict that does not follow from the row's own numbers; "needs data we lack" follows from none."""
    if row["verdict"] == NEEDS_DATA:
        return
    value, low, high = (np.nan if row[name] is None else row[name] for name in NUMBERS)
    effect = Interval(value, low, high, 0.95, row["n"] or 0)
    says = claim_verdict(effect, ledger().loc[row["id"]].to_dict(), row["scale"], row["seeds"])
    if says != row["verdict"]:
        raise AudiotkError(
            f"{where}: the verdict on {row['id']} is {row['verdict']!r}, but {effect} at scale {row['scale']!r} with "
            f"seeds {row['seeds']} says {says!r}: the row or the ledger was edited; run the notebook again"
        )


def _plain(value: Any, name: str, where: str) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if name in ("id", *TEXT):
        if isinstance(value, str) and value:
            return value
        raise AudiotkError(f"{where}: {name!r} should be text, got {value!r}")
    if value is None or value is pd.NA or value != value:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
        raise AudiotkError(f"{where}: {name!r} should be a finite number or null, got {value!r}")
    return int(value) if name in WHOLE else float(value)
