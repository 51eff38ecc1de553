"""Augmentation: what happens to labels, and that random choices depend on the generator alone."""

import itertools

import numpy as np
import pytest
import torch

from audiotk import augment
from audiotk.tables import AudiotkError

NAN = float("nan")


def same(a, b):
    return (np.isnan(a) and np.isnan(b)) or a == b


def test_kleene_or_truth_table():
    """Three-valued OR: 1 wins over everything, unknown over 0."""
    for a, b in itertools.product([1.0, 0.0, NAN], repeat=2):
        expected = 1.0 if 1.0 in (a, b) else NAN if np.isnan(a) or np.isnan(b) else 0.0
        assert same(augment.kleene_or(torch.tensor([a]), torch.tensor([b])).item(), expected), (a, b)


def batch(rows=16, samples=400, seed=0):
    rng = np.random.default_rng(seed)
    wave = torch.from_numpy(rng.normal(size=(rows, samples)).astype("float32"))
    targets = torch.from_numpy(rng.choice([1.0, 0.0, NAN], size=(rows, 5)).astype("float32"))
    return wave, targets


@pytest.mark.parametrize("kind", augment.MIXES)
def test_mix_is_a_function_of_the_generator(kind):
    wave, targets = batch()
    torch.manual_seed(1)
    one = augment.mix(wave, targets, kind, np.random.default_rng(3), max_sources=3)
    torch.manual_seed(2)
    two = augment.mix(wave, targets, kind, np.random.default_rng(3), max_sources=3)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=0, atol=0)
    assert one[0].shape == wave.shape


def test_join_keeps_own_labels_and_adds_those_of_what_was_mixed_in():
    """Rows carry one class each at its own frequency, so the sound tells which labels the mixture has to have."""
    rows, samples = 8, 800
    time = np.arange(samples) / samples
    tones = np.stack([np.sin(2 * np.pi * 20 * (k + 1) * time) for k in range(rows)]).astype("float32")
    mixed, joined = augment.mix(
        torch.from_numpy(tones), torch.eye(rows), "join", np.random.default_rng(0), max_sources=3, level_db=2.0
    )
    heard = np.abs(mixed.numpy() @ tones.T) * 2 / samples > 0.3  # (rows, rows): tone k is in row i
    np.testing.assert_array_equal(joined.numpy() == 1, heard)
    assert {1, 2, 3} == set(joined.sum(1).int().tolist())


def test_vanilla_mix_weakens_labels_by_the_factor_of_the_sound():
    wave = torch.eye(6).repeat(1, 10)  # row i is 1 in every 6th sample
    mixed, targets = augment.mix(wave, torch.eye(6), "vanilla", np.random.default_rng(0))
    torch.testing.assert_close(targets, mixed[:, :6])
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    assert ((targets > 0.01) & (targets < 0.99)).any()


def test_roll_keeps_every_sample():
    wave, _ = batch()
    rolled = augment.roll(wave, np.random.default_rng(0))
    torch.testing.assert_close(rolled.sort(1).values, wave.sort(1).values, rtol=0, atol=0)
    assert (rolled != wave).any(1).sum() >= 15
    again = [torch.roll(row, int((rolled[i] == row[0]).nonzero()[0])) for i, row in enumerate(wave)]
    torch.testing.assert_close(torch.stack(again), rolled, rtol=0, atol=0)


def test_noise_has_the_asked_ratio_and_leaves_silence():
    wave = torch.sin(torch.arange(20000) / 5.0).repeat(2, 1)
    wave[1] = 0
    noisy = augment.add_noise(wave, (20.0, 20.0), np.random.default_rng(0))
    ratio = 10 * torch.log10(wave[0].square().mean() / (noisy - wave)[0].square().mean())
    assert ratio.item() == pytest.approx(20, abs=0.2)
    assert noisy[1].abs().max() == 0


def test_masks_hide_stripes_and_nothing_else():
    spectrogram = torch.rand(4, 1, 100, 64)
    masked = augment.mask_spectrogram(spectrogram, masks=2, share=0.2, rng=np.random.default_rng(0))
    changed = (masked != spectrogram)[:, 0]  # (B, T, F)
    for i, row in enumerate(changed):
        frames, bins = row.all(1), row.all(0)
        expected = frames[:, None] | bins[None, :]
        assert torch.equal(row, expected)
        assert 0 < expected.float().mean() < 0.7
        hidden = masked[i, 0][row]
        torch.testing.assert_close(hidden, spectrogram[i].mean().expand_as(hidden))
    unchanged = augment.mask_spectrogram(spectrogram, masks=0, share=0.2, rng=np.random.default_rng(0))
    assert torch.equal(unchanged, spectrogram)


def test_unknown_mix_is_refused():
    with pytest.raises(AudiotkError, match=r"expected one of .*join.*got 'mixup'"):
        augment.mix(*batch(), "mixup", np.random.default_rng(0))
