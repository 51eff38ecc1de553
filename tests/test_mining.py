"""Mining, the door to training, promotion and its undoing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audiotk import audio, labels, mining
from audiotk.events import false_positives_per_hour
from audiotk.store import make_operation, open_store
from audiotk.tables import AudiotkError, Dataset, Labels, make_annotations, make_segments, make_sources, make_windows

SR = 8000


def write(path, seed: int, seconds: float = 4.0, level_dbfs: float = -30.0):
    wave = np.random.default_rng(seed).normal(size=round(seconds * SR)) * 10 ** (level_dbfs / 20)
    audio.save(path, np.clip(wave, -1, 1), SR)
    return str(path)


@pytest.fixture
def recordings(tmp_path):
    names = ["a", "b", "c", "v", "t"]
    paths = [write(tmp_path / f"{name}.wav", k) for k, name in enumerate(names)]
    table = {"recording": names, "path": paths, "duration_s": 4.0, "sr": SR, "group": ["g1", "g1", "g2", "gv", "gt"]}
    return pd.DataFrame({**table, "device": ["phone", "phone", "camera", "phone", "studio"]})


@pytest.fixture
def split():
    return pd.Series({"a": "train", "b": "train", "c": "train", "v": "val", "t": "test"})


@pytest.fixture
def found(recordings):
    """False positives in the recordings a, b and c."""
    segments = make_windows(recordings[:3], 0.5)
    fires = np.resize([0.1, 0.9], len(segments)) - np.linspace(0, 0.1, len(segments))  # every other: 12 events
    scores = pd.DataFrame({"dog": fires, "cat": 0.2}, index=segments["segment"])
    said = Labels.from_frame(pd.DataFrame(0.0, index=segments["segment"], columns=["dog", "cat"]))
    return mining.false_positives(scores, said, segments, recordings, 0.5)


# --- mining -----------------------------------------------------------------------------------------------------------


def twin(scores, truth, segments, thresholds):
    """Textbook: walk through each recording and class, window by window, in the order of time."""
    places = segments.set_index("segment")
    events = []
    for name in scores.columns:
        for recording, part in segments.groupby("recording"):
            running = None
            for segment in part.sort_values("start_s")["segment"]:
                if not (truth.loc[segment, name] == 0 and scores.loc[segment, name] > thresholds[name]):
                    continue
                start, end = places.loc[segment, "start_s"], places.loc[segment, "end_s"]
                if running is None or start > running["end"] + 1e-3:
                    running = {
                        "recording": recording,
                        "class_name": name,
                        "start": start,
                        "end": end,
                        "n": 0,
                        "best": -1,
                    }
                    events.append(running)
                running["end"], running["n"] = max(running["end"], end), running["n"] + 1
                if scores.loc[segment, name] > running["best"]:
                    running["best"], running["peak"] = scores.loc[segment, name], segment
    return {(e["peak"], e["class_name"], e["start"], e["end"], e["n"], e["best"]) for e in events}


@pytest.mark.parametrize("seed", range(6))
def test_false_positives_agree_with_a_walk_through_time(recordings, seed):
    rng = np.random.default_rng(seed)
    segments = make_windows(recordings, 1.0, 0.5).sample(frac=1, random_state=seed)
    index = pd.Index(segments["segment"])
    scores = pd.DataFrame(rng.random((len(index), 3)), index, ["x", "y", "z"])
    truth = pd.DataFrame(rng.choice([0.0, 0.0, 1.0, np.nan], size=(len(index), 3)), index, scores.columns)
    limits = pd.Series([0.3, 0.6, np.nan], scores.columns)
    found = mining.false_positives(scores, Labels.from_frame(truth), segments, recordings, limits)
    columns = ["segment", "class_name", "event_start_s", "event_end_s", "windows", "score"]
    assert set(found[columns].itertuples(index=False, name=None)) == twin(scores, truth, segments, limits)
    assert (found["score"].diff().dropna() <= 0).all(), "the surest first"
    per_hour = false_positives_per_hour(scores, Labels.from_frame(truth), segments, limits)
    assert len(found) == per_hour.loc[["x", "y"], "false_positives"].sum(), "as many events as are counted per hour"


def test_unknown_and_present_are_never_counted(recordings):
    segments = make_windows(recordings, 1.0)
    index = pd.Index(segments["segment"])
    scores = pd.DataFrame(1.0, index, ["x"])
    for value in (1.0, np.nan):
        said = Labels.from_frame(pd.DataFrame(value, index, ["x"]))
        found = mining.false_positives(scores, said, segments, recordings, 0.5)
        assert found.empty
        assert list(found.columns)[: len(mining.FALSE_POSITIVE_COLUMNS)] == list(mining.FALSE_POSITIVE_COLUMNS)


def test_an_unreadable_file_costs_its_numbers_only(recordings, tmp_path):
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    segments = make_windows(recordings[:3], 4.0)
    index = pd.Index(segments["segment"])
    said = Labels.from_frame(pd.DataFrame(0.0, index, ["x"]))
    with pytest.warns(UserWarning, match=r"1 of"):
        found = mining.false_positives(pd.DataFrame(0.9, index, ["x"]), said, segments, recordings, 0.5)
    known = found.set_index("recording")["level_dbfs"]
    assert known.isna().to_dict() == {"a": False, "b": True, "c": False}
    assert known["a"] == pytest.approx(-30, abs=0.5)


def test_bad_tables_are_refused(found, recordings):
    with pytest.raises(AudiotkError, match="expected columns"):
        mining.check_false_positives(found.drop(columns="score"))
    with pytest.raises(AudiotkError, match="occur twice"):
        mining.check_false_positives(pd.concat([found, found]))
    with pytest.raises(AudiotkError, match="no finite score"):
        mining.check_false_positives(found.assign(score=np.nan))
    segments = make_windows(recordings[:1], 1.0)
    said = Labels.from_frame(pd.DataFrame(0.0, index=segments["segment"], columns=["x"]))
    scores = pd.DataFrame(0.9, index=segments["segment"], columns=["x"])
    with pytest.raises(AudiotkError, match="missing"):
        mining.false_positives(scores, said, segments[1:], recordings, 0.5)


def test_by_level_counts_every_absent_cell_once(found, recordings):
    segments = make_windows(recordings, 1.0)
    index = pd.Index(segments["segment"])
    scores = pd.DataFrame({"x": np.linspace(0, 1, len(index))}, index)
    said = Labels.from_frame(pd.DataFrame({"x": np.resize([0.0, 0.0, 1.0, np.nan], len(index))}, index))
    sound = pd.DataFrame({"level_dbfs": np.linspace(-120, 3, len(index))}, index)
    table = mining.by_level(scores, said, sound, 0.5)
    assert table["absent"].sum() == (said.frame()["x"] == 0).sum()
    assert table["fires"].sum() == ((said.frame()["x"] == 0) & (scores["x"] > 0.5)).sum()
    assert table["absent"].iloc[0] > 0, "what is below the lowest edge counts in the lowest bin"


def test_concentration_is_zero_where_false_positives_are_spread_and_one_where_they_are_not(recordings):
    segments = make_windows(recordings, 0.1)
    index = pd.Index(segments["segment"])
    unit = pd.Series(segments["recording"].to_numpy(), index)
    said = Labels.from_frame(pd.DataFrame(0.0, index, ["x"]))
    low = pd.Series(np.resize([True, False], len(index)), index)
    scores = pd.DataFrame({"x": np.resize([0.9, 0.9, 0.1, 0.1], len(index))}, index)
    false, absent = mining.concentration(scores, said, low, 0.5, unit)
    assert false.value() == pytest.approx(absent.value())
    false, absent = mining.concentration(pd.DataFrame({"x": low * 0.9}), said, low, 0.5, unit)
    assert (false.value(), absent.value()) == (1.0, pytest.approx(0.5))


# --- logs -------------------------------------------------------------------------------------------------------------


def test_a_log_is_read_with_its_own_names(recordings, tmp_path):
    times = {"start": [0, 1, 0, 3, 0], "end": [1, 2, 1, 9, 1], "confidence": [0.5, 0.9, 0.8, 0.7, 0.6]}
    rows = pd.DataFrame({"file": ["a.wav", "b.wav", "gone.wav", "a.wav", "../x.wav"], **times, "label": "dog"})
    rows.to_csv(tmp_path / "log.csv", index=False)
    rows.to_parquet(tmp_path / "log.parquet")
    for name in ("log.csv", "log.parquet"):
        found, known, problems = mining.read_log(tmp_path / name)
        assert found[["recording", "score"]].to_numpy().tolist() == [["b.wav", 0.9], ["a.wav", 0.5]]
        assert set(known["recording"]) == {"a.wav", "b.wav"}
        assert len(problems) == 3, "a missing file, a row behind the end, a path that leaves the folder"
        assert problems["reason"].str.contains("outside of the folder").sum() == 1
        mining.check_false_positives(found)


def test_a_log_of_nothing_usable_is_refused(tmp_path):
    pd.DataFrame({"path": ["gone.wav"], "start": [0], "end": [1], "class": ["x"], "score": [1]}).to_csv(
        tmp_path / "l.csv"
    )
    with pytest.raises(AudiotkError, match="none of 1 detections can be used"):
        mining.read_log(tmp_path / "l.csv")
    pd.DataFrame({"path": ["a.wav"], "begin": [0]}).to_csv(tmp_path / "m.csv")
    with pytest.raises(AudiotkError, match="no column for start_s"):
        mining.read_log(tmp_path / "m.csv")
    with pytest.raises(AudiotkError, match="cannot be read"):
        mining.read_log(tmp_path / "none.csv")


def test_only_what_labels_call_absent_is_a_false_positive_of_a_log(recordings, split, tmp_path):
    rows = {"path": ["a.wav", "a.wav", "c.wav"], "start": [0.0, 2.0, 0.0], "end": [1.0, 3.0, 1.0]}
    pd.DataFrame({**rows, "class": "dog", "score": 0.9}).to_csv(tmp_path / "log.csv")
    segments = make_segments(["a", "a"], [0.0, 2.0], [2.0, 4.0])
    said = make_annotations(segments["segment"], "dog", [0.0, 1.0], "truth")
    known = Dataset("d", recordings, segments, said, split, ["dog"], make_sources(truth=""))
    detections = mining.read_log(tmp_path / "log.csv", dataset=known)[0]
    assert set(detections["recording"]) == {"a", "c"}, "recordings of the data set keep their names"
    left = mining.judged_absent(detections, known)
    assert left[["recording", "start_s"]].to_numpy().tolist() == [["a", 0.0]]


# --- the door ---------------------------------------------------------------------------------------------------------


def test_held_out_recordings_are_refused(recordings, split):
    door = mining.Door(recordings, split)
    door.check(["a", "b", "c"])
    assert door.refusals(["a", "v", "t", "nobody"]).to_dict() == {
        "v": "it is held out (val)",
        "t": "it is held out (test)",
        "nobody": "it is not in the recordings table",
    }
    with pytest.raises(
        AudiotkError, match=r"v: must not be trained on: it is held out \(val\) \(2 recordings in all\)"
    ):
        door.check(["v", "t"])


def test_groups_and_devices_that_are_held_out_are_refused(recordings, split, tmp_path):
    new = recordings.iloc[[0, 0, 0]].assign(
        recording=["n1", "n2", "n3"], group=["gt", "new", "new"], device=["phone", "studio", "phone"],
        path=[write(tmp_path / f"n{k}.wav", 50 + k) for k in range(3)],
    )  # fmt: skip
    door = mining.Door(pd.concat([recordings, new]), split)
    refused = door.refusals(["n1", "n2", "n3"])
    assert set(refused.index) == {"n1", "n2"}
    assert "group 'gt'" in refused["n1"]
    assert "device 'studio' is known from held-out recordings only" in refused["n2"]
    assert mining.Door(recordings, split, held_out_devices=["camera"]).refusals(["a", "c"]).index.tolist() == ["c"]
    assert mining.Door(recordings, split, held_out_groups=["g1"]).refusals(["a", "b", "c"]).index.tolist() == ["a", "b"]


def test_copies_of_held_out_sound_are_refused_under_any_name_and_coding(recordings, split, tmp_path):
    wave, _ = audio.load(recordings["path"].iloc[4])
    audio.save(tmp_path / "copy.flac", wave, SR)
    other = wave.copy()
    other[:100] = 0  # the same moment in the middle, other sound before it
    audio.save(tmp_path / "other.wav", other, SR)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    new = recordings.iloc[[0, 0, 0]].assign(
        recording=["copy", "other", "broken"], group="new",
        path=[str(tmp_path / name) for name in ("copy.flac", "other.wav", "broken.wav")],
    )  # fmt: skip
    both = pd.concat([split, pd.Series("train", index=["copy", "other", "broken"])])
    refused = mining.Door(pd.concat([recordings, new]), both).refusals(["copy", "other", "broken", "a"])
    assert set(refused.index) == {"copy", "broken"}
    assert "same sound as t" in refused["copy"]
    assert "cannot be compared" in refused["broken"]


def test_mixtures_of_held_out_sound_are_refused_at_any_depth(recordings, split, tmp_path):
    names = ["m1", "m2", "m3", "m4", "loop"]
    new = recordings.iloc[[0] * 5].assign(
        recording=names, group="new", made_from=["a; c", "a;t", "m2;a", "a;unknown", "loop"],
        path=[write(tmp_path / f"{name}.wav", 70 + k) for k, name in enumerate(names)],
    )  # fmt: skip
    wave, _ = audio.load(recordings["path"].iloc[3])
    audio.save(tmp_path / "copy.wav", wave, SR)
    copy = recordings.iloc[[0, 0]].assign(
        recording=["copy", "m5"], group="new", made_from=[None, "copy"],
        path=[str(tmp_path / "copy.wav"), write(tmp_path / "m5.wav", 99)],
    )  # fmt: skip
    both = pd.concat([split, pd.Series("train", index=[*names, "copy", "m5"])])
    refused = mining.Door(pd.concat([recordings, new, copy]), both).refusals([*names, "m5"])
    assert set(refused.index) == {"m2", "m3", "m4", "loop", "m5"}
    assert "mixed from t" in refused["m2"]
    assert "mixed from m2, and it is mixed from t" in refused["m3"]
    assert "mixed from copy, and it holds the same sound as v" in refused["m5"]


# --- promotion --------------------------------------------------------------------------------------------------------


def test_promotion_says_absent_and_names_its_theme(found, recordings, split, tmp_path):
    store, door = tmp_path / "s.sqlite", mining.Door(recordings, split)
    heard = found.iloc[:3][["segment", "class_name"]].assign(verdict=["false", "true", "unsure"])
    name = mining.promote(store, found, "neg_ambient", door, labeler="ann", cluster="3", verdicts=heard,
                          absent=["dog", "cat"], note="a fan")  # fmt: skip
    told = mining.promotions(store).iloc[0]
    assert told["promotion"] == name
    assert (told["members"], told["heard"], told["right"]) == (len(found) - 2, 2, 1)
    assert told["purity_low"] == pytest.approx(mining.purity_bound(1, 2))
    assert (told["cluster"], told["note"], told["labeler"]) == ("3", "a fan", "ann")
    segments, said = mining.promoted(store, door)
    assert set(segments["segment"]) == set(found["segment"]) - set(heard["segment"][1:])
    values = said.groupby("class_name")["value"].agg(["min", "max", "size"])
    assert values.loc["dog"].tolist() == values.loc["cat"].tolist() == [0, 0, len(segments)]
    assert values.loc["neg_ambient"].tolist() == [1, 1, len(segments)]
    assert (said["source"] == "promoted").all()


def test_promotion_overrules_what_was_said_before(found, recordings, split, tmp_path):
    store, door = tmp_path / "s.sqlite", mining.Door(recordings, split)
    segments = make_windows(recordings, 0.5)
    wrong = make_annotations(segments["segment"], "dog", 1.0, "scraped")
    dataset = Dataset("d", recordings, segments, wrong, split, ["dog", "cat"], make_sources(scraped="closed weak"))
    mining.promote(store, found[:2], "neg_hard", door, labeler="ann")
    repaired = mining.with_promoted(dataset, store, door)
    before, after = (labels.resolve(d, segments, s).frame()["dog"] for d, s in
                     ((dataset, ["scraped"]), (repaired, ["promoted", "scraped"])))  # fmt: skip
    changed = set(before.index[before != after])
    assert changed == set(found["segment"][:2])
    assert (after[list(changed)] == 0).all()


def test_taking_back_leaves_the_history_and_nothing_else(found, recordings, split, tmp_path):
    store, door = tmp_path / "s.sqlite", mining.Door(recordings, split)
    first = mining.promote(store, found[:2], "neg_hard", door, labeler="ann")
    second = mining.promote(store, found[2:4], "neg_silence", door, labeler="ben")
    with pytest.raises(AudiotkError, match="'ben'"):
        mining.take_back(store, second, labeler="ann")
    assert mining.take_back(store, first, labeler="ann") == 2
    assert mining.promotions(store)["promotion"].tolist() == [second]
    assert set(mining.promoted(store, door)[0]["segment"]) == set(found["segment"][2:4])
    with pytest.raises(AudiotkError, match="no promotion"):
        mining.take_back(store, first, labeler="ann")
    kinds = open_store(store).operations()["kind"].value_counts()
    assert (kinds["promotion"], kinds["undo"]) == (4, 2)


def test_no_way_leads_held_out_sound_into_training(found, recordings, split, tmp_path):
    """Directly, by a copy, by a mixture, and when promotions are read again after the split has changed."""
    store, door = tmp_path / "s.sqlite", mining.Door(recordings, split)
    smuggled = found.iloc[[0]].assign(recording="t", segment="t@0.000-1.000", start_s=0.0, end_s=1.0)
    with pytest.raises(AudiotkError, match="held out"):
        mining.promote(store, pd.concat([found, smuggled]), "neg_hard", door, labeler="ann")
    assert not store.exists() or mining.promotions(store).empty, (
        "nothing is written, not even the members that may pass"
    )
    wave, _ = audio.load(recordings["path"].iloc[4])
    audio.save(tmp_path / "copy.wav", wave, SR)
    more = recordings.iloc[[0, 0]].assign(
        recording=["copy", "mixed"], group="new", path=[str(tmp_path / "copy.wav"), write(tmp_path / "mixed.wav", 8)],
        made_from=[None, "a;t"],
    )  # fmt: skip
    table = pd.concat([recordings, more])
    wide = mining.Door(table, pd.concat([split, pd.Series("train", index=["copy", "mixed"])]))
    for name in ("copy", "mixed"):
        with pytest.raises(AudiotkError, match=f"{name}: must not be trained on"):
            mining.promote(store, smuggled.assign(recording=name), "neg_hard", wide, labeler="ann")
    mining.promote(store, found, "neg_hard", door, labeler="ann")
    resplit = mining.Door(recordings, split.mask(split.index == "c", "test"))
    with pytest.raises(AudiotkError, match="c must not be trained on"):
        mining.promoted(store, resplit)
    with pytest.raises(AudiotkError, match="c must not be trained on"):
        mining.with_promoted(Dataset("d", recordings, make_segments([], [], []), make_annotations([], [], [], []),
                                     split, ["dog"], make_sources()), store, resplit)  # fmt: skip
    left = mining.promoted(store, resplit, leave_out=True)[0]
    assert set(left["recording"]) == set(found["recording"]) - {"c"}


def test_refused_promotions(found, recordings, split, tmp_path):
    store, door = tmp_path / "s.sqlite", mining.Door(recordings, split)
    with pytest.raises(AudiotkError, match="expected a theme"):
        mining.promote(store, found, "silence", door, labeler="ann")
    with pytest.raises(AudiotkError, match="expected verdicts"):
        mining.promote(store, found, "neg_hard", door, labeler="ann",
                       verdicts=found[["segment", "class_name"]].assign(verdict="maybe"))  # fmt: skip
    with pytest.raises(AudiotkError, match="no member is left"):
        mining.promote(store, found, "neg_hard", door, labeler="ann",
                       verdicts=found[["segment", "class_name"]].assign(verdict="true"))  # fmt: skip
    with pytest.raises(AudiotkError, match="no member is left"):
        mining.promote(store, found[:0], "neg_hard", door, labeler="ann")


def test_the_purity_bound_is_exact():
    assert mining.purity_bound(0, 0) == 0
    assert mining.purity_bound(0, 9) == 0
    assert mining.purity_bound(10, 10) == pytest.approx(0.05 ** (1 / 10))
    for right, heard in ((1, 3), (7, 10), (19, 20)):
        bound = mining.purity_bound(right, heard)
        assert stats.binom.sf(right - 1, heard, bound) == pytest.approx(0.05), "so many or more by chance: 5 %"
    with pytest.raises(AudiotkError, match="0 <= right <= heard"):
        mining.purity_bound(3, 2)


def test_a_class_that_was_heard_is_not_called_absent(recordings, split, tmp_path):
    """Of two classes that fire in one segment one is false and one is a true event."""
    segments = make_windows(recordings[:1], 2.0, 2.0)
    index = pd.Index(segments["segment"])
    said = Labels.from_frame(pd.DataFrame(0.0, index, ["dog", "cat"]))
    scores = pd.DataFrame({"dog": [0.9, 0.1], "cat": [0.8, 0.1]}, index)
    found = mining.false_positives(scores, said, segments, recordings, 0.5)
    heard = found[["segment", "class_name"]].assign(verdict=np.where(found["class_name"] == "dog", "false", "true"))
    foreign = pd.DataFrame({"segment": [f"x{k}" for k in range(20)], "class_name": "dog", "verdict": "false"})
    store, door = tmp_path / "s.sqlite", mining.Door(recordings, split)
    mining.promote(store, found, "neg_silence", door, labeler="ann", verdicts=pd.concat([heard, foreign]),
                   absent=["dog", "cat"])  # fmt: skip
    values = mining.promoted(store, door)[1].set_index("class_name")["value"]
    assert values.to_dict() == {"dog": 0.0, "neg_silence": 1.0}
    told = mining.promotions(store).iloc[0]
    assert (told["heard"], told["right"]) == (2, 1), "verdicts of other segments are no evidence"


def test_a_promotion_that_was_taken_back_and_redone_can_be_taken_back(found, recordings, split, tmp_path):
    store, door = open_store(tmp_path / "s.sqlite"), mining.Door(recordings, split)
    name = mining.promote(store, found[:1], "neg_hard", door, labeler="ann")
    mining.take_back(store, name, labeler="ann")
    rows = store.operations()
    undo = rows[rows["kind"] == "undo"].iloc[0]
    store.append([make_operation("undo", "ann", undo["recording"], target=undo["uuid"])])
    assert len(mining.promotions(store)) == 1
    assert mining.take_back(store, name, labeler="ann") == 1
    assert mining.promotions(store).empty


def test_copies_of_held_out_groups_and_devices_are_refused(recordings, split, tmp_path):
    wave, _ = audio.load(recordings["path"].iloc[2])
    audio.save(tmp_path / "copy.wav", wave, SR)
    copy = recordings.iloc[[0]].assign(recording="copy", group="new", path=str(tmp_path / "copy.wav"))
    table, both = pd.concat([recordings, copy]), pd.concat([split, pd.Series({"copy": "train"})])
    for held in ({"held_out_groups": ["g2"]}, {"held_out_devices": ["camera"]}):
        assert "same sound as c" in mining.Door(table, both, **held).refusals(["copy"])["copy"]
    numbered = recordings.assign(device=[1, 1, 2, 1, 3])
    assert mining.Door(numbered, split, held_out_devices=[2]).refusals(["a", "c"]).index.tolist() == ["c"]


def test_a_door_that_cannot_know_is_refused(recordings, split):
    with pytest.raises(AudiotkError, match="no column device"):
        mining.Door(recordings.drop(columns="device"), split, held_out_devices=["phone"])
    with pytest.raises(AudiotkError, match="expected text in made_from"):
        mining.Door(recordings.assign(made_from=[["t"], None, None, None, None]), split)
    with pytest.raises(AudiotkError, match="occurs twice"):
        mining.Door(recordings, pd.concat([split, split[:1]]))
    with pytest.raises(AudiotkError, match="1 held-out recordings are not in the recordings table"):
        mining.Door(recordings[:4], split)
    with pytest.raises(AudiotkError, match="expected train, val or test"):
        mining.Door(recordings, split.replace("val", "valid"))
