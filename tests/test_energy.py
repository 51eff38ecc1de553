"""Levels, noise floors, the four silences, what nothing stands out of, and the gate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import signal

from audiotk import audio, datasets, energy, silence
from audiotk.backgrounds import DEVICES, SILENCE_KINDS
from audiotk.tables import AudiotkError, Labels, make_segments

SR = 16000


@pytest.fixture(scope="module")
def embedded():
    return datasets.load("embedded", None, n_train=400, n_val=0, n_test=0)


@pytest.fixture(scope="module")
def floors(embedded):
    return energy.noise_floors(embedded.recordings)


def tone(level_dbfs: float, seconds: float = 1.0, hz: float = 440.0) -> np.ndarray:
    wave = np.sin(2 * np.pi * hz * np.arange(round(seconds * SR)) / SR) * np.sqrt(2) * 10 ** (level_dbfs / 20)
    return wave.astype(np.float32)


def test_frame_levels_are_those_of_the_frames():
    wave = np.concatenate([tone(-20), tone(-40)]) + 0.25  # DC does not count
    levels = energy.frame_levels(wave, SR)
    assert levels.shape == (20,)
    np.testing.assert_allclose(levels, np.repeat([-20, -40], 10), atol=0.02)
    twin = [audio.level_dbfs(wave[k * 1600 : (k + 1) * 1600]) for k in range(20)]
    np.testing.assert_allclose(levels, twin, atol=1e-9)
    assert energy.frame_levels(wave[:100], SR).shape == (1,), "shorter than a frame: one frame"
    assert energy.frame_levels(np.zeros((3, 3200)), SR).tolist() == [[-np.inf] * 2] * 3


def test_describe_by_known_sounds(tmp_path):
    noise = np.random.default_rng(0).normal(size=SR).astype(np.float32)
    sounds = {
        "tone": tone(-20),
        "noise": 0.1 * noise,
        "nothing": np.zeros(SR),
        "half": np.r_[tone(-20, 0.5), tone(-60, 0.5)],
    }
    for name, wave in sounds.items():
        audio.save(tmp_path / f"{name}.wav", np.asarray(wave, np.float32), SR)
    (tmp_path / "bad.wav").write_bytes(b"x")
    names = [*sounds, "bad"]
    paths = [str(tmp_path / f"{name}.wav") for name in names]
    recordings = pd.DataFrame({"recording": names, "path": paths, "duration_s": 1.0, "sr": SR, "group": names})
    segments = make_segments(names, 0.0, 1.0)
    with pytest.warns(UserWarning, match="1 of 5"):
        told = energy.describe(recordings, pd.concat([segments, segments[:1]]))
    told.index = told.index.str.split("@").str[0]
    assert told.loc["tone", "level_dbfs"] == pytest.approx(-20, abs=0.05)
    assert told.loc["noise", "level_dbfs"] == pytest.approx(-20, abs=0.2)
    assert told.loc["tone", "flatness"] < 0.01 < 0.4 < told.loc["noise", "flatness"]
    assert told.loc["tone", "centroid_hz"] == pytest.approx(440, rel=0.1)
    assert told.loc["noise", "centroid_hz"] == pytest.approx(4000, rel=0.1)
    assert told.loc["nothing", "level_dbfs"] == told.loc["nothing", "loudest_dbfs"] == energy.SILENT_DBFS
    assert told.loc["half", "loudest_dbfs"] == pytest.approx(-20, abs=0.1)
    assert told.loc["half", "spread_db"] == pytest.approx(40, abs=1)
    assert told.loc["noise", "tonality"] < 0.02 < 0.9 < told.loc["tone", "tonality"]
    assert np.isnan(told.loc["nothing", "tonality"])
    assert told.loc["bad"].isna().all()
    short = energy.describe(recordings, make_segments(["tone"], 0.0, 0.05))
    assert short["tonality"].isna().all()
    assert short["level_dbfs"].notna().all()


def test_tonality_is_high_for_tones_and_zero_for_noise_at_any_level() -> None:
    time = np.arange(32000) / 16000
    noise = np.random.default_rng(0).normal(size=32000)
    tone = np.sin(2 * np.pi * 300 * time)
    waves = [noise, tone + 0.01 * noise, 1e-4 * (tone + noise), np.zeros(32000), np.full(32000, np.nan)]
    found = energy.tonality(np.stack(waves), 16000)
    assert found[0] < 0.02
    assert found[1] > 0.9
    assert 0.2 < found[2] < 0.6  # a third of the power
    assert np.isnan(found[3:]).all()
    with pytest.raises(AudiotkError, match=r"at least 0\.064 s"):
        energy.tonality(np.zeros((1, 100)), 16000)


def test_the_floor_of_a_device_is_found_under_its_recordings(embedded, floors):
    """Recordings hold the device's noise with a room's above it; the hardware is known, so is its order."""
    levels = pd.Series({name: floor.level_dbfs for name, floor in floors.items()})
    known = pd.Series({name: device.floor_dbfs for name, device in DEVICES.items()})[levels.index]
    assert levels["studio"] == levels.min()
    assert levels["camera"] == levels.max()
    assert (levels - known).abs().max() < 10
    for floor in floors.values():
        assert floor.spectrum.sum() == pytest.approx(1)
        assert floor.recordings > 3


@pytest.mark.parametrize("kind", SILENCE_KINDS)
def test_made_silence_is_recognised(kind, floors):
    rng, found = np.random.default_rng(0), []
    for floor in floors.values():
        waves = [silence.make_silence(kind, 2 * SR, floor, rng) for _ in range(8)]
        assert all(wave.shape == (2 * SR,) and wave.dtype == np.float32 and np.abs(wave).max() < 1 for wave in waves)
        found += [silence.silence_kind(wave, floor) for wave in waves]
    assert found.count(kind) >= 0.75 * len(found)


def test_made_silence_has_the_spectrum_of_its_device(floors):
    rng = np.random.default_rng(0)
    for name in ("camera", "speaker"):
        hz, power = signal.welch(silence.make_silence("device", 10 * SR, floors[name], rng), SR, nperseg=1600)
        own = np.interp(hz, np.linspace(0, SR / 2, len(floors[name].spectrum)), floors[name].spectrum)
        apart = 10 * np.log10(power[10:-40] / own[10:-40])
        assert np.std(apart) < 2


def test_silence_kinds_of_known_recordings(embedded, floors):
    """Known truth: at least four of five recordings of each kind are told right."""
    quiet = embedded.recordings[embedded.recordings["quiet_kind"].isin(SILENCE_KINDS)]
    said = [silence.silence_kind(audio.load(row["path"])[0], floors[row["device"]]) for row in quiet.to_dict("records")]
    right = pd.Series(said, index=quiet["quiet_kind"]).eq(quiet["quiet_kind"].to_numpy()).groupby(level=0).mean()
    assert set(right.index) == set(SILENCE_KINDS)
    assert (right >= 0.7).all(), right
    assert np.mean(np.array(said) == quiet["quiet_kind"]) >= 0.85


def test_quiet_stretches_hold_no_events(embedded, floors):
    recordings = embedded.recordings[:80]
    found = silence.quiet_stretches(recordings, floors)
    assert len(found) > 30
    assert (found["end_s"] - found["start_s"] >= 0.5 - 1e-6).all()
    sound = energy.describe(recordings, found)
    device = recordings.set_index("recording")["device"]
    floor = found.set_index("segment")["recording"].map(device).map({k: v.level_dbfs for k, v in floors.items()})
    assert (sound["loudest_dbfs"] <= floor + energy.FAINT_DB + 1.5).all()
    heard = datasets.embedded.events(embedded).merge(found, on="recording", suffixes=("", "_quiet"))
    shared = np.minimum(heard["end_s"], heard["end_s_quiet"]) - np.maximum(heard["start_s"], heard["start_s_quiet"])
    total = (found["end_s"] - found["start_s"]).sum()
    assert shared.clip(lower=0).sum() < 0.1 * total


def test_low_information_is_steady_or_faint():
    sound = pd.DataFrame({"loudest_dbfs": [-60.0, -30.0, -30.0, np.nan], "spread_db": [30.0, 5.0, 30.0, np.nan]})
    assert energy.low_information(sound, -70.0).tolist() == [True, True, False, False]


def test_the_gate_keeps_what_it_promises():
    rng = np.random.default_rng(0)
    ids = pd.Index([f"s{k}" for k in range(400)], name="segment")
    present = pd.DataFrame({"x": rng.integers(0, 2, 400).astype(float)}, ids)
    device = pd.Series(np.resize(["a", "b"], 400), ids)
    level = rng.normal(-40, 6, 400) + np.where(device == "b", -20, 0) + 10 * present["x"].to_numpy()
    sound = pd.DataFrame({"loudest_dbfs": level}, ids)
    gates = energy.fit_gate(sound, Labels.from_frame(present), device, keep=0.95)
    assert gates["a"] > gates["b"] + 10
    scores = pd.DataFrame({"x": 0.9}, ids)
    gated = energy.gate(scores, sound, gates, device)
    for name in "ab":
        mine = device == name
        assert (gated["x"][mine & (present["x"] == 1)] > 0).mean() >= 0.95
        assert (gated["x"][mine & (present["x"] == 0)] == 0).mean() > 0.3
    louder = energy.fit_gate(sound, present, device, keep=0.5)
    assert (louder > gates).all()
    assert energy.fit_gate(sound, present * 0).tolist() == [-np.inf], "nothing present: never closed"
    with pytest.raises(AudiotkError, match="no threshold for device 'c'"):
        energy.gate(scores, sound, gates, device.replace("b", "c"))
    unknown = energy.gate(scores, sound * np.nan, gates, device)
    assert (unknown["x"] == 0.9).all(), "what is not known passes"


def test_bad_input_is_refused(tmp_path, floors):
    with pytest.raises(AudiotkError, match="expected a kind"):
        silence.make_silence("loud", 100, floors["camera"], np.random.default_rng(0))
    with pytest.raises(AudiotkError, match="share"):
        energy.noise_floors(pd.DataFrame(), share=0)
    (tmp_path / "bad.wav").write_bytes(b"x")
    bad = pd.DataFrame(
        {"recording": ["a"], "path": [str(tmp_path / "bad.wav")], "duration_s": 1.0, "sr": 8000, "group": "a"}
    )
    with pytest.raises(AudiotkError, match="none of 1 recordings"):
        energy.noise_floors(bad)
    with pytest.raises(AudiotkError, match="keep"):
        energy.fit_gate(pd.DataFrame({"loudest_dbfs": []}), pd.DataFrame(), keep=0)
