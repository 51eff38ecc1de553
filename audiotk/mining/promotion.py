"""A cluster that was judged by ear becomes explicit negatives: annotations with their evidence, that can be taken back.

What a promotion says of each member (a segment x class that fired): the class is absent there (value 0), and so is
every class in `absent` where the theme is silence or ambience. The theme itself is annotated as a class of its own
(value 1), for models that have an output for it. Annotations have the source "promoted"; the evidence (who, what was
heard, the lower bound of the purity) stays in the store with each member.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from scipy import stats

from audiotk.mining.door import Door
from audiotk.store import Store, open_store, operations_of
from audiotk.store.history import active
from audiotk.store.operations import Operation
from audiotk.tables import AudiotkError, Dataset, make_annotations, make_segments, make_sources

THEMES = ("neg_hard", "neg_silence", "neg_ambient")
SOURCE = "promoted"
HEARD_AS = ("false", "true", "unsure")  # a false positive indeed, a true event, neither
EVIDENCE = ("heard", "right", "purity_low", "note")
PROMOTION_COLUMNS = ["promotion", "theme", "cluster", "labeler", "at", "members", *EVIDENCE]


def purity_bound(right: int, heard: int, level: float = 0.95) -> float:
    """Lower confidence bound of the share of a cluster that is false, from a random sample (Clopper & Pearson 1934).

    Exact, one-sided: of many such samples at most 1 - `level` have a bound above the true share. It is for a random
    sample of the cluster; a sample with more border members than the cluster has makes the bound lower than need be.

    Raises
    ------
    AudiotkError
        Not 0 <= right <= heard, or level outside (0, 1).
    """
    if not 0 <= right <= heard or not 0 < level < 1:
        raise AudiotkError(f"purity: expected 0 <= right <= heard and 0 < level < 1, got {right}, {heard}, {level}")
    return 0.0 if right == 0 else float(stats.beta.ppf(1 - level, right, heard - right + 1))


def promote(
    store: Store | str | Path,
    members: pd.DataFrame,
    theme: str,
    door: Door,
    *,
    labeler: str,
    cluster: str = "",
    verdicts: pd.DataFrame | None = None,
    absent: Sequence[str] | None = None,
    note: str = "",
) -> str:
    """Write that a cluster of false positives is explicit negatives; all of it or nothing.

    Parameters
    ----------
    store
        Where operations go; the members' recordings are registered there.
    members
        Rows of a false positives table. Those that were heard as true events or as unsure are left out.
    theme
        One of `THEMES`.
    door
        Says whether the members may be trained on; one that may not stops the promotion.
    labeler
        Who promotes.
    cluster, note
        What the cluster is called, and free text.
    verdicts
        What was heard: segment, class_name, verdict ("false", "true", "unsure"); those of other rows than members
        make no evidence. None: nothing was heard, and the purity bound is 0.
    absent
        Classes that are absent in all members, but where one was heard as true or unsure; default only the class
        that fired.

    Returns
    -------
    str
        The promotion's name, for :func:`take_back`.

    Raises
    ------
    AudiotkError
        Unknown theme or verdict, no member left, a refused recording; nothing is written.
    StoreUnavailable
        The store cannot be written.
    """
    if theme not in THEMES:
        raise AudiotkError(f"promote: expected a theme of {', '.join(THEMES)}, got {theme!r}")
    heard = _heard(verdicts)
    keys = pd.MultiIndex.from_frame(members[["segment", "class_name"]])
    there = {key for key, said in heard.items() if said != "false"}  # heard as true or unsure: not absent
    heard = heard[heard.index.isin(keys)]
    verdict = heard.reindex(keys).fillna("").to_numpy()
    members = members.assign(verdict=verdict)[(verdict == "") | (verdict == "false")]
    if members.empty:
        raise AudiotkError("promote: no member is left; expected at least one that was not heard as true or unsure")
    door.check(members["recording"])
    right, sure = int((heard == "false").sum()), int(heard.isin(["false", "true"]).sum())
    name = str(uuid.uuid4())
    about = {"promotion": name, "theme": theme, "cluster": cluster, "heard": sure, "right": right, "note": note}
    about["purity_low"] = purity_bound(right, sure) if sure else 0.0
    operations = []
    for row in members.to_dict("records"):
        own = {key: row[key] for key in ("start_s", "end_s", "class_name", "verdict")}
        classes = dict.fromkeys([row["class_name"], *(absent or ())])
        own["absent"] = [name for name in classes if (row["segment"], name) not in there]
        operations.append(Operation(str(uuid.uuid4()), "promotion", labeler, row["recording"], {**about, **own}))
    opened = open_store(store) if not isinstance(store, Store) else store
    opened.register(door.recordings.loc[list(dict.fromkeys(members["recording"]))].reset_index())
    opened.append(operations)
    return name


def _heard(verdicts: pd.DataFrame | None) -> pd.Series:
    """The verdicts, index (segment, class_name)."""
    if verdicts is None:
        verdicts = pd.DataFrame({name: pd.Series(dtype="str") for name in ("segment", "class_name", "verdict")})
    if unknown := set(verdicts["verdict"]) - set(HEARD_AS):
        raise AudiotkError(f"promote: expected verdicts of {', '.join(HEARD_AS)}, got {sorted(map(str, unknown))}")
    if verdicts.duplicated(["segment", "class_name"]).any():
        raise AudiotkError("promote: expected one verdict a segment and class")
    return verdicts.set_index(["segment", "class_name"])["verdict"].astype("str")


def take_back(store: Store | str | Path, promotion: str, *, labeler: str) -> int:
    """Take a promotion back: its annotations are gone, its history stays. Returns how many members it had.

    Raises
    ------
    AudiotkError
        There is no such promotion that counts, or it is somebody else's.
    """
    opened = open_store(store) if not isinstance(store, Store) else store
    counting = active(operations_of(opened))
    left = [op for op in counting if op.kind == "promotion" and op.payload["promotion"] == promotion]
    if not left:
        raise AudiotkError(f"take back: there is no promotion {promotion!r} that counts")
    if left[0].labeler != labeler:
        owner = left[0].labeler
        raise AudiotkError(f"take back: promotion {promotion!r} is {owner!r}'s; only they can take it back")
    opened.append(Operation(str(uuid.uuid4()), "undo", labeler, op.recording, {"target": op.uuid}) for op in left)
    return len(left)


def promotions(store: Store | str | Path) -> pd.DataFrame:
    """The promotions that count, in their order.

    Returns
    -------
    DataFrame
        promotion, theme, cluster, labeler, at, members, heard (judged sure), right (heard as false), purity_low
        (lower 95 % bound), note.
    """
    opened = open_store(store) if not isinstance(store, Store) else store
    rows = opened.promotions()
    if rows.empty:
        return pd.DataFrame(columns=PROMOTION_COLUMNS)
    found = rows.groupby("promotion", sort=False).first().assign(members=rows["promotion"].value_counts())
    return found.reset_index()[PROMOTION_COLUMNS].sort_values("at", kind="stable", ignore_index=True)


def promoted(store: Store | str | Path, door: Door, *, leave_out: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Segments and annotations of all promotions that count, for training; the door is asked again.

    A split may have changed, or a copy may have turned up, since the promotion was made.

    Parameters
    ----------
    store
        Where promotions are.
    door
        Of the data set that will be trained on.
    leave_out
        Leave refused recordings out; otherwise they are an error.

    Returns
    -------
    segments : DataFrame
        A segments table with the further column theme (the last one that was said).
    annotations : DataFrame
        Value 0 for each absent class and 1 for the theme, source "promoted".

    Raises
    ------
    AudiotkError
        A promoted recording must not be trained on.
    """
    opened = open_store(store) if not isinstance(store, Store) else store
    rows = opened.promotions()
    refused = door.refusals(rows["recording"])
    if len(refused) and not leave_out:
        raise AudiotkError(
            f"promoted: {refused.index[0]} must not be trained on: {refused.iloc[0]} ({len(refused)} recordings in "
            "all); take the promotion back, or say leave_out=True to train without them"
        )
    rows = rows[~rows["recording"].isin(refused.index)]
    said = rows.assign(class_name=rows["absent"], value=0.0).explode("class_name")
    theme = rows.assign(class_name=rows["theme"], value=1.0)
    both = pd.concat([said, theme], ignore_index=True)[["segment", "class_name", "value", "at"]]
    last = rows.drop_duplicates("segment", keep="last")
    places = make_segments(last["recording"].to_numpy(), last["start_s"].to_numpy(), last["end_s"].to_numpy())
    annotations = make_annotations(both["segment"], both["class_name"], both["value"], SOURCE, both["at"])
    return places.assign(theme=last["theme"].to_numpy()), annotations


def with_promoted(dataset: Dataset, store: Store | str | Path, door: Door, *, leave_out: bool = False) -> Dataset:
    """The data set with the promoted negatives as one more source, "promoted" (exact ranges, not closed).

    Name it before the others in :func:`audiotk.labels.resolve`. Classes of the data set stay; ask for themes by
    ``classes=[*dataset.classes, *mining.THEMES]``.
    """
    segments, annotations = promoted(store, door, leave_out=leave_out)
    both = pd.concat([dataset.segments, segments[list(dataset.segments.columns[:4])]]).drop_duplicates("segment")
    return replace(
        dataset,
        segments=both.reset_index(drop=True),
        annotations=pd.concat([dataset.annotations, annotations], ignore_index=True),
        sources=pd.concat([dataset.sources, make_sources(**{SOURCE: ""})]),
    )
