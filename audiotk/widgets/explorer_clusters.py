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
    "cluster": "int64", "size": "int64", "class_name": "str", "theme": "str", "heard": "int64", "right": "int64",
    "purity_low": "float64", "promoted": "int64", "still": "float64",
}  # fmt: skip


def cluster_name(cluster: int) -> str:
    """What a cluster is called for people; -1 is what no cluster holds, and no noise."""
    return "unassigned" if cluster == UNASSIGNED else f"cluster {cluster}"


class Clusters:
    """The clusters of points; what does not change is computed once."""

    def __init__(self, points: pd.DataFrame) -> None:
        self._of = points["cluster"].to_numpy(dtype=np.int64)
        self._false = ~points["is_true"].to_numpy()
        self._codes = np.unique(self._of)  # rising
        false = points[self._false]
        themes, rows = suggested(false), []
        for name in map(int, np.unique(false["cluster"])):
            part = false[false["cluster"] == name]
            row = {"cluster": name, "size": len(part), "class_name": part["class_name"].mode().iloc[0]}
            rows.append(row | {"theme": themes.get(name, ""), "key": key_of(names_of(part))})
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
            about = {name: one[name] for name in ("cluster", "size", "class_name", "theme")}
            if promoted[place]:
                about["theme"] = mining.THEMES[int(by_theme[:, place].argmax())]
            about |= {"heard": bound.heard, "right": bound.right, "purity_low": bound.low if bound.heard else math.nan}
            about |= {"promoted": int(promoted[place]), "still": math.nan if firing is None else float(firing[place])}
            found.append(about)
        return found

    def _count(self, rows: np.ndarray) -> np.ndarray:
        """How many false positives of each cluster are among `rows` (bool), in the order of the codes."""
        places = np.searchsorted(self._codes, self._of[self._false & rows])
        return np.bincount(places, minlength=len(self._codes))


def suggested(false: pd.DataFrame) -> dict[int, str]:
    """The theme that is suggested of each cluster: the most frequent one given, else by level and spectrum."""
    given = false[false["theme"].isin(mining.THEMES)]
    if len(given):
        of = given["cluster"].to_numpy()
        return {int(name): str(given["theme"][of == name].mode().iloc[0]) for name in np.unique(of)}
    if false.empty:
        return {}
    from audiotk import embed

    found = embed.suggest_themes(false, false["cluster"].to_numpy())
    return {int(name): str(theme) for name, theme in zip(found["cluster"], found["theme"], strict=True)}
