"""Recorded promotions in place of a listener: checked before anything is trained, taken over whole, and said so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from audiotk import mining
from audiotk.store import open_store, operations_of
from audiotk.store.history import active
from audiotk.store.operations import Operation
from audiotk.tables import AudiotkError

LISTENER = "simulated"  # the labeler of promotions that no person made
MADE = re.compile(r"(?:embedded|real-ghosts)-[0-9a-f]{12}(?=[/\\])")  # a folder of made sound, named by its settings
SAME_S = 0.01  # lengths of one recording may differ by so much, as those of its copies do


def check(recorded: str | Path, door: mining.Door) -> None:
    """See whether promotions that were `recorded` elsewhere ("": none) can be trained on here.

    Raises
    ------
    AudiotkError
        There is no such store, it holds no promotion that counts, one of a recording that the door refuses, or one of
        a recording whose name is known here but stands for other sound (see :func:`_differences`).
    """
    if not recorded:
        return
    otherwise = 'name a store in which clusters were promoted, or leave it empty ("") for a simulated listener'
    if "://" not in str(recorded) and not Path(recorded).is_file():
        raise AudiotkError(f"promotions: there is no file {recorded}; {otherwise}")
    operations = operations_of(recorded)
    told = _promotions(operations)
    if not told:
        raise AudiotkError(
            f"promotions: {recorded} holds no promotion that counts (none made, or all taken back); {otherwise}"
        )
    try:
        door.check(operation.recording for operation in told)
    except AudiotkError as err:
        raise AudiotkError(f"promotions: {recorded} does not fit these data: {err}") from err
    if other := _differences(operations, door.recordings):
        name, what = next(iter(other.items()))
        raise AudiotkError(
            f"promotions: {recorded} does not fit these data: {len(other)} promoted recordings have the name of one "
            f"here and other sound; {name}: {what}. Run with the data, scale and version of audiotk with which they "
            'were promoted, or leave promotions empty ("") for a simulated listener'
        )


def replay(recorded: str | Path, store: Path) -> pd.DataFrame:
    """Take what was `recorded` elsewhere over into `store`: promotions with their evidence, verdicts, and undos.

    Returns
    -------
    pandas.DataFrame
        The promotions in `store`, as :func:`audiotk.mining.promotions`: those that were recorded, and no other.

    Raises
    ------
    AudiotkError
        `store` holds promotions that the recorded one does not; nothing is written.
    """
    theirs = operations_of(recorded)
    ours = operations_of(store) if store.exists() else []
    names = {operation.payload["promotion"] for operation in _promotions(theirs)}
    others = {operation.payload["promotion"] for operation in _promotions([*ours, *theirs])} - names
    if others:
        raise AudiotkError(
            f"promotions: {store} already holds {len(others)} that {recorded} does not; choose another folder (out), "
            'or leave promotions empty ("") to train with what it holds'
        )
    with open_store(store) as opened:
        opened.merge(theirs)
        return mining.promotions(opened)


def who(told: Mapping[int, pd.DataFrame], recorded: str | Path = "") -> str:
    """Who promoted, in words: a line for each seed of `told` (seed -> promotions)."""
    where = f", recorded in {recorded}" if recorded else ""
    lines = []
    for seed, table in told.items():
        names = sorted(set(table["labeler"]), key=lambda name: (name == LISTENER, name))
        by = " and ".join("a simulated listener, who knows the truth" if name == LISTENER else name for name in names)
        lines.append(f"seed {seed}: {len(table)} promotion{'s' * (len(table) != 1)}{f' by {by}' if by else ''}{where}")
    return "\n".join(lines)


def _promotions(operations: Sequence[Operation]) -> list[Operation]:
    """The promoted members that count."""
    return [operation for operation in active(operations) if operation.kind == "promotion"]


def _differences(operations: Sequence[Operation], recordings: pd.DataFrame) -> dict[str, str]:
    """Promoted recording -> how what was registered when it was promoted differs from the row of that name here.

    Compared are length, group, and the name of the folder of made sound. The folders above it, and those of sound
    that was recorded, are others on another machine.
    """
    counting = {operation.uuid for operation in _promotions(operations)}
    known: dict[str, Mapping[str, Any]] = {}
    found: dict[str, str] = {}
    for operation in operations:
        name = operation.recording
        if operation.kind == "recording":
            known[name] = operation.payload
        if operation.uuid not in counting or name in found:
            continue
        if name not in known:
            found[name] = "it is not registered in the store, so nothing says what sound it was"
            continue
        was, now = known[name], recordings.loc[name]
        made = [", ".join(MADE.findall(str(row["path"]))) or "recorded sound" for row in (was, now)]
        pairs = {"made as": made, "group": [was["group"], now["group"]]}
        if abs(was["duration_s"] - now["duration_s"]) > SAME_S:
            pairs["length in s"] = [was["duration_s"], now["duration_s"]]
        if told := [f"{what} {a} there, {b} here" for what, (a, b) in pairs.items() if a != b]:
            found[name] = "; ".join(told)
    return found
