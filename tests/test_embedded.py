"""Embedded data: same bytes from the same seed, honest tables, stated label noise."""

import wave as wavfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audiotk.backgrounds import AMBIENT_KINDS, KINDS, SILENCE_KINDS
from audiotk.datasets import embedded
from audiotk.datasets.raters import NODE_NAMES, RATERS
from audiotk.tables import AudiotkError, Dataset, make_windows

SMALL = {"duration_s": 5.0, "sr": 8000}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return embedded.load(root, n_train=160, n_val=48, n_test=48, workers=2, **SMALL)


def content(dataset: Dataset) -> dict[str, bytes]:
    return {
        r: Path(p).read_bytes()
        for r, p in zip(dataset.recordings["recording"], dataset.recordings["path"], strict=True)
    }


def test_bytes_depend_on_the_seed_only(data: Dataset, tmp_path: Path) -> None:
    again = embedded.load(tmp_path, n_train=20, n_val=3, n_test=3, workers=1, **SMALL)
    first, second = content(data), content(again)
    assert len(second) == 26
    assert all(first[name] == second[name] for name in second)
    assert len(set(first.values())) == len(first)
    other = embedded.load(tmp_path, n_train=3, n_val=0, n_test=0, seed=1, **SMALL)
    assert not set(content(other).values()) & set(first.values())


def test_more_training_data_leaves_the_rest_alone(data: Dataset, root: Path) -> None:
    few = embedded.load(root, n_train=40, n_val=48, n_test=48, **SMALL)
    for split, count in {"train": 40, "val": 48, "test": 48}.items():
        part = few.part(split)
        assert len(part) == count
        pd.testing.assert_frame_equal(part, data.part(split).iloc[:count])
    kept = data.annotations[data.annotations["segment"].str.split("@").str[0].isin(few.recordings["recording"])]
    order = ["segment", "class_name", "source"]
    pd.testing.assert_frame_equal(
        few.annotations.sort_values(order, ignore_index=True), kept.sort_values(order, ignore_index=True)
    )


def test_files_are_what_the_table_says(data: Dataset) -> None:
    for row in data.recordings.iloc[::17].itertuples():
        with wavfile.open(row.path) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, row.sr)
            assert file.getnframes() == row.duration_s * row.sr


def test_no_group_crosses_and_groups_are_dogs(data: Dataset) -> None:
    assert data.split.groupby(data.recordings["group"].to_numpy()).nunique().max() == 1
    assert data.recordings.groupby("group").size().max() == embedded.PER_DOG
    assert (data.recordings.groupby("group")[["device", "rt60_s"]].nunique() == 1).all(axis=None)
    assert data.recordings["device"].nunique() >= 4


def test_truth_tiles_every_recording_for_every_class(data: Dataset) -> None:
    truth = data.annotations[data.annotations["source"] == "truth"].merge(data.segments, on="segment")
    assert set(truth["value"]) == {0.0, 1.0}
    for (_, _), rows in truth.groupby(["recording", "class_name"]):
        rows = rows.sort_values("start_s")
        assert rows["start_s"].iloc[0] == 0
        assert rows["end_s"].iloc[-1] == SMALL["duration_s"]
        np.testing.assert_array_equal(rows["start_s"].to_numpy()[1:], rows["end_s"].to_numpy()[:-1])
    assert truth.groupby(["recording", "class_name"]).ngroups == 8 * len(data.recordings)
    heard = truth.loc[truth["value"] == 1, ["recording", "class_name", "start_s", "end_s"]]
    told = embedded.events(data)[["recording", "class_name", "start_s", "end_s"]]
    keys = list(heard.columns)
    pd.testing.assert_frame_equal(heard.sort_values(keys, ignore_index=True), told.sort_values(keys, ignore_index=True))


def test_every_class_and_every_kind_is_there(data: Dataset) -> None:
    for split in ("train", "val", "test"):
        part = data.part(split)
        searched = part.loc[part["searched"] != "", "searched"].value_counts()
        assert set(searched.index) == set(data.classes)
        assert searched.max() - searched.min() <= 1
        assert set(SILENCE_KINDS) <= set(part["quiet_kind"])
        assert (part["quiet_kind"] != "").mean() == pytest.approx(0.2, abs=0.02)
    assert set(data.recordings["quiet_kind"]) == {"", *KINDS}
    events = embedded.events(data)
    assert set(events["class_name"]) == set(data.classes)
    quiet = data.recordings.loc[data.recordings["quiet_kind"] != "", "recording"]
    assert not events["recording"].isin(quiet).any()
    assert (data.recordings["polyphony"] > 1).any()
    searched = data.recordings[data.recordings["searched"] != ""]
    pairs = set(zip(events["recording"], events["class_name"], strict=True))
    assert all(pair in pairs for pair in zip(searched["recording"], searched["searched"], strict=True))
    several = events.groupby("recording")["class_name"].nunique()
    assert (several > 1).mean() > 0.3  # "bark -> silence -> howl" under one label


def test_quiet_kinds_name_only_segments_without_events(data: Dataset) -> None:
    segments = make_windows(data.recordings, 0.5)
    kinds = embedded.quiet_kinds(data, segments)
    assert list(kinds.index) == list(segments["segment"])
    assert set(kinds.dropna()) == set(KINDS)
    events = dict(list(embedded.events(data).groupby("recording")))
    quiet = data.recordings.set_index("recording")["quiet_kind"]
    for segment, kind in zip(segments.iloc[::7].itertuples(), kinds.iloc[::7], strict=True):
        rows = events.get(segment.recording)
        heard = rows is not None and bool(((rows["start_s"] < segment.end_s) & (rows["end_s"] > segment.start_s)).any())
        assert heard == pd.isna(kind)
        if quiet[segment.recording] not in ("", "bowl"):
            assert kind == quiet[segment.recording]


def test_scraped_says_the_searched_class_of_the_whole_recording(data: Dataset, root: Path) -> None:
    rows = data.annotations[data.annotations["source"] == "scraped"].merge(data.segments, on="segment")
    searched = data.recordings.set_index("recording")["searched"]
    assert (rows["end_s"] - rows["start_s"] == SMALL["duration_s"]).all()
    assert (rows["value"] == 1).all()
    assert rows.set_index("recording")["class_name"].to_dict() == searched[searched != ""].to_dict()
    wrong = embedded.load(root, n_train=160, n_val=48, n_test=48, mislabeled_silence=0.5, **SMALL)
    extra = (wrong.annotations["source"] == "scraped").sum() - len(rows)
    quiet = int((searched == "").sum())
    assert extra == pytest.approx(0.5 * quiet, abs=4 * np.sqrt(0.25 * quiet))


@pytest.mark.parametrize(("missing", "wrong"), [(0.2, 0.02), (0.5, 0.1), (0.0, 0.0)])
def test_noisy_labels_err_at_the_stated_rates(data: Dataset, root: Path, missing: float, wrong: float) -> None:
    noisy = embedded.load(
        root, n_train=160, n_val=48, n_test=48, missing_rate=missing, wrong_rate=wrong, **SMALL
    ).annotations
    noisy = noisy[noisy["source"] == "noisy"]
    assert len(noisy) == 8 * len(data.recordings)
    present = set(zip(*embedded.events(data)[["recording", "class_name"]].to_numpy().T, strict=True))
    pairs = zip(noisy["segment"].str.split("@").str[0], noisy["class_name"], strict=True)
    is_present = np.array([pair in present for pair in pairs])
    value = noisy["value"].to_numpy()
    for rate, errors in ((missing, value[is_present] == 0), (wrong, value[~is_present] == 1)):
        assert errors.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / len(errors)))


def test_raters_tick_true_nodes_and_parents(data: Dataset) -> None:
    rows = data.annotations[data.annotations["source"].isin(RATERS.index)]
    assert set(rows["source"]) == set(RATERS.index)
    assert not set(rows["class_name"]) & set(data.classes)
    ticks = rows.groupby(["segment", "source"])["class_name"].agg(set)
    dogs = [t for t in ticks if t & {"Bark", "Whimper (dog)", "Bow-wow"}]
    assert 0.35 < np.mean(["Dog" in t for t in dogs]) < 0.75
    barks = embedded.events(data).query("class_name == 'bark'")["recording"]
    ticked = rows.loc[rows["class_name"] == NODE_NAMES["bark"], "segment"].str.split("@").str[0]
    assert set(ticked) <= set(barks)


def test_sources_say_how_to_read_them(data: Dataset) -> None:
    assert data.sources.loc["truth"].to_dict() == {"closed": False, "weak": False}
    assert data.sources.loc["scraped"].to_dict() == {"closed": True, "weak": True}
    assert data.sources.loc["noisy"].to_dict() == {"closed": True, "weak": True}
    assert data.sources.loc["rater:A"].to_dict() == {"closed": False, "weak": True}
    assert (data.annotations["at"] == embedded.AT).all()


def test_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = content(embedded.load(tmp_path / "whole", n_train=16, n_val=0, n_test=0, **SMALL))
    calls = []
    real = embedded._write_wav

    def dies(path: Path, wave: np.ndarray, sr: int) -> None:
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(path)
        real(path, wave, sr)

    monkeypatch.setattr(embedded, "_write_wav", dies)
    with pytest.raises(KeyboardInterrupt):
        embedded.load(tmp_path / "cut", n_train=16, n_val=0, n_test=0, **SMALL)
    assert len(list((tmp_path / "cut").rglob("*.wav"))) == 5
    monkeypatch.setattr(embedded, "_write_wav", real)
    resumed = embedded.load(tmp_path / "cut", n_train=16, n_val=0, n_test=0, **SMALL)
    assert content(resumed) == whole
    Path(resumed.recordings["path"].iloc[3]).write_bytes(b"half")
    assert content(embedded.load(tmp_path / "cut", n_train=16, n_val=0, n_test=0, **SMALL)) == whole


def test_second_call_makes_nothing(data: Dataset, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "make_recording", None)
    again = embedded.load(root, n_train=160, n_val=48, n_test=48, **SMALL)
    pd.testing.assert_frame_equal(again.annotations, data.annotations)


def test_default_place_is_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path / "cache"))
    paths = embedded.load(n=1, **SMALL).recordings["path"]
    assert Path(paths.iloc[0]).is_relative_to(tmp_path / "cache")


def test_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded.wavfile, "open", full)
    with pytest.raises(AudiotkError, match="No space left"):
        embedded.load(tmp_path, n=1, **SMALL)
    assert not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize(
    "options",
    [
        {"n": 0},
        {"n_train": -1},
        {"sr": 4000},
        {"duration_s": 1.0},
        {"quiet_share": 1.0},
        {"missing_rate": 1.2},
        {"wrong_rate": -0.1},
        {"min_snr_db": float("nan")},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(AudiotkError, match="embedded: expected"):
        embedded.load(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_helpers_refuse_other_data(data: Dataset) -> None:
    foreign = Dataset("other", data.recordings, data.segments, data.annotations, data.split, data.classes, data.sources)
    with pytest.raises(AudiotkError, match="data set from embedded"):
        embedded.events(foreign)


def test_ambient_kinds_and_silences_make_up_all_kinds() -> None:
    assert (*SILENCE_KINDS, *AMBIENT_KINDS) == KINDS
