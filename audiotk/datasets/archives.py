"""Archives of the data sets that may be downloaded: fetched with checksums, unpacked without leaving their folder."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zipfile
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiotk.datasets.found import inside
from audiotk.tables import AudiotkError


def fetch(urls: Mapping[str, str | None], into: Path, hint: str) -> list[Path]:
    """Download files (URL -> ``md5:...`` or None) with progress bars; complete ones are kept and not fetched again.

    Raises
    ------
    AudiotkError
        No network, or a checksum that does not fit; the text says what to put where by hand.
    """
    import pooch

    into.mkdir(parents=True, exist_ok=True)
    paths = []
    for url, known in urls.items():
        name = url.split("?")[0].rsplit("/", 1)[-1]
        try:
            got = pooch.retrieve(url, known, fname=name, path=into, progressbar=True)
        except (OSError, ValueError) as err:  # requests' errors are OSErrors, pooch's wrong checksum a ValueError
            raise AudiotkError(f"{url}: download failed ({err}). {hint}") from err
        paths.append(Path(got))
    return paths


def unpack(archive: Path, into: Path, strip: str = "") -> None:
    """Extract a ZIP archive; the parts of a split one (``.z01``, ``.z02``, ... before the ``.zip``) lie beside it.

    Checked: each member's CRC-32, and that no name leads out of `into`. `strip` is removed from the front of names.

    Raises
    ------
    AudiotkError
        The archive is broken, a part is missing, or a name leads out of `into`.
    """
    volumes = _Volumes(archive)
    try:
        with io.BufferedReader(volumes, 1 << 20) as stream, zipfile.ZipFile(stream) as pack:
            for member in pack.infolist():
                name = member.filename.removeprefix(strip)
                if not name or member.is_dir():
                    continue
                target = Path(inside(into, name, f"{archive}: member {member.filename!r}"))
                target.parent.mkdir(parents=True, exist_ok=True)
                volumes.correct(member)
                with pack.open(member) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except (zipfile.BadZipFile, OSError, EOFError) as err:
        by_hand = f"zip -s 0 {archive.name} --out whole.zip && unzip whole.zip"
        raise AudiotkError(f"{archive}: cannot be extracted ({err}); by hand: {by_hand}") from err


class _Volumes(io.RawIOBase):
    """The parts of a split ZIP archive, read as one file."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        parts = sorted(archive.parent.glob(archive.stem + ".z[0-9][0-9]"))
        self._files = [open(path, "rb") for path in [*parts, archive]]  # noqa: SIM115 (closed in close)
        sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self._starts = [sum(sizes[:n]) for n in range(len(sizes))]
        self._size, self._at = sum(sizes), 0
        file = self._files[-1]
        file.seek(max(0, sizes[-1] - 65_557))  # the end record is 22 bytes and a comment of up to 65,535
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        last, self._directory = struct.unpack_from("<HH", tail, end + 4) if 0 <= end <= len(tail) - 22 else (-2, 0)
        if last + 1 != len(self._files):
            self.close()
            wrong = f"{len(sizes)} of {last + 1} parts are there" if last >= 0 else "is not a ZIP archive"
            raise AudiotkError(f"{archive}: {wrong}")

    def correct(self, member: zipfile.ZipInfo) -> None:
        """Make the position of `member`, counted from the start of its part, one of the whole (zipfile does not)."""
        if len(self._files) > 1:
            member.header_offset += self._starts[member.volume] - self._starts[self._directory]
            if hasattr(zipfile.ZipInfo, "_end_offset"):  # newer Pythons derived it from the positions that were wrong
                setattr(member, "_end_offset", None)  # noqa: B010 (mypy does not know it)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        self._at = position + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        part = bisect_right(self._starts, self._at) - 1
        self._files[part].seek(self._at - self._starts[part])
        count = self._files[part].readinto(buffer)
        self._at += count
        return count

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
