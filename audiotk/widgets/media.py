"""What a browser is shown and played of one recording: peaks, log-mel tiles and chunks of samples, each on request.

Nothing depends on what was asked before: tile k of a zoom is always the same picture. Long files are read once in a
background thread; what can be answered before it ends, is. Formats without exact seeking (Ogg, MP3, ...) are decoded to
16-bit samples: in memory when short, else into ``pcm/`` of the cache folder.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from math import ceil, gcd
from pathlib import Path

import numpy as np
import scipy.fft

from audiotk import audio
from audiotk.decode import CONTEXT, open_sound, read_frames
from audiotk.files import atomic
from audiotk.tables import AudiotkError
from audiotk.widgets.decoded import cache_file, make_room, write_all
from audiotk.widgets.mel import END_S, FLOOR_DB, HOP_S, MELS, TILE, TOP_DB, analysis, tile_frames
from audiotk.widgets.mel import mel_hz as mel_hz

BLOCK = 256  # samples behind one stored pair of peaks
STEP = 1 << 20  # samples read at a time; a multiple of BLOCK
WINDOWS = 32  # windows that are looked at in one frame, at most
CHUNK = 900_000  # samples in one message: 1.8 MB
MOST_PEAKS = 4000
SLOWEST, FASTEST = 8000, 48_000  # sample rates that every browser plays
IN_MEMORY_S = 120.0  # decoded sound up to this length stays in memory
WAIT_S = 0.5  # a thread that answers a browser waits so long for sound that is not decoded yet
SEEKABLE = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC")


@dataclass(frozen=True)
class Peaks:
    """Lowest and highest sample of each part of a range; `pairs` is int16 (n, 2); nothing is known behind `until_s`."""

    start_s: float
    end_s: float
    until_s: float
    pairs: np.ndarray


class NotYet(AudiotkError):
    """Sound was asked for that is not decoded yet; `media.when_read(frames, ...)` tells when it is."""

    def __init__(self, media: Media, frames: int) -> None:
        at = f"{frames / media.sr:.1f} s of {media.path.name}"
        super().__init__(f"the sound up to {at} is still being decoded; try again in a moment")
        self.media, self.frames = media, frames


class _Closed(Exception):
    """Ends the scan of a recording that nobody looks at any more."""


class Media:
    """One recording, opened to be looked at and listened to. All methods may be called from any thread.

    Parameters
    ----------
    path
        A sound file.
    on_scanned
        Called (in the scanning thread) when the whole file has been read.
    patience_s
        How long to wait for sound that is not decoded yet, before :class:`NotYet`; None: until it is.

    Raises
    ------
    AudiotkError
        The file cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        on_scanned: Callable[[Media], None] | None = None,
        patience_s: float | None = None,
    ) -> None:
        self.path, self._patience_s = Path(path), patience_s
        self.signature = signature(self.path)
        facts = audio.info(self.path)
        self.sr, self.frames, self.duration_s = facts.sr, facts.frames, facts.duration_s
        self.play_sr = min(max(self.sr, SLOWEST), FASTEST)
        self._seekable = facts.format.split("/")[0] in SEEKABLE
        self._pairs = np.zeros((ceil(self.frames / BLOCK), 2), np.int16)
        self._memory = np.zeros(0 if self._seekable else self.frames, np.int16) if self._is_short() else None
        self._decoded: FileIO | None = None  # read by position, so any thread may
        self._done, self._fault = 0, None if self.frames else AudiotkError(f"{path}: holds no samples")
        self._moved = threading.Condition()
        self._tiles: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._on_scanned, self._closed = on_scanned, False
        self._later: list[tuple[int, Callable[[], None]]] = []  # (frames that have to be read, what to do then)
        threading.Thread(target=self._scan, name="audiotk-scan", daemon=True).start()

    def _is_short(self) -> bool:
        return self._seekable or self.duration_s <= IN_MEMORY_S

    # --- reading ------------------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        """Read the whole file once: keep its peaks and, where the format cannot seek, its samples."""
        try:
            if self._memory is not None:
                self._scan_into(None)
            elif (kept := cache_file(self.path, self.signature)).is_file() and kept.stat().st_size == 2 * self.frames:
                self._decoded = FileIO(kept)
                self._scan_into(None)
            else:
                make_room(kept.parent, 2 * self.frames)
                with atomic(kept) as draft, FileIO(draft, "w") as file:
                    self._decoded = FileIO(draft)
                    self._scan_into(file)
        except _Closed:
            return
        except (AudiotkError, OSError) as err:
            with self._moved:
                advice = "free space there, or name another folder in AUDIOTK_CACHE"
                text = f"{self.path}: its decoded sound cannot be kept: {err}; {advice}"
                self._fault = err if isinstance(err, AudiotkError) else AudiotkError(text)
                self._moved.notify_all()
        self._call_later()
        if self._on_scanned is not None:
            self._on_scanned(self)

    def _scan_into(self, out: FileIO | None) -> None:
        """Go through the file from the start; `out` is where decoded samples are written."""
        stored = self._decoded is not None and out is None
        with open_sound(self.path) as handle:
            for first in range(0, self.frames, STEP):
                if self._closed:
                    raise _Closed
                last = min(first + STEP, self.frames)
                pcm = self._stored(first, last) if stored else to_int16(read_frames(handle, self.path, first, last))
                if out is not None:
                    write_all(out, pcm.tobytes())
                elif self._memory is not None and len(self._memory):
                    self._memory[first:last] = pcm
                pairs = peaks_of(pcm, np.arange(0, len(pcm), BLOCK))
                with self._moved:
                    self._pairs[first // BLOCK : first // BLOCK + len(pairs)] = pairs
                    self._done = last
                    self._moved.notify_all()
                self._call_later()

    def wait(self, frames: int | None = None, timeout_s: float | None = None) -> bool:
        """Wait until so many frames (default: all) were read; False if that takes longer, or fails."""
        wanted = self.frames if frames is None else min(frames, self.frames)
        with self._moved:
            self._moved.wait_for(lambda: self._is_settled(wanted), timeout_s)
            return self._done >= wanted

    def when_read(self, frames: int, call: Callable[[], None]) -> None:
        """Have `call` called, in some thread, once so many frames were read, or never will be: a fault, or closed."""
        with self._moved:
            self._later.append((min(frames, self.frames), call))
        self._call_later()

    def close(self) -> None:
        """End the scan: nobody looks at this recording any more. What was read can still be asked for."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()
        self._call_later()

    def _is_settled(self, frames: int) -> bool:
        return self._done >= frames or self._fault is not None or self._closed

    def _call_later(self) -> None:
        with self._moved:
            due = [call for frames, call in self._later if self._is_settled(frames)]
            self._later = [entry for entry in self._later if not self._is_settled(entry[0])]
        for call in due:
            call()

    def _need(self, last: int) -> None:
        """Wait until the samples before `last` can be read, as long as `patience_s` says."""
        last = min(last, self.frames)
        if not self._seekable and not self.wait(last, self._patience_s):
            raise self._fault or NotYet(self, last)

    def read(self, first: int, last: int) -> np.ndarray:
        """Samples `first` to `last`, float32 (last - first,); zeros outside of the recording."""
        inside_first, inside_last = max(first, 0), min(last, self.frames)
        wave = np.zeros(max(last - first, 0), np.float32)
        if inside_first < inside_last:
            wave[inside_first - first : inside_last - first] = self._read_inside(inside_first, inside_last)
        return wave

    def _read_inside(self, first: int, last: int) -> np.ndarray:
        if self._seekable:
            with open_sound(self.path) as handle:
                return read_frames(handle, self.path, first, last)
        self._need(last)
        pcm = self._memory[first:last] if self._memory is not None else self._stored(first, last)
        return pcm * np.float32(2**-15)

    def _stored(self, first: int, last: int) -> np.ndarray:
        assert self._decoded is not None
        return np.frombuffer(os.pread(self._decoded.fileno(), 2 * (last - first), 2 * first), np.int16)

    # --- answers ------------------------------------------------------------------------------------------------------

    def problem(self) -> str | None:
        """What is wrong with the sound as far as it was read: a fault, or silence."""
        with self._moved:
            if self._fault is not None:
                return str(self._fault)
            if self._done >= self.frames and self._pairs[:, 0].min() == self._pairs[:, 1].max():
                level = "is silent: every sample is 0" if not self._pairs.any() else "is constant: there is no sound"
                return f"{self.path.name}: {level}"
        return None

    def peaks(self, start_s: float, end_s: float, n: int, timeout_s: float = 0.5) -> Peaks:
        """Lowest and highest sample of `n` equal parts of a range, clipped to the recording.

        Parts of less than two stored blocks are exact; a peak in longer ones may stand one block (256 samples) early.
        """
        first, last = self._range(start_s, end_s)
        n = max(1, min(int(n), MOST_PEAKS))
        edges = first + (last - first) * np.arange(n) / n
        if (last - first) / n < 2 * BLOCK:
            pcm = to_int16(self.read(first, last))
            starts = np.minimum(np.floor(edges).astype(int) - first, len(pcm) - 1)
            return Peaks(first / self.sr, last / self.sr, last / self.sr, _spread(pcm, starts))
        self.wait(last, timeout_s)
        with self._moved:
            until = min(self._done, last)
            if until < last and self._fault is not None and until <= first:
                raise self._fault
            blocks = self._pairs[: ceil(last / BLOCK)].copy()
        starts = (edges / BLOCK).astype(int)
        low = np.minimum.reduceat(blocks[:, 0], starts)
        high = np.maximum.reduceat(blocks[:, 1], starts)
        return Peaks(first / self.sr, last / self.sr, until / self.sr, np.stack([low, high], axis=1))

    def tile(self, zoom: int, index: int) -> np.ndarray:
        """Tile `index` of a zoom: uint8 (96, frames), row 0 the highest band; see :func:`tile_frames`."""
        frames = tile_frames(self.duration_s, zoom, index)
        key = (zoom, index)
        with self._moved:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        hop = HOP_S * 4**zoom * self.sr
        self._need(ceil((index * TILE + frames) * hop) + len(analysis(self.sr)[0]))  # before half of it is drawn
        picture = self._draw(zoom, index * TILE, frames)
        with self._moved:
            self._tiles[key] = picture
            while len(self._tiles) > 256:
                self._tiles.popitem(last=False)
        return picture

    def _draw(self, zoom: int, first: int, frames: int) -> np.ndarray:
        """Frames `first` to `first + frames` of a zoom."""
        window, filters = analysis(self.sr)
        size, hop = len(window), HOP_S * 4**zoom * self.sr
        each = min(max(1, ceil(hop / size)), WINDOWS) if zoom else 1
        part = max(1, min(frames, int(STEP // hop), 4096 // each))  # frames at a time, to bound memory
        columns = []
        for begin in range(first, first + frames, part):
            count = min(part, first + frames - begin)
            centres = np.round((begin + (np.arange(count * each) + 0.5) / each) * hop).astype(np.int64)
            wave = self.read(int(centres[0]) - size // 2, int(centres[-1]) + size // 2)
            views = np.lib.stride_tricks.sliding_window_view(wave, size)[centres - centres[0]]
            spectrum = scipy.fft.rfft(views * window)  # (count * each, bins)
            power = (spectrum.real**2 + spectrum.imag**2) @ filters  # (count * each, MELS)
            columns.append(power.reshape(count, each, MELS).max(axis=1))
        level = 10 * np.log10(np.maximum(np.concatenate(columns), 1e-12))
        shade = np.clip((level - FLOOR_DB) * (255 / (TOP_DB - FLOOR_DB)), 0, 255)
        return np.ascontiguousarray(np.rint(shade).astype(np.uint8).T[::-1])

    def chunk(self, start_s: float, end_s: float) -> tuple[np.ndarray, float, float]:
        """Samples of a range at `play_sr`, int16 (n,), at most 900,000, with the start and end they really have."""
        first, last = self._range(start_s, end_s)
        if self.play_sr == self.sr:
            last = min(last, first + CHUNK)
            return to_int16(self.read(first, last)), first / self.sr, last / self.sr
        sr, common = self.play_sr, gcd(self.play_sr, self.sr)
        up, down = sr // common, self.sr // common
        first, last = first * sr // self.sr, min(ceil(last * sr / self.sr), first * sr // self.sr + CHUNK)
        context = CONTEXT * ceil(down / up)
        begin = (first * down // up - context) // down * down  # falls on a sample at `sr`, too
        wave = audio.resample(self.read(begin, last * down // up + context + 1), self.sr, sr)
        skip = first - begin // down * up
        return to_int16(wave[skip : skip + last - first]), first / sr, last / sr

    def _range(self, start_s: float, end_s: float) -> tuple[int, int]:
        """A range in frames, clipped to the recording."""
        if not (np.isfinite(start_s) and np.isfinite(end_s)):
            raise AudiotkError(f"{self.path.name}: expected a range in seconds, got {start_s!r} to {end_s!r}")
        first, last = max(0, round(start_s * self.sr)), min(self.frames, round(end_s * self.sr))
        if start_s < end_s and self.frames <= first <= self.frames + END_S * self.sr:
            return self.frames - 1, self.frames
        if first >= last:
            inside = f"expected a range inside of 0 to {self.duration_s:.3f} s"
            raise AudiotkError(f"{self.path.name}: {inside}, got {start_s} to {end_s}")
        return first, last

    def snap(self, at_s: float, edge: str, reach_s: float = 0.5) -> float | None:
        """Where the level next crosses the middle between its lowest and highest around `at_s`; None if nowhere near.

        The level is the RMS of 20 ms every 5 ms, in dB; "lowest" and "highest" are its 10th and 95th percentile within
        1 s. An `edge` "start" looks for a rise, "end" for a fall.
        """
        hop, half = max(1, round(0.005 * self.sr)), max(1, round(0.01 * self.sr))
        first, last = self._range(max(at_s - 1.0, 0.0), at_s + 1.0)
        count = max(1, (last - first) // hop)
        squares = np.cumsum(np.square(self.read(first - half, first + count * hop + half), dtype=np.float64))
        starts = np.arange(count) * hop
        power = np.maximum(squares[starts + 2 * half] - squares[starts], 0) / (2 * half)
        level = 10 * np.log10(power + 1e-9)
        low, high = np.percentile(level, [10, 95])
        if high - low < 6.0:
            return None
        above = level >= (low + high) / 2
        turns = np.flatnonzero(above[1:] & ~above[:-1] if edge == "start" else above[:-1] & ~above[1:])
        rest = (low + high) / 2 - level[turns]
        times = (first + (turns + rest / (level[turns + 1] - level[turns])) * hop) / self.sr
        near = times[np.abs(times - at_s) <= reach_s]
        return float(near[np.argmin(np.abs(near - at_s))]) if len(near) else None


class Shelf:
    """The recordings that were opened last, for threads that answer a browser.

    A file that changes while it is open is not mixed with what it was; the scan of what is put away ends.
    """

    def __init__(self, size: int = 6, on_scanned: Callable[[Media], None] | None = None) -> None:
        self._size, self._on_scanned = size, on_scanned
        self._open: OrderedDict[str, Media] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str | Path, again: bool = False) -> Media:
        """The opened recording; `again` opens it anew if it changed on the disk, which else is an error."""
        key = str(path)
        with self._lock:
            media = self._open.get(key)
            if media is not None and media.signature != signature(Path(path)):
                if not again:
                    raise AudiotkError(f"{path}: the file changed on the disk while it was open; open it again")
                self._open.pop(key).close()
                media = None
            if media is None or (again and media.problem() is not None):
                opened = Media(path, self._on_scanned, WAIT_S)
                if media is not None:
                    media.close()
                media = self._open[key] = opened
            self._open.move_to_end(key)
            while len(self._open) > self._size:
                self._open.popitem(last=False)[1].close()
            return media

    def close(self) -> None:
        """Put all away."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()


def signature(path: Path) -> tuple[int, int]:
    """Size and time of change of a file."""
    try:
        facts = path.stat()
    except OSError as err:
        raise AudiotkError(f"{path}: cannot be read: {err.strerror}") from err
    return facts.st_size, facts.st_mtime_ns


def to_int16(wave: np.ndarray) -> np.ndarray:
    """float32 with full scale 1.0 as int16; exact for what was 16-bit before."""
    return np.clip(np.rint(wave * np.float32(32768)), -32768, 32767).astype(np.int16)


def peaks_of(pcm: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Lowest and highest sample from each of the rising `starts` to the next, (len(starts), 2)."""
    return np.stack([np.minimum.reduceat(pcm, starts), np.maximum.reduceat(pcm, starts)], axis=1)


def _spread(pcm: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """:func:`peaks_of` for starts that may be equal (more parts than samples): their values are repeated."""
    unique, place = np.unique(starts, return_inverse=True)
    return peaks_of(pcm, unique)[place]
