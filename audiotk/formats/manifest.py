"""The folder of an export: names that every file system takes, settings, the manifest. See `formats.cutting`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from audiotk.files import atomic
from audiotk.tables import AudiotkError

NEGATIVE = "negative"  # folder of what was heard and holds nothing
MANIFEST = ("file", "recording", "path", "start_s", "end_s", "class_name", "labeler", "kind", "sha256", "source_stamp")
SETTINGS, TABLE = "export.json", "manifest.csv"
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names that Windows keeps for itself
Row = dict[str, Any]


def safe_name(text: str, limit: int = 80) -> str:
    """`text` as a name that every file system takes: no separators, no dots at its ends, at most `limit` bytes.

    Different texts may give the same name.
    """
    name = re.sub(r"[^\w .,+()&'-]", "_", unicodedata.normalize("NFC", text))
    name = name.encode()[:limit].decode(errors="ignore").strip(" .")
    return f"_{name}" if not name or RESERVED.fullmatch(name) else name


def class_folders(classes: Iterable[str], known: dict[str, str] | None = None) -> dict[str, str]:
    """A folder for each class, no two the same even where case and Unicode form do not count.

    `known` keeps those that were given before; what would collide gets a checksum behind.
    """
    folders = dict(known or {})
    taken = {folded(name) for name in [*folders.values(), NEGATIVE, SETTINGS, TABLE]}
    for name in sorted(set(classes) - set(folders)):
        folder, tries = safe_name(name), 0
        while folded(folder) in taken:
            mark = hashlib.sha256(f"{name}#{tries}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
            folder, tries = f"{safe_name(name)}-{mark}", tries + 1
        folders[name] = folder
        taken.add(folded(folder))
    return folders


def folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def file_name(row: Mapping[Any, Any], folders: dict[str, str], format: str) -> str:
    """Path in the export folder, a function of what the file is about alone."""
    positive = row["kind"] == "positive"
    about = [row["recording"], row["labeler"], row["class_name"] if positive else "", row["kind"]]
    mark = hashlib.sha256(json.dumps([*about, row["start_s"], row["end_s"]]).encode()).hexdigest()[:10]
    folder = folders[row["class_name"]] if positive else NEGATIVE
    return f"{folder}/{safe_name(row['recording'])}_{row['start_s']:.3f}-{row['end_s']:.3f}_{mark}.{format}"


def prepare(out: Path, settings: Row, classes: Iterable[str]) -> dict[str, str]:
    """The folder of each class, after ``export.json`` holds it; refuses an export with other settings."""
    path = out / SETTINGS
    held: Row = {"settings": settings, "folders": {}}
    if path.exists():
        try:
            held = json.loads(path.read_text("utf-8"))
            before, given = dict(held["settings"]), dict(held["folders"])
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise AudiotkError(f"{path}: is not the settings of an export ({err}); use a new folder") from err
        if before != settings:
            differ = {key: (before.get(key), settings[key]) for key in settings if before.get(key) != settings[key]}
            raise AudiotkError(f"{out}: holds an export with other settings (then, now): {differ}; use a new folder")
        if any(not isinstance(name, str) or safe_name(name, 200) != name for name in given.values()):
            raise AudiotkError(f"{path}: names folders that audiotk does not make; use a new folder")
    elif (out / TABLE).exists():
        raise AudiotkError(f"{out}: has a {TABLE} but no {SETTINGS}, so it is no export; use a new folder")
    folders = class_folders(classes, held["folders"])
    if folders != held["folders"] or not path.exists():
        with atomic(path) as draft:
            content = {"settings": settings, "folders": folders}
            draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return folders


def read_manifest(path: Path) -> list[Row]:
    """The rows of ``manifest.csv``; none if it is not there."""
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows: list[Row] = list(reader)
        if tuple(reader.fieldnames or ()) != MANIFEST or any(None in row or None in row.values() for row in rows):
            raise csv.Error(f"expected the columns {', '.join(MANIFEST)} and as many cells a row")
        return [row | {name: float(row[name]) for name in ("start_s", "end_s")} for row in rows]
    except (OSError, ValueError, csv.Error) as err:
        raise AudiotkError(f"{path}: cannot be read ({err}); move it away, and the files are looked at anew") from err


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write ``manifest.csv``, wholly or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, MANIFEST)
    writer.writeheader()
    writer.writerows({**row, "start_s": repr(row["start_s"]), "end_s": repr(row["end_s"])} for row in in_order(rows))
    with atomic(path) as draft:
        draft.write_bytes(text.getvalue().encode("utf-8"))


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by recording, time and class."""
    keys = ("recording", "start_s", "end_s", "kind", "class_name", "labeler")
    return sorted(({name: row[name] for name in MANIFEST} for row in rows), key=lambda row: [row[key] for key in keys])
