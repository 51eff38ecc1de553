"""Class hierarchies: directed acyclic graphs of nodes with ids and names.

Made for AudioSet's ``ontology.json`` (Gemmeke et al., "Audio Set: an ontology and human-labeled dataset for audio
events", ICASSP 2017), where a node may have several parents and many nodes are never labels themselves. What matters
about such a graph for labels is a matrix over a *vocabulary*, the classes of the labels: see :meth:`Ontology.closure`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from audiotk.errors import AudiotkError
from audiotk.ontology.classmaps import ClassMap as ClassMap
from audiotk.ontology.classmaps import read_class_map as read_class_map
from audiotk.ontology.files import check_records, records_of_json, records_of_pairs, some


@dataclass(frozen=True, eq=False, repr=False)
class Ontology:
    """Nodes and, for each, its direct parents.

    Made by :meth:`read` or one of the ``from_`` methods. Wherever a node is asked for, its id (``/m/0bt9lr``) or its
    name (``Dog``) will do.

    Parameters
    ----------
    nodes
        One row a node: id and name (both unique), abstract and blacklisted (bool; AudioSet's ``restrictions``: a mere
        group, and not rated), description.
    edges
        Positions (child, parent) of the direct relations, shape (n_edges, 2); an edge given twice counts once.
    where
        Named in errors, as a path.

    Raises
    ------
    AudiotkError
        An id or a name occurs twice, a name is the id of another node, or there is a cycle.
    """

    nodes: pd.DataFrame
    edges: np.ndarray
    where: str = "ontology"
    _up: sparse.csr_array = field(init=False)  # [i, j]: j is a direct parent of i
    _place: dict[str, int] = field(init=False)  # position by id and by name

    def __post_init__(self) -> None:
        ids, names = self.nodes["id"].tolist(), self.nodes["name"].tolist()
        for noun, keys in (("id", ids), ("name", names)):
            if twice := {key for key, count in Counter(keys).items() if count > 1}:
                told = sorted(
                    f"{key!r} (id {i}, row {n})"
                    for n, (key, i) in enumerate(zip(keys, ids, strict=True))
                    if key in twice
                )
                raise AudiotkError(f"{self.where}: expected each {noun} once; used more often: {some(told)}")
        place = {key: position for position, key in enumerate(ids)}
        for position, name in enumerate(names):
            if place.setdefault(name, position) != position:
                raise AudiotkError(f"{self.where}: the name of node {ids[position]!r} is the id of another, {name!r}")
        pairs = np.asarray(self.edges, dtype=np.int64).reshape(-1, 2)
        cells = (np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1]))
        up = sparse.coo_array(cells, shape=(len(ids), len(ids))).tocsr()
        object.__setattr__(self, "_place", place)
        object.__setattr__(self, "_up", up)
        if cycle := _cycle(up):
            way = " -> ".join(f"{ids[i]} ({names[i]})" for i in [*cycle, cycle[0]])
            raise AudiotkError(f"{self.where}: expected a hierarchy without cycles; child -> parent: {way}")

    # --- reading ------------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> Ontology:
        """Read ``.csv`` (see :meth:`from_pairs`) or ``.json`` (see :meth:`from_json`)."""
        suffix = Path(path).suffix.lower()
        if suffix not in (".csv", ".json"):
            raise AudiotkError(f"{path}: expected an ontology in a file that ends in .json or .csv")
        return cls.from_pairs(path) if suffix == ".csv" else cls.from_json(path)

    @classmethod
    def from_json(cls, path: str | Path) -> Ontology:
        """Read AudioSet's format, a list as for :meth:`from_records`, or nested names: ``{"Animal": {"Dog": {}}}``.

        In the nested form the id of a node is its name, a list of names stands for leaves (``{"Animal": ["Dog"]}``),
        and a name in several places is one node with several parents. A list of ``{"parent": .., "child": ..}`` is
        read as by :meth:`from_pairs`.
        """
        return cls.from_records(records_of_json(path), str(path))

    @classmethod
    def from_records(cls, records: Any, where: str = "ontology") -> Ontology:
        """From a list of mappings with id, name and, if not empty, child_ids, restrictions and description.

        Raises
        ------
        AudiotkError
            A record is not of this form, or a child id is that of no record.
        """
        check_records(records, where)
        place = {record["id"]: row for row, record in enumerate(records)}
        children = [(row, child) for row, record in enumerate(records) for child in record.get("child_ids") or ()]
        if unknown := [f"{child!r} of {records[row]['id']!r}" for row, child in children if child not in place]:
            raise AudiotkError(f"{where}: expected child_ids that are in the file; unknown: {some(unknown)}")
        limits = [record.get("restrictions") or () for record in records]
        nodes = pd.DataFrame(
            {
                "id": pd.Series([record["id"] for record in records], dtype="str"),
                "name": pd.Series([record["name"] for record in records], dtype="str"),
                "abstract": ["abstract" in words for words in limits],
                "blacklisted": ["blacklist" in words for words in limits],
                "description": pd.Series([record.get("description") or "" for record in records], dtype="str"),
            }
        )
        return cls(nodes, np.array([(place[child], row) for row, child in children]), where)

    @classmethod
    def from_pairs(cls, pairs: pd.DataFrame | str | Path, names: pd.DataFrame | None = None) -> Ontology:
        """From a table (or CSV) with columns parent and child; an empty parent adds a node without one.

        Parameters
        ----------
        pairs
            Columns parent and child: ids, which are the names, too, unless `names` is given.
        names
            Columns id and name; ids that are in no pair are nodes without relations.

        Raises
        ------
        AudiotkError
            A column is missing, a child is empty, or an id is not in `names`.
        """
        where = "ontology" if isinstance(pairs, pd.DataFrame) else str(pairs)
        return cls.from_records(records_of_pairs(pairs, names, where), where)

    # --- looking up ---------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> pd.Index:
        """Ids in the order of `nodes`."""
        return pd.Index(self.nodes["id"])

    @property
    def names(self) -> pd.Index:
        """Names in the order of `nodes`."""
        return pd.Index(self.nodes["name"])

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        told = (
            f"{len(self)} nodes, {self._up.nnz} edges, {len(self.roots)} roots, {len(self.multi_parent)} multi-parent"
        )
        return f"Ontology({told}, {self.where!r})"

    def position(self, node: str) -> int:
        """Row of a node, by id or name; an unknown one is an AudiotkError that names similar ones."""
        return int(self.positions([node])[0])

    def positions(self, nodes: Iterable[str]) -> np.ndarray:
        """Rows of many nodes: int64 (n,)."""
        wanted = [str(node) for node in nodes]
        if unknown := [node for node in dict.fromkeys(wanted) if node not in self._place]:
            close = difflib.get_close_matches(unknown[0], self.names, n=3)
            hint = f"; similar to {unknown[0]!r}: {', '.join(map(repr, close))}" if close else ""
            raise AudiotkError(
                f"{self.where}: expected ids or names of its {len(self)} nodes; {len(unknown)} unknown: "
                f"{some([repr(node) for node in unknown])}{hint}"
            )
        return np.array([self._place[node] for node in wanted], dtype=np.int64)

    def parents(self, node: str) -> tuple[str, ...]:
        """Sorted names of the direct parents."""
        return self._named(self._up[[self.position(node)]].indices)

    def children(self, node: str) -> tuple[str, ...]:
        """Sorted names of the direct children."""
        return self._named(self._down[[self.position(node)]].indices)

    def ancestors(self, node: str) -> tuple[str, ...]:
        """Sorted names of all that lie above a node, itself not included."""
        return self._named(self._above[[self.position(node)]].indices)

    def descendants(self, node: str) -> tuple[str, ...]:
        """Sorted names of all that lie below a node, itself not included."""
        return self._named(self._below[[self.position(node)]].indices)

    @property
    def roots(self) -> tuple[str, ...]:
        """Names of the nodes without parents, in the order of `nodes`."""
        return tuple(self.names[np.diff(self._up.indptr) == 0])

    @property
    def multi_parent(self) -> tuple[str, ...]:
        """Names of the nodes with several parents, in the order of `nodes`."""
        return tuple(self.names[np.diff(self._up.indptr) > 1])

    @cached_property
    def depth(self) -> np.ndarray:
        """Edges on the shortest way from a root to each node: int64 (n,)."""
        depth = np.full(len(self), -1)
        level, step = np.diff(self._up.indptr) == 0, 0
        while level.any():
            depth[level] = step
            level, step = (self._up @ level) & (depth < 0), step + 1  # children of this level that are new
        return depth

    def subtree(self, root: str) -> Ontology:
        """The node `root` and all its descendants, in the order of `nodes`; parents outside are left out."""
        top = self.position(root)
        kept = np.union1d(self._below[[top]].indices, [top])
        inner = self._up[kept][:, kept].tocoo()
        nodes = self.nodes.iloc[kept].reset_index(drop=True)
        return Ontology(nodes, np.column_stack([inner.row, inner.col]), f"{self.where} below {root!r}")

    # --- matrices over a vocabulary -----------------------------------------------------------------------------------

    def closure(self, vocabulary: Iterable[str], multi_parent: str = "all") -> sparse.csr_array:
        """Who is an ancestor of whom among the classes of `vocabulary`.

        Ways lead over the whole graph: a node outside of the vocabulary is bridged, it cuts off nothing.

        Parameters
        ----------
        vocabulary
            Ids or names of V different nodes.
        multi_parent
            ``"all"``: every ancestor. ``"unambiguous"``: climb only while there is exactly one *nearest* parent (see
            :meth:`nearest`).

        Returns
        -------
        scipy.sparse.csr_array
            bool (V, V): [i, j] is true if vocabulary[j] is a strict ancestor of vocabulary[i].
        """
        if multi_parent not in ("all", "unambiguous"):
            raise AudiotkError(f"{self.where}: expected multi_parent 'all' or 'unambiguous', got {multi_parent!r}")
        near = self.nearest(vocabulary)
        if multi_parent == "unambiguous":
            near = _rows(np.diff(near.indptr) == 1) @ near
        return _transitive(near)

    def nearest(self, vocabulary: Iterable[str]) -> sparse.csr_array:
        """First nodes of the vocabulary on each way up: bool (V, V), [i, j] if vocabulary[j] is one for i."""
        kept = self._vocabulary(vocabulary)
        outside = np.ones(len(self), dtype=bool)
        outside[kept] = False
        bridges = _transitive(self._up @ _rows(outside))  # (n, n): ways whose every step ends outside
        return sparse.csr_array((self._up + bridges @ self._up)[kept][:, kept])

    def direct(self, vocabulary: Iterable[str]) -> sparse.csr_array:
        """Direct parents where both are in the vocabulary: bool (V, V), [i, j] if j is a direct parent of i."""
        kept = self._vocabulary(vocabulary)
        return sparse.csr_array(self._up[kept][:, kept])

    # --- within -------------------------------------------------------------------------------------------------------

    def _vocabulary(self, vocabulary: Iterable[str]) -> np.ndarray:
        kept = self.positions(vocabulary)
        if len(twice := np.flatnonzero(np.bincount(kept, minlength=1) > 1)):
            raise AudiotkError(f"{self.where}: expected each node once in a vocabulary; twice: {some(self.ids[twice])}")
        return kept

    def _named(self, positions: np.ndarray) -> tuple[str, ...]:
        return tuple(sorted(self.names[positions]))

    @cached_property
    def _down(self) -> sparse.csr_array:
        return self._up.T.tocsr()

    @cached_property
    def _above(self) -> sparse.csr_array:
        return _transitive(self._up)

    @cached_property
    def _below(self) -> sparse.csr_array:
        return self._above.T.tocsr()


def base_target(ontology: Ontology, root: str, vocabulary: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a vocabulary for transfer (P2, Table I): target is `root` and all below it, base is the rest.

    A node that also has a parent elsewhere belongs to target.

    Returns
    -------
    base, target : list of str
        Entries of `vocabulary`, in its order.
    """
    top = ontology.position(root)
    below = {top, *ontology.positions(ontology.descendants(root)).tolist()}
    inside = [position in below for position in ontology.positions(vocabulary).tolist()]
    pairs = list(zip(vocabulary, inside, strict=True))
    return [name for name, is_in in pairs if not is_in], [name for name, is_in in pairs if is_in]


def _transitive(steps: sparse.csr_array) -> sparse.csr_array:
    """All ends of ways of one or more `steps`, bool (n, n); doubles the length of the ways until none is new."""
    reach, found = steps, -1
    while reach.nnz != found:
        found = reach.nnz
        reach = reach + reach @ reach
    return sparse.csr_array(reach)


def _rows(kept: np.ndarray) -> sparse.csr_array:
    """Diagonal matrix that keeps some rows (from the left) or columns (from the right), bool (n, n)."""
    at = np.flatnonzero(kept)
    return sparse.coo_array((np.ones(len(at), dtype=bool), (at, at)), shape=(len(kept), len(kept))).tocsr()


def _cycle(up: sparse.csr_array) -> list[int]:
    """Positions along a cycle, each one's parent next; empty if there is none."""
    count, part = connected_components(up, directed=True, connection="strong")
    loops = np.flatnonzero(up.diagonal())
    if len(loops):
        return [int(loops[0])]
    if count == up.shape[0]:
        return []
    at = int(np.flatnonzero(np.bincount(part)[part] > 1)[0])
    way = [at]
    while True:
        above = up[[way[-1]]].indices
        at = int(above[part[above] == part[way[-1]]][0])
        if at in way:
            return way[way.index(at) :]
        way.append(at)
