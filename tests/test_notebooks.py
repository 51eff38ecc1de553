"""Every notebook runs from start to end at smoke scale, leaves its numbers, and a report without an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiotk.claims import read_claims
from audiotk.experiments.plans import plan
from audiotk.results import read_results
from audiotk.runs import notebook_values

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("AUDIOTK_TEST_DATA", ROOT.parent / "shared" / "data"))


def run(out, *arguments):
    command = [sys.executable, "-m", "audiotk", "run", *arguments, "--scale", "smoke", "--out", str(out), "--quiet"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2700)


@pytest.mark.slow
def test_all_notebooks_on_the_embedded_data(tmp_path):
    done = run(tmp_path, "notebooks", "-p", "seeds", "[0, 1]")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = read_results(tmp_path)
    assert set(rows["data"]) == {"embedded"}
    expected = {"quickstart", "clip_or_range", "B1.1", "B1.4", "audioset_relabeling", "label_segments"}
    expected |= {
        "ghost_sounds",
        "silence_energy",
        "zero-shot teacher",
        "zero-shot teacher: students",
        "transfer: target",
        "transfer: learning curve",
    }
    assert expected <= set(rows["experiment"])
    assert {"B1.1", "B2.1", "B2.7", "P1.2a", "P1.3a", "P1.4", "P2.1", "P2.3"} <= set(read_claims(tmp_path).index)
    asked = notebook_values([ROOT / "notebooks"], {"scale": "smoke", "seeds": "[0, 1]"})
    for name, values in asked.items():  # the plan counts what was trained
        planned = plan(name, values)
        runs = list((tmp_path / name).rglob("config.json"))
        assert sum(stage.runs for stage in planned.stages) == len(runs) if planned else not runs, name
    assert (tmp_path / "report.html").stat().st_size < 20e6
    for notebook in ROOT.glob("notebooks/*.ipynb"):
        assert (tmp_path / notebook.name).exists()


@pytest.mark.slow
def test_quickstart_on_real_recordings(tmp_path):
    if not (DATA / "esc10" / "meta" / "esc50.csv").exists():
        pytest.skip(f"no real recordings at {DATA / 'esc10'}; AUDIOTK_TEST_DATA may name another folder")
    done = run(tmp_path, "notebooks/00_quickstart.ipynb", "-p", "data", "esc50", "-p", "data_root", str(DATA / "esc10"))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = read_results(tmp_path)
    mean = rows[(rows["metric"] == "mAP") & (rows["split"] == "test") & rows["class_name"].isna()]
    assert len(mean) == 1
    assert 0.1 < mean["value"].iloc[0] <= 1  # two epochs: better than nothing, no more is asked
    assert mean["n"].iloc[0] == 65  # source recordings behind the 80 test clips
    assert len(rows[rows["metric"] == "AP"]) == 10


@pytest.mark.slow
def test_relabeling_on_the_labels_of_audioset(tmp_path):
    root = DATA / "audioset"
    if not (root / "balanced_train_segments.csv").exists():
        pytest.skip(f"no AudioSet labels at {root}; AUDIOTK_TEST_DATA may name another folder")
    done = run(
        tmp_path, "notebooks/08_audioset_relabeling.ipynb", "-p", "data", "audioset", "-p", "data_root", str(root)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = read_results(tmp_path)
    assert {"P2.1", "P2.2"} <= set(rows["experiment"])
    counts = rows[rows["experiment"] == "audioset_relabeling"].set_index(["arm", "metric"])["value"]
    assert counts["PEL", "labels a segment, all nodes"] == pytest.approx(5.597, abs=5e-4)  # golden numbers
    assert counts["PE-CML", "masked a segment, all nodes"] == pytest.approx(24.48, abs=5e-3)


@pytest.mark.slow
def test_yamnet_is_asked_about_real_recordings(tmp_path):
    weights = DATA / "models" / "yamnet.tflite"
    if not (weights.exists() and (DATA / "esc10" / "meta" / "esc50.csv").exists()):
        pytest.skip(f"no real recordings or no YAMNet at {DATA}; AUDIOTK_TEST_DATA may name another folder")
    data = ["-p", "data", "esc50", "-p", "data_root", str(DATA / "esc10")]
    teacher = ["-p", "teacher", "yamnet", "-p", "weights", str(weights)]
    done = run(tmp_path, "notebooks/07_zero_shot_teacher.ipynb", *data, *teacher)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = read_results(tmp_path)
    mean = rows[(rows["metric"] == "mAP") & (rows["arm"] == "yamnet: its own scores")]
    assert mean["value"].iloc[0] > 0.7  # YAMNet knows these classes: 0.95 alone, less in mixtures of up to three
    assert {"zero-shot teacher: training labels", "zero-shot teacher: cost", "P1.4"} <= set(rows["experiment"])
