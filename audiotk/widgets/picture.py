"""The still picture of a labeler, for notebooks that nobody watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiotk.widgets.base import COLOURS
from audiotk.widgets.media import HOP_S, MELS, TILE, Media, mel_hz

INK, FAINT = "#1f2933", "#9aa5b1"
FRAMES = 2000  # of spectrogram, at most


def still(
    media: Media | None, segments: Sequence[Mapping[str, Any]], classes: Sequence[str], title: str, said: str
) -> Figure:
    """Waveform, log-mel spectrogram and one bar a segment; without `media` only the words.

    Parameters
    ----------
    media
        The opened recording, or None if it cannot be read.
    segments
        Rows with start_s, end_s, class_name.
    classes
        Names of the classes, which give the colours.
    title, said
        What stands above, left and right.
    """
    from audiotk.figures import STYLE  # brings librosa, which a kernel need not wait for

    with mpl.rc_context(STYLE):
        return _drawn(media, segments, classes, title, said)


def _drawn(
    media: Media | None, segments: Sequence[Mapping[str, Any]], classes: Sequence[str], title: str, said: str
) -> Figure:
    lanes = list(dict.fromkeys(row["class_name"] for row in segments))
    if media is None:
        figure = Figure(figsize=(9, 0.8), layout="constrained")
        axes = figure.subplots()
        axes.axis("off")
        axes.text(0, 0.8, title, weight="bold", parse_math=False, va="top")
        axes.text(0, 0.2, said, color=INK, parse_math=False, wrap=True, va="top")
        return figure
    height = max(0.3, 0.24 * len(lanes))
    figure = Figure(figsize=(9, 2.6 + height), layout="constrained")
    wave, spectrum, bars = figure.subplots(3, sharex=True, height_ratios=[0.7, 1.6, height])
    waveform(wave, media)
    mel(spectrum, media)
    for row in segments:
        _segment((wave, spectrum, bars), row, lanes, classes)
    bars.set_yticks(range(len(lanes)), lanes, fontsize=8, parse_math=False)
    bars.set_ylim(-0.6, max(len(lanes), 1) - 0.4)
    bars.set_xlim(0, media.duration_s)
    bars.set_xlabel("seconds")
    wave.set_title(title, parse_math=False)
    wave.set_title(said, loc="right", fontsize=8, weight="normal", parse_math=False)
    return figure


def waveform(axes: Axes, media: Media) -> None:
    """Draw the whole recording as a waveform, 1 at full scale."""
    found = media.peaks(0, media.duration_s, 1500, timeout_s=60.0)
    times = np.linspace(0, media.duration_s, len(found.pairs))
    low, high = found.pairs.T / 32768
    axes.fill_between(times, low, high, color=FAINT, linewidth=0.4, edgecolor=FAINT)
    axes.set_yticks([])


def mel(axes: Axes, media: Media) -> None:
    """Draw the log-mel spectrogram of the whole recording, at most `FRAMES` frames."""
    zoom = next(z for z in range(10) if media.duration_s / (HOP_S * 4**z) <= FRAMES or z == 9)
    count = max(1, int(np.ceil(round(media.duration_s / (HOP_S * 4**zoom * TILE), 6))))
    picture = np.concatenate([media.tile(zoom, index) for index in range(count)], axis=1)  # (MELS, frames)
    extent = (0, picture.shape[1] * HOP_S * 4**zoom, 0, MELS)
    axes.imshow(picture, aspect="auto", cmap="magma", extent=extent, vmin=0, vmax=255)
    ticks = [hz for hz in (250, 1000, 4000, 16000) if hz < media.sr / 2]
    axes.set_yticks(np.interp(ticks, mel_hz(media.sr), np.arange(MELS) + 0.5), [f"{hz / 1000:g}" for hz in ticks])
    axes.set_ylabel("kHz")


def _segment(panels: Sequence[Axes], row: Mapping[str, Any], lanes: Sequence[str], classes: Sequence[str]) -> None:
    name, start, end = row["class_name"], row["start_s"], row["end_s"]
    colour = COLOURS[list(classes).index(name) % len(COLOURS)] if name in classes else FAINT
    for axes in panels[:2]:
        axes.axvspan(start, end, color=colour, alpha=0.18, linewidth=0)
    panels[2].barh(lanes.index(name), end - start, left=start, height=0.7, color=colour)
