"""Labels that raters chose from a hierarchy: AudioSet's own files, and the embedded data, where the truth is known."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from audiotk import datasets
from audiotk.datasets import raters
from audiotk.errors import AudiotkError, NotForThisData
from audiotk.experiments import check_scale
from audiotk.labels import resolve
from audiotk.ontology import Ontology
from audiotk.relabel import parent_expand
from audiotk.tables import Dataset, Labels, whole_recordings

ONE_RATER = "one rater each"
SPLITS = ("official", "80-10-10")
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}  # P2, section V.B
SIZES = {"smoke": (64, 16, 16), "demo": (512, 64, 128), "paper": (2000, 500, 1000)}  # train, val, test; as notebook 02


@dataclass(frozen=True)
class Case:
    """Labels to repair and what is known about them; all labels have the same segments and classes.

    `labels` are those of the source `source` of `dataset` (OL), `by_source` what each rater would have said (or the one
    source there is), `truth` what is there, classes closed upwards (None: nobody knows). `group` is what intervals
    resample, index segment; `part` the root above each class (the first one, if there are several); `told` where the
    labels come from, in words.
    """

    told: str
    dataset: Dataset
    source: str
    ontology: Ontology
    labels: Labels
    by_source: Mapping[str, Labels]
    truth: Labels | None
    group: pd.Series
    part: pd.Series

    def __repr__(self) -> str:
        return f"{self.told}\n{self.labels!r}\nontology: {len(self.ontology)} nodes"


def load(
    data: str, data_root: str, scale: str, sizes: Mapping[str, tuple[int, int, int]] = SIZES, split: str = "",
    excerpt: int = 0,
) -> Case:  # fmt: skip
    """Labels of a hierarchy: data "embedded" (`sizes`: recordings in train, val and test by scale) or "audioset".

    Parameters
    ----------
    data, data_root, scale, sizes
        As above.
    split
        Of AudioSet: "official" (the evaluation file is the test set), or "80-10-10", P2's (:func:`redrawn`). "" is P2's
        at scale "paper", else the official one.
    excerpt
        Of AudioSet: at most so many recordings, chosen by :func:`excerpt_of`; 0: all.

    Raises
    ------
    NotForThisData
        A data set without hierarchy.
    AudiotkError
        An unknown scale or split, a split of the embedded data, or an excerpt of less than no recordings.
    """
    check_scale(scale)
    if data not in ("embedded", "audioset"):
        raise NotForThisData(
            f"{data}: this experiment is about labels of a hierarchy and raters who chose among them; use "
            "data=embedded, or data=audioset with the folder of AudioSet's CSV files and ontology.json as data_root"
        )
    if split not in ("", *SPLITS) or (split and data == "embedded"):
        told = "embedded data have a split of their own" if split in SPLITS else f"got {split!r}"
        raise AudiotkError(f"split: expected {' or '.join(SPLITS)} with data=audioset, else nothing; {told}")
    if excerpt < 0:
        raise AudiotkError(f"excerpt: expected a number of recordings, or 0 for all, got {excerpt}")
    if data == "embedded":
        return _embedded(data_root, sizes[scale])
    return _audioset(data_root, split or ("80-10-10" if scale == "paper" else "official"), excerpt)


def _audioset(data_root: str, split: str, excerpt: int) -> Case:
    with warnings.catch_warnings():  # an empty split matters to who trains; here labels are counted
        warnings.filterwarnings("ignore", message="audioset: no recording is in")
        dataset = datasets.load("audioset", data_root or None)
    told = "AudioSet, " + ", ".join(sorted(path.name for path in Path(data_root).glob("*segments*.csv")))
    if excerpt and excerpt < (count := len(dataset.recordings)):
        dataset = excerpt_of(dataset, excerpt)
        told += f"; an excerpt of {len(dataset.recordings):,} of {count:,}, rare labels first"
    if split != "official":
        dataset = redrawn(dataset)
        told += f"; split {split} by video, as in P2"
    return _case(told, dataset, "audioset", Ontology.read(Path(data_root) / "ontology.json"), ["audioset"], None)


def redrawn(dataset: Dataset, seed: int = 0) -> Dataset:
    """The data set with 80, 10 and 10 % of its groups (videos) in train, val and test; the order of rows is no matter.

    P2 says no more than that; that no video is in two parts is ours.
    """
    groups = np.sort(dataset.recordings["group"].unique().astype(str))
    ends = np.round(np.cumsum(list(SHARES.values())) * len(groups)).astype(int)
    part = np.repeat(list(SHARES), np.diff(ends, prepend=0))
    drawn = pd.Series(np.random.default_rng(seed).permutation(part), index=groups)
    recordings = dataset.recordings
    return replace(dataset, split=recordings["group"].map(drawn).set_axis(recordings["recording"]))


def excerpt_of(dataset: Dataset, size: int, seed: int = 0) -> Dataset:
    """`size` recordings of AudioSet, more only if there are more that are not of an "unbalanced" file.

    P2 (section V.A) took all recordings that could be had of the evaluation and the balanced training set, and some of
    the unbalanced one, "only to get more examples of the rare labels"; which ones was not published. Here one after the
    other is drawn at random among those that have the class with the fewest recordings so far.
    """
    recordings = dataset.recordings.sort_values("recording")
    notes = dataset.annotations
    named = pd.Index(notes["segment"].map(dataset.segments.set_index("segment")["recording"]))
    row = pd.Index(recordings["recording"]).get_indexer(named)
    column = pd.Index(dataset.classes).get_indexer(pd.Index(notes["class_name"]))
    has = sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(recordings), len(dataset.classes)))
    has.data[:] = 1.0  # a label named twice counts once
    taken = ~recordings["unbalanced"].to_numpy()
    count = np.asarray(has[taken].sum(axis=0))
    pool = np.random.default_rng(seed).permutation(np.flatnonzero(~taken))
    by_class = has[pool].tocsc()
    by_class.sort_indices()
    queues = [iter(pool[part]) for part in np.split(by_class.indices, by_class.indptr[1:-1])]
    left = size - int(taken.sum())
    while left > 0 and np.isfinite(count).any():
        rarest = int(count.argmin())
        found = next((k for k in queues[rarest] if not taken[k]), None)
        if found is None:
            count[rarest] = np.inf  # there are no more of it
            continue
        taken[found] = True
        count[has.indices[has.indptr[found] : has.indptr[found + 1]]] += 1
        left -= 1
    return dataset.only(recordings["recording"][taken])


def _embedded(data_root: str, size: tuple[int, int, int]) -> Case:
    """The raters' ticks; OL is that of one rater a recording, in turn, as in AudioSet, where a segment has one."""
    counts = dict(zip(("n_train", "n_val", "n_test"), size, strict=True))
    dataset = datasets.load("embedded", data_root or None, progress=True, **counts)
    ontology = Ontology.from_records(raters.mini_ontology())
    names = ontology.names[~ontology.nodes["abstract"]]
    sources = list(raters.RATERS.index)
    recordings = dataset.recordings.set_index("recording")
    turn = pd.Series([sources[k % len(sources)] for k in range(len(recordings))], index=recordings.index)
    recording = dataset.annotations["segment"].map(dataset.segments.set_index("segment")["recording"])
    asked = dataset.annotations[dataset.annotations["source"] == recording.map(turn)].assign(source=ONE_RATER)
    flags = pd.DataFrame({"closed": True, "weak": True}, index=[*sources, ONE_RATER])
    others = dataset.sources.drop(index=sources)
    heard = dataset.annotations[(dataset.annotations["source"] == "truth") & (dataset.annotations["value"] == 1)]
    events = heard["class_name"].groupby(recording[heard.index]).unique()
    nodes = [
        raters.true_nodes(list(events.get(name, [])), one["background"].split("+"), one["rt60_s"])
        for name, one in recordings.iterrows()
    ]
    wholes = whole_recordings(dataset.recordings)
    place = [(i, names.get_loc(name)) for i, some in enumerate(nodes) for name in some]
    rows, cols = np.array(place).T
    specific = Labels.from_cells(wholes["segment"], names, rows, cols, np.ones(len(rows)), default=0.0)
    seen = replace(
        dataset,
        annotations=pd.concat([dataset.annotations, asked], ignore_index=True),
        sources=pd.concat([others, flags]),
        classes=list(names),
    )
    told = f"embedded data, raters simulated: {', '.join(sources)}, one of them a recording"
    return _case(told, seen, ONE_RATER, ontology, sources, parent_expand(specific, ontology).labels)


def _case(
    told: str, dataset: Dataset, source: str, ontology: Ontology, sources: Sequence[str], truth: Labels | None
) -> Case:
    """All on the segments that have a label of `source`, as all of AudioSet's have."""
    named = dataset.annotations.loc[dataset.annotations["source"] == source, "segment"].unique()
    segments = dataset.segments[dataset.segments["segment"].isin(named)]
    labels = resolve(dataset, segments, [source])
    by_source = {name: labels if name == source else resolve(dataset, segments, [name]) for name in sources}
    truth = None if truth is None else truth.select(labels.segments)
    group = segments["recording"].map(dataset.recordings.set_index("recording")["group"])
    roots = [
        next(root for root in ontology.roots if root in {name, *ontology.ancestors(name)}) for name in labels.classes
    ]
    part = pd.Series(roots, index=labels.classes, name="part")
    unit = pd.Series(group.array, index=segments["segment"])
    return Case(told, dataset, source, ontology, labels, by_source, truth, unit, part)
