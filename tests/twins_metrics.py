"""Slow textbook references for metrics, events and resampling: loops and definitions, nothing clever."""

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import average_precision_score


def average_precision(s: np.ndarray, y: np.ndarray) -> float:
    """Sum over thresholds from high to low of (recall step) x precision; unknown cells dropped."""
    pairs = [(score, label) for score, label in zip(s, y, strict=True) if not np.isnan(label)]
    positives, total, recall_before = sum(label for _, label in pairs), 0.0, 0.0
    for limit in sorted({score for score, _ in pairs}, reverse=True):
        fired = [label for score, label in pairs if score >= limit]
        recall, precision = sum(fired) / positives, sum(fired) / len(fired)
        total, recall_before = total + (recall - recall_before) * precision, recall
    return total


def ece(s: np.ndarray, y: np.ndarray, n_bins: int) -> float:
    """Expected calibration error, one bin after the other."""
    known, error = ~np.isnan(y), 0.0
    for b in range(n_bins):
        low, high = b / n_bins, (b + 1) / n_bins
        inside = known & (s >= low) & ((s < high) | ((b == n_bins - 1) & (s <= high)))
        if inside.any():
            error += inside.sum() / known.sum() * abs(s[inside].mean() - y[inside].mean())
    return error


def false_positives(s: np.ndarray, y: np.ndarray, places: pd.DataFrame, limit: float, gap: int) -> tuple[int, int, int]:
    """False positives, absent and fired tenths of a second of one class, by painting a 0.1 s grid of each recording."""
    events = absent_cells = fired_cells = 0
    for recording in places.recording.unique():
        absent, fired = np.zeros(1000, bool), np.zeros(1000, bool)
        for i in np.flatnonzero((places.recording == recording).to_numpy()):
            cells = slice(round(places.start_s.iloc[i] * 10), round(places.end_s.iloc[i] * 10))
            if y[i] == 0:
                absent[cells] = True
                fired[cells] |= s[i] > limit
        silent = np.inf  # cells since the last firing one
        for cell in fired:
            events += bool(cell) and silent > gap
            silent = 0 if cell else silent + 1
        absent_cells, fired_cells = absent_cells + absent.sum(), fired_cells + fired.sum()
    return events, absent_cells, fired_cells


def collar_counts(
    found: list[tuple[float, float]],
    true: list[tuple[float, float]],
    start_collar: float,
    end_collar: float,
    share: float,
) -> tuple[int, int]:
    """True and false positives of the best one-to-one matching of found and true (start, end) ranges."""
    fits = np.zeros((len(found), len(true)))
    for i, (start, end) in enumerate(found):
        for j, (true_start, true_end) in enumerate(true):
            collar = max(end_collar, share * (true_end - true_start))
            fits[i, j] = abs(start - true_start) <= start_collar + 1e-6 and abs(end - true_end) <= collar + 1e-6
    rows, columns = linear_sum_assignment(-fits)
    right = int(fits[rows, columns].sum())
    return right, len(found) - right


def resampled_map(s: np.ndarray, y: np.ndarray, code: np.ndarray, counts: np.ndarray) -> float:
    """mAP by scikit-learn after repeating the rows of each recording as often as it was drawn."""
    rows = np.concatenate([np.repeat(np.flatnonzero(code == g), int(n)) for g, n in enumerate(counts)])
    values = []
    for c in range(s.shape[1]):
        known = rows[~np.isnan(y[rows, c])]
        if 0 < y[known, c].sum() < len(known):
            values.append(average_precision_score(y[known, c].astype(int), s[known, c]))
    return float(np.mean(values)) if values else np.nan
