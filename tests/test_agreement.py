"""Agreement of labelers: known truths, and twins that count one by one."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk import agreement as ag
from audiotk.agreement import agreement, heard_whole, raster, self_agreement
from audiotk.agreement.matching import inside, intersect, match, match_overlap
from audiotk.errors import AudiotkError

Row = tuple[str, str, float, float, str]


def marks(*rows: Row) -> pd.DataFrame:
    """Segments from rows (recording, labeler, start_s, end_s, class_name)."""
    columns = {"recording": "str", "labeler": "str", "start_s": "float64", "end_s": "float64", "class_name": "str"}
    return pd.DataFrame(list(rows), columns=list(columns)).astype(columns)


def whole(*labelers: str, recordings: tuple[str, ...] = ("r",), seconds: float = 10.0) -> pd.DataFrame:
    return heard_whole(pd.DataFrame({"recording": list(recordings), "duration_s": seconds}), labelers)


def row(table: pd.DataFrame, class_name: str = "Dog") -> dict[Any, Any]:
    found = table[table["class_name"] == class_name]
    assert len(found) == 1
    return found.iloc[0].to_dict()


def test_known_truth() -> None:
    """Two of three dogs matched, one of them 0.1 s late; 100 of 1000 frames each, 90 of them common."""
    segments = marks(
        ("r", "ann", 1.0, 1.5, "Dog"), ("r", "ann", 4.0, 4.5, "Dog"), ("r", "ann", 7.0, 7.1, "Cat"),
        ("r", "ben", 1.0, 1.5, "Dog"), ("r", "ben", 4.1, 4.6, "Dog"), ("r", "ben", 8.0, 8.5, "Dog"),
    )  # fmt: skip
    table = agreement(segments, whole("ann", "ben"))
    dog = row(table)
    assert (dog["one"], dog["other"]) == ("ann", "ben")
    assert (dog["matched"], dog["n_one"], dog["n_other"]) == (2, 2, 3)
    assert dog["f1"] == pytest.approx(4 / 5)
    assert (dog["frames"], dog["frames_one"], dog["frames_other"], dog["frames_both"]) == (1000, 100, 150, 90)
    chance = (100 * 150 + 900 * 850) / 1e6
    assert dog["kappa"] == pytest.approx((0.93 - chance) / (1 - chance))
    assert dog["start_median_s"] == pytest.approx(0.05)
    assert dog["end_p90_s"] == pytest.approx(0.09)
    assert (dog["overlapping"], dog["recordings"], dog["heard_s"]) == (2, 1, 10.0)
    cat = row(table, "Cat")
    assert (cat["f1"], cat["n_one"], cat["n_other"]) == (0.0, 1, 0)
    assert math.isnan(cat["start_median_s"])
    both = row(table, ag.ALL)
    assert both["f1"] == pytest.approx(4 / 6)
    assert both["kappa"] == pytest.approx((dog["kappa"] + cat["kappa"]) / 2)


def test_nothing_in_common_is_unknown_and_not_agreement() -> None:
    """Heard one after the other: no number, whatever was marked."""
    segments = marks(("r", "ann", 1, 2, "Dog"), ("r", "ben", 1, 2, "Dog"))
    heard = pd.DataFrame(
        [("r", "ann", 0.0, 5.0), ("r", "ben", 5.0, 9.0), ("s", "ann", 0.0, 5.0)],
        columns=["recording", "labeler", "start_s", "end_s"],
    )
    last = row(agreement(segments, heard), ag.ALL)
    assert (last["n_one"], last["n_other"], last["frames"], last["recordings"], last["heard_s"]) == (0, 0, 0, 0, 0.0)
    assert all(math.isnan(last[name]) for name in ("f1", "kappa", "start_median_s", "end_p90_s"))
    asked = row(agreement(segments, heard, classes=["Dog"]))
    assert math.isnan(asked["f1"])
    assert math.isnan(asked["kappa"])


def test_an_empty_labeler() -> None:
    """One who heard all and marked nothing disagrees; two of them agree, but no number says how far beyond chance."""
    segments = marks(("r", "ann", 1, 2, "Dog"))
    table = agreement(segments, whole("ann", "ben", "eve"), classes=["Dog"])
    assert table[table["class_name"] == "Dog"]["f1"].tolist()[:2] == [0.0, 0.0]
    silent = agreement(segments, whole("ann", "ben", "eve"), [("ben", "eve")], classes=["Dog"])
    assert math.isnan(row(silent)["f1"])
    assert math.isnan(row(silent)["kappa"])
    assert row(silent)["frames"] == 1000
    none = agreement(marks(), whole())
    assert none.empty
    assert list(none.columns) == list(ag.COLUMNS)


def test_only_what_both_have_heard_counts() -> None:
    segments = marks(
        ("r", "ann", 1, 2, "Dog"), ("r", "ann", 6, 7, "Dog"), ("r", "ben", 1, 2, "Dog"),
        ("r", "ann", 4.8, 5.3, "Dog"), ("r", "ben", 4.9, 5.2, "Dog"),
    )  # fmt: skip
    heard = pd.concat([whole("ann"), whole("ben", seconds=5.0)])
    dog = row(agreement(segments, heard))
    assert (dog["n_one"], dog["n_other"], dog["matched"]) == (1, 1, 1)  # what sticks out by more than half is left out
    assert (dog["frames"], dog["frames_one"]) == (500, 120)
    more = marks(("r", "ann", 4.8, 5.15, "Dog"), ("r", "ben", 4.7, 5.1, "Dog"))
    pair = row(agreement(more, heard))
    assert (pair["n_one"], pair["n_other"], pair["f1"]) == (1, 1, 1.0)  # one of the two counts, so the pair does


def test_hidden_repeats() -> None:
    segments = marks(("r", "ann", 1, 2, "Dog"), ("r", "ann (again)", 1.1, 2, "Dog"), ("r", "ben", 5, 6, "Dog"))
    heard = pd.concat([whole("ann", "ben", recordings=("r", "s")), whole("ann (again)")])
    again = self_agreement(segments, heard)
    assert again["one"].unique().tolist() == ["ann"]
    assert row(again)["f1"] == 1.0
    assert row(again)["frames"] == 1000  # only the recording that came again
    assert row(agreement(segments, heard))["other"] == "ben"  # and no repeat among the others
    assert self_agreement(segments[segments["labeler"] == "ben"], whole("ben")).empty


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start_s": 3.0}, "row 0"),
        ({"end_s": math.nan}, "row 0"),
        ({"start_s": -1.0}, "row 0"),
    ],
)
def test_bad_segments_are_named(change: dict[str, float], said: str) -> None:
    with pytest.raises(AudiotkError, match=said):
        agreement(marks(("r", "ann", 1, 2, "Dog")).assign(**change), whole("ann"))


def test_bad_questions() -> None:
    segments, heard = marks(("r", "ann", 1, 2, "Dog")), whole("ann", "ben")
    with pytest.raises(AudiotkError, match="columns"):
        agreement(segments.drop(columns="labeler"), heard)
    with pytest.raises(AudiotkError, match="eve"):
        agreement(segments, heard, [("ann", "eve")])
    with pytest.raises(AudiotkError, match="pairs of two"):
        agreement(segments, heard, [("ann", "ann")])
    with pytest.raises(AudiotkError, match="collar_s"):
        agreement(segments, heard, collar_s=-0.1)
    with pytest.raises(AudiotkError, match="hop_s"):
        agreement(segments, heard, hop_s=0.0)


# --- twins ------------------------------------------------------------------------------------------------------------

times = st.integers(0, 3000)


def spans(most: int) -> st.SearchStrategy[np.ndarray]:
    """Up to `most` ranges of whole milliseconds within 4 s."""
    span = st.tuples(times, st.integers(1, 1000)).map(lambda pair: (pair[0], pair[0] + pair[1]))
    return st.lists(span, max_size=most).map(lambda rows: np.array(rows, dtype=np.int64).reshape(-1, 2))


def same(a: np.ndarray, b: np.ndarray, collar: int) -> bool:
    """The definition, in whole milliseconds; the end's collar is 20 % of the shorter."""
    shorter = min(a[1] - a[0], b[1] - b[0])
    return abs(a[0] - b[0]) <= collar and 5 * abs(a[1] - b[1]) <= max(5 * collar, shorter)


def best(together: list[list[bool]], apart: list[list[int]]) -> tuple[int, int]:
    """(pairs, minus what they lie apart) of the best pairing of rows and columns that go together, by trying all."""
    options: list[list[int | None]] = [[None, *[j for j, good in enumerate(line) if good]] for line in together]
    results = []
    for choice in itertools.product(*options):
        used = [j for j in choice if j is not None]
        if len(set(used)) == len(used):
            results.append((len(used), -sum(apart[i][j] for i, j in enumerate(choice) if j is not None)))
    return max(results)


@given(spans(5), spans(5), st.sampled_from([0, 50, 200, 700]))
@settings(max_examples=60)
def test_matching_is_the_best_of_all_pairings(one: np.ndarray, other: np.ndarray, collar: int) -> None:
    pairs = match(one / 1000, other / 1000, collar / 1000)
    assert all(same(one[i], other[j], collar) for i, j in pairs)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    apart = sum(int(np.abs(one[i] - other[j]).sum()) for i, j in pairs)
    together = [[same(a, b, collar) for b in other] for a in one]
    assert (len(pairs), -apart) == best(together, [[int(np.abs(a - b).sum()) for b in other] for a in one])
    assert len(match(other / 1000, one / 1000, collar / 1000)) == len(pairs)


def test_as_many_pairs_as_possible_comes_first() -> None:
    """The closest pair must give way where two pairs are possible instead."""
    one, other = np.array([[0.0, 1.0], [0.2, 1.2]]), np.array([[0.15, 1.15], [0.4, 1.4]])
    assert match(one, other).tolist() == [[0, 0], [1, 1]]
    assert match(one, other, collar_s=0.1).tolist() == [[1, 0]]


def test_collars_are_as_wide_as_they_say() -> None:
    long = np.array([[0.0, 5.0]])
    for other, fits in (
        ([0.2, 6.0], True),
        ([0.21, 5.0], False),
        ([0.0, 6.01], False),
        ([0.0, 4.2], True),
        ([0.0, 4.16], False),
    ):
        assert bool(len(match(long, np.array([other])))) is fits, other


@given(spans(4), spans(4))
@settings(max_examples=60)
def test_pairs_by_overlap_share_half(one: np.ndarray, other: np.ndarray) -> None:
    pairs = match_overlap(one.astype(float), other.astype(float))
    common = [[min(a[1], b[1]) - max(a[0], b[0]) for b in other] for a in one]
    spanned = [[max(a[1], b[1]) - min(a[0], b[0]) for b in other] for a in one]
    together = [[2 * x >= y for x, y in zip(*lines, strict=True)] for lines in zip(common, spanned, strict=True)]
    assert all(together[i][j] for i, j in pairs)
    assert len(pairs) == best(together, [[0] * len(other)] * len(one))[0]


@given(spans(4), spans(4), spans(3), spans(3), st.sampled_from([1, 10, 40]))
@settings(max_examples=25)
def test_kappa_is_that_of_scikit_learn(
    one: np.ndarray, other: np.ndarray, first: np.ndarray, second: np.ndarray, hop: int
) -> None:
    """Frames set one by one in whole milliseconds; both heard only parts."""
    from sklearn.metrics import cohen_kappa_score

    def at(ranges: np.ndarray, k: int) -> bool:
        return any(2 * start <= (2 * k + 1) * hop < 2 * end for start, end in ranges)

    frames = [k for k in range(4000 // hop + 1) if at(first, k) and at(second, k)]
    rows = [[at(ranges, k) for k in frames] for ranges in (one, other)]
    segments = marks(
        *(("r", who, a / 1000, b / 1000, "Dog") for who, part in (("ann", one), ("ben", other)) for a, b in part)
    )
    heard = marks(
        *(("r", who, a / 1000, b / 1000, "") for who, part in (("ann", first), ("ben", second)) for a, b in part)
    )
    if not len(first) or not len(second):
        return
    found = row(agreement(segments, heard, classes=["Dog"], hop_s=hop / 1000))
    assert (found["frames"], found["frames_one"]) == (len(frames), sum(rows[0]))
    assert found["frames_both"] == sum(a and b for a, b in zip(*rows, strict=True))
    if found["frames"] and 0 < sum(rows[0]) + sum(rows[1]) < 2 * len(frames):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert found["kappa"] == pytest.approx(cohen_kappa_score(*rows), nan_ok=True)
    else:
        assert math.isnan(found["kappa"])


@given(spans(6), spans(6), spans(4))
@settings(max_examples=15)
def test_it_does_not_matter_who_comes_first(one: np.ndarray, other: np.ndarray, first: np.ndarray) -> None:
    segments = marks(
        *(("r", who, a / 1000, b / 1000, "Dog") for who, part in (("ann", one), ("ben", other)) for a, b in part)
    )
    heard = pd.concat(
        [
            marks(*(("r", "ann", a / 1000, b / 1000, "") for a, b in first)),
            whole("ben", "ann", recordings=("q",)),
            whole("ben"),
        ]
    )
    a, b = (row(agreement(segments, heard, [pair], classes=["Dog"])) for pair in (("ann", "ben"), ("ben", "ann")))
    for name in ("f1", "kappa", "matched", "frames_both", "start_p90_s", "end_median_s"):
        assert a[name] == pytest.approx(b[name], nan_ok=True)
    assert (a["n_one"], a["frames_other"]) == (b["n_other"], b["frames_one"])


@given(spans(5), spans(5))
@settings(max_examples=15)
def test_event_f1_is_that_of_sed_eval(one: np.ndarray, other: np.ndarray) -> None:
    """With the same collar at both ends, where who is the truth makes no difference there either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sed_eval = pytest.importorskip("sed_eval", reason="no sed_eval here")
        containers = pytest.importorskip("dcase_util").containers
    events = [
        containers.MetaDataContainer(
            [{"filename": "r", "event_label": "Dog", "onset": a / 1000, "offset": b / 1000} for a, b in part]
        )
        for part in (one, other)
    ]
    judge = sed_eval.sound_event.EventBasedMetrics(
        ["Dog"], t_collar=0.2005, percentage_of_length=0.0, event_matching_type="optimal"
    )
    judge.evaluate(reference_event_list=events[0], estimated_event_list=events[1])
    segments = marks(
        *(("r", who, a / 1000, b / 1000, "Dog") for who, part in (("ann", one), ("ben", other)) for a, b in part)
    )
    found = row(agreement(segments, whole("ann", "ben"), classes=["Dog"], collar_s=0.2005, end_share=0.0))
    assert found["matched"] == judge.overall["Ntp"]


@given(spans(5), spans(5))
@settings(max_examples=40)
def test_shares_and_intersections_are_those_of_milliseconds(one: np.ndarray, other: np.ndarray) -> None:
    from audiotk.store.history import union

    ranges = union(other.tolist())
    cover = [np.zeros(5000, dtype=bool) for _ in range(2)]
    for mask, part in zip(cover, (one, other), strict=True):
        for start, end in part:
            mask[start:end] = True
    common = intersect(union(one.tolist()), ranges)
    assert sum(end - start for start, end in common) == (cover[0] & cover[1]).sum()
    assert inside(one.astype(float), ranges) == pytest.approx([cover[1][a:b].mean() for a, b in one])
    assert (raster(one, 1.0, 5000) == cover[0]).all()
