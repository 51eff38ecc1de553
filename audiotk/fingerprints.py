"""Short texts that change when the package or the data behind a result change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HASHED = (".py", ".json", ".yaml", ".css", ".js")


def package_hash(package: Path = Path(__file__).parent) -> str:
    """Changes with every edit of the package, code or data, so that older results are not taken for finished.

    What the ledger says was recorded is left out: to record a verdict makes no result old.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in HASHED):
        content = path.read_bytes()
        if path.name == "claims.json":
            content = json.dumps([row | {"recorded": []} for row in json.loads(content)]).encode()
        digest.update(f"{path.relative_to(package)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def data_paths(parameters: Mapping[str, Any], out: Path) -> list[str]:
    """The parameter values (or items of lists) that are paths of files or folders here, none in the run folder."""
    values = [value for name, value in sorted(parameters.items()) if name != "out"]
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    found = [item for item in items if isinstance(item, str) and item and os.path.exists(item)]
    return [path for path in found if not Path(path).resolve().is_relative_to(out.resolve())]


def data_hash(path: str, out: Path) -> str:
    """Changes when a file at or below `path`, outside the run folder, comes, goes, or gets another size or time."""
    files, seen = [] if os.path.isdir(path) else [path], {os.path.realpath(out)}
    for folder, folders, names in os.walk(path, followlinks=True):
        folders.sort()
        if (real := os.path.realpath(folder)) in seen:  # the run folder, or links in a circle
            folders.clear()
            continue
        seen.add(real)
        files += [os.path.join(folder, name) for name in names]
    found = []
    for file in files:
        with contextlib.suppress(OSError):  # a link to nowhere holds no data
            status = os.stat(file)
            found.append((file[len(path) :], status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps(sorted(found)).encode()).hexdigest()
