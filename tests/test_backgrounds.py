"""Backgrounds have the stated level, spectrum and ranges."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import fft

from audiotk.backgrounds import DEVICES, MOVING_KINDS, device_floor, draw, moving, response, steady, thumps, transitions

SR, N = 16000, 160000
F = fft.rfftfreq(N, 1 / SR)


def dbfs(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(wave, dtype=float))))


@pytest.mark.parametrize("kind", ["room", "clean", "noisy", "transitional", "fan", "hum"])
def test_steady_backgrounds_have_their_level(kind: str) -> None:
    power = steady(kind, -40.0, F, np.random.default_rng(0))
    assert 10 * np.log10(power.sum()) == pytest.approx(-40, abs=1e-6)
    drawn = [draw(power, N, np.random.default_rng(k)) for k in range(8)]
    assert np.mean([np.mean(w**2) for w in drawn]) == pytest.approx(1e-4, rel=0.35)  # few bins carry a hum


@pytest.mark.parametrize("kind", MOVING_KINDS)
def test_moving_backgrounds_have_their_level_where_they_are(kind: str) -> None:
    wave, spans = moving(kind, -40.0, N, SR, np.random.default_rng(3))
    inside = np.zeros(N, bool)
    for start, end in spans:
        assert 0 <= start < end <= N / SR
        inside[round(start * SR) : round(end * SR)] = True
    assert not wave[~inside].any()
    assert dbfs(wave[inside]) == pytest.approx(-40, abs=0.2)
    assert all(a[1] < b[0] for a, b in pairwise(spans))


def test_hum_is_mains_and_fan_has_blades() -> None:
    hum = steady("hum", -40.0, F, np.random.default_rng(1))
    top = F[np.argsort(hum)[-3:]]
    base = 50.0 if np.allclose(top / 50, np.round(top / 50), atol=0.02) else 60.0
    np.testing.assert_allclose(top / base, np.round(top / base), atol=0.02)
    fan = steady("fan", -40.0, F, np.random.default_rng(1))
    local = np.convolve(fan, np.ones(201) / 201, mode="same")
    assert (fan / local)[200:8000].max() > 5  # lines stand out of the flow noise


def test_devices_differ_in_floor_and_band() -> None:
    floors = {name: 10 * np.log10(device_floor(d, F).sum()) for name, d in DEVICES.items()}
    assert floors["studio"] < floors["phone"] < floors["camera"]
    for name, device in DEVICES.items():
        assert floors[name] == pytest.approx(device.floor_dbfs, abs=3.5)
        gain = response(device, np.array([device.low_hz / 4, 1000.0]))
        assert gain[0] < 0.1 * gain[1]
    camera = device_floor(DEVICES["camera"], F)
    assert camera[np.abs(F - 1000) < 1].max() > 30 * np.median(camera[np.abs(F - 1000) < 50])


def test_transitional_gain_moves() -> None:
    for seed in range(20):
        gain = transitions(N, SR, np.random.default_rng(seed))
        assert gain.shape == (N,)
        assert gain.min() > 0
        assert 20 * np.log10(gain.max() / gain.min()) > 10


def test_thumps_are_low() -> None:
    wave = next(w for w in (thumps(N, SR, np.random.default_rng(k)) for k in range(50)) if w.any())
    power = np.abs(np.fft.rfft(wave)) ** 2
    assert power[F < 500].sum() > 0.8 * power.sum()
