"""Front ends against numpy and librosa, and what they promise about silence, framing and gradients."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiotk.errors import AudiotkError
from audiotk.features import CompressedSTFT, LogMel


def noise(samples: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 0.1, (batch, samples)).astype(np.float32))


def compressed_stft_slow(wave: np.ndarray, n_fft: int, hop: int, power: float) -> np.ndarray:
    """Textbook twin: one frame at a time in float64, (samples,) -> complex (T, F)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    rows = []
    for start in range(0, len(wave) - n_fft + 1, hop):
        spectrum = np.fft.rfft(wave[start : start + n_fft].astype(np.float64) * window)
        rows.append(np.abs(spectrum) ** power * np.exp(1j * np.angle(spectrum)))
    return np.stack(rows)


def test_the_papers_shape() -> None:
    # P1, section 2.2: "a feature map of 624 x 257 time-frequency bins and 2 channels" for 10 s at 16 kHz
    assert CompressedSTFT()(noise(160000)).shape == (1, 2, 624, 257)
    assert LogMel()(noise(160000)).shape == (1, 1, 501, 64)


@pytest.mark.parametrize(("n_fft", "hop", "power"), [(512, 256, 0.3), (256, 256, 0.3), (400, 160, 1.0)])
def test_compressed_stft_equals_its_twin(n_fft: int, hop: int, power: float) -> None:
    wave = noise(5000)
    expected = compressed_stft_slow(wave[0].numpy(), n_fft, hop, power)
    out = CompressedSTFT(16000, n_fft, hop, power)(wave)[0].numpy()
    np.testing.assert_allclose(out[0] + 1j * out[1], expected, atol=2e-3)


@pytest.mark.parametrize(
    ("sr", "n_fft", "hop", "mels"), [(16000, 1024, 320, 64), (16000, 512, 256, 40), (44100, 2048, 500, 128)]
)
def test_log_mel_equals_librosa(sr: int, n_fft: int, hop: int, mels: int) -> None:
    wave = noise(sr // 3)[0]
    power = librosa.feature.melspectrogram(y=wave.numpy(), sr=sr, n_fft=n_fft, hop_length=hop, n_mels=mels)
    ours = LogMel(sr, n_fft, hop, mels)(wave[None])[0, 0]
    np.testing.assert_allclose(ours.T.numpy(), np.log(np.maximum(power, 1e-10)), atol=1e-4)


def test_defaults_are_durations_not_samples() -> None:
    stft, mel = CompressedSTFT(8000), LogMel(8000)
    assert (stft.n_fft, stft.hop) == (256, 128)  # 32 ms, 16 ms
    assert (mel.n_fft, mel.hop) == (512, 160)  # 64 ms, 20 ms
    assert CompressedSTFT(44100).n_fft % 2 == 0


def test_silence_is_finite_forward_and_backward() -> None:
    for front, value in ((CompressedSTFT(), 0.0), (LogMel(), float(np.log(np.float32(1e-10))))):
        wave = torch.zeros(2, 8000, requires_grad=True)
        out = front(wave)
        assert torch.allclose(out, torch.full_like(out, value))
        out.sum().backward()
        assert wave.grad is not None
        assert wave.grad.isfinite().all()


def test_partly_silent_audio_has_finite_gradients() -> None:
    for front in (CompressedSTFT(), LogMel()):
        wave = noise(8000)
        wave[:, 3000:6000] = 0
        wave.requires_grad_()
        front(wave).square().sum().backward()
        assert wave.grad is not None
        assert wave.grad.isfinite().all()
        assert (wave.grad[:, :2000] != 0).any()


def test_compression_follows_level_by_its_power() -> None:
    front, wave = CompressedSTFT(), noise(8000)
    torch.testing.assert_close(front(10 * wave), 10**0.3 * front(wave), rtol=1e-3, atol=1e-3)


def test_log_mel_follows_level_and_floor() -> None:
    wave = noise(8000)
    torch.testing.assert_close(LogMel()(10 * wave), LogMel()(wave) + np.log(100), rtol=0, atol=1e-3)
    assert LogMel(floor=1.0)(1e-6 * wave).max() == 0


def test_log_mel_is_centred_and_stft_is_not() -> None:
    wave = torch.zeros(1, 16000)
    wave[0, 10 * 320] = 1
    assert LogMel()(wave)[0, 0].mean(1).argmax() == 10
    wave = torch.zeros(1, 16000)
    wave[0, 10 * 256 + 256] = 1  # the middle of frame 10, which starts at sample 10 * 256
    assert CompressedSTFT()(wave)[0].square().sum((0, 2)).argmax() == 10


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(512, 5000), hop=st.integers(50, 512))
def test_frames_and_min_samples_tell_the_shape(samples: int, hop: int) -> None:
    for front in (CompressedSTFT(16000, 512, hop), LogMel(16000, 512, hop, 20)):
        frames = front(noise(samples)).shape[2]
        assert frames == front.frames(samples)
        shortest = front.min_samples(frames)
        assert front.frames(shortest) == frames
        assert frames == 1 or front.frames(shortest - 1) == frames - 1


@pytest.mark.parametrize("front", [CompressedSTFT(), LogMel()])
def test_each_row_is_computed_alone(front: torch.nn.Module) -> None:
    wave = noise(40000, batch=17)  # enough rows to be cut into parts
    together = front(wave)
    for row in (0, 5, 6, 16):
        torch.testing.assert_close(together[row], front(wave[row : row + 1])[0], rtol=1e-5, atol=1e-4)


def test_autocast_does_not_reach_the_front_end() -> None:
    wave = noise(4000)
    for front in (CompressedSTFT(), LogMel()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = front(wave.bfloat16().float())
        assert out.dtype == torch.float32
        assert torch.equal(out, front(wave.bfloat16().float()))


def test_fronts_hold_nothing_to_save() -> None:
    assert not CompressedSTFT().state_dict()
    assert not LogMel().state_dict()


@pytest.mark.parametrize("front", [CompressedSTFT(), LogMel()])
def test_wrong_waveforms_are_refused(front: torch.nn.Module) -> None:
    with pytest.raises(AudiotkError, match=r"\(B, samples\), got shape \(16000,\)"):
        front(torch.zeros(16000))
    with pytest.raises(AudiotkError, match="floating-point samples"):
        front(torch.zeros(1, 16000, dtype=torch.int16))
    with pytest.raises(AudiotkError, match="needs at least"):
        front(torch.zeros(1, 0))


def test_too_short_says_how_long() -> None:
    with pytest.raises(AudiotkError, match=r"at least 512 samples \(0.032 s at 16000 Hz\), got 400 \(0.025 s\)"):
        CompressedSTFT()(torch.zeros(1, 400))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(AudiotkError, match="even n_fft"):
        CompressedSTFT(n_fft=511)
    with pytest.raises(AudiotkError, match="hop <= n_fft"):
        LogMel(hop=2000)
    with pytest.raises(AudiotkError, match="power must be"):
        CompressedSTFT(power=0)
    with pytest.raises(AudiotkError, match="fmin < fmax"):
        LogMel(fmin=9000)
    with pytest.raises(AudiotkError, match="floor above 0"):
        LogMel(floor=0)


@pytest.mark.filterwarnings("ignore:Empty filters")
def test_empty_mel_bands_are_refused() -> None:
    with pytest.raises(AudiotkError, match="hold no FFT bin"):
        LogMel(n_fft=256, hop=128, mels=128)
