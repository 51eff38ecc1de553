"""Soundscapes: ranges, levels and SNR are what the tables say."""

import numpy as np
import pytest

from audiotk.backgrounds import AMBIENT_KINDS, KINDS
from audiotk.soundscapes import HABITAT, choose_background, choose_events, impulse_response, make_home, render
from audiotk.synthesis import CLASSES
from audiotk.tables import AudiotkError

SR = 16000
HOMES = [make_home(SR, np.random.default_rng([7, k])) for k in range(6)]


def power(wave: np.ndarray) -> float:
    return float(np.mean(np.square(wave, dtype=float)))


@pytest.mark.parametrize("class_name", CLASSES)
def test_event_lies_in_its_range_at_its_level_and_snr(class_name: str) -> None:
    for k, home in enumerate(HOMES):
        for kind in ("clean", "fan", "traffic"):
            scene = render(home, (kind,), [class_name], np.random.default_rng([8, k]))
            [row] = scene.events
            span = slice(round(row["start_s"] * SR), round(row["end_s"] * SR))
            alone = scene.wave - scene.background
            level = 10 * np.log10(power(alone[span]))
            assert level == pytest.approx(row["level_dbfs"], abs=0.1)
            assert level - 10 * np.log10(power(scene.background[span])) == pytest.approx(row["snr_db"], abs=0.1)
            assert row["snr_db"] >= -3.05
            energy = np.square(alone, dtype=float)
            assert energy[span].sum() > (0.98 if row["snr_db"] > 15 else 0.6) * energy.sum()
            # what a listener can measure: the mixture is louder inside by what the SNR says
            gain = 10 * np.log10(power(scene.wave[span]) / power(scene.background[span]))
            assert gain == pytest.approx(10 * np.log10(1 + 10 ** (row["snr_db"] / 10)), abs=1.0)


def test_overlap_is_allowed_between_classes_only_and_can_be_switched_off() -> None:
    def overlaps(share: float) -> int:
        count = 0
        for k in range(40):
            names = choose_events(CLASSES[k % 8], np.random.default_rng([9, k]))
            scene = render(HOMES[k % 6], ("noisy",), names, np.random.default_rng([10, k]), overlap=share)
            assert scene.events
            assert names[0] in {row["class_name"] for row in scene.events}
            for i, a in enumerate(scene.events):
                for b in scene.events[i + 1 :]:
                    meet = a["start_s"] < b["end_s"] and b["start_s"] < a["end_s"]
                    assert not (meet and a["class_name"] == b["class_name"])
                    count += meet
        return count

    assert overlaps(0.0) == 0
    assert overlaps(1.0) > 5


@pytest.mark.parametrize("kind", KINDS)
def test_quiet_scene_is_its_background_only(kind: str) -> None:
    for k, home in enumerate(HOMES):
        scene = render(home, (kind,), [], np.random.default_rng([11, k]))
        assert scene.events == []
        np.testing.assert_array_equal(scene.wave, scene.background)
        assert {row["kind"] for row in scene.backgrounds} <= {kind, "clean"}
        assert kind in {row["kind"] for row in scene.backgrounds}
        for row in scene.backgrounds:
            span = scene.wave[round(row["start_s"] * SR) : round(row["end_s"] * SR)]
            assert 10 * np.log10(power(span)) == pytest.approx(row["level_dbfs"], abs=0.3)


def test_clean_is_far_below_noisy() -> None:
    level = {
        kind: np.median([10 * np.log10(power(render(h, (kind,), [], np.random.default_rng(1)).wave)) for h in HOMES])
        for kind in ("clean", "device", "noisy")
    }
    assert level["clean"] + 8 < level["device"] < level["noisy"] + 8
    assert level["clean"] + 15 < level["noisy"]


def test_transitional_rows_touch_events_but_hold_none() -> None:
    for k in range(20):
        names = choose_events(CLASSES[k % 8], np.random.default_rng([12, k]))
        scene = render(HOMES[k % 6], ("clean",), names, np.random.default_rng([13, k]))
        edges = {edge for row in scene.events for edge in (row["start_s"], row["end_s"])}
        rows = [row for row in scene.backgrounds if row["kind"] == "transitional"]
        assert rows
        for row in rows:
            assert {row["start_s"], row["end_s"]} & edges
            assert row["end_s"] - row["start_s"] <= 0.56
            assert not any(e["start_s"] < row["end_s"] and e["end_s"] > row["start_s"] for e in scene.events)


@pytest.mark.parametrize("rt60", [0.2, 0.6])
def test_impulse_response_decays_as_stated(rt60: float) -> None:
    fitted = []
    for seed in range(10):
        h = impulse_response(SR, rt60, 4.0, np.random.default_rng(seed))
        assert power(h) * len(h) == pytest.approx(1, rel=1e-3)
        low = np.convolve(h, np.hanning(33), mode="same")  # below about 1 kHz
        left = 10 * np.log10(np.cumsum(low[::-1] ** 2)[::-1] / np.sum(low**2))  # Schroeder's backward integral
        a, b = np.searchsorted(-left, [5, 25])
        fitted.append(60 / 20 * (b - a) / SR)
    assert np.median(fitted) == pytest.approx(rt60, rel=0.2)


def test_loud_scene_is_turned_down_not_clipped() -> None:
    scenes = [render(HOMES[k % 6], ("clean",), ["bark", "howl"], np.random.default_rng(k)) for k in range(30)]
    peaks = np.array([np.abs(scene.wave).max() for scene in scenes])
    assert peaks.max() <= 0.9701
    assert np.isclose(peaks, 0.97, atol=1e-4).any()


def test_background_bias_is_the_stated_rate() -> None:
    home = HOMES[0]
    rng = np.random.default_rng(0)
    strict = [choose_background("eating", home, 1.0, rng) == (HABITAT["eating"],) for _ in range(2000)]
    free = [choose_background("eating", home, 0.0, rng) == (HABITAT["eating"],) for _ in range(2000)]
    extra = (np.mean(strict) - np.mean(free)) / (1 - np.mean(free))
    assert extra == pytest.approx(0.5, abs=0.06)
    assert set(HABITAT.values()) <= set(AMBIENT_KINDS)


@pytest.mark.parametrize(
    ("kinds", "names"), [((), []), (("clean", "fan"), []), (("sea",), []), (("fan",), ["meow"]), (("fan", "sea"), [])]
)
def test_impossible_scenes_are_refused(kinds: tuple[str, ...], names: list[str]) -> None:
    with pytest.raises(AudiotkError, match="render: expected one of"):
        render(HOMES[0], kinds, names, np.random.default_rng(0))
