"""What a rule changed: every cell of labels that went from one value to another, counted, listed, sampled, undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from audiotk.tables import AudiotkError, Dataset, Labels

BLOCK = 32768  # segments that are looked at together: tens of megabytes
WORDS = ("", "present", "absent", "unknown")  # by code, see Labels
VALUES = np.array([np.nan, 1.0, 0.0, np.nan])


class Relabeled(NamedTuple):
    """What every rule returns: the new labels, and the audit that tells them from the old ones."""

    labels: Labels
    audit: Audit


@dataclass(frozen=True, eq=False)
class Audit:
    """The cells that a rule changed; nothing is computed before it is asked for.

    Attributes
    ----------
    rule
        Name of the rule, as ``pel``; its annotations have the source ``relabel:RULE``.
    before, after
        Labels of the same segments with the same default. `after` may have further classes behind those of `before`;
        there `before` is read as its default.

    Raises
    ------
    AudiotkError
        Segments, classes or defaults do not fit.
    """

    rule: str
    before: Labels
    after: Labels

    def __post_init__(self) -> None:
        old, new = self.before, self.after
        if not (new.segments is old.segments or new.segments.equals(old.segments)):
            raise AudiotkError(f"audit {self.rule!r}: the labels before and after have different segments")
        if not new.classes[: len(old.classes)].equals(old.classes):
            raise AudiotkError(f"audit {self.rule!r}: the labels after have to begin with the classes of those before")
        if _code(old.default) != _code(new.default):
            raise AudiotkError(f"audit {self.rule!r}: the default was {old.default} before and is {new.default} after")

    def blocks(self) -> Iterator[tuple[int, sparse.csr_array]]:
        """First row and CSR of 4 * before + after (codes as in Labels) of the changed cells, BLOCK segments at once."""
        before, after = _codes(self.before, len(self.after.classes)), _codes(self.after)
        code = np.arange(4)
        code[0] = _code(self.after.default)
        told = (4 * code[:, None] + code[None, :]).astype(np.int8).ravel()
        told[(code[:, None] == code[None, :]).ravel()] = 0
        for start in range(0, len(self.after.segments), BLOCK):
            rows = slice(start, start + BLOCK)
            pairs = 4 * before[rows] + after[rows]
            pairs.data = told[pairs.data]
            pairs.eliminate_zeros()
            yield start, pairs

    @cached_property
    def _counts(self) -> np.ndarray:
        """Changed cells of each class: int64 (n_classes, 16) by 4 * before + after."""
        counts = np.zeros(len(self.after.classes) * 16, dtype=np.int64)
        for _, pairs in self.blocks():
            counts += np.bincount(pairs.indices.astype(np.int64) * 16 + pairs.data, minlength=len(counts))
        return counts.reshape(-1, 16)

    @property
    def cells(self) -> int:
        """Number of changed cells."""
        return int(self._counts.sum())

    def table(self) -> pd.DataFrame:
        """Columns rule, class_name, before, after (present / absent / unknown) and cells, changes only."""
        place, pair = np.nonzero(self._counts)
        word = np.array(WORDS, dtype=object)
        table = pd.DataFrame({"class_name": self.after.classes.take(place).to_numpy(dtype=object)}, dtype="str")
        table["before"] = pd.array(word[pair // 4], dtype="str")
        table["after"] = pd.array(word[pair % 4], dtype="str")
        table["cells"] = self._counts[place, pair]
        table.insert(0, "rule", pd.Series(self.rule, index=table.index, dtype="str"))
        return table

    def changes(self) -> pd.DataFrame:
        """Columns segment, class_name, before, after (1 / 0 / NaN) and rule, one row a changed cell (see `cells`)."""
        return self._listed(None)

    def sample(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """`n` rows of :meth:`changes` (all if there are no more), each equally likely, in the order of the labels."""
        if n < 0:
            raise AudiotkError(f"audit {self.rule!r}: expected n >= 0, got {n}")
        return self._listed(np.sort(rng.choice(self.cells, min(n, self.cells), replace=False)))

    def _listed(self, chosen: np.ndarray | None) -> pd.DataFrame:
        """Changed cells number `chosen` (rising; counted from 0 through the blocks; default all)."""
        rows, cols, pairs, done = [], [], [], 0
        for start, block in self.blocks():
            some: slice | np.ndarray = slice(None)
            if chosen is not None:
                some = chosen[slice(*np.searchsorted(chosen, [done, done + block.nnz]))] - done
                done += block.nnz
            row = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
            rows.append(row[some])
            cols.append(block.indices[some])
            pairs.append(block.data[some])
        pair = np.concatenate([np.zeros(0, np.int8), *pairs])
        none = np.zeros(0, np.int64)
        table = pd.DataFrame(
            {
                "segment": self.after.segments.take(np.concatenate([none, *rows])).array,
                "class_name": self.after.classes.take(np.concatenate([none, *cols])).array,
                "before": VALUES[pair // 4],
                "after": VALUES[pair % 4],
            }
        )
        table["rule"] = pd.Series(self.rule, index=table.index, dtype="str")
        return table

    def annotations(self, at: pd.Timestamp | None = None) -> pd.DataFrame:
        """The changes as an annotations table: value = after, source = ``relabel:RULE``, written `at` (default now)."""
        at = pd.Timestamp.now("UTC") if at is None else at
        table = self.changes()[["segment", "class_name", "after"]].rename(columns={"after": "value"})
        table["source"] = pd.Series(f"relabel:{self.rule}", index=table.index, dtype="str")
        table["at"] = pd.Series(at, index=table.index).astype("datetime64[us, UTC]")
        return table

    def __repr__(self) -> str:
        return f"Audit({self.rule!r}: {self.before.shape[0]:,} segments x {len(self.after.classes)} classes)"


def overlay(
    rule: str,
    labels: Labels,
    propose: Callable[[slice], sparse.csr_array],
    outcome: np.ndarray,
    classes: pd.Index | None = None,
) -> Relabeled:
    """New labels and their audit, BLOCK segments at once.

    Parameters
    ----------
    rule
        For the audit.
    labels
        The labels that are changed.
    propose
        Rows (a slice) -> int8 CSR (n_rows, n_classes) of what the rule proposes for them, 1 to 3.
    outcome
        New code for each pair of a code (1 present, 2 absent, 3 unknown) and a proposal (0 none): int8 (4, 4). Row 0 is
        not used: a cell that is not stored has the default's code.
    classes
        Classes of the result, beginning with those of the labels; default those of the labels.
    """
    classes = labels.classes if classes is None else classes
    before, rest = _codes(labels, len(classes)), _code(labels.default)
    told = np.vstack([outcome[[rest]], outcome[1:]]).astype(np.int8).ravel()
    told[told == rest] = 0
    indices, data, ends = [np.zeros(0, np.int32)], [np.zeros(0, np.int8)], [np.zeros(1, np.int64)]
    for start in range(0, len(labels.segments), BLOCK):
        rows = slice(start, start + BLOCK)
        proposal = propose(rows)
        proposal.sort_indices()
        pairs = 4 * before[rows] + proposal
        pairs.data = told[pairs.data]
        pairs.eliminate_zeros()
        indices.append(pairs.indices.astype(np.int32, copy=False))
        data.append(pairs.data)
        ends.append(pairs.indptr[1:] + ends[-1][-1])
    indptr = np.concatenate(ends)
    indptr = indptr.astype(np.int32) if indptr[-1] < 2**31 else indptr
    shape = (len(labels.segments), len(classes))
    after = copy(labels)  # and no new Labels: its check that two million segment ids differ takes a second
    after.classes = classes
    after.cells = sparse.csr_array((np.concatenate(data), np.concatenate(indices), indptr), shape=shape)
    return Relabeled(after, Audit(rule, labels, after))


def compose(labels: Labels, steps: Sequence[Callable[[Labels], Relabeled]]) -> tuple[Labels, tuple[Audit, ...]]:
    """Apply rules one after the other, as in ``compose(labels, [lambda x: correct(x, scores), ...])``.

    Returns
    -------
    labels : Labels
        After the last step.
    audits : tuple of Audit
        One a step; a rule that comes again is named ``pel-2``, ``pel-3`` and so on, so that its source is its own.
    """
    audits: list[Audit] = []
    times: Counter[str] = Counter()
    for step in steps:
        labels, audit = step(labels)
        times[audit.rule] += 1
        again = times[audit.rule] > 1
        audits.append(replace(audit, rule=f"{audit.rule}-{times[audit.rule]}") if again else audit)
    return labels, tuple(audits)


def record(dataset: Dataset, audits: Sequence[Audit], source: str, at: pd.Timestamp | None = None) -> Dataset:
    """The data set with the changes of `audits` as annotations: to use them is to name their sources, to undo not to.

    ``resolve(dataset, segments, [relabel:LAST, ..., relabel:FIRST, source])`` gives the relabelled labels of its
    segments (the latest rule is believed first), ``resolve(dataset, segments, [source])`` those before.

    Parameters
    ----------
    dataset, audits
        Where from and which changes; a rule that is recorded already is an error.
    source
        The source whose labels were changed: the new sources are weak if it is, and never closed.
    at
        Time of writing, default now.
    """
    names = [f"relabel:{audit.rule}" for audit in audits]
    if source not in dataset.sources.index:
        raise AudiotkError(f"record: source {source!r} is not among {list(dataset.sources.index)}")
    if again := [name for k, name in enumerate(names) if name in dataset.sources.index or name in names[:k]]:
        raise AudiotkError(f"record: source {again[0]!r} is there already; leave it out first, or rename the audit")
    flags = pd.DataFrame({"closed": False, "weak": dataset.sources.loc[source, "weak"]}, index=pd.Index(names))
    notes = [audit.annotations(at) for audit in audits]
    return replace(
        dataset,
        annotations=pd.concat([dataset.annotations, *notes], ignore_index=True),
        sources=pd.concat([dataset.sources, flags]),
    )


def _code(default: float) -> int:
    """Code of the value that is not stored."""
    return 3 if np.isnan(default) else 2


def _codes(labels: Labels, width: int | None = None) -> sparse.csr_array:
    """The stored cells in canonical order, with room for `width` classes."""
    cells = labels.cells
    if not cells.has_canonical_format:
        cells = cells.copy()
        cells.sum_duplicates()
    shape = (cells.shape[0], width or cells.shape[1])
    return cells if shape == cells.shape else sparse.csr_array((cells.data, cells.indices, cells.indptr), shape=shape)
