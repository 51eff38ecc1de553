"""Which segments of two labelers mean the same event: one-to-one pairs within a collar.

Two segments of one class mean the same event if their starts differ by at most `collar_s` and their
ends by at most the larger of `collar_s` and `end_share` times the length of the shorter one. That is the collar
of sed_eval (Mesaros 2016), made symmetric: such a pair would match whichever labeler were called the truth. Segments
are paired one to one, as many as possible, and among these so that their edges lie closest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from audiotk.store.history import Ranges
from audiotk.tables import AudiotkError

COLLAR_S, END_SHARE = 0.2, 0.2
SLACK_S = 1e-6  # 0.3 - 0.1 is no more than 0.2


def intersect(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Ranges:
    """What two lists of disjoint, sorted ranges have in common."""
    common: Ranges = []
    i = j = 0
    while i < len(one) and j < len(other):
        start, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if end > start:
            common.append((start, end))
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return common


def inside(spans: np.ndarray, ranges: Sequence[Sequence[float]]) -> np.ndarray:
    """Share (n,) of each of `spans` (n, 2) that lies in disjoint, sorted ranges."""
    if not len(spans) or not len(ranges):
        return np.zeros(len(spans))
    edges = np.asarray(ranges, dtype=float)  # (k, 2)
    before = np.concatenate([[0.0], np.cumsum(edges[:, 1] - edges[:, 0])])

    def covered(time: np.ndarray) -> np.ndarray:  # seconds of the ranges before each time
        place = np.searchsorted(edges[:, 0], time, side="right")
        last = np.maximum(place - 1, 0)
        over = np.where(place > 0, np.maximum(edges[last, 1] - time, 0.0), 0.0)
        return before[place] - over

    return (covered(spans[:, 1]) - covered(spans[:, 0])) / (spans[:, 1] - spans[:, 0])


def fits(one: np.ndarray, other: np.ndarray, collar_s: float = COLLAR_S, end_share: float = END_SHARE) -> np.ndarray:
    """Which rows of two arrays (n, 2) of start and end mean the same event; see the module's docstring."""
    shorter = np.minimum(one[:, 1] - one[:, 0], other[:, 1] - other[:, 0])
    apart = np.abs(one - other)
    end_collar = np.maximum(collar_s, end_share * shorter)
    return (apart[:, 0] <= collar_s + SLACK_S) & (apart[:, 1] <= end_collar + SLACK_S)


def match(one: np.ndarray, other: np.ndarray, collar_s: float = COLLAR_S, end_share: float = END_SHARE) -> np.ndarray:
    """Pair segments of one class in one recording one to one.

    Parameters
    ----------
    one, other : array [shape=(n, 2)], [shape=(m, 2)]
        start_s and end_s.
    collar_s, end_share
        See the module's docstring.

    Returns
    -------
    array [shape=(k, 2)] of row numbers, in order of `one`
        As many pairs as possible; of all such pairings the one whose edges lie closest in sum.

    Raises
    ------
    AudiotkError
        A collar or share is negative or not finite.
    """
    if not (0 <= collar_s < np.inf and 0 <= end_share < np.inf):
        raise AudiotkError(f"agreement: expected collar_s and end_share >= 0, got {collar_s} and {end_share}")
    i, j = _near(one[:, 0], other[:, 0], one[:, 0], collar_s + SLACK_S)
    good = fits(one[i], other[j], collar_s, end_share)
    i, j = i[good], j[good]
    return _assign(i, j, np.abs(one[i] - other[j]).sum(axis=1), len(one), len(other))


def match_overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """As :func:`match`, for pairs that share at least half of what they cover together, however far their edges lie."""
    reach = float((other[:, 1] - other[:, 0]).max()) if len(other) else 0.0
    i, j = _near(one[:, 0], other[:, 0], one[:, 1], reach)
    share = overlap(one[i], other[j])
    good = share >= 0.5
    i, j, share = i[good], j[good], share[good]
    return _assign(i, j, 1 - share, len(one), len(other))


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of the rows of two arrays (n, 2)."""
    common = np.minimum(one[:, 1], other[:, 1]) - np.maximum(one[:, 0], other[:, 0])
    both = np.maximum(one[:, 1], other[:, 1]) - np.minimum(one[:, 0], other[:, 0])
    return np.maximum(common, 0) / both


def _near(one: np.ndarray, other: np.ndarray, one_to: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows (i, j) with one[i] - reach <= other[j] <= one_to[i] + reach."""
    order = np.argsort(other, kind="stable")
    first = np.searchsorted(other[order], one - reach)
    number = np.searchsorted(other[order], one_to + reach, side="right") - first
    i = np.repeat(np.arange(len(one)), number)
    j = order[np.arange(len(i)) - np.repeat(np.cumsum(number) - number - first, number)]
    return i, j


def _assign(i: np.ndarray, j: np.ndarray, cost: np.ndarray, n: int, m: int) -> np.ndarray:
    """Of possible pairs (i, j) as many as possible, at the least sum of `cost` >= 0; group after group."""
    if not len(i):
        return np.zeros((0, 2), dtype=np.int64)
    graph = coo_array((np.ones(len(i)), (i, j + n)), shape=(n + m, n + m))
    group = connected_components(graph, directed=False)[1][i]
    pairs = []
    for rows in np.split(np.argsort(group, kind="stable"), np.flatnonzero(np.diff(np.sort(group))) + 1):
        left, a = np.unique(i[rows], return_inverse=True)
        right, b = np.unique(j[rows], return_inverse=True)
        table = np.zeros((len(left), len(right)))
        table[a, b] = cost[rows] - (cost.max() + 1) * (min(table.shape) + 1)  # a pair more outweighs any cost
        chosen = linear_sum_assignment(table)
        pairs += [(left[x], right[y]) for x, y in zip(*chosen, strict=True) if table[x, y] < 0]
    return np.array(sorted(pairs), dtype=np.int64)
