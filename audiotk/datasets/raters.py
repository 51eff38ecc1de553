"""Who labels the embedded data, from those who know the truth to raters who tick part of a hierarchy.

Each function takes the *notes* of recordings (see :func:`audiotk.datasets.embedded.make_recording`) and returns rows
recording, start_s, end_s, class_name, value, source. Chance comes from one generator a recording (``rng_of(note)``), so
the labels of a recording do not depend on which others there are.

The hierarchy is a part of the AudioSet ontology (Gemmeke et al., "Audio Set: an ontology and human-labeled dataset for
audio events", ICASSP 2017; CC BY-SA 4.0), cut to the 70 nodes around this data: ``mini_ontology.json``, in the format
of AudioSet's ``ontology.json``, with its ids, names and restrictions; `child_ids` hold only nodes that were kept. Class
names of the raters are ontology *names* ("Bark", "Dog", "Animal"), not the embedded classes: see :data:`NODE_NAMES` and
:func:`node_ids`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audiotk.synthesis import CLASSES

Note = Mapping[str, Any]
RngOf = Callable[[Note], np.random.Generator]
COLUMNS = ["recording", "start_s", "end_s", "class_name", "value", "source"]

PATH = Path(__file__).parent / "mini_ontology.json"
# embedded class or background kind -> name of its node; kinds without a node are heard but not named
NODE_NAMES = {
    "bark": "Bark",
    "howl": "Howl",
    "whine": "Whimper (dog)",
    "growl": "Growling",
    "cough": "Cough",
    "sneeze": "Sneeze",
    "drinking": "Slosh",
    "eating": "Chewing, mastication",
    "clean": "Silence",
    "noisy": "Environmental noise",
    "device": "Static",
    "fan": "Mechanical fan",
    "hum": "Mains hum",
    "traffic": "Traffic noise, roadway noise",
    "rain": "Rain",
    "babble": "Hubbub, speech noise, speech babble",
    "music": "Music",
    "bowl": "Dishes, pots, and pans",
}

# parent: the parent of a ticked label is ticked too; general: a parent is ticked in place of the label; miss: neither
# is. P2 (Grzywalski & Botteldooren, "Automatic re-labeling of Google AudioSet") finds the parent ticked in about half
# of the cases; the other two rates are our choice.
RATERS = pd.DataFrame(
    {"parent_rate": [0.35, 0.50, 0.65], "general_rate": [0.20, 0.30, 0.40], "miss_rate": [0.15, 0.10, 0.20]},
    index=pd.Index(["rater:A", "rater:B", "rater:C"], name="source"),
)


@lru_cache(maxsize=1)
def _nodes() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(PATH.read_text(encoding="utf-8")))


def mini_ontology() -> list[dict[str, Any]]:
    """The nodes: id, name, child_ids, restrictions, as in AudioSet's ``ontology.json``."""
    return [dict(node) for node in _nodes()]


def parents() -> dict[str, tuple[str, ...]]:
    """Names of the direct parents of each node, by name."""
    found: dict[str, tuple[str, ...]] = {node["name"]: () for node in _nodes()}
    names = {node["id"]: node["name"] for node in _nodes()}
    for node in _nodes():
        for child in node["child_ids"]:
            found[names[child]] = (*found[names[child]], node["name"])
    return found


def abstract_names() -> set[str]:
    """Nodes that nobody ticks because they only group others."""
    return {node["name"] for node in _nodes() if "abstract" in node["restrictions"]}


def node_ids() -> dict[str, str]:
    """Embedded class or background kind -> AudioSet id of its node, as ``bark`` -> ``/m/05tny_``."""
    ids = {node["name"]: node["id"] for node in _nodes()}
    return {ours: ids[name] for ours, name in NODE_NAMES.items()}


def true_nodes(class_names: list[str], kinds: list[str], rt60_s: float) -> list[str]:
    """What is really there in a recording: the sorted names of the most specific nodes, that of the room included."""
    names = {NODE_NAMES[name] for name in (*class_names, *kinds) if name in NODE_NAMES}
    if class_names:
        names.discard("Silence")
    names.add("Inside, small room" if rt60_s < 0.4 else "Inside, large room or hall")
    return sorted(names)


def tick(
    names: list[str], parent_rate: float, general_rate: float, miss_rate: float, rng: np.random.Generator
) -> list[str]:
    """The labels one rater ticks for one recording.

    Parameters
    ----------
    names
        The nodes that are really there.
    parent_rate
        Probability that a node is ticked given that one of its children is (drawn once for a node; repeated upwards).
    general_rate
        Probability that a node is replaced by one of its direct parents (abstract ones are never ticked).
    miss_rate
        Probability that a node is not noticed at all.
    rng
        Source of chance.

    Returns
    -------
    list of str
        Sorted node names, without abstract nodes.
    """
    up, hidden = parents(), abstract_names()
    ticked: list[str] = []
    for name in names:
        missed, general, which = rng.random(3)
        above = [p for p in up[name] if p not in hidden]
        if missed >= miss_rate:
            ticked.append(above[int(which * len(above))] if above and general < general_rate else name)
    ticked = list(dict.fromkeys(ticked))
    decided = set(ticked)
    for name in ticked:  # grows while it is walked: a ticked parent may bring its own parents
        for parent in up[name]:
            if parent not in decided and parent not in hidden:
                decided.add(parent)
                if rng.random() < parent_rate:
                    ticked.append(parent)
    return sorted(ticked)


def hierarchy(notes: Sequence[Note], rng_of: RngOf) -> pd.DataFrame:
    """Sources "rater:A", "rater:B", "rater:C": ticks with the rates of :data:`RATERS`."""
    rows = []
    for note in notes:
        row, rng = note["recording"], rng_of(note)
        names = true_nodes([e["class_name"] for e in note["events"]], row["background"].split("+"), row["rt60_s"])
        for source, rates in RATERS.iterrows():
            rows += [_whole(note, name, 1.0, str(source)) for name in tick(names, **rates, rng=rng)]
    return pd.DataFrame(rows, columns=COLUMNS)


def truth(notes: Sequence[Note]) -> pd.DataFrame:
    """Source "truth": each event 1 over its range; for each class the rest of the recording 0."""
    rows: list[tuple[Any, ...]] = []
    for note in notes:
        name, duration = note["recording"]["recording"], note["recording"]["duration_s"]
        for class_name in CLASSES:
            spans = sorted((e["start_s"], e["end_s"]) for e in note["events"] if e["class_name"] == class_name)
            rows += [(name, start, end, class_name, 1.0, "truth") for start, end in spans]
            edges = [0.0, *(edge for span in spans for edge in span), duration]
            gaps = zip(edges[::2], edges[1::2], strict=True)
            rows += [(name, start, end, class_name, 0.0, "truth") for start, end in gaps if end > start]
    return pd.DataFrame(rows, columns=COLUMNS)


def scraped(notes: Sequence[Note], mislabeled_silence: float, rng_of: RngOf) -> pd.DataFrame:
    """Source "scraped": the searched class over the whole recording; a random class for some quiet recordings."""
    rows = []
    for note in notes:
        rng = rng_of(note)
        wrong = CLASSES[rng.integers(len(CLASSES))] if rng.random() < mislabeled_silence else ""
        if class_name := note["recording"]["searched"] or wrong:
            rows.append(_whole(note, class_name, 1.0, "scraped"))
    return pd.DataFrame(rows, columns=COLUMNS)


def noisy(notes: Sequence[Note], missing_rate: float, wrong_rate: float, rng_of: RngOf) -> pd.DataFrame:
    """Source "noisy": every class over the whole recording; present ones missed, absent ones added at given rates."""
    rows = []
    for note in notes:
        present = {row["class_name"] for row in note["events"]}
        for class_name, u in zip(CLASSES, rng_of(note).random(len(CLASSES)), strict=True):
            value = float(u >= missing_rate) if class_name in present else float(u < wrong_rate)
            rows.append(_whole(note, class_name, value, "noisy"))
    return pd.DataFrame(rows, columns=COLUMNS)


def _whole(note: Note, class_name: str, value: float, source: str) -> tuple[Any, ...]:
    return (note["recording"]["recording"], 0.0, note["recording"]["duration_s"], class_name, value, source)
