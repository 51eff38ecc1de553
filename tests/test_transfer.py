"""Transfer between base and target: splits against a twin made of sets, effects against direct sums, P2's own table."""

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as scipy_stats

from audiotk import metrics, models, resample, stats, transfer_figures
from audiotk.errors import AudiotkError, NotForThisData
from audiotk.experiments import hierarchies, transfer, transfer_tables, transfer_training
from audiotk.experiments.transfer import OL, PE_CML, PEL, SCHEMES, Outcome
from audiotk.experiments.transfer_training import (
    BASE,
    FEATURES,
    SCRATCH,
    TUNED,
    Key,
    Recipe,
    features,
    fit_mlp,
    logits_of,
)
from audiotk.models.checkpoints import load_checkpoint
from audiotk.ontology import Ontology
from audiotk.resample import Statistic
from audiotk.results import append_results, read_results
from audiotk.tables import SPLITS, Labels
from audiotk.train import TrainConfig, train

TINY = {"mels": 16, "n_fft": 512, "hop": 512, "width": 0.25}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return transfer.load("embedded", str(tmp_path_factory.mktemp("transfer")), "smoke")


@pytest.fixture(scope="module")
def outcome(case, tmp_path_factory):
    """One split, one seed, one epoch: in its targets nobody ticked a parent, so that OL and PEL are the same."""
    found = transfer.splits(case, ["Human sounds", "Source-ambiguous sounds"])
    return transfer.run(case, found, "smoke", [0], tmp_path_factory.mktemp("runs"), jobs=1)


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["Human sounds", "Animal", "Natural sounds"])
def test_split_as_sets(case, root):
    """P2, section IV, with sets: recordings with a target label are targets and lose their base labels."""
    split = transfer.split_by_root(case, root)
    below = {root, *case.ontology.descendants(root)}
    frame = case.labels.frame()
    ticked = {segment: {name for name in frame.columns if row[name] == 1} for segment, row in frame.iterrows()}
    part = case.dataset.segments.set_index("segment")["recording"].map(case.dataset.split)
    for side, mine in ((split.target, True), (split.base, False)):
        for name in SPLITS:
            labels = side[OL][name]
            expected = [s for s, names in ticked.items() if bool(names & below) == mine and part[s] == name]
            assert labels.segments.tolist() == expected
            assert set(labels.classes) == {c for c in frame.columns if (c in below) == mine}
            for segment, row in labels.frame().iterrows():
                assert {c for c in labels.classes if row[c] == 1} == {
                    c for c in ticked[segment] if (c in below) == mine
                }
    groups = {name: set(case.group[split.base[OL][name].segments]) for name in SPLITS}
    assert not groups["train"] & (groups["val"] | groups["test"])


def test_the_rules_see_only_labels_of_their_side(case):
    split = transfer.split_by_root(case, "Animal")
    for side in (split.base, split.target):
        for name in SPLITS:
            original, expanded, masked = (side[scheme][name].dense() for scheme in SCHEMES)
            assert (expanded[original == 1] == 1).all()
            assert (masked[expanded == 1] == 1).all()  # a mask hits nothing that is present
            assert not np.isnan(expanded).any()
            assert ((masked == expanded) | np.isnan(masked)).all()
    assert any(np.isnan(split.target[PE_CML][name].dense()).any() for name in SPLITS)


def test_splits_that_cannot_be_used_are_named(case):
    found = transfer.splits(case, ["Human sounds", "Source-ambiguous sounds"])
    assert found[0].problem == ""
    assert "no class is present in some recordings and absent in others" in found[1].problem  # all hold Silence
    table = transfer.overview(case, found)
    assert table["used"].str.startswith("no. target").tolist() == [False, True]
    assert table.loc["Human sounds", "target classes"] == "12"
    assert table.loc["Human sounds", "heard in training"] == "4"  # the others have no positive
    with pytest.raises(AudiotkError, match="none of the splits into base and target can be used"):
        transfer.splits(case, ["Source-ambiguous sounds"])


def test_a_split_with_too_few_recordings_is_named(case):
    few = replace(case, labels=case.labels.select(segments=case.labels.segments[:6]))
    told = transfer.split_by_root(few, "Animal").problem
    assert "at least 2 groups are needed" in told


def test_labels_without_sound_are_not_for_this_experiment(case, monkeypatch):
    silent = replace(case, dataset=replace(case.dataset, recordings=case.dataset.recordings.assign(path="")))
    monkeypatch.setattr(hierarchies, "load", lambda *_: silent)
    with pytest.raises(NotForThisData, match="its recordings have no sound"):
        transfer.load("audioset", "x", "smoke")
    with pytest.raises(AudiotkError, match="expected one of smoke, demo, paper"):
        transfer.recipe("tiny")


def test_paper_scale_is_that_of_the_paper():
    plan = transfer.recipe("paper")
    config = plan.config
    assert (config.model, config.sr, config.clip_s, config.batch_size) == ("rawcnn", 8000, 10.0, 24)
    assert (config.optimizer, config.lr, config.schedule, config.gamma) == ("adam", 1e-3, "exponential", 0.987)
    assert (config.loss, config.denominator) == ("mse", "all")
    assert (plan.base_epochs, plan.target_epochs, plan.mlp_epochs, plan.mlp_hidden) == (100, 100, 100, 256)


# --- training ---------------------------------------------------------------------------------------------------------


def test_fine_tuning_begins_with_the_base(tmp_path):
    """All weights but the output layer's; with a learning rate of nearly nothing they are still there at the end."""
    rng = np.random.default_rng(0)
    base = models.build("melcnn", 3, sr=8000, clip_s=1.0, rng=rng, **TINY)
    with torch.no_grad():
        for value in base.parameters():
            value.add_(1.0)
    waves = rng.normal(0, 0.1, (8, 8000)).astype("float32")
    labels = Labels.from_frame(pd.DataFrame(np.eye(4)[np.arange(8) % 4], index=list("abcdefgh"), columns=list("wxyz")))
    train_on, val = labels.select(segments=list("abcd")), labels.select(segments=list("efgh"))
    config = TrainConfig(
        model_options=TINY, sr=8000, clip_s=1.0, epochs=1, batch_size=4, lr=1e-9, optimizer="adam", schedule="constant"
    )
    arguments = (config, waves[:4], train_on, waves[4:], val)
    tuned = train(*arguments, tmp_path / "a", start=base, progress=False).checkpoint().model.state_dict()
    fresh = train(*arguments, tmp_path / "b", progress=False).checkpoint().model.state_dict()
    names = [name for name, _ in base.named_parameters()]
    for name in names:
        taken = not name.startswith("head.")
        assert torch.allclose(tuned[name], base.state_dict()[name] if taken else fresh[name], atol=1e-6), name
    with pytest.raises(AudiotkError, match="holds a run of other settings or other data"):
        train(*arguments, tmp_path / "a", progress=False)  # other weights to begin with are another run
    first = load_checkpoint(tmp_path / "b" / "best.pt")
    again = train(*arguments, tmp_path / "d", start=first, progress=False).checkpoint().model.state_dict()
    for name in names:  # a checkpoint gives its output layer, too
        assert torch.allclose(again[name], fresh[name], atol=1e-6), name
    with pytest.raises(AudiotkError, match="holds a run of other settings or other data"):
        train(*arguments, tmp_path / "d", start=first.model, progress=False)
    with pytest.raises(AudiotkError, match="the checkpoint to start from knows z, y, x, w, the labels w, x, y, z"):
        train(*arguments, tmp_path / "e", start=replace(first, classes=tuple("zyxw")), progress=False)
    other = models.build("melcnn", 3, sr=8000, clip_s=1.0, rng=rng, **{**TINY, "width": 0.5})
    with pytest.raises(AudiotkError, match="start_from: expected weights of a network"):
        train(*arguments, tmp_path / "c", start=other, progress=False)


@pytest.mark.parametrize("name", ["rawcnn", "acdnet", "melcnn"])
def test_only_the_last_layer_is_new(name):
    options = models.DEMO[name]
    one, other = (models.build(name, 3, rng=np.random.default_rng(seed), **options) for seed in (0, 1))
    before = {key: value.clone() for key, value in other.state_dict().items()}
    other.start_from(one)
    new = {key for key, value in other.state_dict().items() if torch.equal(value, before[key]) and "head" in key}
    last = [
        key for key, value in before.items() if key.startswith("head") and value.shape in ((3,), (3, one.embed_dim))
    ]
    assert set(last) <= new
    wave = torch.as_tensor(np.random.default_rng(2).normal(0, 0.1, (2, one.samples)).astype("float32"))
    assert torch.allclose(one.eval().embed(wave), other.eval().embed(wave), atol=1e-6)


def test_features_are_the_values_before_the_last_non_linearity():
    model = models.build("rawcnn", 3, rng=np.random.default_rng(0), **models.DEMO["rawcnn"]).eval()
    waves = np.random.default_rng(1).normal(0, 0.1, (3, model.samples)).astype("float32")
    x = features(model, waves)
    assert x.shape == (3, 32)
    assert (x < 0).any()
    assert not model.training  # as it was
    with torch.no_grad():
        again = model.head[2](model.head[1](model.head[0](torch.as_tensor(x))))
        assert torch.allclose(again, model(torch.as_tensor(waves)), atol=1e-5)


def test_mlp_learns_what_can_be_learnt_and_keeps_its_best_epoch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype("float32")
    y = pd.DataFrame({"a": x[:, 0] * x[:, 1] > 0, "b": x[:, 2] > 0.5}, dtype=float)  # "a" is not linear
    y.loc[::7, "a"] = np.nan
    y.index = [f"s{k}" for k in range(400)]
    labels = Labels.from_frame(y)
    parts = [(x[rows], labels.select(segments=labels.segments[rows])) for rows in (slice(0, 300), slice(300, 400))]
    plan = Recipe(TrainConfig(lr=1e-2, gamma=0.95, batch_size=24, loss="mse"), 1, 1, 30, (1.0,))
    net = fit_mlp(*parts[0], *parts[1], plan, 0)
    reached = metrics.mean_average_precision(logits_of(net, *parts[1]), parts[1][1])
    assert reached > 0.9
    again = fit_mlp(*parts[0], *parts[1], plan, 0)
    assert logits_of(net, *parts[1]).equals(logits_of(again, *parts[1]))
    for epochs in (5, 12):
        shorter = fit_mlp(*parts[0], *parts[1], replace(plan, mlp_epochs=epochs), 0)
        assert metrics.mean_average_precision(logits_of(shorter, *parts[1]), parts[1][1]) <= reached


def test_what_each_network_begins_with_and_hears(outcome, tmp_path, monkeypatch):
    """Spies in the place of training: weights to begin with by base labels, rows by split, side and share."""
    split, segments = outcome.splits[0], pd.Index(outcome.case.labels.segments)
    place = np.arange(len(segments), dtype="float32")[:, None]  # a wave that is its own row number
    heard, fitted = {}, []

    class Net(torch.nn.Linear):
        def __init__(self, name):
            super().__init__(1, 1)
            self.name = name

    def spy_train(config, waves, labels, val_waves, val_labels, folder, start=None, progress=True):
        heard[folder.name] = (
            config,
            waves[np.arange(len(waves))][:, 0].astype(int),
            labels,
            val_waves,
            val_labels,
            start,
        )
        assert torch.get_num_threads() == 1
        net = Net(folder.name)
        return type("Run", (), {"checkpoint": lambda self, device: type("C", (), {"model": net})()})()

    def spy_mlp(x, labels, val_x, val_labels, plan, seed):
        fitted.append((x, labels, val_x, val_labels))
        return Net("mlp")

    def spy_logits(net, inputs, labels):
        tested = np.asarray(inputs[np.arange(len(inputs))])[:, 0] % 1000
        assert tested.tolist() == segments.get_indexer(labels.segments).tolist()
        return (net.name, *labels.segments)

    monkeypatch.setattr(transfer_training, "logits_of", spy_logits)
    monkeypatch.setattr(transfer_training, "train", spy_train)
    monkeypatch.setattr(transfer_training, "fit_mlp", spy_mlp)
    code = {
        f"base-{scheme}": 1000.0 * k for k, scheme in enumerate(SCHEMES)
    }  # features say whose they are, and which row
    monkeypatch.setattr(transfer_training, "features", lambda net, some: code[net.name] + some[np.arange(len(some))])
    keys = transfer_training.train_split(split, place, segments, outcome.recipe, 0, tmp_path)
    assert set(keys) == set(outcome.logits["Human sounds", 0])
    for key, (_, *tested) in keys.items():
        side = split.base[key.base] if key.way == BASE else split.target[key.target]
        assert tested == side["test"].segments.tolist()

    def rows(labels):
        return segments.get_indexer(labels.segments).tolist()

    sides = {"base": split.base, "target": split.target}
    of = {side: {name: set(rows(parts[OL][name])) for name in SPLITS} for side, parts in sides.items()}
    assert not set.union(*of["base"].values()) & set.union(*of["target"].values())
    group = outcome.case.group.loc[segments].to_numpy()
    learnt = {group[k] for side in of.values() for k in side["train"]}
    assert not learnt & {group[k] for side in of.values() for k in side["test"]}
    for scheme in SCHEMES:
        config, trained, labels, val_waves, val_labels, start = heard[f"base-{scheme}"]
        assert (start, config.epochs) == (None, outcome.recipe.base_epochs)
        assert trained.tolist() == rows(split.base[scheme]["train"])
        assert (labels, val_labels) == (split.base[scheme]["train"], split.base[scheme]["val"])
        assert val_waves[np.arange(len(val_waves))][:, 0].tolist() == rows(split.base[scheme]["val"])
    found = 0
    for target, share in ((OL, 1.0), (OL, 0.5), (PE_CML, 1.0)):  # PEL is OL here
        whole = split.target[target]["train"]
        several = [heard[f"from-scratch-nothing-{target}-{share:g}"]]
        several += [heard[f"fine-tuning-{base}-{target}-{share:g}"] for base in SCHEMES]
        for (config, trained, labels, _, val_labels, start), begin in zip(several, (None, *SCHEMES), strict=True):
            found += 1
            assert (start and start.name) == (begin and f"base-{begin}")
            assert config.epochs == outcome.recipe.target_epochs
            assert len(trained) == np.ceil(share * len(whole.segments))
            assert trained.tolist() == rows(labels)
            assert labels == whole.select(segments=labels.segments)
            assert val_labels == split.target[target]["val"]
            assert set(trained.tolist()) <= of["target"]["train"]
        first = several[0][1].tolist()
        assert all(other[1].tolist() == first for other in several)  # the same recordings for all
        for k, (x, labels, val_x, val_labels) in enumerate(fitted[3 * (found // 4 - 1) : 3 * (found // 4)]):
            assert x[:, 0].tolist() == [1000.0 * k + row for row in first]
            assert rows(labels) == first
            assert val_x[:, 0].tolist() == [1000.0 * k + row for row in rows(split.target[target]["val"])]
            assert val_labels == split.target[target]["val"]
    assert len(fitted) == 9
    assert len(heard) == 3 + found


def test_a_killed_run_goes_on_with_the_mlps_that_it_has(outcome, tmp_path, monkeypatch):
    """Killed in the sixth: the first five are not trained again, and all ends as without a kill; other data are."""
    split, segments = outcome.splits[0], pd.Index(outcome.case.labels.segments)
    waves = np.random.default_rng(0).normal(size=(len(segments), 4)).astype("float32")
    plan, fitted, left = outcome.recipe, [], [np.inf]

    def at_once(config, waves, labels, *_, **__):
        model = torch.nn.Linear(4, len(labels.classes))
        return type("Run", (), {"checkpoint": lambda self, device: type("C", (), {"model": model})()})()

    def counted(*arguments):
        if left[0] <= 0:
            raise KeyboardInterrupt
        left[0] -= 1
        fitted.append(arguments[1])
        return fit_mlp(*arguments)

    monkeypatch.setattr(transfer_training, "train", at_once)
    monkeypatch.setattr(transfer_training, "features", lambda _, some: some[np.arange(len(some))])
    monkeypatch.setattr(transfer_training, "fit_mlp", counted)

    def run(folder, plan=plan, waves=waves, seed=0):
        fitted.clear()
        found = transfer_training.train_split(split, waves, segments, plan, seed, tmp_path / folder)
        return {key: logits for key, logits in found.items() if key.way == FEATURES}

    whole = run("whole")
    assert len(fitted) == 9  # OL whole and half, PE-CML; PEL is OL here
    left[0] = 5
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    left[0] = np.inf
    again = run("killed")
    assert len(fitted) == 4
    assert again.keys() == whole.keys()
    assert all(again[key].equals(whole[key]) for key in whole)
    run("killed")
    assert fitted == []
    changed = run("killed", waves=waves + np.float32(1e-3))
    assert len(fitted) == 9
    assert not any(changed[key].equals(whole[key]) for key in whole)
    run("killed", waves=waves + np.float32(1e-3), plan=replace(plan, mlp_hidden=8))
    assert len(fitted) == 9
    run("killed", waves=waves + np.float32(1e-3), plan=replace(plan, mlp_hidden=8), seed=1)
    assert len(fitted) == 9


def test_smaller_shares_are_parts_of_larger_ones(outcome, tmp_path, monkeypatch):
    split, segments = outcome.splits[0], pd.Index(outcome.case.labels.segments)
    chosen = {}

    class Spy(transfer_training._Trainer):
        def train(self, name, epochs, waves, labels, start=None):
            chosen[name] = set(labels["train"].segments)

        def mlp(self, *_):
            pass

    monkeypatch.setattr(transfer_training, "_Trainer", Spy)
    monkeypatch.setattr(transfer_training, "features", lambda _, waves: np.zeros((len(waves), 1)))
    monkeypatch.setattr(transfer_training, "logits_of", lambda *_: None)
    shares = (1.0, 0.5, 0.25, 0.125)
    plan, waves = replace(outcome.recipe, shares=shares), np.zeros((len(segments), 1), dtype="float32")
    drawn = []
    for seed in (0, 1):
        transfer_training.train_split(split, waves, segments, plan, seed, tmp_path)
        several = [chosen[f"from-scratch-nothing-OL-{share:g}"] for share in shares]
        assert all(less < more for more, less in pairwise(several))
        drawn.append(several[1])
    assert drawn[0] != drawn[1]


def test_every_cell_of_the_tables_is_trained(outcome):
    keys = set(outcome.logits["Human sounds", 0])
    expected = {Key(BASE, scheme, "") for scheme in SCHEMES}
    for target in SCHEMES:
        for share in (1.0, 0.5) if target == OL else (1.0,):
            expected |= {Key(way, base, target, share) for base in SCHEMES for way in (FEATURES, TUNED)}
            expected.add(Key(SCRATCH, "", target, share))
    assert keys == expected


def test_equal_labelings_are_trained_once(outcome):
    logits = outcome.logits["Human sounds", 0]
    assert dict(outcome.splits[0].target[OL]) == dict(outcome.splits[0].target[PEL])
    assert logits[Key(TUNED, OL, PEL)] is logits[Key(TUNED, OL, OL)]
    assert not logits[Key(TUNED, OL, PE_CML)].equals(logits[Key(TUNED, OL, OL)])


def test_unusable_splits_are_left_out_of_the_tables(outcome):
    assert outcome.roots == ["Human sounds"]
    assert transfer_tables.target_table(outcome).shape == (7, 3)
    assert transfer_tables.base_table(outcome).index.tolist() == ["base for Human sounds"]


def test_recordings_that_cannot_be_read_are_left_out(case):
    split = transfer.split_by_root(case, "Human sounds")
    lost = split.target[OL]["test"].segments[:2].append(split.base[OL]["train"].segments[:3])
    less = transfer._readable(split, case.labels.segments.drop(lost), case.group)
    assert less.problem == ""
    for scheme in SCHEMES:
        for name in SPLITS:
            for before, after in ((split.base, less.base), (split.target, less.target)):
                kept = before[scheme][name].segments.difference(lost, sort=False)
                assert after[scheme][name] == before[scheme][name].select(segments=kept)
    assert "0 recordings of 0 group(s)" in transfer._readable(split, case.labels.segments[:0], case.group).problem


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_metrics(outcome):
    split, logits = outcome.splits[0], outcome.logits["Human sounds", 0]
    table = transfer_tables.target_table(outcome)
    for target in SCHEMES:
        for way, base in transfer_tables.PRINTED:
            expected = metrics.mean_average_precision(logits[Key(way, base, target)], split.target[target]["test"])
            assert table.loc[(way, base), ("Human sounds", target)] == pytest.approx(expected)
    truth = outcome.case.truth
    test = split.target[OL]["test"]
    known = truth.select(test.segments, test.classes)
    each = [metrics.mean_average_precision(logits[Key(SCRATCH, "", target)], known) for target in SCHEMES]
    assert transfer_tables.on_truth(outcome).loc[(SCRATCH, ""), "mean"] == pytest.approx(np.mean(each))


def test_it_is_said_where_the_bases_are_below_from_scratch():
    """What is fine-tuned does not count, nor a base that is not the best one."""

    def value(root, key):
        best = (root, key.base, key.target) == ("a", PEL, OL)
        return {SCRATCH: 0.5, TUNED: 0.9, FEATURES: 0.6 if best else 0.4}[key.way]

    told = transfer_tables.scratch_words(SimpleNamespace(roots=["a", "b"], value=value))
    assert told == "From scratch is above the features of every base in 5 of 6 columns."


def test_the_learning_curve_stays_between_0_and_1(monkeypatch):
    monkeypatch.setattr(transfer_tables, "effect", lambda *_: stats.Interval(0.8, -0.2, 1.5, 0.95, 5))
    target = {OL: {"train": SimpleNamespace(segments=range(8))}}
    made = SimpleNamespace(splits=[SimpleNamespace(root="a", target=target)], recipe=SimpleNamespace(shares=[1.0]))
    table = transfer_tables.curve(made)
    assert (table["low"] == 0).all()
    assert (table["high"] == 1).all()


def test_effects_are_sums_of_cells(outcome):
    table, base = transfer_tables.target_table(outcome), transfer_tables.base_table(outcome)
    found = transfer_tables.effects(outcome).set_index(["what", "root"])
    for what, way, arm in (
        ("features: PEL − OL", FEATURES, PEL),
        ("features: PE-CML − OL", FEATURES, PE_CML),
        ("fine-tuning: PE-CML − OL", TUNED, PE_CML),
    ):
        expected = (table.loc[(way, arm)] - table.loc[(way, OL)]).mean()
        assert found.loc[(what, "Human sounds"), "value"] == pytest.approx(expected)
        assert found.loc[(what, transfer_tables.EVERY), "value"] == pytest.approx(expected)
    assert found.loc[("base models: PEL − OL", "Human sounds"), "value"] == pytest.approx(
        (base[PEL] - base[OL]).iloc[0]
    )
    at = transfer_tables.curve(outcome).set_index(["how", "base labels", "share"])["value"]
    gains = {s: np.mean([at[w, PE_CML, s] - at[w, OL, s] for w in (FEATURES, TUNED)]) for s in (0.5, 1.0)}
    grown = found.loc[("gain with fewest − with all targets", "Human sounds"), "value"]
    assert grown == pytest.approx(gains[0.5] - gains[1.0])


def test_one_seed_and_one_split_decide_nothing(outcome, tmp_path):
    """One seed: intervals over recordings only. One split: nothing is said of others, the interval has no ends."""
    found = transfer_tables.effects(outcome)
    alone = found[found["root"] == "Human sounds"]
    assert (alone["low"] < alone["high"]).all()
    assert (alone["n"] == outcome.case.group[outcome.splits[0].target[OL]["test"].segments].nunique()).any()
    every = found[found["root"] == transfer_tables.EVERY]
    assert every[["low", "high"]].isna().all(axis=None)
    ledger = transfer_tables.claims(outcome, found, "embedded", "demo")
    assert (ledger["verdict"] == stats.INCONCLUSIVE).all()
    assert (ledger["seeds"] == 1).all()
    rows = transfer_tables.results(outcome, found, "embedded", "smoke")
    append_results(tmp_path, rows)
    back = read_results(tmp_path)
    assert set(back["seed"]) == {0}
    parts = {f"transfer: {part}" for part in ("base", "target", "learning curve")}
    assert {"P2.3", "P2.4", "P2.5", "P2.6", *parts} == set(back["experiment"])
    grown = back[back["experiment"] == "transfer: learning curve"]
    curve = transfer_tables.curve(outcome)
    assert len(grown) == len(curve) == 7 * 2
    n = len(outcome.splits[0].target[OL]["train"].segments)
    last = grown[grown["metric"] == f"mAP, Human sounds, OL, {n} recordings"].set_index("arm")
    expected = outcome.value("Human sounds", Key(TUNED, PE_CML, OL))
    assert last.loc["fine-tuning, PE-CML", "value"] == pytest.approx(expected)
    json.dumps(ledger.reset_index()["value"].tolist(), allow_nan=False)


def toy(values, seeds=(0, 1, 2)):
    """An outcome whose mAP of each (root, key) is given: {root: {key: number}}, for all seeds alike."""
    units = pd.Index(["d1", "d2", "d3"])
    numbers = {
        (root, seed, key): Statistic(units, lambda counts, v=v: np.full(len(counts), v))
        for root, cells in values.items()
        for key, v in cells.items()
        for seed in seeds
    }
    one = Outcome(None, [], {}, list(seeds), transfer.recipe("smoke"))
    one.__dict__["statistics"] = numbers
    object.__setattr__(one, "splits", [type("S", (), {"root": root})() for root in values])
    return one


def cells(base, feature, tuned):
    """mAP by labeling of the base, the same for all targets and shares."""
    told = {Key(BASE, scheme, ""): v for scheme, v in zip(SCHEMES, base, strict=True)}
    for way, row in ((FEATURES, feature), (TUNED, tuned)):
        for scheme, v in zip(SCHEMES, row, strict=True):
            told |= {Key(way, scheme, target, share): v for target in SCHEMES for share in (1.0, 0.5)}
    return told


def test_the_split_is_the_unit():
    """Without any noise in a split, what is left is Student's t over the splits."""
    gains = [0.02, 0.05, 0.03, 0.06]
    one = toy(
        {f"root{k}": cells((0.3, 0.4, 0.5), (0.5, 0.5 + g, 0.53 + g), (0.5, 0.5, 0.5)) for k, g in enumerate(gains)}
    )
    found = transfer_tables.effects(one).set_index(["what", "root"])
    total = found.loc[("features: PEL − OL", transfer_tables.EVERY)]
    expected = scipy_stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert total[["value", "low", "high"]].tolist() == pytest.approx([np.mean(gains), expected.low, expected.high])
    assert total["n"] == 4
    ledger = transfer_tables.claims(one, found.reset_index(), "embedded", "demo")
    assert ledger.loc["P2.3", "verdict"] == "reproduced"
    assert ledger.loc["P2.4", "verdict"] == "reproduced"
    assert ledger.loc["P2.5", "verdict"] == "not reproduced"
    assert ledger.loc["P2.5", "value"] == pytest.approx(0)


def test_a_claim_of_two_differences_holds_only_if_both_do():
    one = toy({f"root{k}": cells((0.3, 0.5, 0.4), (0.5, 0.6, 0.5), (0.5, 0.5, 0.5)) for k in range(3)})
    ledger = transfer_tables.claims(one, transfer_tables.effects(one), "embedded", "demo")
    assert ledger.loc["P2.3", ["value", "verdict"]].tolist() == [pytest.approx(-0.1), "not reproduced"]
    assert ledger.loc["P2.4", ["value", "verdict"]].tolist() == [pytest.approx(-0.1), "not reproduced"]


def test_pe_cml_has_to_be_best_of_the_features():
    """Both are better than OL, but PEL is better still."""
    one = toy({f"root{k}": cells((0.3, 0.4, 0.5), (0.5, 0.6, 0.55), (0.5, 0.5, 0.5)) for k in range(3)})
    ledger = transfer_tables.claims(one, transfer_tables.effects(one), "embedded", "demo")
    assert ledger.loc["P2.4", ["value", "verdict"]].tolist() == [pytest.approx(-0.05), "not reproduced"]


def test_what_p2_says_follows_from_its_table():
    printed = pd.DataFrame.from_dict(transfer_tables.PRINTED, orient="index")
    printed.index = pd.MultiIndex.from_tuples(printed.index)
    means = printed.mean(axis=1).round(3)
    assert means.tolist() == [0.533, 0.548, 0.553, 0.499, 0.536, 0.541, 0.553]  # section VI
    better = {
        (way, base): int((printed.loc[(way, base)] > printed.loc[(way, OL)]).sum())
        for way in (FEATURES, TUNED)
        for base in (PEL, PE_CML)
    }
    assert better == {(FEATURES, PEL): 12, (FEATURES, PE_CML): 10, (TUNED, PEL): 7, (TUNED, PE_CML): 12}
    assert transfer_tables.printed_cells()[FEATURES, PE_CML, "Natural sounds", OL] == 0.529
    assert len(transfer_tables.printed_cells()) == 7 * 12


def test_compared_counts_our_cells_as_p2_counts_its_own(outcome):
    table, ours = transfer_tables.compared(outcome), transfer_tables.target_table(outcome)
    more = (ours.loc[(TUNED, PE_CML)] > ours.loc[(TUNED, OL)]).sum()
    assert table.loc[(TUNED, PE_CML), "ours: better than OL's base"] == f"{more} of 3"
    assert table.loc[(FEATURES, PEL), "P2: better than OL's base"] == "12 of 12"
    assert table.loc[(SCRATCH, ""), "P2: mean mAP"] == "0.499"


# --- statistics -------------------------------------------------------------------------------------------------------


def test_over_units_is_a_t_interval():
    numbers = [0.1, 0.3, -0.2, 0.4, 0.0]
    found = stats.over_units(numbers, 0.9)
    expected = scipy_stats.ttest_1samp(numbers, 0).confidence_interval(0.9)
    assert (found.value, found.low, found.high) == pytest.approx((0.12, expected.low, expected.high))
    one = stats.over_units([0.3])
    assert (one.value, one.n) == (0.3, 1)
    assert np.isnan([one.low, one.high]).all()
    for wrong in ([], [np.nan, 1.0]):
        with pytest.raises(AudiotkError, match="expected finite numbers"):
            stats.over_units(wrong)


def test_weighted_statistic_of_tests_that_share_units():
    """Each part sees its own units only; the draws of shared ones are the same in all."""

    def mean(units, values):
        return Statistic(pd.Index(units), lambda counts: counts @ np.array(values) / counts.sum(axis=1))

    both = resample.weighted_statistic([(1.0, mean(["b", "c"], [2.0, 4.0])), (-0.5, mean(["a", "b"], [1.0, 3.0]))])
    assert both.recordings.tolist() == ["a", "b", "c"]
    assert both.value() == pytest.approx(3.0 - 0.5 * 2.0)
    counts = np.array([[1.0, 0.0, 2.0], [0.0, 2.0, 1.0]])
    np.testing.assert_allclose(both.of(counts), [4.0 - 0.5 * 1.0, 8 / 3 - 0.5 * 3.0])
    with pytest.raises(AudiotkError, match="at least one part"):
        resample.weighted_statistic([])


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures(outcome):
    found = transfer_tables.effects(outcome)
    figure = transfer_figures.effects(found, transfer_tables.EVERY)
    assert sum(axes.get_visible() for axes in figure.axes) == found["what"].nunique()
    assert any(line.get_linestyle() == ":" for axes in figure.axes for line in axes.lines)  # without ends
    table = transfer_tables.target_table(outcome)
    drawn = transfer_figures.cells(table, transfer_tables.printed_cells()).axes[0]
    filled = [line for line in drawn.lines if line.get_fillstyle() == "full" and line.get_marker() == "o"]
    rings = [line for line in drawn.lines if line.get_fillstyle() == "none"]
    assert (len(filled), len(rings)) == (6, 6)
    first = filled[0].get_xdata()[0]
    assert first == pytest.approx(table.loc[(FEATURES, PEL)].iloc[0] - table.loc[(FEATURES, OL)].iloc[0])
    curve = transfer_figures.curve(transfer_tables.curve(outcome))
    assert len(curve.axes) == 2
    assert len(curve.axes[0].lines) == 4  # three bases and from scratch
    assert isinstance(outcome.case.ontology, Ontology)
