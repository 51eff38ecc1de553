"""Notebook 08: what raters do with a hierarchy, and what PEL and PE-CML make of it (P2, claims P2.1 and P2.2).

P2 is T. Grzywalski, D. Botteldooren, "Automatic re-labeling of Google AudioSet for improved quality of learned features
and pre-training"; OL are its original labels. Two data sets: AudioSet's own label files, whose truth nobody knows, and
the embedded one, whose three raters are simulated on a piece of AudioSet's ontology, so that the truth is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import binomtest

from audiotk import resample, stats
from audiotk.experiments import hierarchies, row
from audiotk.experiments.hierarchies import Case as Case
from audiotk.experiments.rule_quality import quality_table
from audiotk.labels import resolve
from audiotk.relabel import coselection, parent_expand, pe_cml
from audiotk.tables import Dataset, Labels

EXPERIMENT = "audioset_relabeling"
OL, PEL, PE_CML = "OL", "PEL", "PE-CML"
PICTURE = {"embedded": None, "audioset": "Musical instrument"}  # root of the tree that is drawn
MOST_UNITS = 1000  # of a bootstrap; more groups are joined at random to so many

# What P2 prints: section II on the whole data set, section V.A on an excerpt of 102,578 segments.
WHOLE, EXCERPT = "all of AudioSet", "its excerpt"
PARENT_SHARE = 0.52
PAIRS = {  # child, parent: segments with both, with the child
    ("Electric guitar", "Guitar"): (10243, 12024),
    ("Guitar", "Plucked string instrument"): (40266, 51597),
    ("Rain", "Water"): (24, 3392),
    ("Duck", "Fowl"): (5, 2603),
}
GUITAR_WITH_CHILD = (30863, 51597)
PER_SEGMENT = {"labels, OL": 2.5, "labels, PEL": 5.9, "masked, PE-CML": 28.7}
TABLE_I = {  # target classes, share of the excerpt
    "Human sounds": (72, "35 %"),
    "Sounds of things": (176, "27 %"),
    "Source-ambiguous sounds": (55, "14 %"),
    "Natural sounds": (18, "3 %"),
}
AUDIOSET_NODES = 632
FEWEST = 10  # segments of a pair whose share is looked at
MANY = 100  # masks of a segment
WHOLE_SIZE = 2_000_000  # segments from which on the labels count as all of AudioSet
EXCERPT_SIZE = 102_578  # segments of P2's excerpt; which ones was not published


def load(data: str, data_root: str, scale: str) -> Case:
    """Labels of a hierarchy as :func:`hierarchies.load`; all parts are counted together, so none is drawn anew."""
    return hierarchies.load(data, data_root, scale, split="official" if data == "audioset" else "")


def overview(case: Case) -> pd.DataFrame:
    """One row a root of the hierarchy: all below it, and the segments with a label there; shared nodes count in each.

    On AudioSet's vocabulary also what P2 prints (Table I).
    """
    onto = case.ontology
    rows: dict[str, dict[str, Any]] = {}
    for root in onto.roots:
        nodes = {root, *onto.descendants(root)}
        classes = [name for name in case.labels.classes if name in nodes]
        touched = int((per_segment(case.labels.select(classes=classes))["labels"] > 0).sum())
        rows[root] = {"nodes": len(nodes), "with several parents": len(nodes & set(onto.multi_parent))}
        rows[root] |= {"classes": len(classes), "segments": touched}
        rows[root]["share of segments"] = _percent(touched / len(case.labels.segments))
    table = pd.DataFrame.from_dict(rows, orient="index")
    if len(onto) == AUDIOSET_NODES:
        printed = [TABLE_I.get(root, ("–", "–")) for root in table.index]
        table[["P2: classes", "P2: share of segments"]] = [[str(n), share] for n, share in printed]
    return table


# --- what raters do ---------------------------------------------------------------------------------------------------


def edges(case: Case, labels: Labels | None = None) -> pd.DataFrame:
    """Each class and direct parent: child, parent, part, both, n (with the child), share.

    part is the root above the parent, the first one if there are several, so that each pair counts once.
    """
    labels = case.labels if labels is None else labels
    child, parent = case.ontology.direct(labels.classes).nonzero()
    table = pd.DataFrame({"child": labels.classes[child], "parent": labels.classes[parent]})
    counts = coselection(labels, list(zip(table["child"], table["parent"], strict=True)))
    table["part"] = case.part[table["parent"]].array
    table[["both", "n"]] = np.array(counts, dtype=np.int64).reshape(-1, 2)
    table["share"] = table["both"] / table["n"].where(table["n"] > 0)
    order = table["part"].map(case.ontology.roots.index).to_numpy()
    return table.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)


def _asked(case: Case, labels: Labels) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs (present class, direct parent) of each segment, and those whose parent is present; one column a part."""
    direct = case.ontology.direct(labels.classes).astype(np.int64)
    present = sparse.csr_array((labels.cells == 1).astype(np.int64))
    together = (present @ direct).multiply(present).tocsc()  # [i, p]: present children of p, if p is present
    each = (present @ direct).tocsc()
    columns = {}
    for name, table in (("asked", each), ("both", together)):
        sums = {part: table[:, np.flatnonzero(case.part == part)].sum(axis=1) for part in dict.fromkeys(case.part)}
        columns[name] = pd.DataFrame(sums, index=labels.segments).astype(np.float64)
    return columns["asked"], columns["both"]


def by_part(case: Case, seed: int = 0) -> pd.DataFrame:
    """How often a direct parent is ticked beside a class, by part of the hierarchy and rater, with 95 % intervals.

    A pair counts once, in the first part above its parent, as in :func:`edges`.

    Returns
    -------
    pandas.DataFrame
        metric (the part, or "everywhere"), arm (the rater), value, low, high, n (groups), pairs.
    """
    rng, rows = np.random.default_rng(seed), []
    unit = _units(case.group, rng)
    for source, labels in case.by_source.items():
        asked, both = _asked(case, labels)
        asked["everywhere"], both["everywhere"] = asked.sum(axis=1), both.sum(axis=1)
        for part in asked.columns[asked.sum() > 0]:
            found = _interval(case, resample.ratio_statistic(both[[part]], asked[[part]], unit), rng)
            rows.append({"metric": part, "arm": source, **vars(found), "pairs": int(asked[part].sum())})
    return pd.DataFrame(rows).drop(columns="level")


def _interval(case: Case, statistic: resample.Statistic, rng: np.random.Generator) -> stats.Interval:
    """Bootstrap interval; n are the groups, however they were joined."""
    return replace(stats.bootstrap(statistic, rng), n=int(case.group.nunique()))


def _units(group: pd.Series, rng: np.random.Generator) -> pd.Series:
    """At most `MOST_UNITS` units: more groups are joined at random, which leaves the spread of their sums the same."""
    code, names = pd.factorize(group)
    unit = rng.permutation(len(names))[code] % MOST_UNITS
    return pd.Series(unit, index=group.index)


# --- what the rules do ------------------------------------------------------------------------------------------------


def schemes(case: Case, vocabulary: str | None = None) -> dict[str, Labels]:
    """OL, PEL and PE-CML over the classes of the labels (None) or all nodes ("all")."""
    expanded = parent_expand(case.labels, case.ontology, vocabulary=vocabulary).labels
    return {OL: case.labels, PEL: expanded, PE_CML: pe_cml(case.labels, case.ontology, vocabulary=vocabulary).labels}


def per_segment(labels: Labels) -> pd.DataFrame:
    """Number of present (labels) and unknown (masked) classes of each segment, index segment."""
    rows = np.repeat(np.arange(len(labels.segments)), np.diff(labels.cells.indptr))
    codes = {"labels": 1, "masked": 3}
    sums = {
        name: np.bincount(rows[labels.cells.data == code], minlength=len(labels.segments))
        for name, code in codes.items()
    }
    return pd.DataFrame(sums, index=labels.segments)


def counts(case: Case, found: Mapping[str, Labels]) -> pd.DataFrame:
    """Segments with each node under OL (NaN: no class there) and PEL, and those where PE-CML makes it unknown."""
    masked = found[PE_CML].counts()["unknown"]
    present = {name: found[name].counts()["present"].reindex(masked.index) for name in (OL, PEL)}
    return pd.DataFrame(present).assign(masked=masked)


# --- paper and ours ---------------------------------------------------------------------------------------------------


def compared(case: Case, seed: int = 0) -> pd.DataFrame:
    """What P2 prints and what the same count gives here: printed, on, ours, interval, remark; index quantity."""
    rng = np.random.default_rng(seed)
    n = len(case.labels.segments)
    rows = [{"quantity": "segments", "printed": "over 2 million", "on": WHOLE, "ours": f"{n:,}", "remark": case.told}]
    everywhere = [table.sum(axis=1).to_numpy() for table in _asked(case, case.labels)[::-1]]
    rows.append(_share_row(case, "parent ticked too, all pairs", None, PARENT_SHARE, everywhere, rng))
    rows[-1]["remark"] = "parents that are classes"
    rows.append(_by_restrictions(case))
    for pair, (both, child) in PAIRS.items():
        ours = [_has(case, [name]) for name in pair] if set(case.labels.classes) >= set(pair) else None
        ours = None if ours is None else [ours[0] & ours[1], ours[0]]
        rows.append(_share_row(case, " > ".join(pair), (both, child), both / child, ours, rng))
    each = edges(case).query("n >= @FEWEST")
    mixed = int(each["share"].between(0.1, 0.9).sum())
    rows.append({"quantity": "pairs ticked in 10 to 90 % of the segments", "ours": f"{mixed} of {len(each)} pairs",
                 "remark": f"pairs with at least {FEWEST} segments"})  # fmt: skip
    both, child = GUITAR_WITH_CHILD
    rows.append(
        _share_row(case, "Guitar > any child", GUITAR_WITH_CHILD, both / child, _with_child(case, "Guitar"), rng)
    )
    table = pd.DataFrame(rows + _size_rows(case)).set_index("quantity").rename_axis(None).fillna("")
    return table[["printed", "on", "ours", "interval", "remark"]]


def _size_rows(case: Case) -> list[dict[str, Any]]:
    """Rows of :func:`compared` about labels and masks a segment."""
    narrow, wide = schemes(case), schemes(case, "all")
    rows = []
    for name, printed in PER_SEGMENT.items():
        what, scheme = name.split(", ")
        kinds = {"": narrow} if scheme == OL else {", all nodes": wide, ", classes only": narrow}
        for size, found in kinds.items():
            value = per_segment(found[scheme])[what].mean()
            told = f"{len(case.ontology)} nodes" if found is wide else f"{found[scheme].shape[1]} classes"
            rows.append({"quantity": f"{what} a segment, {scheme}{size}", "printed": f"{printed}", "on": EXCERPT,
                         "ours": f"{value:.3f}", "remark": told})  # fmt: skip
    masked = per_segment(wide[PE_CML])["masked"]
    many = masked[masked > MANY]
    told = f"in {_percent(len(many) / len(masked))} of the segments"
    share = _percent(many.sum() / max(masked.sum(), 1))
    rows.append({"quantity": f"masks in segments with over {MANY}, of all masks", "ours": share, "remark": told})
    return rows


def _by_restrictions(case: Case) -> dict[str, Any]:
    """All pairs as P2 words it: parents that are neither abstract nor blacklisted, whether they are classes or not."""
    onto = case.ontology
    free = ~(onto.nodes["abstract"] | onto.nodes["blacklisted"]).to_numpy(dtype=bool)
    parents = onto.direct(onto.ids)[onto.positions(case.labels.classes)][:, np.flatnonzero(free)].sum(axis=1)
    asked = int(case.labels.counts()["present"].to_numpy() @ parents)
    each = edges(case)
    both = int(each.loc[free[onto.positions(each["parent"])], "both"].sum())
    told = {"quantity": "the same, parents by restrictions", "printed": _percent(PARENT_SHARE), "on": WHOLE}
    remark = "P2's wording: parents neither abstract nor blacklisted, whether they are classes or not: "
    share, narrow = both / max(asked, 1), each["both"].sum() / max(each["n"].sum(), 1)
    remark += f"{100 * share:.1f} % in place of {100 * narrow:.1f} %"
    return told | {"ours": f"{both:,} of {asked:,} ({_percent(share)})", "remark": remark}


def _percent(share: float) -> str:
    """Two digits, and no exponent: 0.71 %, 38 %, 100 %."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _has(case: Case, names: Sequence[str]) -> np.ndarray:
    """Which segments have one of these labels."""
    return (per_segment(case.labels.select(classes=list(names)))["labels"] > 0).to_numpy()


def _share_row(
    case: Case,
    name: str,
    printed: tuple[int, int] | None,
    share: float,
    ours: Sequence[np.ndarray] | None,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """One share; `ours`: pairs of each segment with the parent, and all pairs of each segment."""
    told = {"quantity": name, "printed": _percent(share), "on": WHOLE, "ours": "not among the classes"}
    if printed is not None:
        told["printed"] = f"{printed[0]:,} of {printed[1]:,} ({_percent(share)})"
    if ours is not None and ours[1].any():
        both, asked = ours
        told["ours"] = f"{both.sum():,.0f} of {asked.sum():,.0f} ({_percent(both.sum() / asked.sum())})"
        low, high = _share_ends(case, both, asked, rng)
        told["interval"] = "unbounded" if np.isnan(low) else f"{_percent(low)[:-2]} to {_percent(high)}"
    return told


def _share_ends(case: Case, both: np.ndarray, asked: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval: Wilson's where every pair is of another group, else by bootstrap over groups."""
    group = case.group[case.labels.segments][asked > 0]
    if asked.max() <= 1 and not group.duplicated().any():
        ends = binomtest(int(both.sum()), int(asked.sum())).proportion_ci(method="wilson")
        return float(ends.low), float(ends.high)
    index = case.labels.segments
    above, below = (pd.DataFrame({"pairs": n.astype(np.float64)}, index=index) for n in (both, asked))
    found = stats.bootstrap(resample.ratio_statistic(above, below, _units(case.group, rng)), rng)
    return found.low, found.high


def _with_child(case: Case, name: str) -> list[np.ndarray] | None:
    """Which segments have `name` and at least one of its direct children, and which have `name`."""
    if name not in case.labels.classes:
        return None
    own = _has(case, [name])
    return [own & _has(case, [child for child in case.ontology.children(name) if child in case.labels.classes]), own]


# --- traced and undone ------------------------------------------------------------------------------------------------


def believed(case: Case, recorded: Dataset, classes: Sequence[str], orders: Sequence[Sequence[str]]) -> pd.DataFrame:
    """What the labels are, by which sources are believed: labels and masks a segment, and if they are OL."""
    segments = recorded.segments[recorded.segments["segment"].isin(case.labels.segments)]
    rows = {}
    for sources in orders:
        labels = resolve(recorded, segments, sources, classes)
        mean = per_segment(labels).mean()
        same = labels.select(case.labels.segments, case.labels.classes) == case.labels
        rows[", then ".join(sources)] = {"labels": mean["labels"], "masked": mean["masked"], "same as OL": same}
    return pd.DataFrame.from_dict(rows, orient="index")


# --- claims -----------------------------------------------------------------------------------------------------------


def effects(case: Case, seed: int = 0) -> dict[str, stats.Interval]:
    """How far we are from what P2 prints: P2.1 in shares, P2.2 the largest of three relative differences."""
    rng = np.random.default_rng(seed)
    unit = _units(case.group, rng)
    asked, both = (table.sum(axis=1).to_frame("pairs") for table in _asked(case, case.labels))
    share = resample.ratio_statistic(both, asked, unit)
    wide = schemes(case, "all")
    parts = []
    for name, printed in PER_SEGMENT.items():
        what, scheme = name.split(", ")
        each = per_segment(wide[scheme])[[what]].astype(np.float64)
        parts.append((resample.ratio_statistic(each, each * 0 + 1, unit), printed))

    def away(counts: np.ndarray) -> np.ndarray:
        return np.max([np.abs(mean.of(counts) / printed - 1) for mean, printed in parts], axis=0)

    distance = resample.Statistic(share.recordings, lambda counts: np.abs(share.of(counts) - PARENT_SHARE))
    largest = resample.Statistic(share.recordings, away)
    return {"P2.1": _interval(case, distance, rng), "P2.2": _interval(case, largest, rng)}


def claims(case: Case, data: str, scale: str, seed: int = 0) -> pd.DataFrame:
    """Claims P2.1 and P2.2 with effect, interval and verdict; index id.

    Both are about AudioSet's raters, of whom the embedded data say nothing. P2.1 is about all of AudioSet, P2.2 about
    P2's excerpt: on other parts there is a number but no verdict.
    """
    found = effects(case, seed) if data == "audioset" else dict.fromkeys(("P2.1", "P2.2"))
    rows = [stats.claim_row(name, effect, data, scale) for name, effect in found.items()]
    segments = len(case.labels.segments)
    for item, same in zip(rows, (segments >= WHOLE_SIZE, segments == EXCERPT_SIZE), strict=True):
        if not same:
            item["verdict"] = stats.NEEDS_DATA
    return pd.DataFrame(rows).set_index("id")


def results(
    case: Case,
    parts: pd.DataFrame,
    found: Mapping[str, Mapping[str, pd.DataFrame]],
    ledger: pd.DataFrame,
    data: str,
    scale: str,
) -> list[dict[str, Any]]:
    """Rows of results.jsonl: counts of each scheme, parents ticked too, quality of each rule, effects of the claims."""
    rows: list[dict[str, Any]] = []

    def put(arm: str, metric: str, value: float | stats.Interval, experiment: str) -> None:
        rows.append(row(experiment, arm, metric, value, seed=None, data=data, scale=scale, split="all"))

    for name, vocabulary in (("classes", None), ("all nodes", "all")):
        for scheme, labels in schemes(case, vocabulary).items():
            for what, mean in per_segment(labels).mean().items():
                put(scheme, f"{what} a segment, {name}", float(mean), EXPERIMENT)
    for item in parts.to_dict("records"):
        value = stats.Interval(item["value"], item["low"], item["high"], 0.95, item["n"])
        put(item["arm"], f"parent ticked too, {item['metric']}", value, f"{EXPERIMENT}: raters")
    for item in quality_table(found).reset_index(names=["trial", "rule"]).to_dict("records"):
        for name in ("correction_precision", "correction_recall", "mask_precision", "mask_recall", "chance"):
            put(item["rule"], f"{name.replace('_', ' ')}, {item['trial']}", item[name], f"{EXPERIMENT}: quality")
    for item in ledger[ledger["value"].notna()].reset_index().to_dict("records"):
        value = stats.Interval(item["value"], item["low"], item["high"], 0.95, int(item["n"]))
        put(OL if item["id"] == "P2.1" else PE_CML, "distance from what P2 prints", value, item["id"])
    return rows
