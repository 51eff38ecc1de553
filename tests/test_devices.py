"""GPUs are counted out without any being here: who gets which, in real processes, and what a kill leaves."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock, Timeout

from audiotk import experiments, train
from audiotk.experiments import devices, polyphony

ROOT = Path(__file__).parents[1]


# As a worker or container of its own would, but without torch, which takes seconds to import and which claim has no
# need of: claim a GPU, say which and since when, keep it for some time; so often.
HOLDER = """
import importlib.util, sys, time, types
from pathlib import Path
sys.modules["torch"] = types.ModuleType("torch")
spec = importlib.util.spec_from_file_location("devices", sys.argv[1])
devices = importlib.util.module_from_spec(spec)
spec.loader.exec_module(devices)
devices.LOOK_S = 0.01
print("here", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[4])):
    with devices.claim(sys.argv[3].split(","), Path(sys.argv[2])) as k:
        print(k, time.monotonic(), end=" ", flush=True)
        time.sleep(float(sys.argv[5]))
        print(time.monotonic(), flush=True)
"""


class Holder(subprocess.Popen):
    """A process that holds one of `names`; it begins at :meth:`go`."""

    def __init__(self, folder, names, times, seconds):
        command = [sys.executable, "-c", HOLDER, devices.__file__, folder, ",".join(names), str(times), str(seconds)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.stdout.readline() == "here\n"

    def go(self):
        self.stdin.write("\n")
        self.stdin.flush()


def pretend(monkeypatch, *uuids):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(uuids))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda k: SimpleNamespace(uuid=uuids[k]))


@pytest.mark.parametrize(
    ("count", "jobs", "trainings", "expected"),
    [(0, None, 99, 3), (0, None, 2, 2), (0, 5, 99, 5), (1, None, 9, 1), (4, None, 9, 4), (4, None, 2, 2), (4, 2, 9, 2),
     (4, 16, 99, 4)],
)  # fmt: skip
def test_one_process_for_each_gpu(monkeypatch, count, jobs, trainings, expected):
    pretend(monkeypatch, *range(count))
    monkeypatch.setattr(devices, "cores", lambda: 3)
    assert devices.at_once(jobs, trainings) == expected
    assert polyphony.jobs_for("paper") == (None if count else 1)
    assert polyphony.jobs_for("demo") is None


def test_a_gpu_has_one_name_whatever_its_number_is(monkeypatch, tmp_path):
    """Two jobs of a machine with a GPU each call it 0; one that sees both calls the second 1."""
    pretend(monkeypatch)
    assert devices.gpus() == []
    pretend(monkeypatch, "aa-1", "bb-2")
    assert devices.gpus() == ["aa-1", "bb-2"]
    with devices.claim(["aa-1", "bb-2"], tmp_path) as k, devices.claim(["bb-2"], tmp_path) as other:
        assert (k, other) == (0, 0)


def test_torch_says_the_uuid_of_a_gpu():
    assert hasattr(torch._C._CudaDeviceProperties, "uuid")


@pytest.mark.parametrize("gpus", [["aa-1", "bb-2"], ["aa-1"]])
def test_two_processes_never_share_a_gpu(tmp_path, gpus):
    holders = [Holder(tmp_path, gpus, 4, 0.1) for _ in range(2)]
    for holder in holders:
        holder.go()
    told = [line.split() for holder in holders for line in holder.communicate(timeout=60)[0].splitlines()]
    assert len(told) == 8
    assert {k for k, *_ in told} == {str(gpu) for gpu in range(len(gpus))}
    for gpu in range(len(gpus)):
        times = sorted((float(begin), float(end)) for k, begin, end in told if k == str(gpu))
        assert all(end <= begin for (_, end), (begin, _) in pairwise(times))


def test_a_killed_process_leaves_its_gpu_to_others(tmp_path, capsys):
    with Holder(tmp_path, ["aa-1"], 1, 60) as holder:
        holder.go()
        assert holder.stdout.read(2) == "0 "
        with devices.claim(["aa-1", "bb-2"], tmp_path) as k:
            assert k == 1
        holder.send_signal(signal.SIGKILL)
    with devices.claim(["aa-1", "bb-2"], tmp_path) as k:
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
    pretend(monkeypatch, "aa-1", "bb-2")
    folder = tmp_path / f"audiotk-gpus-{os.getuid()}"
    with devices.claim(["aa-1"], folder):
        with devices.own_gpu(), devices.own_gpu():
            assert used == [1]
            with pytest.raises(Timeout):
                FileLock(folder / "bb-2.lock").acquire(timeout=0)
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
    pretend(monkeypatch, *range(8))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(lightning_fabric, "Fabric", lambda **options: made.update(options))
    for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, processes) if processes else monkeypatch.delenv(name, raising=False)
    train.make_fabric("32-true")
    assert made["devices"] == expected
    assert made["accelerator"] == "cuda"
