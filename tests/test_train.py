"""The training loop: it learns, it resumes exactly, unknown labels leave no trace, and it says what is wrong."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from scipy import stats

from audiotk import augment, features, metrics, models, train
from audiotk.models.checkpoints import load_checkpoint
from audiotk.models.predict import score
from audiotk.tables import AudiotkError, Labels
from audiotk.train.batches import batches, order_of
from audiotk.train.checks import check_fabric
from audiotk.train.state import TrainState

SR, CLIP_S = 4000, 1.0
SMALL = {"mels": 16, "n_fft": 256, "hop": 40, "width": 0.25}


def tones(n, seed, classes=3):
    """Noise with 0-3 tones in it, one class a tone: (n, samples) and labels."""
    rng = np.random.default_rng(seed)
    present = rng.random((n, classes)) < 0.5
    time_s = np.arange(int(SR * CLIP_S)) / SR
    sound = np.sin(2 * np.pi * np.array([300, 700, 1500])[:classes, None] * time_s)
    waves = (present @ sound * 0.2 + rng.normal(0, 0.3, (n, len(time_s)))).astype("float32")
    names = [f"seg{seed}-{i}" for i in range(n)]
    return waves, Labels.from_frame(pd.DataFrame(present.astype(float), index=names, columns=list("abc")[:classes]))


@pytest.fixture(scope="module")
def data():
    return (*tones(48, 1), *tones(40, 2))


def config(**changes):
    return train.TrainConfig(
        **{"sr": SR, "clip_s": CLIP_S, "model_options": SMALL, "epochs": 4, "batch_size": 16, "lr": 5e-3} | changes
    )


def weights(run):
    return run.checkpoint().model.state_dict()


def assert_same_weights(one, two):
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[name], rtol=0, atol=0, msg=name)


class Killed(Exception):
    pass


class BreaksAfter:
    """Waveforms whose reading fails after so many batches, as a kill would."""

    def __init__(self, waves, reads):
        self.waves, self.left = waves, reads

    def __len__(self):
        return len(self.waves)

    def __getitem__(self, rows):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.waves[rows]


def test_learns_tones(data, tmp_path):
    run = train.train(config(epochs=12), *data, tmp_path, progress=False)
    scores = run.score(data[2], data[3].segments)
    assert metrics.mean_average_precision(scores, data[3]) > 0.95
    assert run.history["val_map"].max() == pytest.approx(run.history["val_map"][run.best_epoch])
    assert json.loads((tmp_path / "config.json").read_text())["lr"] == 5e-3
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"average": 0.9, "roll": True, "mix": "join", "masks": 1, "gain_db": 2.0, "noise_snr_db": (10.0, 30.0)},
        {"schedule": "plateau", "plateau_epochs": 1, "optimizer": "adam", "loss": "mse"},
        {"schedule": "exponential", "epoch_size": 70, "mix": "vanilla"},
    ],
    ids=["one_cycle", "plateau", "exponential"],
)
@pytest.mark.parametrize("reads", [2, 7, 11])
def test_resume_gives_the_same_weights(data, tmp_path, changes, reads):
    waves, labels, val_waves, val_labels = data
    settings = config(**changes)
    whole = train.train(settings, *data, tmp_path / "whole", progress=False)
    broken = BreaksAfter(waves, reads + 1)  # one read goes into the fingerprint
    with pytest.raises(Killed):
        train.train(settings, broken, labels, val_waves, val_labels, tmp_path / "killed", progress=False)
    torch.manual_seed(reads)  # the global state has no influence
    resumed = train.train(settings, *data, tmp_path / "killed", progress=False)
    assert_same_weights(whole, resumed)
    pd.testing.assert_frame_equal(whole.history, resumed.history)


@pytest.mark.parametrize("spread", [2.0, 8.0])
def test_the_jitter_of_levels_has_the_stated_spread(spread):
    """One factor for a whole clip, normal in dB; 4,000 draws are within 5 % of the spread, and of 0 in the mean."""
    settings, waves = config(gain_db=spread, batch_size=500), np.full((4000, 8), 0.01, np.float32)
    made = batches(settings, waves, np.zeros((4000, 1)), np.arange(4000), 0, Fabric(accelerator="cpu"), None, None)
    heard = torch.cat([wave for wave, _, _ in made]).numpy()
    assert (heard == heard[:, :1]).all()
    gain = 20 * np.log10(heard[:, 0] / 0.01)
    assert gain.std() == pytest.approx(spread, rel=0.05)
    assert gain.mean() == pytest.approx(0, abs=0.05 * spread)
    assert stats.kstest(gain / spread, "norm").pvalue > 0.001
    plain = batches(
        config(batch_size=500), waves, np.zeros((4000, 1)), np.arange(4000), 0, Fabric(accelerator="cpu"), None, None
    )
    assert all((wave == 0.01).all() for wave, _, _ in plain)


def test_killed_process_resumes(data, tmp_path):
    """A real SIGKILL somewhere in the middle, then the same call again."""
    script = textwrap.dedent(f"""
        import json, os, pathlib, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import torch; torch.set_num_threads(1)
        from test_train import config, tones
        from audiotk import train
        train.train(config(epochs=20), *tones(48, 1), *tones(40, 2), sys.argv[1], progress=False)
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    process = subprocess.Popen(command)
    history = tmp_path / "killed" / "history.jsonl"
    while process.poll() is None and not (history.exists() and len(history.read_text().splitlines()) >= 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed = train.train(config(epochs=20), *data, tmp_path / "killed", progress=False)
        whole = train.train(config(epochs=20), *data, tmp_path / "whole", progress=False)
    finally:
        torch.set_num_threads(threads)
    assert_same_weights(whole, resumed)


def test_finished_run_is_returned_as_it_is(data, tmp_path):
    first = train.train(config(), *data, tmp_path, progress=False)
    stamp = (tmp_path / "best.pt").stat().st_mtime_ns
    again = train.train(config(), *data, tmp_path, progress=False)
    assert (tmp_path / "best.pt").stat().st_mtime_ns == stamp
    pd.testing.assert_frame_equal(first.history, again.history)


@pytest.mark.parametrize("what", ["settings", "labels", "sound"])
def test_folder_of_another_run_is_refused(data, tmp_path, what):
    waves, labels, val_waves, val_labels = data
    train.train(config(epochs=1), *data, tmp_path, progress=False)
    settings = config(epochs=1, lr=1e-3) if what == "settings" else config(epochs=1)
    frame = labels.frame()
    frame.iloc[0, 0] = 1 - frame.iloc[0, 0]
    labels = Labels.from_frame(frame) if what == "labels" else labels
    waves = waves * 0.5 if what == "sound" else waves
    with pytest.raises(AudiotkError, match="other settings or other data"):
        train.train(settings, waves, labels, val_waves, val_labels, tmp_path, progress=False)


def test_a_wholly_unknown_class_is_never_trained(data, tmp_path):
    waves, labels, val_waves, val_labels = data
    frame = labels.frame().assign(b=np.nan)
    settings = config(epochs=2, optimizer="adam")
    run = train.train(settings, waves, Labels.from_frame(frame), val_waves, val_labels, tmp_path, progress=False)
    fresh = models.build("melcnn", 3, sr=SR, clip_s=CLIP_S, rng=np.random.default_rng(0), **SMALL).head.weight
    trained = run.checkpoint().model.head.weight
    torch.testing.assert_close(trained[1], fresh[1], rtol=0, atol=0)
    assert not torch.allclose(trained[0], fresh[0])


def test_plateau_halves_after_so_many_epochs_without_a_better_one():
    model = models.build("melcnn", 1, sr=SR, clip_s=CLIP_S, rng=np.random.default_rng(0), **SMALL)
    settings = config(schedule="plateau", plateau_epochs=3, lr=1.0)
    state = TrainState(model, settings, steps=1, classes=pd.Index(["a"]))
    rates = []
    for val_map in (0.5, 0.5, 0.4, 0.5, 0.50001, 0.1, 0.1, 0.1):
        state.after_epoch(val_map)
        rates.append(state.lr)
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


NETWORKS = {
    "melcnn": SMALL,
    "rawcnn": {"filters": [8, 8, 16], "kernels": [17, 16, 15], "dense": [16, 8]},
    "acdnet": {"width": 0.25, "frequency_pools": [2, 2, 2, 2, 2, 1, 1]},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_stays_close_to_float32(data, tmp_path, monkeypatch, name):
    """The first step and what comes of it; front ends hear the same waves, and what is kept and said is float32."""
    front = {"melcnn": features.LogMel, "acdnet": features.CompressedSTFT, "rawcnn": torch.nn.Conv1d}[name]
    forward, heard = front.forward, []
    monkeypatch.setattr(front, "forward", lambda self, wave: heard.append(forward(self, wave)) or heard[-1])
    settings = config(model=name, model_options=NETWORKS[name], epochs=2, batch_size=48)
    runs, first = {}, {}
    for precision in ("32-true", "bf16-mixed"):
        heard.clear()
        runs[precision] = train.train(
            replace(settings, precision=precision), *data, tmp_path / precision, progress=False
        )
        first[precision] = heard[0]
    exact, rough = (run.history["loss"].to_numpy() for run in runs.values())
    np.testing.assert_allclose(rough, exact, rtol=0.02)
    assert not np.array_equal(rough, exact)  # it did compute differently
    torch.testing.assert_close(first["bf16-mixed"], first["32-true"], rtol=0, atol=0)
    kept = weights(runs["bf16-mixed"]).values()
    assert {value.dtype for value in kept if value.is_floating_point()} == {torch.float32}
    said = [run.score(data[2], data[3].segments).to_numpy() for run in runs.values()]
    np.testing.assert_allclose(said[1], said[0], atol=0.05)
    assert len(np.unique(said[1])) > 100  # bf16 has 8 bits: it would have fewer different scores


def test_the_precision_of_a_run_is_what_it_was_and_has_to_stay(data, tmp_path, monkeypatch):
    """What "auto" stands for is stored; a run in one precision is not gone on with in another."""
    run = train.train(config(epochs=1), *data, tmp_path / "cpu", progress=False)
    assert config().precision == "auto"
    assert run.config.precision == json.loads((tmp_path / "cpu" / "config.json").read_text())["precision"] == "32-true"
    assert run.checkpoint().config["precision"] == "32-true"
    train.train(config(epochs=1, precision="32-true"), *data, tmp_path / "cpu", progress=False)  # the same run
    own = train.make_fabric("bf16-mixed")
    for asked in ({"config": config(epochs=1), "fabric": own}, {"config": config(epochs=1, precision="bf16-mixed")}):
        with pytest.raises(AudiotkError, match="was begun in 32-true, here it is bf16-mixed"):
            train.train(asked["config"], *data, tmp_path / "cpu", fabric=asked.get("fabric"), progress=False)


def test_a_fabric_that_rounds_waves_is_refused(data, tmp_path):
    from lightning_fabric import Fabric

    rounds = Fabric(accelerator="cpu", precision="bf16-mixed")
    with pytest.raises(AudiotkError, match=r'to torch.bfloat16 .*use audiotk.train.make_fabric\("bf16-mixed"\)'):
        train.train(config(), *data, tmp_path, fabric=rounds, progress=False)
    assert list(tmp_path.iterdir()) == []
    own = Fabric(accelerator="cpu", plugins=train.make_fabric("bf16-mixed").strategy.precision)  # as the message says
    assert (own.strategy.precision.precision, check_fabric(own)) == ("bf16-mixed", None)
    for exact in ("32-true", "64-true"):
        check_fabric(Fabric(accelerator="cpu", precision=exact))


@pytest.mark.parametrize("stops", [False, True])
def test_a_finished_run_is_read_on_a_machine_of_another_precision(data, tmp_path, monkeypatch, stops):
    """Trained on a GPU server, copied to a laptop: the same call returns it; one that was killed is refused there."""
    settings = config(epochs=9, lr=1e-6, stop_after=1) if stops else config(epochs=2)
    with monkeypatch.context() as server:
        server.setattr(train, "automatic_precision", lambda: "bf16-mixed")
        with pytest.raises(Killed):
            train.train(settings, BreaksAfter(data[0], 5), *data[1:], tmp_path / "killed", progress=False)
        made = train.train(settings, *data, tmp_path / "made", progress=False)
    assert made.config.precision == "bf16-mixed"
    kept = {path: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    read = train.train(settings, *data, tmp_path / "made", progress=False)
    assert (read.config, read.best_epoch) == (made.config, made.best_epoch)
    pd.testing.assert_frame_equal(read.history, made.history)
    assert_same_weights(read, made)
    assert {path: path.read_bytes() for path in (tmp_path / "made").iterdir()} == kept
    with pytest.raises(AudiotkError, match=r'begun in bf16-mixed, here it is 32-true.*set precision="bf16-mixed"'):
        train.train(settings, *data, tmp_path / "killed", progress=False)
    ended = train.train(replace(settings, precision="bf16-mixed"), *data, tmp_path / "killed", progress=False)
    assert_same_weights(ended, made)  # as the message says
    with pytest.raises(AudiotkError, match="other settings or other data"):
        train.train(replace(settings, lr=1e-4), *data, tmp_path / "made", progress=False)


def test_a_run_that_was_killed_before_its_first_epoch_begins_anew_in_any_precision(data, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "automatic_precision", lambda: "bf16-mixed")
    with pytest.raises(Killed):
        train.train(config(epochs=1), BreaksAfter(data[0], 2), *data[1:], tmp_path, progress=False)
    monkeypatch.undo()
    run = train.train(config(epochs=1), *data, tmp_path, progress=False)
    assert run.config.precision == json.loads((tmp_path / "config.json").read_text())["precision"] == "32-true"


@pytest.mark.parametrize(
    ("capable", "hip", "expected"),
    [([], None, "32-true"), ([(7, 5)], None, "32-true"), ([(8, 0), (9, 0)], None, "bf16-mixed"),
     ([(9, 0), (7, 0)], None, "32-true"), ([(7, 0)], "6.2", "bf16-mixed")],
)  # fmt: skip
def test_automatic_precision_is_what_all_gpus_can(monkeypatch, capable, hip, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capable))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capable))
    monkeypatch.setattr(torch.cuda, "get_device_capability", capable.__getitem__)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert train.automatic_precision() == expected


def test_early_stop(data, tmp_path):
    run = train.train(config(epochs=40, lr=1e-6, stop_after=2), *data, tmp_path, progress=False)
    assert len(run.history) - 1 - run.best_epoch == 2


def test_score_does_not_depend_on_the_batch(data, tmp_path):
    run = train.train(config(epochs=1), *data, tmp_path, progress=False)
    one = score(run.checkpoint(), data[2], data[3].segments, batch_size=1)
    all_ = score(run.checkpoint(), data[2], data[3].segments, batch_size=40)
    np.testing.assert_allclose(one, all_, atol=1e-6)
    assert one.dtypes.unique().tolist() == [np.float64]


@pytest.mark.slow
def test_two_processes_see_every_segment_once_and_agree(tmp_path):
    """DDP by torchrun: both processes end with one model, and the validation covers all rows."""
    script = tmp_path / "ddp.py"
    script.write_text(
        textwrap.dedent(f"""
        import json, os, pathlib, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_train import config, tones
        from audiotk import metrics, train
        data = (*tones(47, 1), *tones(41, 2))  # odd numbers: the shares differ in size
        run = train.train(config(epochs=3), *data, {str(tmp_path / "run")!r}, progress=False)
        scores = run.score(data[2], data[3].segments)
        values = [metrics.mean_average_precision(scores, data[3]), float(run.history["val_map"].max())]
        (pathlib.Path(__file__).parent / ("rank" + os.environ["RANK"] + ".json")).write_text(json.dumps(values))
        """)
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))  # one file each:
    assert first == second  # two processes that share a pipe may cut into each other's lines
    assert first[0] == pytest.approx(first[1], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet"}, "model is one of .*melcnn.*got 'resnet'"),
        ({"epochs": 0}, "expected epochs > 0, got 0"),
        ({"mix": "mixup"}, "mix is one of"),
        ({"masks": 2, "model": "rawcnn"}, "rawcnn has none"),
    ],
)
def test_bad_config_is_refused(changes, message):
    with pytest.raises(AudiotkError, match=message):
        config(**changes)


def test_config_round_trip_and_unknown_key():
    settings = config(noise_snr_db=(10.0, 30.0))
    values = json.loads(json.dumps(settings.__dict__))
    assert train.TrainConfig.from_dict(values) == settings
    with pytest.raises(AudiotkError, match=r"unknown keys \['learning_rate'\]"):
        train.TrainConfig.from_dict({"learning_rate": 1})


def test_bad_data_is_refused(data, tmp_path):
    waves, labels, val_waves, val_labels = data
    with pytest.raises(AudiotkError, match=r"as many training waveforms as labelled segments.*got 47 and 48"):
        train.train(config(), waves[1:], labels, val_waves, val_labels, tmp_path, progress=False)
    with pytest.raises(AudiotkError, match="48 segments are in training and validation"):
        train.train(config(), waves, labels, waves, labels, tmp_path, progress=False)
    nothing = Labels.from_frame(val_labels.frame() * 0)
    with pytest.raises(AudiotkError, match="no class has both a present and an absent"):
        train.train(config(), waves, labels, val_waves, nothing, tmp_path, progress=False)
    with pytest.raises(AudiotkError, match=r"the loss is nan in epoch 0"):
        train.train(config(), waves * np.nan, labels, val_waves, val_labels, tmp_path, progress=False)


def test_rows_are_drawn_by_their_weights(data, tmp_path):
    waves, labels, val_waves, val_labels = data
    frame = labels.frame()
    weights = np.zeros(len(waves))
    weights[:4] = 1.0
    order = np.concatenate([order_of(config(epochs=1), len(waves), weights, epoch) for epoch in range(50)])
    assert set(order) == {0, 1, 2, 3}
    assert np.ptp(np.bincount(order)) < 0.3 * len(order) / 4
    with pytest.raises(AudiotkError, match="weights >= 0"):
        train.train(
            config(), waves, Labels.from_frame(frame), val_waves, val_labels, tmp_path, weights=-weights, progress=False
        )


def test_the_energy_penalty_silences_quiet_frames_only(data, tmp_path):
    """Trained to say yes to everything, near silence too; with the penalty the quiet half is doubted."""
    waves, labels, val_waves, val_labels = data
    quiet = np.concatenate([waves, 1e-4 * waves])
    ids = [f"{half}{segment}" for half in "ab" for segment in labels.segments]
    yes = Labels.from_frame(pd.DataFrame(1.0, index=ids, columns=labels.classes))
    scores = {}
    for weight in (0.0, 3.0):
        settings = config(epochs=4, energy_penalty=weight, quiet_dbfs=-60.0)
        run = train.train(settings, quiet, yes, val_waves, val_labels, tmp_path / str(weight), progress=False)
        checkpoint = load_checkpoint(run.folder / "best.pt")
        said = score(checkpoint, quiet, ids).to_numpy().mean(axis=1)
        scores[weight] = said[: len(waves)].mean(), said[len(waves) :].mean()
    assert scores[3.0][1] < scores[0.0][1] - 0.1
    assert scores[3.0][0] > scores[3.0][1]


def test_the_penalty_needs_frames(data, tmp_path):
    waves, labels, val_waves, val_labels = data
    settings = train.TrainConfig(model="rawcnn", sr=SR, clip_s=CLIP_S, epochs=1, energy_penalty=1.0)
    with pytest.raises(AudiotkError, match="melcnn"):
        train.train(settings, waves, labels, val_waves, val_labels, tmp_path, progress=False)


def test_background_rows_hold_no_class(data, tmp_path):
    waves, labels, val_waves, val_labels = data
    settings = config(epochs=1, background_share=1.0)
    with pytest.raises(AudiotkError, match="needs backgrounds"):
        train.train(settings, waves, labels, val_waves, val_labels, tmp_path / "a", progress=False)
    with pytest.raises(AudiotkError, match="backgrounds of shape"):
        train.train(
            settings, waves, labels, val_waves, val_labels, tmp_path / "b", backgrounds=waves[:, :5], progress=False
        )
    wave, target = torch.ones(6, 100), torch.ones(6, 2)
    target[0] = torch.nan
    rng = np.random.default_rng(0)
    changed, absent = augment.background_only(wave, target, np.full((3, 100), 2.0, np.float32), 1.0, rng)
    assert (absent == 0).all()
    assert not (changed == 1).any()
    changed, kept = augment.background_only(wave, target, np.zeros((3, 100), np.float32), 0.0, rng)
    torch.testing.assert_close(changed, wave)
    torch.testing.assert_close(kept, target, equal_nan=True)


def test_dropouts_are_faint_and_short():
    wave = torch.ones(200, 1000)
    changed = augment.dropouts(wave, 0.5, np.random.default_rng(0))
    gone = changed != 1
    assert 60 < gone.any(dim=1).sum() < 140
    assert gone.float().mean(dim=1).max() <= 0.301
    assert changed[gone].abs().max() < 10 ** (-60 / 20) * 6
    edges = (gone[:, 1:] != gone[:, :-1]).sum(dim=1)
    assert edges.max() <= 2, "one stretch a row"
