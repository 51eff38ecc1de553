"""The table of an explorer's clusters: how large, what theme is suggested, what was heard, what is promoted."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from audiotk import mining
from audiotk.tables import AudiotkError
from audiotk.widgets.explorer_ledger import Ledger
from audiotk.widgets.explorer_points import UNASSIGNED
from audiotk.widgets.explorer_sample import Selection, counted, key_of, names_of

COLUMNS = {
    "cluster": "int64", "size": "int64", "class_name": "str", "theme": "str", "reason": "str", "heard": "int64",
    "right": "int64", "purity_low": "float64", "promoted": "int64", "still": "float64",
}  # fmt: skip


def cluster_name(cluster: int) -> str:
    """What a cluster is called for people; -1 is what no cluster holds, and no noise."""
    return "unassigned" if cluster == UNASSIGNED else f"cluster {cluster}"


class Clusters:
    """The clusters of points; what does not change is computed once."""

    def __init__(self, points: pd.DataFrame, prompt_scores: pd.DataFrame | None = None) -> None:
        self._of = points["cluster"].to_numpy(dtype=np.int64)
        self._false = ~points["is_true"].to_numpy()
        self._codes = np.unique(self._of)  # rising
        false = points[self._false]
        told, rows = suggested(points, prompt_scores), []
        for name in map(int, np.unique(false["cluster"])):
            part = false[false["cluster"] == name]
            row = {"cluster": name, "size": len(part), "class_name": part["class_name"].mode().iloc[0]}
            theme, reason = told.get(name, ("", ""))
            rows.append(row | {"theme": theme, "reason": reason, "key": key_of(names_of(part))})
        self._known = sorted(rows, key=lambda row: (row["cluster"] == UNASSIGNED, -row["size"]))
        number = sum(row["cluster"] != UNASSIGNED for row in rows)
        self.words = f"{len(false):,} false positive{'s' * (len(false) != 1)} in {number} cluster{'s' * (number != 1)}"

    def members(self, cluster: int) -> np.ndarray:
        """The false positives of a cluster, rising."""
        rows = np.flatnonzero((self._of == cluster) & self._false)
        if not len(rows):
            known = ", ".join(str(row["cluster"]) for row in self._known[:12]) or "none"
            raise AudiotkError(f"explorer: there is no cluster {cluster!r} of false positives; there is {known}")
        return rows

    def theme(self, cluster: int, ledger: Ledger) -> str:
        """The theme that (most of) a cluster is promoted to, else the one that is suggested."""
        return next(str(row["theme"]) for row in self.rows(ledger, None, None, {cluster}))

    def of(self, row: int) -> int:
        """The cluster of a point."""
        return int(self._of[row])

    def table(self, ledger: Ledger, selection: Selection | None, still: np.ndarray | None) -> pd.DataFrame:
        """As :attr:`audiotk.widgets.ClusterExplorer.clusters` says."""
        return pd.DataFrame(self.rows(ledger, selection, still), columns=list(COLUMNS)).astype(COLUMNS)

    def rows(
        self, ledger: Ledger, selection: Selection | None, still: np.ndarray | None, only: Collection[int] | None = None
    ) -> list[dict[str, Any]]:
        """The rows of the table, of all clusters or of some; what a verdict changes is told at once, so no pandas."""
        known = [row for row in self._known if only is None or row["cluster"] in only]
        keys = {row["cluster"]: row["key"] for row in known}
        shown = selection.shown if selection is not None and selection.cluster is not None else set()
        told: dict[int, list[tuple[str, bool]]] = {}
        for row, said in ledger.last().items():
            at = int(self._of[row])
            if at in keys and self._false[row]:
                is_random = row in shown or (said.key, said.why) == (keys[at], "random")
                told.setdefault(at, []).append((said.word, is_random))
        by_theme = np.stack([self._count(ledger.theme == code) for code in range(1, len(mining.THEMES) + 1)])
        promoted, firing = by_theme.sum(axis=0), None if still is None else self._count(still)
        found = []
        for one in known:
            bound = counted(told.get(one["cluster"], []))
            place = int(np.searchsorted(self._codes, one["cluster"]))
            about = {name: one[name] for name in ("cluster", "size", "class_name", "theme", "reason")}
            if promoted[place]:
                about |= {"theme": mining.THEMES[int(by_theme[:, place].argmax())], "reason": "promoted"}
            about |= {"heard": bound.heard, "right": bound.right, "purity_low": bound.low if bound.heard else math.nan}
            about |= {"promoted": int(promoted[place]), "still": math.nan if firing is None else float(firing[place])}
            found.append(about)
        return found

    def _count(self, rows: np.ndarray) -> np.ndarray:
        """How many false positives of each cluster are among `rows` (bool), in the order of the codes."""
        places = np.searchsorted(self._codes, self._of[self._false & rows])
        return np.bincount(places, minlength=len(self._codes))


def suggested(points: pd.DataFrame, prompt_scores: pd.DataFrame | None = None) -> dict[int, tuple[str, str]]:
    """The theme that is suggested of each cluster, and why: the most frequent one given, else by sound and teacher."""
    false = ~points["is_true"].to_numpy()
    if prompt_scores is not None:
        if not isinstance(prompt_scores, pd.DataFrame) or len(prompt_scores) != len(points):
            got = f"{len(prompt_scores)} rows" if isinstance(prompt_scores, pd.DataFrame) else repr(prompt_scores)[:80]
            raise AudiotkError(
                f"prompt_scores: expected a table with a row for each of {len(points):,} false positives, got {got}"
            )
        prompt_scores = prompt_scores[false]
    points = points[false]
    of = points["cluster"].to_numpy()
    given = points["theme"].isin(mining.THEMES).to_numpy()
    if given.any():
        names = points["theme"][given]
        return {int(name): (str(names[of[given] == name].mode().iloc[0]), "given") for name in np.unique(of[given])}
    from audiotk import embed

    found = embed.suggest_themes(points, of, prompt_scores=prompt_scores)
    told = zip(found["theme"], found["reason"], strict=True)
    return dict(zip(map(int, found["cluster"]), told, strict=True))
