"""The windows in which a teacher hears a segment: a fixed grid, so the same sound is always heard in the same way."""

from __future__ import annotations

import numpy as np
import pandas as pd

from audiotk.tables import AudiotkError

GRACE_S = 0.05  # a rest of a segment that is no longer than this gets no window of its own


def cut_windows(segments: pd.DataFrame, sr: int, window_s: float, hop_s: float | None = None) -> pd.DataFrame:
    """Windows of `window_s` seconds every `hop_s` seconds from the start of each segment to its end.

    If more than `GRACE_S` remains behind the last one, one more window ends with the segment. A segment shorter than
    a window gives one, all of it. So every segment is heard whole.

    Parameters
    ----------
    segments
        A *segments* table.
    sr
        Sample rate in Hz that windows are counted at.
    window_s, hop_s
        Length and distance; `hop_s` None is `window_s`.

    Returns
    -------
    pandas.DataFrame
        row (of `segments`, rising), first, last: samples of the recording at `sr`.

    Raises
    ------
    AudiotkError
        Unless 0 < hop_s <= window_s.
    """
    window, hop = round(window_s * sr), max(1, round(check_hop(window_s, hop_s) * sr))
    begin = np.rint(segments["start_s"].to_numpy(np.float64) * sr).astype(np.int64)
    end = np.maximum(np.rint(segments["end_s"].to_numpy(np.float64) * sr).astype(np.int64), begin + 1)
    room = np.maximum(end - begin - window, 0)
    whole, rest = np.divmod(room, hop)
    more = rest > round(GRACE_S * sr)
    counts = whole + 1 + more
    row = np.repeat(np.arange(len(segments)), counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = begin[row] + np.minimum(number * hop, room[row])
    return pd.DataFrame({"row": row, "first": first, "last": np.minimum(first + window, end[row])})


def check_hop(window_s: float, hop_s: float | None) -> float:
    """`hop_s`, or `window_s` for None; AudiotkError unless 0 < hop_s <= window_s."""
    hop_s = window_s if hop_s is None else hop_s
    if not 0 < hop_s <= window_s:
        raise AudiotkError(f"windows: expected 0 < hop_s <= window_s ({window_s} s), so that all is heard; got {hop_s}")
    return hop_s
