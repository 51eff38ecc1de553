"""Real notebooks in real kernels; each run takes seconds, so several tests look at one run."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import papermill
import psutil
import pytest

from audiotk.errors import AudiotkError
from audiotk.files import circumstances
from audiotk.fingerprints import data_hash, data_paths, package_hash
from audiotk.kernels import Display
from audiotk.runs import _clear, notebook_parameters, read_manifest, read_results, run_notebooks

Maker = Callable[..., Path]
ROW = """
from audiotk.runs import append_results
row = dict(experiment='e', arm='a', seed=seeds[0], data=data, scale=scale, split='test', metric='mAP',
           class_name=None, value=rate, low=None, high=None, n=1)
append_results(out, [row])
"""
COUNT = "from pathlib import Path\nPath(out).mkdir(parents=True, exist_ok=True)\nopen(f'{out}/count', 'a').write('x')"


def outputs(path: Path) -> str:
    cells = json.loads(path.read_text())["cells"]
    return "".join("".join(part.get("text", "")) for cell in cells for part in cell.get("outputs", []))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, make_notebook: Maker) -> Path:
    """One good notebook, one that fails, and one that needs each; run from a folder with braces in its name."""
    here = tmp_path_factory.mktemp("a {folder}")
    look = "import os, sys\nprint(data, data_root, seeds, rate, out)\nprint(sys.executable, os.getcwd())\n"
    look += "print(os.environ['AUDIOTK_HEADLESS'], open(data_root).read())"
    make_notebook(here / "nb" / "00_good.ipynb", ["#md # Good", look, COUNT, ROW])
    make_notebook(here / "nb" / "01_bad.ipynb", [ROW, "1 / 0", "print('never reached')"])
    make_notebook(here / "nb" / "02_after_good.ipynb", ["print(open('run/00_good/count').read())"], needs=["00_good"])
    make_notebook(here / "nb" / "03_after_bad.ipynb", ["print('never')"], needs=["01_bad"])
    (here / "typed.txt").write_text("relative paths work")
    decoy = here / "jupyter" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("JUPYTER_PATH", str(here / "jupyter"))
        given = {"data": "esc50", "seeds": "[3, 4]", "rate": "1", "data_root": "typed.txt"}
        run_notebooks(["nb"], "run", given, jobs=2, progress=False)
    return here


def test_states_are_recorded(first: Path) -> None:
    entries = read_manifest(first / "run")["notebooks"]
    states = {name: entry["status"] for name, entry in entries.items()}
    assert states == {"00_good": "finished", "01_bad": "failed", "02_after_good": "finished", "03_after_bad": "not run"}
    assert entries["01_bad"]["error"]["name"] == "ZeroDivisionError"
    assert "1 / 0" in entries["01_bad"]["error"]["traceback"]
    assert entries["03_after_bad"]["error"]["text"] == "01_bad"
    assert 20 < entries["00_good"]["peak_memory_mb"] < 4000


def test_parameters_arrive_typed_and_the_kernel_is_this_python_in_this_folder(first: Path) -> None:
    text = outputs(first / "run" / "00_good.ipynb")
    assert "esc50 typed.txt [3, 4] 1.0 run/00_good" in text
    assert f"{sys.executable} {first}" in text
    assert "1 relative paths work" in text


def test_dependent_runs_after_what_it_needs(first: Path) -> None:
    assert outputs(first / "run" / "02_after_good.ipynb") == "x\n"


def test_failed_notebook_leaves_its_copy_but_no_rows(first: Path) -> None:
    assert "never reached" not in outputs(first / "run" / "01_bad.ipynb")
    assert len(read_results(first / "run" / "01_bad")) == 1
    merged = read_results(first / "run")
    assert merged[["data", "seed", "value"]].to_numpy().tolist() == [["esc50", 3, 1.0]]
    assert merged[["notebook", "seed_list", "settings"]].to_numpy().tolist() == [["00_good", "3,4", "rate=1.0"]]
    assert f"papermill {papermill.__version__}" not in merged.loc[0, "versions"]
    assert "numpy " in merged.loc[0, "versions"]


def test_manifest_says_how_it_was_made(first: Path) -> None:
    manifest = read_manifest(first / "run")
    assert manifest["status"] == "ended"
    assert manifest["versions"]["papermill"] == papermill.__version__
    assert manifest["notebooks"]["00_good"]["parameters"]["seeds"] == [3, 4]
    assert manifest["peak_memory_mb"] > 0
    assert manifest["machine"]["cores"] == os.cpu_count()


def test_no_half_file_is_left(first: Path) -> None:
    assert not list((first / "run").glob(".*"))


def test_parameters_are_read_as_papermill_reads_them(first: Path) -> None:
    path = first / "nb" / "00_good.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # papermill would fill the braces in the path
        nb = json.loads(path.read_text())
        nb["metadata"]["kernelspec"] = {"name": "python3", "language": "python", "display_name": "x"}
        (path.parent / "named.json").write_text(json.dumps(nb))
        told = papermill.inspect_notebook("named.json")
    assert list(notebook_parameters(path)) == list(told)
    assert {name: repr(value) for name, value in notebook_parameters(path).items()} == {
        name: entry["default"] for name, entry in told.items()
    }


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"scael": "demo"}, "unknown parameter 'scael': did you mean 'scale'"),
        ({"out": "x"}, "--out DIR"),
        ({"seeds": "3"}, "expected a list"),
        ({"rate": "fast"}, "expected float"),
        ({"data": 3}, "expected text"),
        ({"seeds": "[1, "}, "cannot read"),
    ],
)
def test_a_wrong_parameter_stops_everything_before_it_runs(
    tmp_path: Path, make_notebook: Maker, parameters: dict[str, object], told: str
) -> None:
    make_notebook(tmp_path / "a.ipynb", [COUNT])
    with pytest.raises(AudiotkError, match=told):
        run_notebooks([tmp_path], tmp_path / "run", parameters, progress=False)
    assert not (tmp_path / "run").exists()


def test_paths_and_needs_are_checked(tmp_path: Path, make_notebook: Maker) -> None:
    run = tmp_path / "run"
    with pytest.raises(AudiotkError, match="no notebook"):
        run_notebooks([tmp_path], run)
    with pytest.raises(AudiotkError, match="there is none here"):
        run_notebooks([tmp_path / "absent.ipynb"], run)
    a = make_notebook(tmp_path / "a.ipynb", [""], needs=["b"])
    with pytest.raises(AudiotkError, match="a needs b"):
        run_notebooks([a], run)
    make_notebook(tmp_path / "b.ipynb", [""], needs=["a"])
    with pytest.raises(AudiotkError, match="circle"):
        run_notebooks([tmp_path], run)
    with pytest.raises(AudiotkError, match="come twice"):
        run_notebooks([a, a], run)
    (tmp_path / "b.ipynb").write_text("{}")
    with pytest.raises(AudiotkError, match=r"b\.ipynb: not a notebook"):
        run_notebooks([tmp_path], run)
    make_notebook(tmp_path / "b.ipynb", [], parameters="seeds = list(range(3))")
    with pytest.raises(AudiotkError, match="NAME = LITERAL"):
        run_notebooks([tmp_path / "b.ipynb"], run)
    assert not run.exists()


def test_results_of_others_are_not_overwritten(tmp_path: Path, make_notebook: Maker) -> None:
    a = make_notebook(tmp_path / "a.ipynb", [""])
    (tmp_path / "results.jsonl").write_text("precious\n")
    with pytest.raises(AudiotkError, match="not a run folder"):
        run_notebooks([a], tmp_path)
    assert (tmp_path / "results.jsonl").read_text() == "precious\n"


def test_finished_is_kept_changed_is_run_again_without_doubling_rows(
    tmp_path: Path, make_notebook: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiotk.runs.package_hash", lambda: "the same package")
    run = tmp_path / "run"
    a = make_notebook(tmp_path / "a.ipynb", [COUNT, ROW])
    run_notebooks([a], run, progress=False)
    made = (run / "a.ipynb").stat().st_mtime_ns
    (run / "results.jsonl").unlink()  # derived: comes back
    run_notebooks([a], run, progress=False)
    assert (run / "a.ipynb").stat().st_mtime_ns == made
    assert len(read_results(run)) == 1

    run_notebooks([a], run, {"rate": 0.7}, progress=False)
    assert read_results(run)["value"].tolist() == [0.7]
    assert (run / "a" / "count").read_text() == "x"  # other parameters: what the old ones left is gone

    run_notebooks([a], run, {"rate": 0.7}, resume=False, progress=False)
    assert (run / "a.ipynb").stat().st_mtime_ns > made
    assert len(read_results(run)) == 1


def test_a_later_call_says_nothing_of_notebooks_that_ran_before(
    tmp_path: Path, make_notebook: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiotk.runs.package_hash", lambda: "the same package")
    made = circumstances()
    a, b = (make_notebook(tmp_path / f"{name}.ipynb", ["#md # Title", ROW]) for name in "ab")
    for path, commit in ((a, "first"), (b, "second")):
        monkeypatch.setattr("audiotk.runs.circumstances", lambda commit=commit: made | {"commit": commit})
        run_notebooks([path], tmp_path / "run", progress=False)
    a.write_text(a.read_text().replace("# Title", "# Another title"))  # text changes no number
    run_notebooks([a, b], tmp_path / "run", progress=False)
    manifest = read_manifest(tmp_path / "run")
    assert {name: entry["commit"] for name, entry in manifest["notebooks"].items()} == {"a": "first", "b": "second"}
    assert all(entry["versions"] == made["versions"] for entry in manifest["notebooks"].values())


def test_days_of_work_are_moved_aside_not_deleted(tmp_path: Path) -> None:
    def left(scale: str) -> Path | None:
        folder = tmp_path / "a"
        folder.mkdir()
        (folder / "model.ckpt").write_text(scale)
        (folder / "claims.jsonl").write_text("{}")
        (tmp_path / "a.ipynb").write_text("executed")
        moved = _clear(tmp_path, "a", {"scale": scale, "parameters": {}}, whole=True)
        assert not folder.exists()
        assert not (tmp_path / "a.ipynb").exists()
        return moved

    assert left("demo") is None
    assert left("paper") == tmp_path / "a.before-1"
    assert left("paper") == tmp_path / "a.before-2"
    kept = {path.name for path in (tmp_path / "a.before-1").iterdir()}
    assert kept == {"model.ckpt", "claims.jsonl", "a.ipynb"}


def test_what_a_killed_run_left_is_removed_and_its_checkpoints_are_not(tmp_path: Path) -> None:
    shelf = tmp_path / "a" / "waves-k1ll3d"
    shelf.mkdir(parents=True)
    (shelf / "waves-0.npy").write_text("large")
    (tmp_path / "a" / "model.ckpt").write_text("precious")
    assert _clear(tmp_path, "a", {"scale": "paper", "parameters": {}}, whole=False) is None
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model.ckpt"]


def test_changed_data_run_again_unchanged_data_are_kept(
    tmp_path: Path, make_notebook: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run folder lies within the data and does not count, though it changes with every run."""
    monkeypatch.setattr("audiotk.runs.package_hash", lambda: "the same package")
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "data" / "sub" / "labels.csv"
    rows.parent.mkdir(parents=True)
    rows.write_text("bark")
    read = ROW.replace("value=rate", "value=len(open(data_root + '/sub/labels.csv').read())")
    make_notebook(tmp_path / "a.ipynb", [read])
    make_notebook(tmp_path / "b.ipynb", ["print('after a')"], needs=["a"], parameters="x = 0")

    def values() -> tuple[list[float], list[str]]:
        entries = run_notebooks(["a.ipynb", "b.ipynb"], "data/run", {"data_root": "data"}, progress=False)
        return read_results("data/run")["value"].tolist(), [entry["key"] for entry in entries.values()]

    first = values()
    made = (tmp_path / "data" / "run" / "a.ipynb").stat().st_mtime_ns
    assert first[0] == [4.0]
    assert values() == first
    assert (tmp_path / "data" / "run" / "a.ipynb").stat().st_mtime_ns == made
    rows.write_text("bark, howl")
    again = values()
    assert again[0] == [10.0]
    assert not set(again[1]) & set(first[1])  # what needs it runs again too


@pytest.mark.parametrize("name", ["a.py", "teachers/prompts.yaml", "ontology.json", "page.js", "page.css"])
def test_package_hash_sees_code_and_data(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("old")
    before = package_hash(tmp_path)
    (tmp_path / "a.pyc").write_text("made by Python")
    assert package_hash(tmp_path) == before
    path.write_text("new")
    assert package_hash(tmp_path) != before


def test_recording_a_verdict_makes_no_result_old(tmp_path: Path) -> None:
    def fingerprint(**row: object) -> str:
        (tmp_path / "claims.json").write_text(json.dumps([{"id": "B1.1", "smallest_effect": 0.2} | row]))
        return package_hash(tmp_path)

    assert fingerprint() == fingerprint(recorded=[{"verdict": "reproduced"}])
    assert fingerprint() != fingerprint(smallest_effect=0.1)


def test_data_hash_sees_what_changes_and_nothing_else(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "data" / "run"
    for name in ("a.wav", "deep/er/b.wav"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("sound")
    seen = [data_hash(str(data), out)]

    def changed() -> bool:
        seen.append(data_hash(str(data), out))
        return seen[-1] not in seen[:-1]

    assert not changed()
    (data / "deep" / "circle").symlink_to(data)
    (data / "nowhere").symlink_to(tmp_path / "absent")
    out.mkdir()
    (out / "run.json").write_text("{}")
    assert not changed()
    status = (data / "a.wav").stat()
    (data / "a.wav").write_text("SOUND")  # the same size at another time
    os.utime(data / "a.wav", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert changed()
    (data / "a.wav").write_text("longer sound")  # another size at the same time
    os.utime(data / "a.wav", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert changed()
    (data / "deep" / "er" / "b.wav").rename(data / "deep" / "b.wav")
    assert changed()
    (data / "deep" / "b.wav").unlink()
    assert changed()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c.wav").write_text("sound")
    (data / "linked").symlink_to(elsewhere)
    assert changed()
    (elsewhere / "c.wav").write_text("behind a link")
    assert changed()
    one = data_hash(str(data / "a.wav"), out)
    assert one == data_hash(str(data / "a.wav"), out)
    os.utime(data / "a.wav", ns=(0, 0))
    assert one != data_hash(str(data / "a.wav"), out)


@pytest.mark.parametrize(
    ("parameters", "paths"),
    [
        ({"root": "data", "n": 3, "none": None, "empty": "", "word": "esc50", "long": "x" * 9999}, ["data"]),
        ({"roots": ["data/a.csv", "absent", 1], "rate": 0.1}, ["data/a.csv"]),
        ({"out": ".", "model": "run/00/model.pt", "run": "run"}, []),
        ({"root": "."}, ["."]),
    ],
)
def test_which_parameters_are_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, object], paths: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/a.csv", "run/00/model.pt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert data_paths(parameters, Path("run")) == paths


def test_independent_notebooks_run_at_the_same_time(tmp_path: Path, make_notebook: Maker) -> None:
    """Each waits for a file that the other writes, so neither could finish alone."""
    for mine, other in (("a", "b"), ("b", "a")):
        wait = f"import time\nopen({str(tmp_path / mine)!r}, 'w')\nuntil = time.time() + 90\n"
        wait += f"while not os.path.exists({str(tmp_path / other)!r}):\n"
        wait += "    assert time.time() < until\n    time.sleep(0.05)"
        make_notebook(tmp_path / f"{mine}.ipynb", ["import os\nprint(os.environ['OMP_NUM_THREADS'])", wait])
    entries = run_notebooks([tmp_path], tmp_path / "run", jobs=2, progress=False)
    assert [entry["status"] for entry in entries.values()] == ["finished", "finished"]
    assert outputs(tmp_path / "run" / "a.ipynb") == os.environ["OMP_NUM_THREADS"] + "\n"  # the user's own choice wins


def test_nothing_runs_beside_a_notebook_that_wants_to_be_alone(tmp_path: Path, make_notebook: Maker) -> None:
    cell = "import time\nfrom pathlib import Path\nbegan = time.time()\ntime.sleep(1)\n"
    cell += "Path(out).mkdir(parents=True, exist_ok=True)\nPath(out, 'ran').write_text(f'{began} {time.time()}')"
    for name in ("0_a", "1_b", "2_c"):
        path = make_notebook(tmp_path / "nb" / f"{name}.ipynb", [cell])
        if name == "0_a":
            told = json.loads(path.read_text())
            told["metadata"]["audiotk"] = {"alone": True}
            path.write_text(json.dumps(told))
    run_notebooks([tmp_path / "nb"], tmp_path / "run", {"scale": "demo"}, jobs=3, progress=False)
    ran = {path.parent.name: path.read_text().split() for path in (tmp_path / "run").glob("*/ran")}
    (a, a_end), *others = ([float(at) for at in ran[name]] for name in ("0_a", "1_b", "2_c"))
    assert all(end <= a or begin >= a_end for begin, end in others)


def test_a_kernel_that_dies_is_a_failure_like_any_other(tmp_path: Path, make_notebook: Maker) -> None:
    make_notebook(tmp_path / "a.ipynb", ["import os\nos._exit(3)"])
    make_notebook(tmp_path / "b.ipynb", ["print('fine')"])
    entries = run_notebooks([tmp_path], tmp_path / "run", progress=False)
    assert [entry["status"] for entry in entries.values()] == ["failed", "finished"]
    assert "Dead" in entries["a"]["error"]["name"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_leaves_no_kernel_and_goes_on(
    tmp_path: Path, make_notebook: Maker, how: signal.Signals
) -> None:
    hang = COUNT + "\nimport os, time\nif not os.path.exists('go'):\n"
    hang += "    open('pid.draft', 'w').write(str(os.getpid()))\n    os.rename('pid.draft', 'pid')\n    time.sleep(300)"
    make_notebook(tmp_path / "a.ipynb", [COUNT, ROW])
    make_notebook(tmp_path / "b.ipynb", [ROW, hang], needs=["a"])
    command = [sys.executable, "-m", "audiotk", "run", "a.ipynb", "b.ipynb", "--out", "run"]
    # Ctrl+C is ignored by what a shell started in the background, tests included, unless it is set back
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    until = time.monotonic() + 120
    while not (tmp_path / "pid").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
    kernel = psutil.Process(int((tmp_path / "pid").read_text()))
    process.send_signal(how)
    _, told = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "same command goes on" in told
        assert "Traceback" not in told
    kernel.wait(timeout=60)
    assert read_manifest(tmp_path / "run")["notebooks"]["b"]["status"] == "running"
    assert not (tmp_path / "run" / "b.ipynb").exists()

    (tmp_path / "go").touch()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == 0, again.stderr
    assert len(read_results(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "b" / "count").read_text() == "xx"  # the half-finished one kept its folder to go on from


def test_display_writes_a_line_per_change_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(["a", "longer"], shown=True)
    display.state("a", "cell 1/2")
    display.refresh()
    display.state("a", "finished", ended=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split() for line in lines] == [["a", "cell", "1/2"], ["a", "finished"]]
    assert "\x1b" not in "".join(lines)
