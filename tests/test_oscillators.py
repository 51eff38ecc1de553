"""Oscillators and filters against textbook sums and spectra."""

import numpy as np
import pytest

from audiotk.oscillators import curve, decay, formants, harmonics, noise, pulses, rise_and_fall, shaped, train

SR = 16000


@pytest.mark.parametrize("low", [70.0, 440.0, 2000.0])
def test_harmonics_is_the_sum_of_sines_below_nyquist(low: float) -> None:
    pitch = np.linspace(low, 1.3 * low, 4000)
    angle = 2 * np.pi * np.cumsum(pitch) / SR
    expected = sum(
        np.where(k * pitch < 0.46 * SR, k**-1.2 * np.sin(k * angle), 0.0) for k in range(1, int(0.46 * SR / low) + 1)
    )
    np.testing.assert_allclose(harmonics(pitch, 1.2, SR), expected, atol=0.02)


def test_formants_lift_what_is_near_their_centre() -> None:
    wave = noise(SR * 4, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(formants(wave, [1000, 3000], [100, 200], [0, -10], SR))) ** 2
    f = np.fft.rfftfreq(len(wave), 1 / SR)
    power = {hz: spectrum[np.abs(f - hz) < 30].mean() for hz in (300, 1000, 2000, 3000)}
    assert power[1000] > 4 * power[3000] > 8 * power[2000]
    assert 10 * np.log10(power[1000] / power[3000]) == pytest.approx(10, abs=1.5)
    assert power[1000] > 100 * power[300]


def test_shaped_noise_has_the_asked_slope_and_rms() -> None:
    wave = shaped(SR * 8, lambda f: 1 / np.maximum(f, 20), SR, np.random.default_rng(1))
    spectrum, f = np.abs(np.fft.rfft(wave)) ** 2, np.fft.rfftfreq(len(wave), 1 / SR)
    octave = [spectrum[(f > low) & (f < 1.1 * low)].mean() for low in (200, 400, 800, 1600)]
    np.testing.assert_allclose(10 * np.diff(np.log10(octave)), -6.02, atol=1.0)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(1, rel=1e-3)


def test_pulses_come_once_a_period() -> None:
    wave = pulses(np.full(SR, 80.0), 0.0, SR, np.random.default_rng(0))
    assert np.count_nonzero(wave) == pytest.approx(80, abs=1)
    np.testing.assert_allclose(np.diff(np.flatnonzero(wave)), 200, atol=1)


def test_envelopes_and_curves() -> None:
    envelope = rise_and_fall(1000, SR, 0.01, 0.02)
    assert envelope.max() == 1
    assert envelope[0] < 0.001
    assert envelope[-1] < 0.001
    assert np.all(np.diff(envelope[:160]) > 0)
    assert np.all(np.diff(envelope[-320:]) < 0)
    assert decay(SR, SR, 0.5)[SR // 2] == pytest.approx(np.exp(-1), rel=1e-3)
    values = curve(101, (0.0, 1.0), (0.5, 3.0), (1.0, 2.0))
    np.testing.assert_allclose(values[[0, 50, 100]], [1.0, 3.0, 2.0])


def test_train_adds_pieces_at_their_onsets() -> None:
    one = np.ones(10, np.float32)
    np.testing.assert_array_equal(np.flatnonzero(train([one, one], [0.0, 0.002], SR)), [*range(10), *range(32, 42)])
    assert train([one, one], [0.0, 0.0], SR).max() == 2
