"""In what order recordings are shown: as given, at random, or first where labels are worth most; hidden repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from audiotk.tables import AudiotkError

ORDERS = ("given", "random", "uncertain", "disagreement", "worth")
PAGE = 50  # rows of a list
GAP = 10  # recordings between the first showing and the repeat, where there are so many
STATUSES = ("open", "confirmed", "not_found", "unsure", "problem")


@dataclass(frozen=True)
class Place:
    """One place of the queue: `key` is what the browser calls it, `again` says it is a hidden repeat."""

    key: str
    recording: str
    again: bool = False


def make_places(
    recordings: Sequence[str],
    order: str = "given",
    rng: np.random.Generator | None = None,
    worth: pd.Series | None = None,
    repeats: float = 0.0,
) -> list[Place]:
    """The queue.

    Parameters
    ----------
    recordings
        Their ids.
    order
        "given", "random" (needs `rng`), or "uncertain", "disagreement" and "worth": by falling `worth`, ties as given.
    rng
        Source of the random order and of the repeats.
    worth
        Index recording; those without a value come last.
    repeats
        Share of the recordings that come a second time, at least ten places later, to be labelled unaware.
    """
    if order not in ORDERS:
        raise AudiotkError(f"order: expected one of {', '.join(ORDERS)}, got {order!r}")
    if not 0 <= repeats <= 1:
        raise AudiotkError(f"repeats: expected a share of 0 to 1, got {repeats!r}")
    if rng is None and (order == "random" or repeats):
        raise AudiotkError("a random order and repeats need rng, as in rng=np.random.default_rng(0)")
    names = list(recordings)
    if order == "random":
        assert rng is not None
        names = [names[place] for place in rng.permutation(len(names))]
    elif order != "given":
        if worth is None:
            needs = (
                "worth, as of audiotk.search.by_recording"
                if order == "worth"
                else "a teacher or, for disagreement, labels of others"
            )
            raise AudiotkError(f"order {order!r} needs {needs}")
        value = worth.reindex(names).to_numpy(dtype=float)
        names = [names[place] for place in np.argsort(np.where(np.isnan(value), np.inf, -value), kind="stable")]
    places = [Place(name, name) for name in names]
    if repeats:
        assert rng is not None
        places = _with_repeats(places, rng.choice(len(names), round(repeats * len(names)), replace=False), rng)
    return places


def _with_repeats(places: list[Place], chosen: np.ndarray, rng: np.random.Generator) -> list[Place]:
    """Each of the `chosen` places once more, somewhere behind."""
    taken = {place.key for place in places}
    at = {index: float(index) for index in range(len(places))}
    spots: list[tuple[float, Place]] = [(at[index], place) for index, place in enumerate(places)]
    for index in sorted(chosen.tolist()):
        key = places[index].recording + "#2"
        while key in taken:
            key += "#"
        taken.add(key)
        earliest = min(index + GAP, len(places) - 1)
        spots.append((rng.uniform(earliest, len(places) - 1) + 0.5, Place(key, places[index].recording, again=True)))
    return [place for _, place in sorted(spots, key=lambda spot: spot[0])]


class Queue:
    """Where a labeler stands in the queue, what is done, and what passes the filter.

    Parameters
    ----------
    places
        See :func:`make_places`.
    titles, claims
        Recording -> what is shown of it, and the class that its noisy label claims.
    statuses
        Gives the status of every key: open, confirmed, not_found or unsure.
    """

    def __init__(
        self,
        places: Sequence[Place],
        titles: Mapping[str, str],
        claims: Mapping[str, str],
        statuses: Callable[[], dict[str, str]],
    ) -> None:
        self.places, self.titles, self.claims = list(places), titles, claims
        self.by_key = {place.key: place for place in self.places}
        self.position = 0
        self.problems: dict[str, str] = {}  # of recordings that were opened
        self._statuses = statuses
        self._status: dict[str, str] = {}
        self._filter = ("", "")

    @property
    def place(self) -> Place:
        """The current place."""
        return self.places[self.position]

    def refresh(self) -> None:
        """Ask for every status anew."""
        self._status = self._statuses()

    def status(self, key: str) -> str:
        """Status of a key."""
        return self._status.get(key, "open")

    def set_status(self, key: str, status: str) -> None:
        """Remember a new status."""
        self._status[key] = status

    def progress(self) -> dict[str, int]:
        """Places that are done, and all."""
        return {"done": sum(self.status(place.key) != "open" for place in self.places), "total": len(self.places)}

    def go_to_first_open(self) -> None:
        """Go to the first place that is not done; the first of all if everything is."""
        self.refresh()
        self.position = next((i for i, place in enumerate(self.places) if self.status(place.key) == "open"), 0)

    def go_to(self, position: int) -> int:
        """Go to a position."""
        if not 0 <= position < len(self.places):
            raise AudiotkError(f"position: expected 0 to {len(self.places) - 1}, got {position}")
        self.position = position
        return position

    def neighbour(self, by: int) -> int | None:
        """Position of the next place (`by` 1) or the one before (-1) that passes the filter, or None."""
        ahead = range(self.position + 1, len(self.places)) if by > 0 else range(self.position - 1, -1, -1)
        return next((position for position in ahead if self._passes(position, *self._filter)), None)

    def step(self, by: int) -> int:
        """Go `by` places on (or back) among those that pass the filter."""
        start = self.position
        for _ in range(abs(by)):
            following = self.neighbour(by)
            if following is None:
                self.position = start
                passing = " that passes the filter" if self.is_filtered() else ""
                raise AudiotkError(f"this is the {'last' if by > 0 else 'first'} recording{passing}")
            self.position = following
        return self.position

    def is_filtered(self) -> bool:
        """Whether a filter is set."""
        return self._filter != ("", "")

    def set_filter(self, text: str, status: str) -> int:
        """Set the filter and go to the nearest place from here on that passes it; nothing changes if none does."""
        found = self.matching(text, status)
        if not found:
            raise AudiotkError(f"no recording passes the filter: text {text!r}, status {status or 'all'}")
        self._filter = (text, status)
        self.position = next((position for position in found if position >= self.position), found[-1])
        return self.position

    def matching(self, text: str, status: str) -> list[int]:
        """Positions whose id, title or claim holds `text` and whose status is `status` ("" is all)."""
        if status and status not in STATUSES:
            raise AudiotkError(f"filter: expected a status of {', '.join(STATUSES)} or none, got {status!r}")
        return [position for position in range(len(self.places)) if self._passes(position, text, status)]

    def _passes(self, position: int, text: str, status: str) -> bool:
        place = self.places[position]
        if status == "problem" and place.key not in self.problems:
            return False
        if status not in ("", "problem") and self.status(place.key) != status:
            return False
        words = (place.recording, self.titles[place.recording], self.claims.get(place.recording, ""))
        return any(text.casefold() in word.casefold() for word in words)

    def page(self, positions: Sequence[int], number: int) -> list[int]:
        """One page of positions, counted from 0."""
        return list(positions[max(number, 0) * PAGE : (max(number, 0) + 1) * PAGE])

    def row(self, position: int) -> dict[str, Any]:
        """What a list shows of a place."""
        place = self.places[position]
        told = {"position": position, "recording": place.key, "title": self.titles[place.recording]}
        told |= {"status": self.status(place.key), "claim": self.claims.get(place.recording)}
        return told | {"problem": self.problems.get(place.key)}


def uncertainty(best: pd.DataFrame, claims: Mapping[str, str]) -> pd.Series:
    """How unsure the teacher is of each recording: 1 at a score of 0.5, 0 at 0 and 1.

    It is asked about the claimed class where there is one with a score, else about the class it is least sure of.
    """
    unsure = 1 - (2 * best - 1).abs()  # (recordings, classes)
    return _claimed(unsure, claims).fillna(unsure.max(axis=1))


def disagreement(
    best: pd.DataFrame | None, claims: Mapping[str, str], segments: pd.DataFrame, verdicts: pd.DataFrame
) -> pd.Series:
    """How much claims, teacher and labelers contradict each other on each recording, 0 to 1: the worst of all pairs.

    A claim contradicts a teacher by 1 - score; a labeler who found a class does so by 1 - score, one who did not find
    it by the score; labelers contradict each other by 4 p (1 - p), p the share that found the class among those who
    said something about it.

    Parameters
    ----------
    best
        Highest teacher score of each class in each recording, or None.
    claims
        Recording -> class.
    segments, verdicts
        As of ``Store.segments`` and ``Store.claims``; several labelers.
    """
    said = _said(segments, verdicts)
    parts = []
    if best is not None:
        parts.append(1 - _claimed(best, claims))
        score = best.rename_axis(index="recording").reset_index().melt("recording", None, "class_name", "score")
        pairs = said.merge(score, on=["recording", "class_name"]).dropna(subset=["score"])
        parts.append((pairs["found"] - pairs["score"]).abs().groupby(pairs["recording"]).max())
    share = said.groupby(["recording", "class_name"])["found"].mean()
    parts.append((4 * share * (1 - share)).groupby("recording").max())
    return pd.concat(parts, axis=1).max(axis=1)


def _claimed(table: pd.DataFrame, claims: Mapping[str, str]) -> pd.Series:
    """The value of each recording in the column of its claim; NaN without one."""
    columns = table.columns.get_indexer(pd.Index([claims.get(name, "") for name in table.index], dtype=object))
    values = table.to_numpy(dtype=float)[np.arange(len(table)), np.maximum(columns, 0)]
    return pd.Series(np.where(columns >= 0, values, np.nan), index=table.index)


def _said(segments: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Rows recording, class_name, labeler, found (1.0 or 0.0): a segment or "confirmed" finds, "not_found" does not."""
    keys = ["recording", "class_name", "labeler"]
    found = pd.concat([segments[keys], verdicts.loc[verdicts["verdict"] == "confirmed", keys]]).assign(found=1.0)
    absent = verdicts.loc[(verdicts["verdict"] == "not_found") & verdicts["class_name"].notna(), keys].assign(found=0.0)
    return pd.DataFrame(pd.concat([found, absent]).groupby(keys, as_index=False)["found"].max())
