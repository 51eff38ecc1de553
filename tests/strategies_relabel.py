"""Random hierarchies, labels and scores for the tests of relabelling."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from audiotk.ontology import Ontology
from audiotk.tables import Labels

NODES = [f"n{k}" for k in range(7)]


@st.composite
def hierarchies(draw):
    """An ontology of up to 7 nodes (several roots, several parents, no cycles), and {node: [direct parents]}."""
    size = draw(st.integers(1, len(NODES)))
    parents = {
        NODES[k]: sorted(draw(st.sets(st.sampled_from(NODES[:k]), max_size=3)) if k else set()) for k in range(size)
    }
    records = [
        {"id": f"/m/{name}", "name": name, "child_ids": [f"/m/{n}" for n in parents if name in parents[n]]}
        for name in parents
    ]
    return Ontology.from_records(records), parents


@st.composite
def label_frames(draw, classes, max_segments=5, values=(1.0, 1.0, 0.0, 0.0, np.nan)):
    """A frame of 1, 0, NaN; its segment ids are in no order."""
    size = draw(st.integers(0, max_segments))
    cells = draw(st.lists(st.sampled_from(values), min_size=size * len(classes), max_size=size * len(classes)))
    ids = draw(st.permutations([f"s{k}" for k in range(size)]))
    table = np.array(cells, dtype=float).reshape(size, len(classes))
    return pd.DataFrame(table, index=pd.Index(ids, dtype="str"), columns=list(classes))


@st.composite
def repairs(draw):
    """(ontology, parents, labels over some of its nodes, their frame)."""
    ontology, parents = draw(hierarchies())
    classes = draw(st.permutations(list(parents)))[: draw(st.integers(1, len(parents)))]
    frame = draw(label_frames(classes))
    return ontology, parents, labels_of(frame, draw(st.sampled_from([0.0, np.nan]))), frame


@st.composite
def score_frames(draw, frame, dtype=np.float64, grid=20):
    """Scores of the cells of `frame` in twentieths (so that ties and thresholds are met), in another order."""
    cells = draw(st.lists(st.integers(0, grid), min_size=frame.size, max_size=frame.size))
    table = (np.array(cells, dtype=float).reshape(frame.shape) / grid).astype(dtype)
    scores = pd.DataFrame(table, index=frame.index, columns=frame.columns)
    return scores.loc[draw(st.permutations(list(frame.index))), draw(st.permutations(list(frame.columns)))]


def labels_of(frame, default):
    return Labels.from_frame(frame, default)
