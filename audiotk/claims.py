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

and the columns of :data:`audiotk.results.ORIGIN_COLUMNS`, which are added. Verdicts are compared where data, scale and
settings are the same: with another teacher, P1.4 is another experiment.
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
from audiotk.results import BY_HAND, ORIGIN_COLUMNS, append_lines, checked_origin, origin, read_lines
from audiotk.stats import INCONCLUSIVE, MIN_SEEDS, NEEDS_DATA, Interval, claim_verdict
from audiotk.stats import claims as ledger

CLAIMS_FILE = "claims.jsonl"
VERDICTS = ("reproduced", "not reproduced", INCONCLUSIVE, NEEDS_DATA)
NOT_RUN = "not run"
NUMBERS, WHOLE, TEXT = ("value", "low", "high"), ("n", "seeds"), ("verdict", "data", "scale")
COLUMNS = ("id", *NUMBERS, *WHOLE, *TEXT)
KEY = ("data", "scale", "settings")  # what makes two rows of a claim the same experiment
RECORDED = (*KEY, "seeds", *NUMBERS, "n", "verdict", "date", "commit")


def append_claims(out: str | Path, rows: pd.DataFrame | Sequence[Mapping[str, Any]]) -> None:
    """Append what was found to ``claims.jsonl`` in the folder `out`, all rows or none.

    Parameters
    ----------
    out
        The folder of a notebook, made when missing.
    rows
        As from :func:`audiotk.stats.claim_row`: a list of them, or a DataFrame of them with index id. Further columns
        (of the ledger) are left out, those of where they come from added.

    Raises
    ------
    AudiotkError
        A claim or verdict is unknown, a column is missing, or a number is none.
    """
    records = rows.reset_index().to_dict("records") if isinstance(rows, pd.DataFrame) else list(rows)
    checked = [_checked(record, f"row {number}", origin(out)) for number, record in enumerate(records)]
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
        Index id; the columns of `COLUMNS` and of origin; empty where no claim was tested.

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
    table = pd.DataFrame(records, columns=[*COLUMNS, *ORIGIN_COLUMNS])
    table = table.astype(dict.fromkeys(("id", *TEXT, *ORIGIN_COLUMNS), "str"))
    table = table.astype(dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(WHOLE, "Int64"))
    return table.drop_duplicates("id", keep="last").set_index("id")


def table(run: str | Path | None) -> pd.DataFrame:
    """Every claim of the ledger with what `run` found, or (None) with all that was recorded, one row each.

    Returns
    -------
    DataFrame
        Index id, sorted; columns of the ledger, those of :func:`read_claims` (verdict "not run" and no
        numbers where the run has no row), then ``run`` (name of the folder), ``files`` (names of the notebook's
        executed copy and folder in it, as far as they are there), ``recorded_verdict`` ("" = nothing for
        this data, scale and settings), ``standing`` ("contradicts", "differs", "as recorded", "new", "") and ``open``
        (what would settle it).
    """
    known = ledger().sort_index()
    for name, recorded in known["recorded"].items():
        for row in recorded:
            _check_verdict({"id": name, **row}, "claims.json, recorded")
    if run is None:
        entries = [{"id": name, **row} for name, recorded in known["recorded"].items() for row in recorded]
        found = pd.DataFrame(entries, columns=[*COLUMNS, *ORIGIN_COLUMNS]).set_index("id")
    else:
        found = read_claims(run)
    joined = known.join(found, how="left")
    joined["verdict"] = joined["verdict"].fillna(NOT_RUN)
    texts = ["data", "scale", *ORIGIN_COLUMNS]
    joined[texts] = joined[texts].astype("object").fillna("")
    joined["run"] = "" if run is None else np.where(joined["verdict"] == NOT_RUN, "", Path(run).resolve().name)
    joined["files"] = [_files(run, item["notebook"]) for item in joined.to_dict("records")]
    joined["recorded_verdict"] = [_recorded(item) for item in joined.to_dict("records")]
    joined["standing"] = [_standing(item) for item in joined.to_dict("records")]
    joined["open"] = [needed(item) for item in joined.to_dict("records")]
    return joined


def of_notebook(run: str, out: str | Path) -> pd.DataFrame:
    """The :func:`table` of the folder `run`, or ("") of the one in which the folder `out` of a notebook lies."""
    if not run:
        Path(out).parent.mkdir(parents=True, exist_ok=True)  # where nothing was run yet, nothing was found
    return table(run or Path(out).parent)


def record(run: str | Path, path: str | Path, force: bool = False) -> list[str]:
    """Write what a run found into the ledger's file at `path`, in place of rows of the same data, scale and settings.

    Rows of scale "smoke" are left out, as they say nothing of a claim, and those of notebooks run by hand, whose
    settings are not known. Returns the ids that were recorded.

    Raises
    ------
    AudiotkError
        A recorded verdict would be replaced by its opposite, and not `force`; nothing is written then.
    """
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    found = read_claims(run)
    found = found[(found["scale"] != "smoke") & (found["settings"] != BY_HAND)]
    turned = []
    for row in rows:
        if row["id"] in found.index:
            item = found.loc[row["id"], list(RECORDED)].to_dict()
            digits = _digits(item, ledger().loc[row["id"], "smallest_effect"], 4)
            new: dict[str, Any] = {name: _rounded(item[name], digits) for name in RECORDED}
            _check_verdict({"id": row["id"], **new}, f"{path}, to be recorded")
            old = [one for one in row.get("recorded", []) if _key(one) == _key(new)]
            row["recorded"] = [one for one in row.get("recorded", []) if one not in old] + [new]
            turned += [
                f"{row['id']} ({', '.join(filter(None, _key(new)))}): {one['verdict']} -> {new['verdict']}"
                for one in old
                if _opposite(one["verdict"], new["verdict"])
            ]
    if turned and not force:
        raise AudiotkError(
            f"{path}: recorded verdicts would be replaced by their opposites: {'; '.join(turned)}. Find out why; "
            "--force records them all the same"
        )
    with atomic(path) as draft:
        draft.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [row["id"] for row in rows if row["id"] in found.index]


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, str) or pd.isna(value):
        return value if isinstance(value, str) else None
    return round(float(value), digits) if isinstance(value, float) else int(value)


def _digits(item: Mapping[Any, Any], least: float, fewest: int) -> int:
    """How many decimals leave effect and interval on their side of the smallest effect that matters."""
    numbers = [item[name] for name in NUMBERS if pd.notna(item[name])]
    sides = {n: [(round(x, n) >= least, round(x, n) <= -least) for x in numbers] for n in (*range(fewest, 12), 20)}
    return next(n for n in sides if sides[n] == sides[20])


def contradictions(found: pd.DataFrame) -> list[str]:
    """Ids of the rows of :func:`table` whose verdict is the opposite of the recorded one."""
    return list(found.index[found["standing"] == "contradicts"])


def effect_text(item: Mapping[Any, Any]) -> str:
    """``+0.021 [+0.005, +0.037]``; "" without a number, "unbounded" for an interval without ends.

    Where low is high, resampling found no spread, which does not say that there is none elsewhere; "exact" is what was
    counted and not sampled. Digits are enough to tell each number from the smallest effect that matters.
    """
    if pd.isna(item["value"]):
        return ""
    digits = min(6, _digits(item, item["smallest_effect"], 3))
    value, *ends = (f"{item[name]:+.{digits}f}" for name in NUMBERS if pd.notna(item[name]))
    if len(ends) < 2:
        return f"{value} [unbounded]"
    if np.isclose(item["low"], item["high"], rtol=0, atol=1e-9):
        return f"{value} {'no spread' if item['sampled'] else 'exact'}"
    return f"{value} [{', '.join(ends)}]"


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
            if away < half / 5:
                told.append("the effect lies at the limit, so that more data of this kind need not settle it")
            elif away < half:
                told.append(f"an interval of ± {away:.2g}, not ± {half:.2g}, if the effect is as large as here")
    return "; ".join([*told, str(item["settles"])] if item["settles"] else told)


def caveats(table: pd.DataFrame) -> list[str]:
    """What a reader of verdicts has to know first, as sentences; `table` as from :func:`table`, of what was run."""
    told = []
    if (table["data"] == "embedded").any():
        told.append(
            "Embedded data are synthetic: a verdict on them says how a method behaves where the truth is known, not "
            "that a source is right about its own data."
        )
    if counted := [str(name) for name in table.index[~table["sampled"] & (table["verdict"] == VERDICTS[0])]]:
        told.append(f"Counted, not sampled: {', '.join(counted)}.")
    if (table["verdict"].isin(VERDICTS[:2])).sum() > 1:
        told.append("Each interval is a 95 % one by itself: nothing is corrected for the number of claims.")
    return told


def _files(run: str | Path | None, notebook: str) -> list[str]:
    """Executed copy and folder of a notebook in a run folder, those that are there."""
    if run is None or not notebook:
        return []
    return [name for name in (f"{notebook}.ipynb", notebook) if (Path(run) / name).exists()]


def _recorded(item: Mapping[Any, Any]) -> str:
    """The verdict in the repository for this data, scale and settings."""
    same = [one for one in item["recorded"] if _key(one) == _key(item)]
    return str(same[-1]["verdict"]) if same else ""


def _key(row: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY)


def _opposite(verdict: str, other: str) -> bool:
    return {verdict, other} == set(VERDICTS[:2])


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
    return "contradicts" if _opposite(verdict, recorded) else "differs"


def _checked(record: Any, where: str, begun: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The columns of a row, with what `begun` adds, as plain values, or an AudiotkError that begins with `where`."""
    if not isinstance(record, Mapping) or (missing := [name for name in COLUMNS if name not in record]):
        told = f"lacks {missing}" if isinstance(record, Mapping) else f"got {type(record).__name__}"
        raise AudiotkError(f"{where}: expected a row of claims with {list(COLUMNS)}, {told}")
    row = {name: _plain(record[name], name, where) for name in COLUMNS}
    row |= checked_origin({**(begun or {}), **record}, where)
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
