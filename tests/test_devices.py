"""GPUs are counted out without any being here: who gets which, in real processes, and what a kill leaves."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import joblib
import pytest
import torch
from filelock import FileLock, Timeout

from audiotk import experiments, train
from audiotk.experiments import devices, polyphony

ROOT = Path(__file__).parents[1]


def pretend(monkeypatch, count, visible=None):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("count", "jobs", "trainings", "expected"),
    [(0, None, 99, 3), (0, None, 2, 2), (0, 5, 99, 5), (1, None, 9, 1), (4, None, 9, 4), (4, None, 2, 2), (4, 2, 9, 2),
     (4, 16, 99, 4)],
)  # fmt: skip
def test_one_process_for_each_gpu(monkeypatch, count, jobs, trainings, expected):
    pretend(monkeypatch, count)
    monkeypatch.setattr(devices, "cores", lambda: 3)
    assert devices.at_once(jobs, trainings) == expected
    assert polyphony.jobs_for("paper") == (None if count else 1)
    assert polyphony.jobs_for("demo") is None


@pytest.mark.parametrize(
    ("count", "visible", "expected"),
    [(0, None, []), (2, None, ["0", "1"]), (2, "", ["0", "1"]), (2, "3, 5", ["3", "5"]), (1, "MIG-a", ["MIG-a"])],
)
def test_gpus_have_the_same_name_in_every_process(monkeypatch, count, visible, expected):
    pretend(monkeypatch, count, visible)
    assert devices.gpus() == expected


def _hold(folder, names, seconds):
    """In a process of its own, once there are two: which GPU it had, and from when to when."""
    devices.LOOK_S = 0.01
    (folder / f"{os.getpid()}.here").touch()
    while len(list(folder.glob("*.here"))) < 2:
        time.sleep(0.01)
    with devices.claim(names, folder) as k:
        begin = time.monotonic()
        time.sleep(seconds)
        return k, begin, time.monotonic(), os.getpid()


@pytest.mark.parametrize("gpus", [["0", "MIG-1/2"], ["0"]])
def test_two_processes_never_share_a_gpu(tmp_path, gpus):
    """In two real workers."""
    held = joblib.Parallel(n_jobs=2)(joblib.delayed(_hold)(tmp_path, gpus, 0.1) for _ in range(6))
    assert {k for k, *_ in held} == set(range(len(gpus)))
    assert len({pid for *_, pid in held}) == 2
    for gpu in range(len(gpus)):
        times = sorted((begin, end) for k, begin, end, _ in held if k == gpu)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(times))


def test_a_killed_process_leaves_its_gpu_to_others(tmp_path, capsys):
    script = (
        "import sys, time; from pathlib import Path; from audiotk.experiments import devices\n"
        "with devices.claim(['0'], Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with devices.claim(["0", "1"], tmp_path) as k:
        assert k == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with devices.claim(["0", "1"], tmp_path) as k:
        assert k == 0
    assert capsys.readouterr().err == ""


def test_who_has_to_wait_says_so(tmp_path, monkeypatch, capsys):
    held = devices.claim(["0"], tmp_path)
    held.__enter__()

    def freed(_):
        held.__exit__(None, None, None)

    monkeypatch.setattr(devices.time, "sleep", freed)
    with devices.claim(["0"], tmp_path) as k:
        assert k == 0
    assert "waiting, 1 of 1 GPUs are in use" in capsys.readouterr().err


def test_a_training_runs_on_the_gpu_that_it_has(tmp_path, monkeypatch):
    """The first GPU is taken, so the current one is the second; a training within a training keeps it."""
    used = []
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device", lambda k: used.append(k) or nullcontext())
    with devices.own_gpu():
        assert used == []  # no GPU, nothing to take
    pretend(monkeypatch, 2, "6,7")
    folder = tmp_path / f"audiotk-gpus-{os.getuid()}"
    with devices.claim(["6"], folder):
        with devices.own_gpu(), devices.own_gpu():
            assert used == [1]
            with pytest.raises(Timeout):
                FileLock(folder / "7.lock").acquire(timeout=0)
        with pytest.raises(ZeroDivisionError), devices.own_gpu():
            raise ZeroDivisionError
        with devices.own_gpu():
            assert used == [1, 1, 1]


def test_experiments_take_one(monkeypatch, tmp_path):
    held = []
    monkeypatch.setattr(experiments, "own_gpu", lambda: held.append("gpu") or nullcontext())
    monkeypatch.setattr(experiments, "train", lambda *_, **__: held.append("train") or _Run())
    arm = experiments.Arm("a", experiments.Material(None, None, 1, None), None, train.TrainConfig())
    experiments._train_one(arm, 0, tmp_path, (arm.material, None), {})
    assert held == ["gpu", "train"]


class _Run:
    pass


@pytest.mark.parametrize(("processes", "expected"), [(None, [3]), ("4", 4)])
def test_fabric_uses_the_current_gpu_or_those_of_torchrun(monkeypatch, processes, expected):
    import lightning_fabric

    made = {}
    pretend(monkeypatch, 8)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(lightning_fabric, "Fabric", lambda **options: made.update(options))
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, processes) if processes else monkeypatch.delenv(name, raising=False)
    train.make_fabric("32-true")
    assert made["devices"] == expected
    assert made["accelerator"] == "cuda"
