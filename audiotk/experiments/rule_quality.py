"""How good rules of a hierarchy are, measured on labels whose truth is known (notebook 08)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse

from audiotk import noise
from audiotk.datasets import raters
from audiotk.experiments.hierarchies import Case
from audiotk.ontology import Ontology
from audiotk.relabel import Relabeled, mask_children, parent_expand, pe_cml
from audiotk.tables import Labels

WRONG_SHARE = 0.1  # of a second trial: so many wrong labels are added for each label
RULES: dict[str, Callable[[Labels, Ontology], Relabeled]] = {
    "PEL": parent_expand,
    "PEL, one parent only": partial(parent_expand, multi_parent="unambiguous"),
    "PEL, several masked": partial(parent_expand, multi_parent="mask"),
    "CML alone": mask_children,
    "PE-CML": pe_cml,
}


def known(case: Case, seed: int = 0) -> tuple[Labels, Labels]:
    """Truth and noisy labels of the same segments.

    Where nobody knows the truth (AudioSet), the labels themselves are taken for it: the most specific ones are what is
    there, all ancestors included are the truth, and a simulated rater with the mean rates of the embedded ones ticks
    them anew.
    """
    if case.truth is not None:
        return case.truth, case.labels
    given = case.labels
    present = sparse.csr_array((given.cells == 1).astype(np.int64))
    row_, col = (present > present @ case.ontology.closure(given.classes)).nonzero()
    labels = Labels.from_cells(given.segments, given.classes, row_, col, np.ones(len(col)), default=0.0)
    parent, general, miss = raters.RATERS[["parent_rate", "general_rate", "miss_rate"]].mean()
    rng = np.random.default_rng(seed)
    ticked = noise.simulate_raters(labels, case.ontology, parent, general, miss, rng, raters=1)
    return parent_expand(labels, case.ontology).labels, ticked["rater:A"]


def quality(case: Case, seed: int = 0) -> dict[str, dict[str, pd.DataFrame]]:
    """Trial -> rule -> `noise.repair_quality`.

    In the first trial raters never tick what is not there, in the second one wrong label in a random class is added to
    every ten.
    """
    truth, labels = known(case, seed)
    cells = labels.counts().sum()
    rate = WRONG_SHARE * cells["present"] / cells["absent"]
    trials = {
        "raters as simulated": labels,
        "one wrong label to ten": noise.inject(labels, wrong=rate, rng=np.random.default_rng([seed, 1])),
    }
    return {
        name: {
            rule: noise.repair_quality(truth, one, change(one, case.ontology).labels) for rule, change in RULES.items()
        }
        for name, one in trials.items()
    }


def quality_table(found: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """All cells together: one row a trial and rule, the columns of `noise.repair_quality`."""
    rows = {(trial, rule): table.loc["(all)"] for trial, rules in found.items() for rule, table in rules.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    whole = [
        "judged",
        "missing",
        "wrong",
        "corrected",
        "corrected_right",
        "repaired",
        "masked",
        "masked_errors",
        "left",
    ]
    return table.astype(dict.fromkeys(whole, "int64"))


def quality_words(found: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """The same as a table to read."""
    table = quality_table(found)
    percent = {
        "corrections that are right": "correction_precision",
        "errors corrected": "correction_recall",
        "masks that hide an error": "mask_precision",
        "by chance": "chance",
        "errors masked": "mask_recall",
    }
    told = pd.DataFrame({"rule": table.index.get_level_values(1)}, index=table.index.get_level_values(0))
    told["errors before"] = [f"{n:,}" for n in table["missing"] + table["wrong"]]
    told["errors after"] = [f"{n:,}" for n in table["left"]]
    for name, column in percent.items():
        told[name] = ["–" if np.isnan(share) else f"{100 * share:.1f} %" for share in table[column]]
    return told


def by_kind(case: Case, table: pd.DataFrame) -> pd.DataFrame:
    """Counts of `noise.repair_quality` added up over the classes of each part that have classes below, and do not."""
    general = np.diff(case.ontology.closure(case.labels.classes).T.tocsr().indptr) > 0
    kind = case.part + pd.Series(np.where(general, ", general", ", leaves"), index=case.part.index)
    rows = table.loc[case.labels.classes].groupby(kind[case.labels.classes].to_numpy()).sum()
    return rows.loc[sorted(rows.index, key=lambda name: (name.endswith("leaves"), name))]
