"""stats: intervals that hold a known truth, seeds and recordings as sources of spread, verdicts by a truth table."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from audiotk import stats
from audiotk.resample import Statistic, map_statistic, ratio_statistic, resample_counts
from audiotk.stats import Interval
from audiotk.tables import AudiotkError


def mean_of(x: np.ndarray) -> Statistic:
    """The mean of one number per recording."""
    return Statistic(pd.Index([f"r{i}" for i in range(len(x))]), lambda counts: counts @ x / counts.sum(axis=1))


def clustered(rng: np.random.Generator, recordings: int, each: int = 4) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """scores, labels, recording of each segment: all segments of a recording share label and most of the score."""
    place = np.repeat(np.arange(recordings), each)
    y = (rng.random((recordings, 3)) < 0.3)[place].astype(float)
    s = 1.2 * y + rng.normal(0, 0.8, (recordings, 3))[place] + rng.normal(0, 0.6, y.shape)
    ids = [f"s{i}" for i in range(len(place))]
    return pd.DataFrame(s, ids), pd.DataFrame(y, ids), pd.Series([f"r{i:04d}" for i in place], ids)


# ---------------------------------------------------------------- intervals


def test_interval_of_a_mean_is_the_t_interval() -> None:
    x = 3 + 2 * norm.ppf((np.arange(12) + 0.5) / 12)  # few and symmetric: plain percentiles would be 8 % narrower
    found = stats.bootstrap(mean_of(x), np.random.default_rng(1), n_boot=50000)
    half = 2.201 * x.std(ddof=1) / np.sqrt(12)  # t(0.975, 11)
    assert found.value == pytest.approx(3)
    assert [found.low, found.high] == pytest.approx([3 - half, 3 + half], abs=0.025 * half)
    assert (found.level, found.n) == (0.95, 12)


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Known truth (mAP of 80,000 segments); 150 simulated test sets of 25 recordings; 95 % +- 3 standard errors."""
    rng = np.random.default_rng(0)
    scores, labels, place = clustered(rng, 20000)
    truth = map_statistic(scores, labels, place).value()
    held = 0
    for _ in range(150):
        found = stats.bootstrap_map(*clustered(rng, 25), rng, n_boot=300)
        held += found.low <= truth <= found.high
        assert found.low <= found.value <= found.high
    assert 0.89 <= held / 150 <= 1.0


def test_resampling_recordings_is_wider_than_resampling_segments() -> None:
    scores, labels, place = clustered(np.random.default_rng(1), 60, each=10)
    by_recording = stats.bootstrap_map(scores, labels, place, np.random.default_rng(0), n_boot=500)
    by_segment = stats.bootstrap_map(
        scores, labels, pd.Series(place.index, index=place.index), np.random.default_rng(0), n_boot=500
    )
    assert by_recording.value == by_segment.value
    assert by_recording.high - by_recording.low > 1.5 * (by_segment.high - by_segment.low)


def test_more_recordings_narrow_the_interval_and_a_higher_level_widens_it() -> None:
    rng = np.random.default_rng(2)
    width = {}
    for n in (40, 640):
        found = stats.bootstrap_map(*clustered(rng, n), rng)
        width[n] = found.high - found.low
    assert width[40] / width[640] == pytest.approx(4, rel=0.35)  # 1 / sqrt(n)
    x = mean_of(rng.normal(size=30))
    half, most = (stats.bootstrap(x, np.random.default_rng(3), level=level) for level in (0.5, 0.99))
    assert most.low < half.low < half.high < most.high


def test_same_rng_same_interval() -> None:
    x = mean_of(np.arange(9.0))
    assert stats.bootstrap(x, np.random.default_rng(7)) == stats.bootstrap(x, np.random.default_rng(7))
    assert stats.bootstrap(x, np.random.default_rng(7)) != stats.bootstrap(x, np.random.default_rng(8))


def test_undefined_resamples_widen_and_many_unbound() -> None:
    """A class with positives in 1 of 20 recordings loses them in 36 % of resamples; one with 6 of 20 in 0.1 %."""
    ids = [f"s{i}" for i in range(40)]
    place = pd.Series([f"r{i // 2}" for i in range(40)], ids)
    scores = pd.DataFrame({"bark": np.linspace(0, 1, 40)}, ids)

    def interval(n: int) -> Interval:
        labels = pd.DataFrame({"bark": [1.0, 0.0] * n + [0.0] * (40 - 2 * n)}, ids)
        return stats.bootstrap_map(scores, labels, place, np.random.default_rng(0))

    rare, common = interval(1), interval(6)
    assert np.isfinite(rare.value)
    assert np.isnan([rare.low, rare.high]).all()
    assert common.low < common.value < common.high


def test_one_recording_has_no_interval() -> None:
    with pytest.raises(AudiotkError, match=r"at least 2 units .*, got 1"):
        stats.bootstrap(mean_of(np.ones(1)), np.random.default_rng(0))
    with pytest.raises(AudiotkError, match="level must lie between 0 and 1, got 95"):
        stats.bootstrap(mean_of(np.ones(3)), np.random.default_rng(0), level=95)


# ---------------------------------------------------------------- two arms


def test_pairing_removes_what_the_arms_share() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 3, 50)  # how hard each recording is, for both arms
    ours, theirs = mean_of(hard + 0.5 + rng.normal(0, 0.2, 50)), mean_of(hard + rng.normal(0, 0.2, 50))
    paired = stats.paired_bootstrap({0: ours}, {0: theirs}, np.random.default_rng(1))
    alone = stats.bootstrap(ours, np.random.default_rng(1))
    assert paired.value == pytest.approx(ours.value() - theirs.value())
    assert 0.3 < paired.low < 0.5 < paired.high < 0.7
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)


def test_an_arm_against_itself_is_zero() -> None:
    scores, labels, place = clustered(np.random.default_rng(0), 20)
    arm = {seed: map_statistic(scores, labels, place) for seed in (1, 2, 3)}
    assert stats.paired_bootstrap(arm, arm, np.random.default_rng(0)) == Interval(0.0, 0.0, 0.0, 0.95, 20)


@pytest.mark.parametrize("seeds", [3, 5])
def test_paired_interval_holds_the_truth_over_seeds_and_recordings(seeds) -> None:
    """True effect 1; each seed moves a whole arm: an interval over recordings alone (`blind`) holds it too rarely."""
    rng, held, blind, n = np.random.default_rng(seeds), 0, 0, 250
    for _ in range(n):
        shift = rng.normal(0, 0.6, (seeds, 1))
        gain = 1 + shift + rng.normal(0, 1, 30)  # (S, G) effect of each seed on each recording
        arm, baseline = ({s: mean_of(x[s]) for s in range(seeds)} for x in (gain, np.zeros_like(gain)))
        found = stats.paired_bootstrap(arm, baseline, rng, n_boot=300)
        held += found.low <= 1 <= found.high
        one = stats.paired_bootstrap({0: mean_of(gain.mean(axis=0))}, {0: mean_of(np.zeros(30))}, rng, n_boot=300)
        blind += one.low <= 1 <= one.high
    assert held / n >= 0.92
    assert blind < held - 0.15 * n


def test_spread_over_seeds_is_not_understated() -> None:
    """Only the seeds differ: the interval is the t interval of their mean."""
    values = np.array([0.0, 1.0, 5.0])
    arm = {s: mean_of(np.full(200, v)) for s, v in enumerate(values)}
    baseline = {s: mean_of(np.zeros(200)) for s in range(3)}
    found = stats.paired_bootstrap(arm, baseline, np.random.default_rng(0))
    assert found.value == pytest.approx(2)
    tail = norm.sf(np.sqrt(200 / 199) * t.isf(0.025, 199))  # 0.024, as the percentiles of 200 units are expanded
    half = t.isf(tail, 2) * values.std(ddof=1) / np.sqrt(3)
    assert [found.low, found.high] == pytest.approx([2 - half, 2 + half])
    one = stats.paired_bootstrap({0: arm[1]}, {0: baseline[1]}, np.random.default_rng(0))
    assert (one.low, one.high) == (1.0, 1.0)  # one seed: nothing is known about others


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_computed_ends_are_those_of_very_many_draws(seeds: int, relative: bool) -> None:
    """The slow twin draws how the seeds deviate, 400 times for each resample."""
    rng, units, n_boot = np.random.default_rng(seeds), 25, 500
    values = rng.gamma(4, 1, (2, seeds, units)) + rng.normal(0, 0.3, (2, seeds, 1)) + 2
    arm, baseline = ({s: mean_of(x[s]) for s in range(seeds)} for x in values)
    found = stats.paired_bootstrap(arm, baseline, np.random.default_rng(1), n_boot, level=0.9, relative=relative)
    counts = resample_counts(units, n_boot, np.random.default_rng(1))
    ours, theirs = (np.stack([one[s].of(counts) for s in range(seeds)], axis=1) for one in (arm, baseline))  # (B, S)
    normal = rng.normal(size=(400, n_boot, seeds))
    normal -= normal.mean(axis=2, keepdims=True)
    chi = np.sqrt(rng.chisquare(seeds - 1, size=(400, n_boot)) / (seeds - 1))
    da, db = ((normal * x).sum(axis=2) / chi / np.sqrt(seeds * (seeds - 1)) for x in (ours, theirs))
    a, b = ours.mean(axis=1), theirs.mean(axis=1)
    draws = (a - b) / b + (da - a / b * db) / b if relative else a - b + da - db
    tail = norm.sf(np.sqrt(units / (units - 1)) * t.isf(0.05, units - 1))
    expected = np.maximum(np.quantile(draws, [tail, 1 - tail]), -1.0 if relative else -np.inf)
    assert [found.low, found.high] == pytest.approx(expected, abs=0.03 * (found.high - found.low))


def test_undefined_resamples_lie_outside_on_both_sides() -> None:
    """A few of them widen an interval over seeds; as many as the tail holds leave it unbounded."""

    def partly(value: float, limit: float) -> Statistic:
        units = pd.Index([f"r{k}" for k in range(20)])
        return Statistic(units, lambda counts: np.where(counts[:, 0] < limit, value + counts[:, 1] / 20, np.nan))

    def of(limit: float) -> Interval:
        arm = {s: partly(v, limit) for s, v in enumerate((0.0, 1.0, 2.0))}
        return stats.paired_bootstrap(arm, {s: mean_of(np.zeros(20)) for s in arm}, np.random.default_rng(0))

    none, few, many = of(np.inf), of(5.0), of(2.0)
    assert few.low < none.low < none.high < few.high
    assert np.isnan([many.low, many.high]).all()


def test_relative_effect() -> None:
    one, two = {0: mean_of(np.full(10, 3.0))}, {0: mean_of(np.full(10, 4.0))}
    assert stats.paired_bootstrap(one, two, np.random.default_rng(0), relative=True).value == pytest.approx(-0.25)
    arm, baseline = ({s: mean_of(np.full(10, v)) for s, v in enumerate(x)} for x in ((1, 2.0, 3), (2, 4.0, 6)))
    exact = stats.paired_bootstrap(arm, baseline, np.random.default_rng(0), relative=True)
    assert [exact.value, exact.low, exact.high] == pytest.approx([-0.5] * 3)  # half in every seed, however they differ
    far = ({s: mean_of(np.full(10, v)) for s, v in enumerate(x)} for x in ((0.0, 0.1, 0.6), (0.9, 0.5, 0.8)))
    assert (
        stats.paired_bootstrap(*far, np.random.default_rng(0), relative=True).low == -1.0
    )  # no further than all of it
    below = ({s: mean_of(np.full(10, v)) for s, v in enumerate(x)} for x in ((-3.0, -2.0, -1.0), (1.0, 1.1, 1.2)))
    assert stats.paired_bootstrap(*below, np.random.default_rng(0), relative=True).value < -2  # a number that may be
    nothing = {0: mean_of(np.zeros(10))}
    assert np.isnan(stats.paired_bootstrap(one, nothing, np.random.default_rng(0), relative=True).low)


def test_the_weakest_of_several_effects_is_never_stronger_than_one_of_them() -> None:
    one, other = Interval(0.5, 0.1, 0.6, 0.95, 7), Interval(0.4, 0.2, 0.9, 0.95, 9)
    assert stats.weakest([one, other], "higher") == Interval(0.4, 0.1, 0.6, 0.95, 7)
    assert stats.weakest([one, other], "lower") == Interval(0.5, 0.2, 0.9, 0.95, 7)
    open_ended = stats.weakest([one, Interval(0.4, np.nan, np.nan, 0.95, 9)], "higher")
    assert np.isnan([open_ended.low, open_ended.high]).all()


def test_arms_that_do_not_match_raise() -> None:
    one, two = mean_of(np.ones(3)), mean_of(np.ones(4))
    rng = np.random.default_rng(0)
    with pytest.raises(AudiotkError, match=r"same seeds, at least one; got \[1\] and \[2\]"):
        stats.paired_bootstrap({1: one}, {2: one}, rng)
    with pytest.raises(AudiotkError, match="same recordings: 3 in the first, 4 or other ones in baseline, seed 1"):
        stats.paired_bootstrap({1: one}, {1: two}, rng)
    with pytest.raises(AudiotkError, match=r"at least 2 units .*, got 1"):
        stats.paired_bootstrap({1: mean_of(np.ones(1))}, {1: mean_of(np.ones(1))}, rng)


def test_sign_flip_equals_all_signs() -> None:
    d = np.array([0.3, -0.1, 0.5, 0.2, 0.05])
    flips = [abs(np.dot(signs, d)) for signs in itertools.product([1, -1], repeat=5)]
    p = np.mean([f >= abs(d.sum()) - 1e-12 for f in flips])
    assert stats.sign_flip_test(d, np.random.default_rng(0)) == p
    assert stats.sign_flip_test(np.ones(5), np.random.default_rng(0)) == 2 / 2**5
    assert stats.sign_flip_test(np.zeros(4), np.random.default_rng(0)) == 1
    many = stats.sign_flip_test(np.tile(d, 4), np.random.default_rng(0))  # random signs
    assert 1 / 10000 <= many < 0.01
    with pytest.raises(AudiotkError, match="got 2, 1 of them not finite"):
        stats.sign_flip_test(np.array([1.0, np.nan]), np.random.default_rng(0))


@pytest.mark.parametrize("n", [8, 20])
def test_sign_flip_rejects_a_true_null_as_often_as_it_says(n) -> None:
    rng = np.random.default_rng(n)
    p = [stats.sign_flip_test(rng.normal(size=n), rng, n_flips=199) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.045)  # 3 standard errors


def test_permutation_test_finds_a_better_arm_and_no_difference_in_scale() -> None:
    rng = np.random.default_rng(0)
    scores, labels, place = clustered(rng, 40)
    noisy = scores + rng.normal(0, 0.5, scores.shape)
    p = stats.permutation_test_map(scores, noisy, labels, place, np.random.default_rng(1), n_flips=199)
    scaled = stats.permutation_test_map(scores, 100 * noisy - 7, labels, place, np.random.default_rng(1), n_flips=199)
    assert p == scaled <= 0.1
    assert stats.permutation_test_map(scores, 100 * scores - 7, labels, place, rng, n_flips=199) == 1.0
    null = []
    for _ in range(100):
        base, y, place = clustered(rng, 20)
        one, two = (base + rng.normal(0, 0.5, base.shape) for _ in range(2))
        null.append(stats.permutation_test_map(one, two, y, place, rng, n_flips=99))
    assert np.mean(np.array(null) <= 0.1) <= 0.19  # 3 standard errors


# ---------------------------------------------------------------- verdicts

R, N, U = "reproduced", "not reproduced", "inconclusive at this scale"


@pytest.mark.parametrize(
    ("low", "high", "smallest", "said"),
    [
        (0.3, 0.5, 0.2, R),  # all of it is large enough
        (0.2, 0.5, 0.2, R),
        (0.1, 0.5, 0.2, U),  # there is an effect, but maybe too small
        (-0.1, 0.5, 0.2, U),
        (-0.1, 0.2, 0.2, U),
        (-0.1, 0.19, 0.2, N),  # whatever it is, it is too small
        (0.05, 0.1, 0.2, N),
        (-0.5, -0.3, 0.2, N),
        (0.1, 0.5, 0.0, R),
        (0.0, 0.5, 0.0, U),
        (-0.1, 0.5, 0.0, U),
        (-0.1, 0.0, 0.0, N),
        (0.0, 0.0, 0.0, N),
        (np.nan, 0.5, 0.2, U),
        (0.3, np.nan, 0.2, U),
    ],
)
def test_verdict_truth_table(low, high, smallest, said) -> None:
    up, down = Interval((low + high) / 2, low, high, 0.95, 20), Interval(-(low + high) / 2, -high, -low, 0.95, 20)
    opposite = {R: N, N: R, U: U}[said]
    assert stats.verdict(up, "higher", smallest) == said
    assert stats.verdict(down, "lower", smallest) == said
    assert stats.verdict(up, "not higher", smallest) == opposite
    assert stats.verdict(down, "not lower", smallest) == opposite


def test_verdict_refuses_unknown_words() -> None:
    effect = Interval(1, 0, 2, 0.95, 9)
    with pytest.raises(AudiotkError, match=r"direction must be one of .* got 'better'"):
        stats.verdict(effect, "better", 0.1)
    with pytest.raises(AudiotkError, match="smallest_effect a number >= 0"):
        stats.verdict(effect, "lower", -0.1)


def test_ledger_is_complete() -> None:
    ledger = stats.claims()
    assert {f"B1.{i}" for i in range(1, 7)} <= set(ledger.index)
    assert ledger.index.is_unique
    assert ledger.direction.isin(stats.DIRECTIONS).all()
    assert (ledger.smallest_effect > 0).all()  # with 0, "not reproduced" could hardly ever be said
    text = ledger[["claim", "source", "place", "experiment", "effect"]]
    assert text.map(lambda cell: isinstance(cell, str) and len(cell) > 1).all(axis=None)


def test_claim_row() -> None:
    row = stats.claim_row("B1.1", Interval(-0.5, -0.7, -0.3, 0.95, 30), "embedded", "demo")
    assert (row["id"], row["verdict"], row["value"], row["n"]) == ("B1.1", R, -0.5, 30)
    assert (row["data"], row["scale"], row["printed"]) == ("embedded", "demo", None)
    assert stats.claim_row("B1.4", Interval(-0.5, -0.7, -0.3, 0.95, 30), "embedded", "demo")["verdict"] == N
    unbounded = stats.claim_row("B1.1", Interval(-0.5, np.nan, np.nan, 0.95, 3), "embedded", "demo")
    assert (unbounded["value"], unbounded["low"], unbounded["verdict"]) == (-0.5, None, U)
    missing = stats.claim_row("B1.1", None, "esc50", "paper")
    assert (missing["verdict"], missing["value"], missing["n"]) == (stats.NEEDS_DATA, None, None)
    with pytest.raises(AudiotkError, match=r"claim must be one of .* got 'B9'"):
        stats.claim_row("B9", None, "embedded", "demo")


@pytest.mark.parametrize(
    ("seeds", "scale", "said"),
    [
        (1, "demo", U), (2, "paper", U), (3, "demo", R), (5, "paper", R), (3, "smoke", U), (2, "smoke", U),
        (None, "demo", R), (None, "smoke", R),
    ],
)  # fmt: skip
def test_a_verdict_on_training_needs_three_seeds_and_more_than_smoke(seeds, scale, said) -> None:
    sure = Interval(-0.5, -0.7, -0.3, 0.95, 30)
    row = stats.claim_row("B1.1", sure, "embedded", scale, seeds)
    assert row["verdict"] == said
    assert (row["value"], row["low"], row["high"]) == (-0.5, -0.7, -0.3)  # the numbers are shown all the same
    opposite = stats.claim_row("B1.4", sure, "embedded", scale, seeds=seeds)["verdict"]
    assert opposite == {R: N, U: U}[said]
    assert stats.claim_row("B1.1", None, "embedded", scale, seeds)["verdict"] == stats.NEEDS_DATA


def test_few_dogs_give_a_wider_interval_than_their_many_recordings() -> None:
    """Recordings of a dog are alike: the group as the unit shows it, the recording hides it."""
    scores, labels, dog_of = clustered(np.random.default_rng(3), 20, each=8)
    single = pd.Series(scores.index, scores.index)
    widths = []
    for unit in (dog_of, single):
        found = stats.bootstrap_map(scores, labels, unit, np.random.default_rng(0))
        widths.append(found.high - found.low)
        assert found.n == unit.nunique()
    assert widths[0] > 1.3 * widths[1]


def test_ratio_statistics_bootstrap_like_their_formula() -> None:
    """A share over recordings of unequal length: interval against the linearised standard error of a ratio."""
    rng = np.random.default_rng(0)
    n = rng.integers(1, 30, 80)
    hits = rng.binomial(n, 0.3)
    names = [f"r{i:02d}" for i in range(80)]
    above, below = (pd.DataFrame({"x": x}, index=names) for x in (hits, n))
    statistic = ratio_statistic(above, below, pd.Series(names, index=names))
    share = hits.sum() / n.sum()
    error = np.sqrt(80 / 79 * ((hits - share * n) ** 2).sum()) / n.sum()
    found = stats.bootstrap(statistic, rng, n_boot=4000)
    assert found.value == pytest.approx(share)
    assert (found.high - found.low) / 2 == pytest.approx(1.99 * error, rel=0.12)
    assert resample_counts(80, 3, rng).shape == (3, 80)
