"""Repair labels by a class hierarchy: parents that were forgotten, children that were not looked for.

T. Grzywalski, D. Botteldooren, "Automatic re-labeling of Google AudioSet for improved quality of learned features and
pre-training" (here P2): parent-expanded labels (PEL) and parent-expanded, children-masked labels (PE-CML).

The rules read values only: whether an absent cell is stored or is the default makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from audiotk.ontology import Ontology
from audiotk.relabel.audit import Audit, Relabeled, overlay
from audiotk.tables import AudiotkError, Labels

# New code by code (row: 1 present, 2 absent, 3 unknown) and proposal (column: 1 present, 2 unknown, 3 both): what is
# proposed as present becomes so; what is proposed as unknown does unless it is present.
PROPOSED = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 1, 3, 1], [3, 1, 3, 1]], dtype=np.int8)


def parent_expand(
    labels: Labels,
    ontology: Ontology,
    multi_parent: str = "all",
    vocabulary: str | Sequence[str] | None = None,
) -> Relabeled:
    """PEL: every ancestor of a present class becomes present, whatever it was before. Rule ``pel``.

    Parameters
    ----------
    labels
        Classes are ids or names of nodes of the ontology.
    ontology
        Ways lead over the whole graph, also over nodes that are not in the vocabulary.
    multi_parent
        Where a class has several nearest parents in the vocabulary: ``"all"`` of them are meant (P2);
        ``"unambiguous"``: climbing ends; ``"mask"``: it ends and what ``"all"`` would add beyond becomes unknown.
    vocabulary
        Classes of the result: those of the labels (default), ``"all"`` nodes, or a sequence of ids or names that holds
        the classes of the labels. Further classes come behind those of the labels, in the order given.

    Raises
    ------
    AudiotkError
        A class is not in the ontology, or an option is unknown.
    """
    classes = _vocabulary(labels, ontology, vocabulary)
    expand = _expansion(ontology, classes, multi_parent)
    return _once_each("pel", labels, expand, classes)


def mask_children(labels: Labels, ontology: Ontology, original: Labels | None = None) -> Relabeled:
    """CML: below an original label without any label below it, every class becomes unknown. Rule ``cml``.

    What is present stays so. It makes no difference whether the labels have been parent-expanded before (a parent that
    was added has a label below it).

    Parameters
    ----------
    labels
        Classes are ids or names of nodes of the ontology.
    ontology
        Says what is below, over all ways.
    original
        Labels of the same segments whose present cells are the original ones, classes among those of `labels`; default
        `labels`. To be given if another rule has changed them since.
    """
    original = labels if original is None else original
    if not (original.segments is labels.segments or original.segments.equals(labels.segments)):
        raise AudiotkError("relabel: the original labels have other segments than the labels; select() the same ones")
    column = labels.classes.get_indexer(original.classes)
    if (column < 0).any():
        raise AudiotkError(f"relabel: class {original.classes[column < 0][0]!r} of the original is not in the labels")
    mask = _masking(ontology, labels.classes)
    if original is labels:
        return _once_each("cml", labels, lambda present: _times(mask(present), 2), labels.classes)
    present = _present(original, len(labels.classes), column)
    return overlay("cml", labels, lambda rows: _times(mask(present(rows)), 2), PROPOSED)


def pe_cml(
    labels: Labels,
    ontology: Ontology,
    multi_parent: str = "all",
    vocabulary: str | Sequence[str] | None = None,
) -> Relabeled:
    """PE-CML: :func:`parent_expand` and :func:`mask_children` of the original labels in one go. Rule ``pe-cml``.

    A mask cannot hit a class above an original label: such a class is not below a label that has no label below it.
    """
    classes = _vocabulary(labels, ontology, vocabulary)
    expand, mask = _expansion(ontology, classes, multi_parent), _masking(ontology, classes)

    def propose(original: sparse.csr_array) -> sparse.csr_array:
        return expand(original) + _times(mask(original), 2)  # no cell is in both, see above

    return _once_each("pe-cml", labels, propose, classes)


# --- counts -----------------------------------------------------------------------------------------------------------


def statistics(labels: Labels, ontology: Ontology) -> dict[str, Any]:
    """Counts by which P2 describes labels.

    Returns
    -------
    dict
        segments, classes, labels_per_segment, masked_per_segment (unknown cells) and parent_coselected: see
        :func:`coselected`.
    """
    counts = labels.counts()
    size = max(len(labels.segments), 1)
    return {
        "segments": len(labels.segments),
        "classes": len(labels.classes),
        "labels_per_segment": float(counts["present"].sum() / size),
        "masked_per_segment": float(counts["unknown"].sum() / size),
        "parent_coselected": coselected(labels, ontology),
    }


def coselected(labels: Labels, ontology: Ontology) -> tuple[int, int]:
    """How often the parent of a label was ticked too.

    Returns
    -------
    with_parent, pairs : int
        Of all (segment, present class, direct parent of that class that is among the classes), those whose parent is
        present; and all of them.
    """
    direct, together = ontology.direct(labels.classes), _together(labels)
    pairs = together.diagonal() @ np.diff(direct.indptr)
    return int(together.multiply(direct).sum()), int(pairs)


def coselection(labels: Labels, pairs: Iterable[tuple[str, str]], ontology: Ontology | None = None) -> list[list[int]]:
    """For each pair (child, parent): [segments with both, segments with the child].

    Classes are named as in the labels; with an ontology, by id or name.
    """
    together = _together(labels)
    pairs = list(pairs)
    names = [name for pair in pairs for name in pair]
    if ontology is None:
        at = labels.classes.get_indexer(pd.Index(names, dtype="str"))
    else:
        at = pd.Index(ontology.positions(labels.classes)).get_indexer(ontology.positions(names))
    if (at < 0).any():
        lost = names[int((at < 0).argmax())]
        raise AudiotkError(f"coselection: class {lost!r} is not among the {len(labels.classes)} classes of the labels")
    return [[int(together[i, j]), int(together[i, i])] for i, j in at.reshape(-1, 2)]


def _together(labels: Labels) -> sparse.csr_array:
    """Number of segments in which two classes are present, int64 (n_classes, n_classes)."""
    present = _present(labels, len(labels.classes))(slice(None)).astype(np.int64)
    return sparse.csr_array(present.T @ present)


# --- within -----------------------------------------------------------------------------------------------------------


def _vocabulary(labels: Labels, ontology: Ontology, vocabulary: str | Sequence[str] | None) -> pd.Index:
    """Classes of the labels and behind them the further ones of `vocabulary`."""
    if vocabulary is None:
        return labels.classes
    own = ontology.positions(labels.classes)
    if isinstance(vocabulary, str):
        if vocabulary != "all":
            raise AudiotkError(f"relabel: expected vocabulary None, 'all' or a sequence of classes, got {vocabulary!r}")
        by_id = len(labels.classes) > 0 and labels.classes.isin(ontology.ids).all()
        vocabulary = list(ontology.ids if by_id else ontology.names)
    wanted = ontology.positions(vocabulary)
    if not np.isin(own, wanted).all():
        lost = labels.classes[~np.isin(own, wanted)]
        raise AudiotkError(
            f"relabel: class {lost[0]!r} of the labels is not in the vocabulary ({len(lost)} such); expand to a larger "
            "one and select() from the result"
        )
    new = [name for name, place in zip(vocabulary, ~np.isin(wanted, own), strict=True) if place]
    return pd.Index([*labels.classes, *new], dtype="str", name="class_name")


def _once_each(
    rule: str, labels: Labels, propose: Callable[[sparse.csr_array], sparse.csr_array], classes: pd.Index
) -> Relabeled:
    """A rule that treats each segment alone (present cells -> proposals), applied once to each different set of labels.

    Millions of segments carry few different sets of labels; the result is gathered from theirs.
    """
    kinds = _kinds(labels.cells)
    if kinds is None:
        present = _present(labels, len(classes))
        return overlay(rule, labels, lambda rows: propose(present(rows)), PROPOSED, classes)
    kind, first = kinds
    few = copy(labels)  # and no new Labels, as in overlay
    few.segments, few.cells = labels.segments[first], labels.cells[first]
    present = _present(few, len(classes))
    done = overlay(rule, few, lambda rows: propose(present(rows)), PROPOSED, classes)
    after = copy(done.labels)
    after.segments, after.cells = labels.segments, done.labels.cells[kind]
    return Relabeled(after, Audit(rule, labels, after))


def _kinds(cells: sparse.csr_array) -> tuple[np.ndarray, np.ndarray] | None:
    """Number of the kind of each row, and the first row of each kind; rows of one kind are equal, cell by cell.

    None where most rows differ: gathering would cost more than it saves.
    """
    if not cells.has_canonical_format:
        return None
    weight = np.random.default_rng(0).integers(2**63, size=(cells.shape[1], 4), dtype=np.uint64)
    sums = np.zeros(cells.nnz + 1, dtype=np.uint64)
    np.cumsum(weight.ravel()[cells.indices * 4 + cells.data], out=sums[1:])  # modulo 2**64
    kind, _ = pd.factorize(sums[cells.indptr[1:]] - sums[cells.indptr[:-1]])
    first = np.empty(kind.max(initial=-1) + 1, dtype=np.int64)
    first[kind[::-1]] = np.arange(len(kind))[::-1]
    if 2 * len(first) > len(kind):
        return None
    told = cells[first][kind]
    parts = ((told.indptr, cells.indptr), (told.indices, cells.indices), (told.data, cells.data))
    return (kind, first) if all(np.array_equal(*pair) for pair in parts) else None


def _expansion(
    ontology: Ontology, classes: pd.Index, multi_parent: str
) -> Callable[[sparse.csr_array], sparse.csr_array]:
    """Present cells of some rows -> proposals: 1 for them and their ancestors, 2 where those are ambiguous."""
    if multi_parent not in ("all", "unambiguous", "mask"):
        raise AudiotkError(f"relabel: expected multi_parent 'all', 'unambiguous' or 'mask', got {multi_parent!r}")
    up = ontology.closure(classes, "all" if multi_parent == "all" else "unambiguous")
    itself = sparse.eye_array(len(classes), dtype=bool, format="csr")
    up = _narrow(up + itself)
    if multi_parent != "mask":
        return lambda present: _times(present @ up, 1)
    every = _narrow(ontology.closure(classes))
    return lambda present: _times(present @ up, 1) + _times(present @ every, 2)


def _masking(ontology: Ontology, classes: pd.Index) -> Callable[[sparse.csr_array], sparse.csr_array]:
    """Original cells of some rows -> which cells lie below one that has no other below it (bool)."""
    up = _narrow(ontology.closure(classes))
    down = _narrow(up.T)
    return lambda original: (original > original @ up) @ down


def _narrow(matrix: Any) -> sparse.csr_array:
    """CSR with int32 indices, which products then have as well: half the memory."""
    matrix = sparse.csr_array(matrix)
    parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
    return sparse.csr_array(parts, shape=matrix.shape)


def _times(cells: sparse.csr_array, code: int) -> sparse.csr_array:
    """int8 `code` where `cells` (bool) is true; shares its indices."""
    data = np.full(cells.nnz, code, dtype=np.int8)
    return sparse.csr_array((data, cells.indices, cells.indptr), shape=cells.shape)


def _present(labels: Labels, width: int, column: np.ndarray | None = None) -> Callable[[slice], sparse.csr_array]:
    """Rows -> bool CSR (n_rows, width) of their present cells; class k of the labels is in column[k] (default k)."""
    cells, keep = labels.cells, labels.cells.data == 1
    ends = np.concatenate(([0], np.cumsum(keep, dtype=cells.indptr.dtype)))[cells.indptr]
    indices = cells.indices[keep] if column is None else column[cells.indices[keep]].astype(np.int32)
    parts = (np.ones(len(indices), dtype=bool), indices, ends.astype(cells.indptr.dtype))
    whole = sparse.csr_array(parts, shape=(len(labels.segments), width)).sorted_indices()
    return lambda rows: whole[rows]
