"""Files of class hierarchies -> records as in AudioSet's ``ontology.json``: id, name, child_ids, restrictions."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from audiotk.errors import AudiotkError

SHOWN = 5  # ids in an error
PAIR = {"parent", "child"}


def records_of_json(path: str | Path) -> Any:
    """What the file holds; nested names and a list of parent/child pairs become records."""
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=no_key_twice)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
        raise AudiotkError(f"{path}: cannot be read as an ontology in JSON: {err}") from err
    except AudiotkError as err:
        raise AudiotkError(f"{path}: {err}") from err
    if isinstance(read, Mapping):
        return _records(_nested(read, None, str(path)), None, str(path))
    if isinstance(read, list) and read and all(isinstance(row, Mapping) and set(row) == PAIR for row in read):
        return records_of_pairs(pd.DataFrame(read), None, str(path))
    return read


def records_of_pairs(pairs: pd.DataFrame | str | Path, names: pd.DataFrame | None, where: str) -> list[dict[str, Any]]:
    """Records of a table (or CSV) with columns parent and child, named by a table with columns id and name."""
    table = pairs if isinstance(pairs, pd.DataFrame) else _read_pairs(Path(pairs))
    for told, columns in ((table, PAIR), (names, {"id", "name"})):
        if told is not None and (missing := columns - set(told.columns)):
            raise AudiotkError(f"{where}: columns {sorted(missing)} are missing, got {list(told.columns)}")
    cleaned = table[["parent", "child"]].astype("str").fillna("").apply(lambda column: column.str.strip())
    if (empty := (cleaned["child"] == "").to_numpy()).any():
        row = int(empty.argmax())
        raise AudiotkError(f"{where}: expected a child in each row; pair {row} has none: {tuple(cleaned.iloc[row])}")
    ways = [(parent or None, child) for parent, child in zip(cleaned["parent"], cleaned["child"], strict=True)]
    if names is None:
        return _records(ways, None, where)
    named = names[["id", "name"]].astype("str")
    if len(twice := named["id"][named["id"].duplicated()]):
        raise AudiotkError(f"{where}: expected each id once in the names table; twice: {some(twice)}")
    return _records(ways, dict(zip(named["id"], named["name"], strict=True)), where)


def check_records(records: Any, where: str) -> None:
    """Raise unless `records` is a list of mappings with an id and a name, and lists where lists belong."""
    if not isinstance(records, Sequence) or isinstance(records, str) or not len(records):
        raise AudiotkError(f"{where}: expected a list of nodes, got {_short(records)}")
    for row, record in enumerate(records):
        _check_record(record, f"{where}: node {row}")


def _check_record(record: Any, where: str) -> None:
    if not isinstance(record, Mapping):
        raise AudiotkError(f"{where}: expected a mapping with id and name, got {_short(record)}")
    for key in ("id", "name"):
        if not isinstance(record.get(key), str) or not record[key]:
            raise AudiotkError(f"{where}: expected {key!r} to be text, got {_short(record)}")
    for key in ("child_ids", "restrictions"):
        given = record.get(key) or []
        if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
            raise AudiotkError(f"{where} ({record['id']}): expected {key!r} to be a list of texts, got {_short(given)}")


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Hook of :func:`json.loads` for objects; the standard library keeps the last of two equal keys in silence."""
    if twice := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
        raise AudiotkError(f"expected each key of an object once; twice: {some(twice)}")
    return dict(pairs)


def _nested(tree: Any, parent: str | None, where: str) -> Iterable[tuple[str | None, str]]:
    """Pairs (parent, child) of nested names."""
    if isinstance(tree, list) and all(isinstance(one, str) for one in tree):
        tree = dict.fromkeys(tree)
    if not isinstance(tree, Mapping):
        raise AudiotkError(
            f"{where}: expected below {parent!r} an object of names or a list of names, got {_short(tree)}"
        )
    for name, below in tree.items():
        yield parent, name
        yield from _nested({} if below is None else below, name, where)


def _read_pairs(path: Path) -> pd.DataFrame:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            lines = [(reader.line_num, line) for line in reader if line]
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise AudiotkError(f"{path}: cannot be read as a CSV with columns parent, child: {err}") from err
    head = [name.strip() for name in lines[0][1]] if lines else []
    for number, line in lines:
        if len(line) != len(head):
            raise AudiotkError(
                f"{path} line {number}: expected {len(head)} values as in the first line, got {len(line)}: {line} "
                "(a name that holds a comma has to be in double quotes)"
            )
    return pd.DataFrame([line for _, line in lines[1:]], columns=head, dtype="str")


def _records(
    pairs: Iterable[tuple[str | None, str]], names: Mapping[str, str] | None, where: str
) -> list[dict[str, Any]]:
    """Records of pairs (parent or None, child); nodes in the order of `names` (id -> name) or of appearance."""
    pairs = list(pairs)
    used = list(dict.fromkeys(key for pair in pairs for key in pair if key is not None))
    names = dict(zip(used, used, strict=True)) if names is None else names
    if unknown := [repr(key) for key in used if key not in names]:
        raise AudiotkError(f"{where}: expected ids of the names table; {len(unknown)} unknown: {some(unknown)}")
    below: dict[str, list[str]] = {key: [] for key in names}
    for parent, child in pairs:
        if parent is not None:
            below[parent].append(child)
    return [{"id": key, "name": name, "child_ids": below[key]} for key, name in names.items()]


def some(items: Iterable[Any]) -> str:
    """The first few of `items` and how many more there are."""
    listed = [str(one) for one in items]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 80 else told[:77] + "..."
