"""How good each rule is, measured on labels whose truth is known (notebook 08)."""

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
from audiotk.relabel import Relabeled, correct, mask_children, mean_threshold, parent_expand, pe_cml, percentile
from audiotk.tables import Labels

WRONG_SHARE = 0.1  # of a second trial: so many wrong labels are added for each label
RULES: dict[str, Callable[[Labels, Ontology], Relabeled]] = {
    "PEL": parent_expand,
    "PEL, one parent only": partial(parent_expand, multi_parent="unambiguous"),
    "PEL, several masked": partial(parent_expand, multi_parent="mask"),
    "CML alone": mask_children,
    "PE-CML": pe_cml,
}
TAUGHT: dict[str, Callable[[Labels, pd.DataFrame, Ontology], Relabeled]] = {  # the rows of P1's Table 2, and PSLA's own
    "percentile, mask": lambda labels, scores, _: percentile(labels, scores),
    "percentile, correct": lambda labels, scores, _: percentile(labels, scores, mode="correct"),
    "mean threshold, any class": lambda labels, scores, _: mean_threshold(labels, scores),
    "mean threshold, ontology": lambda labels, scores, onto: mean_threshold(
        labels, scores, scope="ontology", ontology=onto
    ),
    "correct missing": lambda labels, scores, _: correct(labels, scores, missing="correct"),
    "correct both": lambda labels, scores, _: correct(labels, scores, missing="correct", wrong="correct"),
    "correct + mask missing": lambda labels, scores, _: correct(labels, scores),
    "correct + mask both": lambda labels, scores, _: correct(labels, scores, wrong="correct+mask"),
}
AUC, REPEATS, MISSING_SHARE = 0.95, 0.5, 0.3  # of the teacher, and of the labels that it judges
MOST_SEGMENTS = 25_000  # whose cells are scored, drawn at random where there are more


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


def taught(case: Case, seed: int = 0) -> dict[str, dict[str, pd.DataFrame]]:
    """Teacher -> rule with scores -> `noise.repair_quality`, on labels with injected errors.

    Of the true labels of each class `MISSING_SHARE` are missing, and `WRONG_SHARE` as many wrong ones are added. The
    teachers are made up (`noise.simulate_teacher`): the first one's errors have nothing to do with those of the labels,
    the second one repeats some of them, as one that was trained on these labels.
    """
    rng = np.random.default_rng([seed, 2])
    truth = known(case, seed)[0]
    if len(truth.segments) > MOST_SEGMENTS:
        chosen = np.sort(rng.choice(len(truth.segments), MOST_SEGMENTS, replace=False))
        truth = truth.select(truth.segments[chosen])
    cells = truth.counts()
    rate = (WRONG_SHARE * cells["present"] / cells["absent"].clip(lower=1)).clip(upper=1)
    labels = noise.inject(truth, missing=MISSING_SHARE, wrong=rate, rng=rng)
    found = {}
    for name, repeats in (("independent teacher", 0.0), ("teacher that repeats errors", REPEATS)):
        scores = noise.simulate_teacher(truth, AUC, rng, labels, repeats)
        found[name] = {
            rule: noise.repair_quality(truth, labels, change(labels, scores, case.ontology).labels)
            for rule, change in TAUGHT.items()
        }
    return found


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
    """Counts of `noise.repair_quality` added up over the classes of each part that have classes below, and do not.

    A class counts once, in its first part.
    """
    general = np.diff(case.ontology.closure(case.labels.classes).T.tocsr().indptr) > 0
    kind = case.part + pd.Series(np.where(general, ", general", ", leaves"), index=case.part.index)
    rows = table.loc[case.labels.classes].groupby(kind[case.labels.classes].to_numpy()).sum()
    return rows.loc[sorted(rows.index, key=lambda name: (name.endswith("leaves"), name))]
