"""Every figure and sound player of the notebooks. Functions return a Figure (or HTML) and draw nothing by themselves.

Figures are plain `matplotlib.figure.Figure` objects, never pyplot state, so they work from callbacks and threads.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import librosa
import matplotlib as mpl
import numpy as np
import pandas as pd
import soundfile
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiotk import audio
from audiotk.claims import effect_text
from audiotk.stats import NEEDS_DATA
from audiotk.stats import claims as ledger

INK, FAINT, BLUE, ORANGE, GREEN, RED = "#1f2933", "#9aa5b1", "#2f6fde", "#e07b00", "#1c8a5a", "#c93535"
ARM_COLOURS = (BLUE, ORANGE, "#8b5cf6", "#d9a441", "#a15c2f", GREEN)
LOUDER_DB = 20.0  # of a player: quiet sound would seem loud, were this not said
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "figure.dpi": 110,
}


def use_in_notebook() -> None:
    """Show figures as still pictures in the notebook that calls this, sharp enough for a report."""
    from IPython import get_ipython

    shell = get_ipython()
    shell.run_line_magic("matplotlib", "inline")
    shell.run_line_magic("config", "InlineBackend.print_figure_kwargs = {'bbox_inches': 'tight', 'dpi': 110}")


def _figure(width: float, height: float, **grid: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def players(sounds: Sequence[tuple[str, np.ndarray]], sr: int, seconds: float = 4.0) -> Any:
    """Players side by side: (caption, wave) pairs; each is cut to `seconds` and normalised, captions are escaped.

    What was made louder by `LOUDER_DB` or more says so.
    """
    from IPython.display import HTML

    cells = []
    for caption, wave in sounds:
        wave = np.asarray(wave[: int(seconds * sr)], dtype=np.float32)
        wave = wave - wave.mean() if len(wave) else np.zeros(1, np.float32)
        gain = 0.89 / max(float(np.abs(wave).max()), 1e-4)
        wave, gain_db = wave * gain, 20 * np.log10(gain)
        caption = f"{caption} (made louder by {gain_db:.0f} dB)" if wave.any() and gain_db >= LOUDER_DB else caption
        file = io.BytesIO()
        soundfile.write(file, wave, sr, format="WAV", subtype="PCM_16")
        data = base64.b64encode(file.getvalue()).decode()
        cells.append(
            f'<figure style="margin:0"><figcaption>{html.escape(caption)}</figcaption>'
            f'<audio controls preload="metadata" style="width:260px" src="data:audio/wav;base64,{data}"></audio>'
            "</figure>"
        )
    return HTML(f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(cells)}</div>')


def _spectrogram(axes: Axes, wave: np.ndarray, sr: int, colorbar: bool = False) -> None:
    """Log-mel picture of `wave` (n,), 60 dB deep, time in seconds, frequency in kHz."""
    hop = max(64, len(wave) // 800)
    mel = librosa.feature.melspectrogram(y=wave, sr=sr, n_fft=1024, hop_length=hop, n_mels=96)  # (96, T)
    level = librosa.power_to_db(mel, ref=max(float(mel.max()), 1e-6), top_db=60)
    duration_s = len(wave) / sr
    axes.imshow(level, origin="lower", aspect="auto", cmap="magma", extent=(0, duration_s, 0, 96), vmin=-60, vmax=0)
    hertz = librosa.mel_frequencies(n_mels=96, fmax=sr / 2)
    ticks = [k for k in (250, 1000, 4000, 8000) if k <= sr / 2]
    axes.set_yticks(np.interp(ticks, hertz, np.arange(96)), [f"{k / 1000:g}" for k in ticks])
    axes.set_ylabel("kHz")
    axes.set_xlim(0, duration_s)


def _ranges(axes: Axes, ranges: pd.DataFrame, classes: Sequence[str], colour: str = GREEN) -> None:
    """Horizontal bars, one lane a class: `ranges` has start_s, end_s, class_name."""
    for item in ranges.to_dict("records"):
        lane = len(classes) - 1 - list(classes).index(item["class_name"])
        axes.barh(lane, item["end_s"] - item["start_s"], left=item["start_s"], height=0.7, color=colour)
    axes.set_yticks(range(len(classes)), list(classes)[::-1], fontsize=7, parse_math=False)
    axes.set_ylim(-0.6, len(classes) - 0.4)
    axes.tick_params(length=0)


@mpl.rc_context(STYLE)
def recordings(
    recordings: pd.DataFrame,
    titles: Mapping[str, str],
    ranges: pd.DataFrame | None = None,
    classes: Sequence[str] = (),
    columns: int = 3,
) -> Figure:
    """Spectrograms of the recordings named in `titles`; labelled `ranges` are drawn below each.

    Parameters
    ----------
    recordings
        Recordings table.
    titles
        Recording -> title.
    ranges
        recording, start_s, end_s, class_name; optional.
    classes
        Lanes of the ranges.
    """
    rows = -(-len(titles) // columns)
    ratios = [3, 2] * rows if ranges is not None else [1] * rows
    grid = {"nrows": len(ratios), "ncols": columns, "squeeze": False, "height_ratios": ratios, "sharex": "col"}
    figure, axes = _figure(3.6 * columns, (3.1 if ranges is not None else 1.9) * rows, **grid)
    paths = recordings.set_index("recording")["path"]
    step = 2 if ranges is not None else 1
    for place, (name, title) in enumerate(titles.items()):
        line, column = divmod(place, columns)
        wave, sr = audio.load(paths[name], sr=16000)
        top = axes[line * step, column]
        _spectrogram(top, wave, sr)
        top.set_title(title, fontsize=8, parse_math=False)
        if ranges is not None:
            below = axes[line * step + 1, column]
            _ranges(below, ranges[ranges["recording"] == name], classes)
            below.set_xlabel("seconds")
    for place in range(len(titles), rows * columns):
        line, column = divmod(place, columns)
        for part in range(step):
            axes[line * step + part, column].set_visible(False)
    return figure


@mpl.rc_context(STYLE)
def label_counts(counts: Mapping[str, pd.DataFrame]) -> Figure:
    """Present, absent and unknown segments of each class: `counts` maps a split (or source) to `Labels.counts()`."""
    classes = list(next(iter(counts.values())).index)
    size = {"ncols": len(counts), "sharey": True, "squeeze": False}
    figure, axes = _figure(3.2 * len(counts), 0.6 + 0.24 * len(classes), **size)
    for panel, (name, table) in zip(axes[0], counts.items(), strict=True):
        left = np.zeros(len(classes))
        for column, colour in (("present", GREEN), ("unknown", ORANGE), ("absent", "#d5dbe1")):
            values = table[column].to_numpy()
            panel.barh(classes, values, left=left, color=colour, label=column, height=0.75)
            left = left + values
        panel.set_title(f"{name} ({int(left.max()):,} segments)")
    axes[0, 0].set_ylim(len(classes) - 0.5, -0.5)  # shared: the first class on top
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@mpl.rc_context(STYLE)
def history(table: pd.DataFrame, best_epoch: int) -> Figure:
    """Training loss and validation mAP over epochs, the kept epoch marked."""
    figure, axes = _figure(7.2, 2.2, ncols=2)
    axes[0].plot(table["epoch"], table["loss"], color=INK)
    axes[0].set_title("training loss")
    axes[1].plot(table["epoch"], table["val_map"], color=BLUE)
    kept = table["val_map"][best_epoch]
    axes[1].plot(best_epoch, kept, "o", color=ORANGE)
    axes[1].set_title(f"validation mAP (epoch {best_epoch} kept: {kept:.3f})")
    for panel in axes:
        panel.set_xlabel("epoch")
    return figure


@mpl.rc_context(STYLE)
def intervals(table: pd.DataFrame, xlabel: str, highlight: str | None = None) -> Figure:
    """Values with their intervals, one line a row: index name, columns value, low, high; unbounded ones are dotted."""
    figure, axes = _figure(6.4, 0.7 + 0.24 * len(table))
    _dots(axes, table, [ORANGE if name == highlight else BLUE for name in table.index])
    axes.set_xlabel(xlabel)
    return figure


def _dots(axes: Axes, table: pd.DataFrame, colours: Sequence[str]) -> None:
    place = np.arange(len(table))[::-1]
    for y, colour, item in zip(place, colours, table.to_dict("records"), strict=True):
        if np.isnan([item["low"], item["high"]]).any():  # too few groups: the interval has no ends
            axes.axhline(y, color=colour, linestyle=":", linewidth=1.2, alpha=0.6)
        axes.plot([item["low"], item["high"]], [y, y], color=colour, linewidth=2.2, alpha=0.45, solid_capstyle="round")
        axes.plot(item["value"], y, "o", color=colour, markersize=5)
    axes.set_yticks(place, [str(name) for name in table.index], parse_math=False)
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)


@mpl.rc_context(STYLE)
def arms(table: pd.DataFrame, metrics: Sequence[str], columns: int = 2) -> Figure:
    """One panel a metric, one line an arm: `table` has metric, arm, value, low, high."""
    rows = -(-len(metrics) // columns)
    names = list(dict.fromkeys(table["arm"]))
    size = {"nrows": rows, "ncols": columns, "squeeze": False}
    figure, axes = _figure(4.6 * columns, (0.8 + 0.26 * len(names)) * rows, **size)
    for panel, metric in zip(axes.ravel(), metrics, strict=False):
        part = table[table["metric"] == metric].set_index("arm").reindex(names)
        _dots(panel, part, [ARM_COLOURS[i % len(ARM_COLOURS)] for i in range(len(names))])
        panel.set_title(metric)
        if part["low"].min() >= 0:
            panel.set_xlim(left=0)
    for panel in axes.ravel()[len(metrics) :]:
        panel.set_visible(False)
    return figure


@mpl.rc_context(STYLE)
def heatmap(table: pd.DataFrame, title: str) -> Figure:
    """Shares in [0, 1] as a picture with the numbers in it: rows and columns as in `table`."""
    figure, axes = _figure(1.6 + 0.66 * table.shape[1], 0.9 + 0.36 * table.shape[0])
    axes.imshow(table.to_numpy(dtype=float), cmap="OrRd", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(table.to_numpy(dtype=float)):
        text = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(j, i, text, ha="center", va="center", color="white" if value > 0.6 else INK, fontsize=8)
    axes.set_xticks(range(table.shape[1]), [str(name).replace(" ", "\n") for name in table.columns], fontsize=8)
    axes.set_yticks(range(table.shape[0]), [str(name) for name in table.index], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    return figure


def stacked(table: pd.DataFrame) -> Any:
    """A table of texts "value [low, high]" with each interval below its value, so that five columns fit on a page."""
    from IPython.display import HTML

    def cell(text: Any) -> str:
        value, _, ends = html.escape(str(text)).partition(" ")
        return f"{value}<br><small>{ends}</small>"

    if table.empty:
        return HTML("<p><small>Nothing to compare: the data set has no such class.</small></p>")
    told = table.map(cell).rename(index=html.escape, columns=html.escape)
    return HTML(told.to_html(escape=False))


@mpl.rc_context(STYLE)
def reliability(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of present segments against the mean score of each bin, one line an arm; dots grow with the bin's size.

    Each table has mean_score, share_present and n, as the rows of `metrics.reliability` of the pooled classes.
    """
    figure, axes = _figure(4.4, 3.6)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    for (name, table), colour in zip(tables.items(), ARM_COLOURS, strict=False):
        used = table[table["n"] > 0]
        axes.plot(used["mean_score"], used["share_present"], color=colour, label=name)
        axes.scatter(used["mean_score"], used["share_present"], s=4 + 6 * np.sqrt(used["n"] / 10), color=colour)
    axes.set(xlabel="score", ylabel="share of segments that hold the class", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")
    return figure


@mpl.rc_context(STYLE)
def timeline(
    wave: np.ndarray,
    sr: int,
    ranges: pd.DataFrame,
    scores: Mapping[str, pd.DataFrame],
    title: str = "",
    reach_s: float = 0.0,
) -> Figure:
    """A recording, its true ranges and, below, each model's scores over time.

    A score is that of a window around its time, so it may rightly rise `reach_s` before an event and last as long
    behind it: dotted frames show how far. Colour outside of them is hallucinated.

    Parameters
    ----------
    wave, sr
        (n,) and its sample rate in Hz.
    ranges
        start_s, end_s, class_name.
    scores
        Name of a model -> scores, index time in seconds (evenly spaced), one column a class.
    reach_s
        Half the length of a window.
    """
    classes = list(next(iter(scores.values())).columns)
    ratios = [1.6, 1.3, *[1.3] * len(scores)]
    figure, axes = _figure(8.2, 1.25 * sum(ratios), nrows=len(ratios), sharex=True, height_ratios=ratios)
    _spectrogram(axes[0], wave, sr)
    axes[0].set_title(title, parse_math=False)
    _ranges(axes[1], ranges, classes)
    axes[1].set_title("what is there", fontsize=9)
    for panel, (name, table) in zip(axes[2:], scores.items(), strict=True):
        times = table.index.to_numpy(dtype=float)
        half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.5
        extent = (times[0] - half, times[-1] + half, -0.5, len(classes) - 0.5)
        picture = panel.imshow(
            table.to_numpy().T, origin="upper", aspect="auto", cmap="YlOrRd", vmin=0, vmax=1, extent=extent
        )
        _ranges(panel, ranges.iloc[:0], classes)
        for item in ranges.to_dict("records"):
            lane = len(classes) - 1 - classes.index(item["class_name"])
            for more, line, width in ((0.0, "-", 1.1), (reach_s, ":", 0.8)):
                start, length = item["start_s"] - more, item["end_s"] - item["start_s"] + 2 * more
                panel.barh(
                    lane, length, left=start, height=0.8, fill=False, edgecolor=INK, linewidth=width, linestyle=line
                )
        panel.set_title(f"what the model trained on {name} hears", fontsize=9)
        panel.set_xlim(0, len(wave) / sr)
    axes[-1].set_xlabel("seconds")
    figure.colorbar(picture, ax=list(axes[2:]), label="score", fraction=0.02)
    return figure


def claims(table: pd.DataFrame) -> Any:
    """The ledger's rows as a table to read: claim, what was measured, ours with its interval, the verdict in colour.

    A claim of which the ledger says that something was changed after there were results has an asterisk, and below the
    table stands what.
    """
    from IPython.display import HTML

    colours = {"reproduced": GREEN, "not reproduced": RED, NEEDS_DATA: FAINT}
    left = "text-align:left;white-space:normal"
    about = ledger()[["smallest_effect", "sampled", "changed"]].to_dict("index")
    lines, notes = [], []
    for name, item in table.iterrows():
        row = {"smallest_effect": 0.0, "sampled": True, "changed": "", **about.get(str(name), {}), **item.to_dict()}
        ours, _, ends = effect_text(row).partition(" ")
        told, mark = html.escape(str(name)), "*" if row["changed"] else ""
        if mark:
            notes.append(f"<br><b>{told}</b>: {html.escape(row['changed'])}")
        verdict = str(item["verdict"])
        claim, effect = html.escape(str(item["claim"])), html.escape(str(item["effect"]))
        lines.append(
            f'<tr><th scope="row">{told}{mark}</th>'
            f'<td style="{left}">{claim}<br><small>{effect}</small></td>'
            f'<td style="white-space:nowrap"><b>{ours or "–"}</b><br><small>{ends}</small></td>'
            f'<td style="{left};font-weight:600;color:{colours.get(verdict, ORANGE)}">{html.escape(verdict)}</td></tr>'
        )
    head = "".join(f'<th style="text-align:left">{text}</th>' for text in ("", "claim", "ours, 95 %", "verdict"))
    table_html = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    below = f"<p><small>* Changed after it was written down.{''.join(notes)}</small></p>" if notes else ""
    return HTML(table_html + below)
