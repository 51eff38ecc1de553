"""Cells that a rule changed, drawn at random for somebody to listen to, and what verdicts say (about any such sample).

A *change* is what happens to a cell, as "absent → present". What makes it right depends on what it says:

- to present or absent (a correction): right if the new label is true;
- to unknown (a mask): right if the label that it hides was *wrong*. A mask on a right label is no error, it only costs
  a label; so read this share against the share of wrong labels where nothing was masked.

Both mean: the old label was wrong (or unknown), so a change is right if it took an error away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from audiotk.relabel.audit import VALUES, WORDS, Audit
from audiotk.scores import Scores
from audiotk.stats import Interval
from audiotk.tables import AudiotkError, check_segments

PER_CHANGE = 50  # cells of each change that are drawn unless told otherwise
MOST = 2000  # cells that are drawn at most: nobody listens to more
LEVEL = 0.95
ORDERS = ("confident", "doubtful", "class", "random")


def draw(
    audit: Audit,
    rng: np.random.Generator,
    n: int | None = None,
    per_class: int | None = None,
    classes: Sequence[str] | None = None,
    per_change: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A random sample of the changed cells, and the strata (class and change) from which it was drawn.

    Parameters
    ----------
    audit
        The changes.
    rng
        Source of the draws; equal states draw equal cells.
    n
        Cells in all, each equally likely. A change that is rare then comes up rarely.
    per_class
        In place of `n`: so many of each class and change. Rare ones are then seen as often as common ones, and
        :func:`estimate` weights them back.
    classes
        Only changes of these classes.
    per_change
        In place of `n`: so many of each change, each of its cells equally likely; this is the default, with 50. So
        corrections can be judged beside a hundred times as many masks.

    Returns
    -------
    cells : DataFrame
        segment, class_name, before, after (1 / 0 / NaN), change, stratum (row of `strata`); in the order of the labels.
    strata : DataFrame
        class_name, change, cells (changed cells), drawn.

    Raises
    ------
    AudiotkError
        An unknown class, a number below 1 or two of them given, more cells than anybody listens to.
    """
    strata = _strata(audit, classes)
    sizes = strata["cells"].to_numpy()
    given = {"n": n, "per_class": per_class, "per_change": per_change}
    asked = {name: number for name, number in given.items() if number is not None} or {"per_change": PER_CHANGE}
    if len(asked) > 1 or min(asked.values()) < 1:
        told = ", ".join(f"{name}={number}" for name, number in asked.items())
        raise AudiotkError(f"review: expected n >= 1, per_class >= 1 or per_change >= 1, and one of them; got {told}")
    ((kind, number),) = asked.items()
    if kind == "n":
        part = np.zeros(len(strata), dtype=np.int64)
    else:  # strata are drawn from apart, or those of one change together
        part = np.arange(len(strata)) if kind == "per_class" else pd.factorize(strata["change"])[0]
    cells = _found(audit, strata, _numbers(sizes, part, number, rng))
    strata["drawn"] = np.bincount(cells["stratum"], minlength=len(strata))
    return cells, strata.drop(columns="key")


def _strata(audit: Audit, classes: Sequence[str] | None) -> pd.DataFrame:
    """Columns class_name, change, cells, and key: 16 * class position + 4 * code before + code after."""
    table = audit.table()
    if classes is not None:
        wanted = [classes] if isinstance(classes, str) else list(classes)
        if unknown := [name for name in wanted if name not in audit.after.classes]:
            raise AudiotkError(
                f"review: class {unknown[0]!r} is not among the {len(audit.after.classes)} of the labels"
            )
        table = table[table["class_name"].isin(wanted)].reset_index(drop=True)
    place = audit.after.classes.get_indexer(pd.Index(table["class_name"]))
    code = {word: number for number, word in enumerate(WORDS)}
    table["key"] = 16 * place + 4 * table["before"].map(code).astype("int64") + table["after"].map(code).astype("int64")
    table["change"] = [f"{old} → {new}" for old, new in zip(table["before"], table["after"], strict=True)]
    return table[["class_name", "change", "cells", "key"]]


def _numbers(sizes: np.ndarray, part: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers (rising) of `number` random cells of each part; cells are counted through stratum after stratum.

    `sizes` and `part` have the cells and the part of each stratum; parts are numbered from 0.
    """
    drawn = [min(number, int(sizes[part == one].sum())) for one in range(part.max(initial=-1) + 1)]
    if sum(drawn) > MOST:
        raise AudiotkError(f"review: {sum(drawn):,} cells would be drawn; expected at most {MOST:,} for one review")
    starts, chosen = np.cumsum(sizes) - sizes, [np.zeros(0, np.int64)]
    for one, count in enumerate(drawn):
        mine = np.flatnonzero(part == one)
        ends = np.cumsum(sizes[mine])
        found = rng.choice(int(ends[-1]), count, replace=False)  # counted through the strata of this part
        place = np.searchsorted(ends, found, side="right")
        chosen.append(found + (starts[mine] - ends + sizes[mine])[place])
    return np.sort(np.concatenate(chosen))


def _found(audit: Audit, strata: pd.DataFrame, chosen: np.ndarray) -> pd.DataFrame:
    """The changed cells with the numbers `chosen` (rising): they are counted through stratum after stratum."""
    stratum_of = np.full(16 * len(audit.after.classes), -1, dtype=np.int16 if len(strata) < 2**15 else np.int64)
    stratum_of[strata["key"]] = np.arange(len(strata))
    after_last = np.cumsum(strata["cells"].to_numpy())
    done = after_last - strata["cells"].to_numpy()  # number of the next cell of each stratum
    found = []
    for start, block in audit.blocks():
        stratum = stratum_of[16 * block.indices.astype(np.int64) + block.data]
        order = np.argsort(stratum, kind="stable")
        order = order[np.searchsorted(stratum[order], 0) :]
        inside = stratum[order].astype(np.int64)
        sizes = np.bincount(inside, minlength=len(strata))
        number = done[inside] + np.arange(len(inside)) - (np.cumsum(sizes) - sizes)[inside]
        done = done + sizes
        mine = order[np.isin(number, chosen, assume_unique=True)]
        row = start + np.searchsorted(block.indptr, mine, side="right") - 1
        found.append(np.stack([row, block.indices[mine], block.data[mine], stratum[mine]], axis=1))
    row, place, pair, stratum = np.concatenate([np.zeros((0, 4), np.int64), *found]).T
    order = np.lexsort((place, row))
    cells = pd.DataFrame({"segment": audit.after.segments.take(row).array})
    cells["class_name"] = audit.after.classes.take(place).array
    cells["before"], cells["after"] = VALUES[pair // 4], VALUES[pair % 4]
    cells["change"] = strata["change"].take(stratum).array
    cells["stratum"] = stratum
    return cells.iloc[order].reset_index(drop=True)


def wanted(cells: pd.DataFrame) -> np.ndarray:
    """What is true where the change is right: 1 or 0 for each cell."""
    after = cells["after"].to_numpy()
    return np.where(np.isnan(after), 1 - cells["before"].to_numpy(), after)


def scores_of(cells: pd.DataFrame, scores: Scores) -> np.ndarray:
    """Score of each cell, NaN where there is none (a node that the teacher does not know, a segment not scored).

    Raises
    ------
    AudiotkError
        No cell has a score, so these are scores of something else.
    """
    there = scores.segments.get_indexer(pd.Index(cells["segment"])) >= 0
    there &= scores.classes.get_indexer(pd.Index(cells["class_name"])) >= 0
    if len(cells) and not there.any():
        first = cells.iloc[0]
        told = f"as segment {first['segment']!r}, class {first['class_name']!r}"
        raise AudiotkError(
            f"review: none of the {len(cells)} cells has a score ({told}); are these scores of this data?"
        )
    found = np.full(len(cells), np.nan)
    found[there] = scores.at(cells["segment"][there], cells["class_name"][there])
    return found


def placed(cells: pd.DataFrame, recordings: pd.DataFrame | None, segments: pd.DataFrame | None) -> pd.DataFrame:
    """The cells with recording, start_s, end_s, unit, path, title, silent (why there is no sound, "" if there is)."""
    if segments is None:
        place = pd.DataFrame([_span_of(name) for name in cells["segment"]], columns=["recording", "start_s", "end_s"])
    else:
        rows = check_segments(segments).set_index("segment")
        if len(lost := pd.Index(cells["segment"]).difference(rows.index)):
            raise AudiotkError(f"review: segment {lost[0]!r} that was drawn is not in the segments table")
        place = rows.loc[cells["segment"], ["recording", "start_s", "end_s"]].reset_index(drop=True)
    cells = pd.concat([cells.reset_index(drop=True), place], axis=1)
    names = cells["recording"]
    if recordings is None:
        return cells.assign(unit=names, path="", title=names, silent="no recordings were given, so there is no sound")
    about = recordings.set_index("recording")
    cells["unit"] = names.map(about["group"]).fillna(names)
    cells["path"] = names.map(about["path"]).fillna("")
    titles = about["title"] if "title" in about else pd.Series(about.index, index=about.index)
    cells["title"] = names.map(titles.astype("str")).fillna(names)
    silent = np.where(cells["path"] == "", "there are labels of this recording, but no sound", "")
    cells["silent"] = np.where(names.isin(about.index), silent, "this recording is not in the recordings table")
    return cells


def ordered(cells: pd.DataFrame, order: str, rng: np.random.Generator) -> pd.DataFrame:
    """The cells as they are shown; those without a score come last, equal ones in the order of the labels."""
    if order == "random":
        return cells.iloc[rng.permutation(len(cells))].reset_index(drop=True)
    by = [*(["class_name", "change"] if order == "class" else []), "confidence"]
    rising = [*(True for _ in by[:-1]), order == "doubtful"]
    return cells.sort_values(by, ascending=rising, kind="stable", na_position="last").reset_index(drop=True)


def _span_of(segment: str) -> tuple[str, float, float]:
    """Recording, start and end that an id as ``REC@1.200-2.800`` holds."""
    found = re.fullmatch(r"(.+)@(\d+\.\d{3})-(\d+\.\d{3})", segment, flags=re.DOTALL)
    if found is None or not float(found[2]) < float(found[3]):
        raise AudiotkError(f"review: segment id {segment!r} does not tell recording, start and end; give the segments")
    return found[1], float(found[2]), float(found[3])


def wilson(value: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a share of `n` independent cells."""
    z = float(ndtri((1 + level) / 2))
    centre, spread = value + z * z / (2 * n), z * np.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    return max(0.0, float(low)), min(1.0, float(high))


def estimate(cells: pd.DataFrame, sizes: pd.Series | None = None, level: float = LEVEL) -> Interval:
    """Share of right changes with its interval, from the cells that were judged and sure.

    The interval is Wilson's: for the number of cells where each is of another unit (recording or, better, its group)
    and counts the same, else for the *effective* number (Korn & Graubard 1998): the one that would give the variance
    seen between units, with Student's t for few of them. In 300 simulations each of 12 to 60 units with correlated
    cells and 50 to 97 % right, 95 % intervals held the truth in 93 to 97 % (a bootstrap over units: 91 to 96 %, worst
    where nearly all is right). Where all verdicts are equal that variance cannot be seen, and each unit counts as one.

    It speaks about the rule on recordings like these, so it does not close when every changed cell was heard.

    Parameters
    ----------
    cells
        right (1 / 0 / NaN: open or unsure), unit, stratum.
    sizes
        Changed cells of each stratum, where `per_class` cells of each were drawn: a judged cell then stands for as many
        as its stratum has for each judged one. None where each changed cell was equally likely.
    level
        Nominal coverage.

    Returns
    -------
    Interval
        `n` is the number of units; all NaN if nothing was judged.
    """
    sure = cells[cells["right"].notna()]
    right = sure["right"].to_numpy(dtype=float)
    code, names = pd.factorize(sure["unit"])
    units = len(names)
    if not units:
        return Interval(np.nan, np.nan, np.nan, level, 0)
    weight = np.ones(len(sure))
    if sizes is not None:
        weight = (sure["stratum"].map(sizes) / sure["stratum"].map(sure["stratum"].value_counts())).to_numpy(
            dtype=float
        )
    value = float((weight * right).sum() / weight.sum())
    enough = float(len(sure))
    if units < len(sure) or np.ptp(weight) > 0:
        enough = min(enough, _effective(value, weight * (right - value), weight, code, level))
    return Interval(value, *wilson(value, enough, level), level, units)


def _effective(value: float, residual: np.ndarray, weight: np.ndarray, code: np.ndarray, level: float) -> float:
    """Number of independent cells that would tell as much as these, by the variance between units."""
    total = np.bincount(code, weight)
    if not residual.any() or len(total) < 2:
        return float(total.sum() ** 2 / (total**2).sum())
    between = np.square(np.bincount(code, residual)).sum() * len(total) / (len(total) - 1) / total.sum() ** 2
    wider = float(ndtri((1 + level) / 2) / stdtrit(len(total) - 1, (1 + level) / 2))
    return max(1.0, value * (1 - value) / max(between, 1e-12) * wider**2)
