"""Which members of a cluster somebody listens to: random ones, and those most likely to be no false positives.

Whatever is selected is put into a random order once. Its first members are the random ones; those next to true events,
those at the border and the most typical one (the medoid) are chosen among the rest. So the random ones are a simple
random sample, and only they make a bound on purity (see :func:`counted`); the others can only lower it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from audiotk.mining import purity_bound

PAGE = 12  # members that are shown at once
NEAREST, BORDER = 3, 2  # of the first page
COMPARED = 1000  # members (or true events), at most, that a medoid (or what is near) is sought among
SOUGHT = 10_000  # members, at most, that the border and those nearest to true events are sought among
WHY = ("medoid", "border", "nearest", "random")


@dataclass(frozen=True)
class Selection:
    """Rows that were selected, and which of them are heard.

    Attributes
    ----------
    key
        Of these rows, the same whenever they are selected; goes into the store with each verdict.
    name
        For people.
    cluster
        The cluster that it is; None for other rows.
    rows
        Rising, int (n,).
    order
        The same in random order.
    drawn
        How many from the start of `order` were shown as random ones.
    hard
        The others of the first page, row -> why.
    page
        Rows on the page, and why each: pairs in the order in which they are heard.
    """

    key: str
    name: str
    cluster: int | None
    rows: np.ndarray
    order: np.ndarray
    drawn: int
    hard: Mapping[int, str]
    page: tuple[tuple[int, str], ...]

    @property
    def shown(self) -> set[int]:
        """The members that were shown as random ones."""
        return set(map(int, self.order[: self.drawn]))

    def more(self) -> Selection:
        """With the next page: random members only (one that was chosen before may come again); itself at the end."""
        rows = [int(row) for row in self.order[self.drawn : self.drawn + PAGE]]
        if not rows:
            return self
        return replace(self, drawn=self.drawn + len(rows), page=tuple((row, "random") for row in rows))

    def within(self, allowed: np.ndarray) -> Selection:
        """Narrowed to some of its rows (bool, of all points): what is random among all is random among some."""
        keep = allowed[self.order]
        hard = {row: why for row, why in self.hard.items() if allowed[row]}
        page = tuple(pair for pair in self.page if allowed[pair[0]])
        rows, drawn = self.rows[allowed[self.rows]], int(keep[: self.drawn].sum())
        found = replace(self, rows=rows, order=self.order[keep], drawn=drawn, hard=hard, page=page)
        return found if page else found.more()


def select(
    rows: np.ndarray,
    embeddings: np.ndarray,
    names: Sequence[str],
    seed: int,
    *,
    name: str,
    cluster: int | None = None,
    positives: np.ndarray | None = None,
) -> Selection:
    """A selection with its first page.

    Parameters
    ----------
    rows
        Which points, rising.
    embeddings
        Of all points, (n, dim); those that are not finite are never a medoid, at the border or nearest.
    names
        What identifies each of the `rows`; with `seed` it fixes the random order.
    seed
        Of the explorer.
    name, cluster
        See :class:`Selection`.
    positives
        Embeddings of true events, (m, dim): the members nearest to them are the most likely true ones.
    """
    key = key_of(names)
    order = np.random.default_rng([seed, int(key, 16)]).permutation(rows)
    hard: dict[int, str] = {}
    if len(rows) > PAGE:
        count = PAGE - 1 - BORDER - NEAREST
        hard = _hard(order[count:], embeddings, positives)
    count = min(PAGE - len(hard), len(rows))
    hard = {row: why for row, why in hard.items() if row not in order[:count]}
    first = [(int(row), "random") for row in order[:count]]
    page = [pair for pair in hard.items() if pair[1] == "medoid"]
    rest = [*first, *(pair for pair in hard.items() if pair[1] != "medoid")]
    mixed = np.random.default_rng([seed, int(key, 16), 1]).permutation(len(rest))
    page += [rest[at] for at in mixed]
    return Selection(key, name, cluster, rows, order, count, hard, tuple(page))


def key_of(names: Sequence[str]) -> str:
    """What tells a set of points from others, whatever their order: 12 hexadecimal digits."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:12]


def names_of(points: pd.DataFrame) -> list[str]:
    """What identifies each point."""
    return [f"{segment}\t{name}" for segment, name in zip(points["segment"], points["class_name"], strict=True)]


def _hard(rows: np.ndarray, embeddings: np.ndarray, positives: np.ndarray | None) -> dict[int, str]:
    """The medoid, the border and those nearest to true events among `rows` (in random order): row -> why."""
    fit = rows[np.isfinite(embeddings[rows]).all(axis=1)][:SOUGHT]
    if not len(fit):
        return {}
    vectors = embeddings[fit].astype(np.float32)  # (n, dim)
    found: dict[int, str] = {}
    spread = distances(vectors[:COMPARED], vectors[:COMPARED]).sum(axis=1)
    medoid = int(spread.argmin())
    found[int(fit[medoid])] = "medoid"
    nearest = 0
    if positives is not None and len(positives):
        some = positives[:: -(-len(positives) // COMPARED)]
        close = distances(vectors, some.astype(np.float32)).min(axis=1)
        _add(found, fit[np.argsort(close, kind="stable")], "nearest", NEAREST)
        nearest = NEAREST
    away = distances(vectors, vectors[medoid][None])[:, 0]
    _add(found, fit[np.argsort(-away, kind="stable")], "border", BORDER + NEAREST - nearest)
    return found


def _add(found: dict[int, str], rows: np.ndarray, why: str, number: int) -> None:
    """Add the first `number` rows that are not there yet."""
    for row in map(int, rows):
        if number and row not in found:
            found[row] = why
            number -= 1


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Euclidean distances, (n, m)."""
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


@dataclass(frozen=True)
class Purity:
    """How pure a selection is, from what was heard: see :func:`counted`."""

    heard: int
    right: int
    low: float
    unsure: int
    true: int


def counted(verdicts: Iterable[tuple[str, bool]], level: float = 0.95) -> Purity:
    """A lower bound on the share of members that are no true event.

    Parameters
    ----------
    verdicts
        "false", "true" or "unsure" of each member that was heard, and whether it was drawn at random. Random ones
        count, unless unsure (which is not promoted either); of the others only true events do. So the bound holds for a
        listener who hears what was drawn, and looking for trouble can only lower it.
    level
        Confidence of the one-sided bound.
    """
    told = list(verdicts)
    heard = sum((is_random and word != "unsure") or word == "true" for word, is_random in told)
    right = sum(is_random and word == "false" for word, is_random in told)
    words = [word for word, _ in told]
    low = purity_bound(right, heard, level) if heard else 0.0
    return Purity(heard, right, low, words.count("unsure"), words.count("true"))
