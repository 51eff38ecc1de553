"""Slow textbook references for the relabelling rules: one cell after the other, over plain dictionaries and sets.

`parents` maps each node to the list of its direct parents; labels are DataFrames of 1, 0 and NaN.
"""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd


def ancestors(node, parents):
    found = set()
    for parent in parents[node]:
        found |= {parent} | ancestors(parent, parents)
    return found


def nearest(node, parents, vocabulary):
    """First nodes of the vocabulary on each way up."""
    found = set()
    for parent in parents[node]:
        found |= {parent} if parent in vocabulary else nearest(parent, parents, vocabulary)
    return found


def climb(node, parents, vocabulary):
    """Ancestors while there is exactly one nearest parent."""
    found = set()
    while len(above := nearest(node, parents, vocabulary)) == 1:
        (node,) = above
        found.add(node)
    return found


def widen(frame, vocabulary, default):
    new = [name for name in vocabulary if name not in frame.columns]
    return frame.reindex(columns=[*frame.columns, *new], fill_value=default)


def positives(row):
    return {name for name, value in row.items() if value == 1}


def pel(frame, parents, multi_parent="all"):
    """Parent-expanded labels (P2 III.A), `multi_parent` as science.md section 5 says."""
    vocabulary, result = set(frame.columns), frame.copy()
    for segment, row in frame.iterrows():
        original = positives(row)
        every = set().union(*(ancestors(name, parents) & vocabulary for name in original))
        sure = every if multi_parent == "all" else set().union(*(climb(n, parents, vocabulary) for n in original))
        for name in vocabulary:
            if name in sure:
                result.loc[segment, name] = 1.0
            elif multi_parent == "mask" and name in every and row[name] != 1:
                result.loc[segment, name] = np.nan
    return result


def masked(original, parents, vocabulary):
    """Which classes P2 III.B masks for a set of original labels."""
    masks = set()
    for name in original:
        below = {other for other in vocabulary if name in ancestors(other, parents)}
        if not below & original:
            masks |= below
    return masks


def cml(frame, parents, original=None):
    """Children-masked labels of the positives of `original` (default: of the labels themselves)."""
    original, result = frame if original is None else original, frame.copy()
    for segment, row in frame.iterrows():
        for name in masked(positives(original.loc[segment]), parents, set(frame.columns)):
            if row[name] != 1:
                result.loc[segment, name] = np.nan
    return result


def coselected(frame, parents):
    """(with parent, pairs) over segment, present class, direct parent among the classes."""
    pairs = [
        row[parent] == 1
        for _, row in frame.iterrows()
        for name in positives(row)
        for parent in set(parents[name]) & set(frame.columns)
    ]
    return sum(pairs), len(pairs)


def correct(frame, scores, thresholds, missing, wrong):
    """P1 eq. (4)-(7), by cell; `thresholds` are texts. Scores are the decimals that they were written as.

    A score of type float16 that is shown as 0.95 is equal to 1 - 0.05, though none of the three is that number in bits.
    """
    result, half = frame.copy(), Fraction(1, 2)
    for name in frame.columns:
        low = Fraction(thresholds[name])
        high = 1 - low
        for segment in frame.index:
            y, p = frame.loc[segment, name], Fraction(np.format_float_positional(scores.loc[segment, name]))
            if y == 0 and p > high and missing in ("correct", "correct+mask"):
                result.loc[segment, name] = 1.0
            if y == 1 and p < low and wrong in ("correct", "correct+mask"):
                result.loc[segment, name] = 0.0
            if y == 0 and half < p < high and missing in ("mask", "correct+mask"):
                result.loc[segment, name] = np.nan
            if y == 1 and low < p < half and wrong in ("mask", "correct+mask"):
                result.loc[segment, name] = np.nan
    return result


def percentile(frame, scores, q, new):
    """Fonseca 2020: of the n absent cells of a class, the ceil(q n / 100) with the highest scores, ties by id."""
    result = frame.copy()
    for name in frame.columns:
        absent = [segment for segment in frame.index if frame.loc[segment, name] == 0]
        count = math.ceil(Decimal(str(q)) * len(absent) / 100)
        for segment in sorted(absent, key=lambda segment: (-float(scores.loc[segment, name]), segment))[:count]:
            result.loc[segment, name] = new
    return result


def mean_threshold(frame, scores, statistic, parents=None, direct=None):
    """PSLA: add a label whose score is above the statistic of its class; with `parents`, only its two types."""
    result = frame.copy()
    for name in frame.columns:
        known = [float(scores.loc[segment, name]) for segment in frame.index if frame.loc[segment, name] == 1]
        if not known:
            continue
        level = math.fsum(known) / len(known)
        if statistic != "mean":
            level = np.percentile(known, 50 if statistic == "median" else statistic)
        for segment in frame.index:
            original = positives(frame.loc[segment])
            type_1 = parents is not None and bool(set(parents[name]) & original)
            type_2 = parents is not None and any(name in ancestors(other, parents) for other in original)
            allowed = frame.loc[segment, name] == 0 and (parents is None or type_1 or type_2)
            if allowed and float(scores.loc[segment, name]) > level:
                result.loc[segment, name] = 1.0
    return result


def changes(before, after, default):
    """Cells that differ: {(segment, class): (before, after)}; a class that was not there has the default."""
    found = {}
    for segment in after.index:
        for name in after.columns:
            old = before.loc[segment, name] if name in before.columns else default
            new = after.loc[segment, name]
            if not (old == new or (math.isnan(old) and math.isnan(new))):
                found[segment, name] = (old, new)
    return found


def frames_equal(ours, twin):
    pd.testing.assert_frame_equal(
        ours.astype("float64"),
        twin.astype("float64"),
        check_names=False,
        check_column_type=False,
        check_index_type=False,
    )
