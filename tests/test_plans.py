"""Plans: the trainings are those that run, data are looked at, what stands in the way is said; nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotk import experiments
from audiotk.__main__ import main
from audiotk.experiments import plan_costs, plans, quickstart
from audiotk.experiments.plan_costs import Stage, costs
from audiotk.experiments.plans import plan
from audiotk.runs import find_notebooks, notebook_values
from audiotk.tables import AudiotkError
from audiotk.train import TrainConfig

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def values(name: str, **changes: object) -> dict[str, object]:
    path = next(NOTEBOOKS.glob(f"{name}*.ipynb"))
    return next(iter(notebook_values([path], changes).values()))


def folder_of_sounds(root: Path, broken: bool = False) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for name in ("bark", "howl"):
            place = root / split / name
            place.mkdir(parents=True)
            for k in range(count):
                soundfile.write(place / f"{split}{name}{k}.wav", rng.normal(0, 0.1, 16000), 16000)
                if broken and split == "val":
                    (place / f"{split}{name}{k}.wav").write_bytes(b"RIFF but no sound")
    return root


def test_every_notebook_that_trains_has_a_plan():
    for path in find_notebooks([NOTEBOOKS]):
        found = plan(path.stem, values(path.stem[:2], scale="smoke"))
        if path.stem[:2] in ("08", "10"):
            assert found is None
        else:
            assert found is not None
            assert found.stages
            assert all(stage.runs > 0 for stage in found.stages)


def test_sequences_are_steps_times_batches():
    config = TrainConfig(epochs=3, batch_size=4)
    assert Stage("", 2, config, 10, 1).sequences == 2 * 3 * 10
    assert Stage("", 2, TrainConfig(epochs=3, epoch_size=7), 10, 1).sequences == 2 * 3 * 7


def test_a_folder_is_counted_and_its_sound_is_read(tmp_path):
    root = folder_of_sounds(tmp_path / "sounds")
    found = plan("00_quickstart", values("00", data="folder", data_root=str(root), scale="smoke"))
    assert found is not None
    assert "8 train, 4 val, 4 test" in found.data
    assert [stage.rows for stage in found.stages] == [8]
    with pytest.raises(AudiotkError, match="the val split holds no recording"):
        plan("00_quickstart", values("00", data="folder", data_root=str(folder_of_sounds(tmp_path / "bad", True))))


def test_decoded_sound_is_counted_where_memory_does_not_hold_it(tmp_path, monkeypatch):
    """The size that is planned is that of the files, once the data are read; and 0 for what is held in memory."""
    root = folder_of_sounds(tmp_path / "sounds")
    given = values("00", data="folder", data_root=str(root), scale="smoke")
    assert plan("00_quickstart", given).sound_gb == 0
    dataset = quickstart.load("folder", str(root), "smoke")
    config = quickstart.recipe(dataset, "smoke")
    monkeypatch.setattr(plans, "MOST_BYTES", 0.0)
    monkeypatch.setattr(experiments.load_material, "__defaults__", (None, None, False, 0.0))
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path / "cache"))
    quickstart.read(dataset, config)
    sizes = [path.stat().st_size - 128 for path in (tmp_path / "cache").rglob("*.npy")]
    assert len(sizes) == 3
    assert plan("00_quickstart", given).sound_gb * 1e9 == pytest.approx(sum(sizes))
    for name in ("01", "02", "03", "04", "05", "06", "07", "09"):
        path = next(NOTEBOOKS.glob(f"{name}*.ipynb"))
        assert plan(path.stem, values(name, scale="smoke")).sound_gb > 0


def test_costs_are_measured_and_grow_with_the_runs():
    config = TrainConfig(model_options={"mels": 16, "width": 0.25}, clip_s=1.0, epochs=2, batch_size=4)
    table = costs([Stage("a", 1, config, 8, 3), Stage("b", 10, config, 8, 3)])
    assert (table["hours"] > 0).all()
    assert table["hours"][1] == pytest.approx(10 * table["hours"][0])
    assert table["sequences"].tolist() == [16, 160]
    assert table["petamacs"][1] == pytest.approx(10 * table["petamacs"][0])


def test_the_command_says_what_stands_in_the_way_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan_costs, "seconds_a_sequence", lambda config, classes: 1.0)
    nb = str(next(NOTEBOOKS.glob("05*.ipynb")))
    assert main(["plan", nb, "--scale", "smoke"]) == 0
    told = capsys.readouterr().out
    assert "decoded sound" not in told
    monkeypatch.setattr(plans, "MOST_BYTES", 1e6)
    assert main(["plan", nb, "--scale", "smoke"]) == 0
    assert "decoded sound: 0.0 GB in " in capsys.readouterr().out
    assert "24 train" in told
    assert "all arms" in told
    assert "288 s" in told
    assert main(["plan", nb, "-p", "data", "fsd50k", "-p", "data_root", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().out
    assert main(["plan", nb, "-p", "date", "embedded"]) == 2
    assert "did you mean 'data'" in capsys.readouterr().err
    assert main(["plan", nb, "--scale", "smoke", "-p", "scale", "demo"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_plan_of_09_reads_what_the_notebook_reads(monkeypatch):
    asked = []

    def load(*given):
        asked.append(given)
        raise AudiotkError("that is enough")

    monkeypatch.setattr(plans.transfer, "load", load)
    settings = {"data": "audioset", "data_root": "x", "scale": "paper", "split": "official", "excerpt": "7"}
    with pytest.raises(AudiotkError, match="that is enough"):
        plan("09_base_target_transfer", values("09", **settings))
    with pytest.raises(AudiotkError, match="that is enough"):
        plan("09_base_target_transfer", values("09"))
    older = values("09")
    del older["split"], older["excerpt"]
    with pytest.raises(AudiotkError, match="that is enough"):
        plan("09_base_target_transfer", older)
    assert asked == [
        ("audioset", "x", "paper", "official", 7),
        ("embedded", "", "demo", "", 102_578),
        ("embedded", "", "demo", "", 0),
    ]


@pytest.mark.parametrize("name", ["05", "06", "07"])
def test_a_copy_of_an_older_notebook_has_a_plan(name):
    older = values(name, scale="smoke")
    del older["train_data"], older["train_root"]
    assert plan(name, older) == plan(name, values(name, scale="smoke"))
