"""Class maps: which of many labels make up each of a few classes, as P1's map of AudioSet's 527 labels to eleven."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from audiotk.errors import AudiotkError
from audiotk.ontology.files import some
from audiotk.tristate import Labels


@dataclass(frozen=True, eq=False)
class ClassMap:
    """Which labels make up each of a few classes; read by :func:`read_class_map`.

    Parameters
    ----------
    classes
        Names of the new classes.
    table
        Columns label and class_name, one row a pair; a label may be in several classes.
    unused
        Labels that are in no class, on purpose.
    """

    classes: tuple[str, ...]
    table: pd.DataFrame = field(repr=False)
    unused: tuple[str, ...] = field(repr=False)

    def apply(self, labels: Labels) -> Labels:
        """Labels of the new classes: present if any member is, else unknown if any member is, else absent.

        Raises
        ------
        AudiotkError
            The map and the classes of `labels` do not hold the same names.
        """
        members = set(self.table["label"])
        if strange := [name for name in labels.classes if name not in members and name not in set(self.unused)]:
            raise AudiotkError(
                f"class map: expected each class of the labels in the map or among its unused ones; "
                f"{len(strange)} in neither: {some([repr(name) for name in strange])}"
            )
        rows = labels.classes.get_indexer(pd.Index(self.table["label"]))
        if (rows < 0).any():
            lost = [repr(name) for name in self.table["label"][rows < 0].unique()]
            raise AudiotkError(f"class map: {len(lost)} of its labels are no classes of the labels: {some(lost)}")
        cols = pd.Index(self.classes).get_indexer(pd.Index(self.table["class_name"]))
        shape = (len(labels.classes), len(self.classes))
        member = sparse.coo_array((np.ones(len(rows), dtype=np.int32), (rows, cols)), shape=shape).tocsr()
        present = _count(labels, 1) @ member  # (n_segments, n_classes): how many members are present
        if np.isnan(labels.default):
            absent = (_count(labels, 2) @ member).tocoo()
            all_absent = absent.data == member.sum(axis=0)[absent.col]
            other, code = sparse.coo_array((all_absent, (absent.row, absent.col)), shape=absent.shape).tocsr(), 2
        else:
            other, code = _count(labels, 3) @ member, 3
        other = (other > 0).astype(np.int8) * code
        cells = (present > 0).astype(np.int8)
        cells = cells + other - other.multiply(cells)  # present wins
        cells.eliminate_zeros()
        return Labels(labels.segments, self.classes, sparse.csr_array(cells.astype(np.int8)), labels.default)


def read_class_map(path: str | Path, unused: str = "unused") -> ClassMap:
    """Read a CSV whose first row names classes and whose columns list their labels, as P1's ``acd_class_mapping.csv``.

    Columns may differ in length; names with commas are quoted; the column `unused` lists labels without a class.

    Raises
    ------
    AudiotkError
        There is no such file, a class occurs twice, a row is longer than the first, or a label is twice in a column or
        both in a class and among the unused ones.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True)]
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise AudiotkError(f"{path}: cannot be read as a class map in CSV: {err}") from err
    head = lines[0] if lines else []
    if "" in head or len(set(head)) < len(head) or not set(head) - {unused}:
        raise AudiotkError(f"{path}: expected a first row of different class names, got {head}")
    pairs = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) > len(head):
            raise AudiotkError(f"{path} row {number}: expected at most {len(head)} cells, got {len(line)}: {line}")
        pairs += [(cell, name) for cell, name in zip(line, head, strict=False) if cell]
    if twice := [repr(pair) for pair, count in Counter(pairs).items() if count > 1]:
        raise AudiotkError(f"{path}: expected a label once in a class; twice: {some(twice)}")
    if empty := set(head) - {unused} - {name for _, name in pairs}:
        raise AudiotkError(f"{path}: expected labels in each class; classes without any: {sorted(empty)}")
    left = [label for label, name in pairs if name == unused]
    table = pd.DataFrame([pair for pair in pairs if pair[1] != unused], columns=["label", "class_name"], dtype="str")
    if both := sorted(set(left) & set(table["label"])):
        raise AudiotkError(f"{path}: labels both in a class and in {unused!r}: {some(both)}")
    return ClassMap(tuple(name for name in head if name != unused), table, tuple(left))


def _count(labels: Labels, code: int) -> sparse.csr_array:
    cells = labels.cells
    return sparse.csr_array(((cells.data == code).astype(np.int32), cells.indices, cells.indptr), shape=cells.shape)
