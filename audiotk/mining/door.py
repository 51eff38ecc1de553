"""The one door to training: no recording that a model will be tested on gets through, under whatever name.

Promoted negatives come from false positives, and false positives are looked for everywhere. A recording of the
validation or test set among them would teach the model its own test. So everything that is promoted, and everything
promoted that is read back for training, passes :class:`Door`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from audiotk import audio
from audiotk.decode import in_threads
from audiotk.tables import AudiotkError, check_recordings

GLIMPSE_S = 0.25  # from the middle of a file: what is compared before two whole files are
MIXED = ";"  # between the names in the column made_from
HELD_OUT = ("val", "test")


class Door:
    """Says which recordings may be trained on; a recording is refused for any of these reasons.

    - It is not in `recordings`, or `split` puts it into val or test.
    - Its group or device is held out: named so, or the group of a recording in val or test, or (of a recording without
      a split) a device that occurs in val or test and never in train.
    - It is mixed from a recording that is refused (column ``made_from``: names with ``;`` between them), or from one
      that is not known here.
    - It holds the same sound, sample for sample as 16 bits, as a held-out recording (in val or test, or of a held-out
      group or device): a copy, whatever its name and whether WAV or FLAC. A cut, resampled or MP3-coded copy is *not*
      recognised; give such copies one group.
    - It cannot be read, so that nothing shows that it is no copy.

    Parameters
    ----------
    recordings
        A recordings table; its columns device and made_from are looked at if they are there.
    split
        Index recording, values train / val / test. Recordings without one are new (from a deployed device, say).
    held_out_groups, held_out_devices
        More that must not be trained on.

    Raises
    ------
    AudiotkError
        `recordings` is not valid, `split` holds other values, a recording twice, or held-out ones that `recordings`
        lacks; devices are held out and no column says them; made_from is no text.
    """

    def __init__(
        self,
        recordings: pd.DataFrame,
        split: pd.Series,
        *,
        held_out_groups: Iterable[str] = (),
        held_out_devices: Iterable[str] = (),
    ) -> None:
        table = check_recordings(recordings).set_index("recording")
        if split.index.has_duplicates:
            raise AudiotkError(f"split: recording {split.index[split.index.duplicated()][0]!r} occurs twice")
        held_out = split[split.isin(HELD_OUT)]
        if len(lost := held_out.index.difference(table.index)):
            raise AudiotkError(
                f"split: {len(lost)} held-out recordings are not in the recordings table, the first is {lost[0]!r}; "
                "give the door all recordings, so that their groups and copies are known"
            )
        if "made_from" in table and any(not isinstance(told, str) for told in table["made_from"].dropna()):
            raise AudiotkError(f"recordings: expected text in made_from, names with {MIXED!r} between them")
        if unknown := set(split.dropna()) - {"train", *HELD_OUT}:
            raise AudiotkError(f"split: expected train, val or test, got {sorted(map(str, unknown))}")
        self.recordings = table.assign(split=split.reindex(table.index))
        self._devices, self._only_held = set(map(str, held_out_devices)), set[str]()
        if self._devices and "device" not in table:
            raise AudiotkError("door: devices are held out, but the recordings table has no column device")
        held = self.recordings["split"].isin(HELD_OUT) | table["group"].isin(list(map(str, held_out_groups)))
        if "device" in table:
            self.recordings["device"] = table["device"].astype("str").where(table["device"].notna(), "")
            held |= self.recordings["device"].isin(self._devices)
        self._held = self.recordings[held]
        in_split = self._held[self._held["split"].isin(HELD_OUT)]
        self._groups = {*map(str, held_out_groups), *in_split["group"]}
        if "device" in table:
            trained = set(self.recordings.loc[self.recordings["split"] == "train", "device"])
            self._only_held = set(in_split["device"]) - trained - {""}
        self._glimpses: dict[tuple[int, int, str], list[str]] | None = None

    def check(self, recordings: Iterable[str]) -> None:
        """Raise AudiotkError if any of the recordings is refused."""
        refused = self.refusals(recordings)
        if len(refused):
            more = f" ({len(refused)} recordings in all)" if len(refused) > 1 else ""
            raise AudiotkError(f"{refused.index[0]}: must not be trained on: {refused.iloc[0]}{more}")

    def refusals(self, recordings: Iterable[str]) -> pd.Series:
        """The reason, in words, for each recording that is refused; index recording. Empty: all may pass."""
        names = list(dict.fromkeys(map(str, recordings)))
        reasons = {name: self._refusal(name, ()) for name in names}
        free = [name for name in names if reasons[name] is None]
        behind = {name: [name, *self._sources(name)] for name in free}
        copies = self._copies(list(dict.fromkeys(part for parts in behind.values() for part in parts)))
        for name, parts in behind.items():
            guilty = next((part for part in parts if part in copies), None)
            if guilty is not None:
                reasons[name] = copies[guilty] if guilty == name else f"it is mixed from {guilty}, and {copies[guilty]}"
        found = {name: reason for name, reason in reasons.items() if reason is not None}
        return pd.Series(found, dtype="str", name="reason").rename_axis("recording")

    def _refusal(self, name: str, seen: tuple[str, ...]) -> str | None:
        """Why a recording is refused by what the tables say of it."""
        if name not in self.recordings.index:
            return "it is not in the recordings table"
        row = self.recordings.loc[name]
        if row["split"] in HELD_OUT:
            return f"it is held out ({row['split']})"
        if row["group"] in self._groups:
            return f"its group {row['group']!r} is held out"
        device = row.get("device")
        if device in self._devices:
            return f"its device {device!r} is held out"
        if pd.isna(row["split"]) and device in self._only_held:
            return f"its device {device!r} is known from held-out recordings only"
        for source in self._mixed_from(name):
            if source in seen or source == name:
                return f"it is said to be mixed from itself ({source})"
            if (reason := self._refusal(source, (*seen, name))) is not None:
                return f"it is mixed from {source}, and {reason}"
        return None

    def _mixed_from(self, name: str) -> list[str]:
        """What the table says a recording is mixed from, not what that is mixed from in turn."""
        told = self.recordings.loc[name].get("made_from")
        return [part.strip() for part in told.split(MIXED) if part.strip()] if isinstance(told, str) else []

    def _sources(self, name: str) -> list[str]:
        """All that a recording is mixed from, directly or not; `_refusal` has made sure that there is an end."""
        return [each for source in self._mixed_from(name) for each in (source, *self._sources(source))]

    def _copies(self, names: list[str]) -> dict[str, str]:
        """Recordings that hold the sound of a held-out one, or that cannot be read, with the reason."""
        if self._glimpses is None:
            glimpses: dict[tuple[int, int, str], list[str]] = {}  # kept when it is whole: threads may ask at once
            held = list(self._held.index)
            for name, key in zip(held, self._look(held), strict=True):
                if not isinstance(key, str):  # a held-out file that cannot be read has no copies that can
                    glimpses.setdefault(key, []).append(name)
            self._glimpses = glimpses
        found: dict[str, str] = {}
        for name, key in zip(names, self._look(names), strict=True):
            if isinstance(key, str):
                found[name] = f"it cannot be compared with the held-out recordings: {key}"
                continue
            for other in self._glimpses.get(key, ()):
                if self._whole(name) == self._whole(other):
                    found[name] = f"it holds the same sound as {other}, which is held out"
                    break
        return found

    def _look(self, names: list[str]) -> list[tuple[int, int, str] | str]:
        """Sample rate, frames and a hash of a moment of each recording, or what is wrong with it."""

        def look(path: str) -> tuple[int, int, str] | str:
            try:
                about = audio.info(path)
                start_s = max(0.0, about.duration_s / 2 - GLIMPSE_S)
                wave, sr = audio.load(path, start_s=start_s, end_s=min(about.duration_s, start_s + GLIMPSE_S))
            except AudiotkError as err:
                return str(err)
            return sr, round(about.duration_s * sr), _hash(wave)

        return list(in_threads(look, [str(self.recordings.loc[name, "path"]) for name in names], None, False, "look"))

    def _whole(self, name: str) -> str:
        wave, _ = audio.load(Path(str(self.recordings.loc[name, "path"])))
        return _hash(wave)


def _hash(wave: np.ndarray) -> str:
    """SHA-256 of a wave as 16 bits."""
    return hashlib.sha256(np.round(np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()).hexdigest()
