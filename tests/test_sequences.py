"""P1's Algorithm 1: what a sequence is made of, and that labels and ranges say what can be heard in it."""

import io
import itertools
import pickle

import numpy as np
import pytest
import soundfile
import torch
from scipy import fft

from audiotk.augment import Recipe, Sequences, Sources, kleene_or
from audiotk.augment.effects import CODECS, DISTORTIONS, Path, distort, stretch, through_codec
from audiotk.augment.sequences import join
from audiotk.tables import AudiotkError, Labels
from audiotk.train import TrainConfig, train

SR = 16000
STILL = Recipe.plain(level_db=0.0, out_level_db=0.0)  # nothing but cut and concatenate


def burst(at_s, n=4 * SR, hertz=1000.0, length_s=0.1):
    """A short tone with its centre at `at_s`."""
    wave, size = np.zeros(n, np.float32), round(length_s * SR)
    start = round(at_s * SR) - size // 2
    wave[start : start + size] = np.sin(2 * np.pi * hertz * np.arange(size) / SR) * np.hanning(size)
    return wave


def loudest_s(wave):
    energy = np.convolve(wave.astype(float) ** 2, np.hanning(SR // 20), mode="same")
    return energy.argmax() / SR


# --- effects ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("semitones", [-2.0, 0.0, 3.0])
def test_stretched_sound_is_where_it_is_said_to_be(rate, semitones):
    """A tone at t is heard at t / rate, and higher by so many semitones."""
    for at_s in (0.3, 1.7, 3.6):
        made = stretch(burst(at_s), SR, rate, semitones)
        assert len(made) == round(4 * SR / rate)
        assert loudest_s(made) == pytest.approx(at_s / rate, abs=0.015)
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * SR) / SR).astype(np.float32)
    spectrum = np.abs(fft.rfft(stretch(tone, SR, rate, semitones)[SR // 4 : SR // 4 + SR]))
    assert spectrum.argmax() == pytest.approx(1000 * 2 ** (semitones / 12), rel=0.01)


def test_stretch_needs_no_minimum_length():
    assert len(stretch(np.ones(10, np.float32), SR, 1.1, 1.0)) == 9
    with pytest.raises(AudiotkError, match=r"a rate of 0\.25 to 4"):
        stretch(np.ones(10, np.float32), SR, 9.0, 0.0)


@pytest.mark.parametrize("hertz", [60, 300, 1500, 6000])
def test_a_filter_changes_a_tone_by_its_gain_and_delays_nothing(hertz):
    path = Path(edges_hz=(150.0, 4000.0), bumps=((1000.0, 1.0, 9.0),))
    tone = np.sin(2 * np.pi * hertz * np.arange(SR) / SR).astype(np.float32)
    middle = slice(SR // 4, 3 * SR // 4)
    expected = float(path.gains(np.array([hertz]))[0]) * tone
    np.testing.assert_allclose(path(tone, SR)[middle], expected[middle], atol=2e-3)
    octaves = np.log2(hertz / 1000.0)
    bump_db = 9 * np.exp(-0.5 * octaves**2)
    band = 1 / np.sqrt(1 + (150 / hertz) ** 8) / np.sqrt(1 + (hertz / 4000) ** 8)  # Butterworth, fourth order
    assert path.gains(np.array([hertz]))[0] == pytest.approx(10 ** (bump_db / 20) * band, rel=1e-4)


def test_a_room_is_a_convolution():
    rng = np.random.default_rng(0)
    room, wave = rng.normal(size=300).astype(np.float32), rng.normal(size=2000).astype(np.float32)
    np.testing.assert_allclose(Path(room=room)(wave, SR), np.convolve(wave, room)[:2000], atol=1e-3)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_codecs_lose_quality_and_nothing_else(codec, level):
    rng = np.random.default_rng(0)
    wave = (3 * np.convolve(rng.normal(0, 0.1, 2 * SR), np.hanning(9), mode="same")).astype(np.float32)
    assert np.abs(wave).max() > 1.5  # beyond full scale
    heard = through_codec(wave, SR, codec, level)
    assert heard.shape == wave.shape
    assert heard.dtype == np.float32
    size = 2 * len(wave)
    lag = fft.irfft(fft.rfft(heard, size) * np.conj(fft.rfft(wave, size)), size).argmax()
    assert lag == 0
    assert 0.7 < np.corrcoef(heard, wave)[0, 1] < 1
    with pytest.raises(AudiotkError, match="expected one of"):
        through_codec(wave, SR, "gramophone")


def test_mu_law_is_the_one_of_the_standard():
    """Twin: 8 bits of G.711, written as a file by hand."""
    wave = np.linspace(-0.9, 0.9, 4000).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, wave, SR, format="RAW", subtype="ULAW")
    assert len(file.getvalue()) == 4000
    step = np.abs(np.diff(np.unique(through_codec(wave, SR, "mu-law"))))
    assert step.max() / step.min() > 20  # coarse where loud
    np.testing.assert_allclose(through_codec(wave, SR, "mu-law"), wave, atol=0.04)


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_distortion_makes_harmonics_and_keeps_silence(kind):
    tone = np.sin(2 * np.pi * 500 * np.arange(SR) / SR).astype(np.float32)
    spectrum = np.abs(fft.rfft(distort(tone, kind, 0.7)))
    assert max(spectrum[1000], spectrum[1500]) > 0.02 * spectrum[500]
    assert not distort(np.zeros(100, np.float32), kind, 0.7).any()
    np.testing.assert_allclose(distort(tone, "clip", 0.0), tone, atol=1e-6)
    with pytest.raises(AudiotkError, match=r"amount in 0\.\.1"):
        distort(tone, kind, 2.0)


# --- sequences --------------------------------------------------------------------------------------------------------


def test_join_is_the_kleene_or_of_many():
    rng = np.random.default_rng(0)
    for count in (1, 2, 4):
        targets = rng.choice([1.0, 0.0, np.nan], size=(count, 50))
        expected = torch.from_numpy(targets[0])
        for other in targets[1:]:
            expected = kleene_or(expected, torch.from_numpy(other))
        np.testing.assert_array_equal(join(list(targets)), expected.numpy())


def counting(rows=8, samples=3 * SR):
    """Waves whose samples say where they come from: row * 10^6 + place (exact in float32)."""
    return (np.arange(rows)[:, None] * 1e6 + np.arange(samples)[None]).astype(np.float32)


def pieces(wave):
    """Row, start and one past the end of each piece of a sequence made of `counting` waves, and where it begins."""
    row, place = np.divmod(wave.astype(np.int64), 10**6)
    jumps = np.flatnonzero((np.diff(place) != 1) | (np.diff(row) != 0)) + 1
    at = np.concatenate([[0], jumps, [len(wave)]])
    return [(row[a], place[a], place[b - 1] + 1, a) for a, b in itertools.pairwise(at)]


def test_pieces_are_long_enough_and_fill_the_sequence():
    lengths = np.array([3.0, 3.0, 3.0, 1.0, 0.4, 3.0, 3.0, 2.0])
    recipe = Recipe.plain(level_db=0.0, out_level_db=0.0, min_cut_s=1.5)
    sequences = Sequences(
        Sources(counting(), lengths), np.zeros((8, 2)), recipe, sr=SR, samples=4 * SR, mix="none", seed=3
    )
    starts = []
    for place in range(60):
        wave = sequences.make(0, place, place % 8).wave
        assert len(wave) == 4 * SR
        found = pieces(wave)
        assert found[0][0] == place % 8
        for row, start, end, at in found:
            assert end <= lengths[row] * SR, "the padding behind a short recording is not heard"
            if at + end - start < 4 * SR:  # the last one is cut to fit
                assert end - start >= min(1.5, lengths[row]) * SR
            starts.append(start / SR if lengths[row] == 3 else 0.0)
    assert max(starts) > 1.0  # random starts, up to 1.5 s
    assert len({round(one, 3) for one in starts}) > 30


@pytest.mark.parametrize("weak", ["keep", "unknown"])
def test_labels_after_cuts_are_those_of_the_rules(weak):
    """Textbook twin: cuts are read from the sound, each label is derived piece by piece and cell by cell."""
    rng = np.random.default_rng(0)
    targets = rng.choice([1.0, 0.0, np.nan], size=(8, 5), p=[0.5, 0.4, 0.1]).astype(np.float32)
    ranges = []
    for row in range(8):
        own = []
        for name in np.flatnonzero(targets[row] == 1):
            if name < 3:  # classes 3 and 4 are never located
                starts = rng.uniform(0, 2.5, rng.integers(1, 3))
                own += [(start, start + rng.uniform(0.1, 0.5), name) for start in starts]
        ranges.append(np.array(own).reshape(-1, 3))
    recipe = Recipe.plain(level_db=0.0, out_level_db=0.0, min_cut_s=0.8, weak=weak)
    sequences = Sequences(Sources(counting(), None, ranges), targets, recipe, sr=SR, samples=3 * SR, mix="none", seed=1)
    seen = {1.0: 0, 0.0: 0, "nan": 0}
    for place in range(80):
        made = sequences.make(2, place, place % 8)
        expected, places = [], []
        for row, first, last, at in pieces(made.wave):
            start, end = first / SR, last / SR
            cells = []
            for name in range(5):
                value = targets[row, name]
                own = [r for r in ranges[row] if r[2] == name]
                if value == 1 and own:
                    kept = [max(0.0, min(r[1], end) - max(r[0], start)) for r in own]
                    enough = [
                        k > 0 and k >= 0.5 * min(r[1] - r[0], end - start) - 2e-3
                        for k, r in zip(kept, own, strict=True)
                    ]
                    value = 1.0 if any(enough) else np.nan if max(kept) > 2e-3 else 0.0
                    places += [
                        (max(r[0], start) - start + at / SR, min(r[1], end) - start + at / SR, name)
                        for r, k in zip(own, kept, strict=True)
                        if k > 2e-3
                    ]
                elif value == 1 and weak == "unknown" and last - first < 3 * SR:
                    value = np.nan
                cells.append(value)
                seen["nan" if np.isnan(value) else float(value)] += 1
            expected.append(cells)
        joined = expected[0]
        for cells in expected[1:]:
            joined = [1.0 if 1.0 in (a, b) else a + b for a, b in zip(joined, cells, strict=True)]  # 0 + NaN = NaN
        np.testing.assert_array_equal(made.targets, np.array(joined, dtype=np.float32))
        key = lambda table: sorted(map(tuple, np.round(table, 4)))  # noqa: E731
        np.testing.assert_allclose(key(made.ranges), key(np.array(places).reshape(-1, 3)), atol=2e-4)
    assert min(seen.values()) > 20


@pytest.mark.parametrize("mix", ["none", "join"])
def test_ranges_are_where_the_sound_is(mix):
    """One tone burst a recording: whatever is cut, stretched, shifted, filtered and coded, all sound lies in ranges."""
    rng = np.random.default_rng(0)
    at = rng.uniform(0.2, 3.8, 12)
    waves = np.stack([burst(one, hertz=rng.uniform(400, 3000)) for one in at])
    ranges = [np.array([[one - 0.05, one + 0.05, k % 3]]) for k, one in enumerate(at)]
    targets = np.zeros((12, 3), np.float32)
    targets[np.arange(12), np.arange(12) % 3] = 1
    recipe = Recipe(min_cut_s=1.0, stretch=1.0, spectral=1.0, band_pass=0.5, reverb=0.0, codec=0.5)
    sequences = Sequences(Sources(waves, None, ranges), targets, recipe, sr=SR, samples=4 * SR, mix=mix, seed=5)
    heard = 0
    for place in range(40):
        made = sequences.make(0, place, place % 12)
        inside = np.zeros(4 * SR, dtype=bool)
        for start, end, _ in made.ranges:
            inside[max(0, int((start - 0.03) * SR)) : int((end + 0.03) * SR)] = True
        energy = np.square(made.wave.astype(float))
        assert energy[~inside].sum() <= 0.03 * energy.sum()
        for start, end, _ in made.ranges:
            if end - start > 0.08:  # a whole burst, however much a filter took of it
                assert energy[int(start * SR) : int(end * SR)].mean() > 10 * energy[~inside].mean()
                heard += 1
        whole = made.ranges[made.ranges[:, 1] - made.ranges[:, 0] > 0.06]
        assert all(made.targets[int(name)] == 1 for name in whole[:, 2])
    assert heard > 20


def test_number_of_tracks_is_uniform_and_labels_are_joined():
    rows = 400
    sequences = Sequences(
        np.eye(rows, dtype=np.float32), np.eye(rows), STILL.plain(cut=False, level_db=0.0, out_level_db=0.0),
        sr=SR, samples=rows, mix="join", max_sources=3, seed=1,
    )  # fmt: skip
    made = [sequences.make(0, k, k % rows) for k in range(600)]
    for one in made:
        np.testing.assert_array_equal(one.targets == 1, one.wave > 0.5)  # tone k is there where label k is
    counts = np.bincount([int(one.targets.sum()) for one in made], minlength=4)[1:]
    assert counts.sum() == 600
    np.testing.assert_allclose(counts / 600, 1 / 3, atol=0.07)


def test_vanilla_weakens_labels_by_the_factor_of_the_sound():
    rows = 50
    sequences = Sequences(
        np.eye(rows, dtype=np.float32), np.eye(rows), STILL.plain(cut=False, level_db=0.0, out_level_db=0.0), sr=SR,
        samples=rows, mix="vanilla", seed=1,
    )  # fmt: skip
    shares = []
    for k in range(50):
        made = sequences.make(0, k, k)
        np.testing.assert_allclose(made.targets, made.wave, atol=1e-6)
        shares.append(made.targets[k])
    assert np.mean(shares) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("mix", ["none", "vanilla", "join"])
def test_every_track_has_a_level_of_its_own(mix):
    """Else arms that differ in the mix would differ in the loudness of their sources, too."""
    rows = 40
    sequences = Sequences(
        np.eye(rows, dtype=np.float32), np.eye(rows), STILL.plain(cut=False, level_db=2.0, out_level_db=0.0), sr=SR,
        samples=rows, mix=mix, seed=1,
    )  # fmt: skip
    levels_db = []
    for place in range(400):
        made = sequences.make(0, place, place % rows)
        heard = made.targets > 0
        levels_db += [20 * np.log10(made.wave[heard] / made.targets[heard])]
    levels_db = np.concatenate(levels_db)
    assert np.median(levels_db) == pytest.approx(0, abs=0.4)
    assert np.std(levels_db) == pytest.approx(2, abs=0.5)


def test_without_any_change_a_sequence_is_the_recording():
    waves = np.random.default_rng(0).normal(size=(4, 1000)).astype(np.float32)
    sequences = Sequences(
        waves, np.eye(4), Recipe.plain(cut=False, level_db=0, out_level_db=0), sr=SR, samples=1000, mix="none"
    )
    for row in range(4):
        made = sequences.make(7, 1, row)
        np.testing.assert_array_equal(made.wave, waves[row])
        np.testing.assert_array_equal(made.targets, np.eye(4)[row])


def test_sequences_do_not_depend_on_workers_or_batches():
    rng = np.random.default_rng(0)
    waves, targets = rng.normal(0, 0.1, (10, SR)).astype(np.float32), np.eye(10, dtype=np.float32)
    order = rng.permutation(10)
    recipe = Recipe(min_cut_s=0.5, stretch=1.0, codec=1.0, reverb=1.0)

    def every(workers, size, epochs=(0, 1)):
        sequences = Sequences(waves, targets, recipe, sr=SR, samples=SR, seed=2, workers=workers)
        found = []
        for epoch in epochs:
            blocks = [np.arange(a, min(a + size, 10)) for a in range(0, 10, size)]
            batches = list(sequences.batches(epoch, order, blocks))
            found.append([torch.cat([batch[part] for batch in batches]) for part in (0, 1)])
        return found

    before = torch.random.get_rng_state()
    alone = every(0, 3)
    assert torch.equal(before, torch.random.get_rng_state())
    for other in (every(2, 3), every(1, 4)):
        for ours, theirs in zip(alone, other, strict=True):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])
    assert not torch.equal(alone[0][0], alone[1][0])  # another epoch
    assert torch.equal(every(0, 3, epochs=(1,))[0][0], alone[1][0])  # epochs need not come in order


def test_sequences_can_be_sent_to_another_process():
    sequences = Sequences(counting(), np.zeros((8, 2)), STILL, sr=SR, samples=SR)
    list(sequences.batches(0, np.arange(8), [np.arange(8)]))  # has a loader now
    again = pickle.loads(pickle.dumps(sequences))
    np.testing.assert_array_equal(again.make(0, 3, 1).wave, sequences.make(0, 3, 1).wave)


def test_training_takes_sequences_and_any_number_of_workers(tmp_path):
    rng = np.random.default_rng(0)
    waves = rng.normal(0, 0.1, (24, SR)).astype(np.float32)
    labels = [Labels.from_cells([f"{part}{k}" for k in range(12)], ["a", "b"], range(12), [k % 2 for k in range(12)],
                                [1.0] * 12, default=0.0) for part in "tv"]  # fmt: skip
    runs = []
    for workers in (0, 1):
        config = TrainConfig(
            model_options={"mels": 16, "n_fft": 512, "hop": 400, "width": 0.25}, clip_s=1.0, epochs=2, batch_size=4,
            mix="join", sequences={"min_cut_s": 0.5, "codec": 0.0}, workers=workers,
        )  # fmt: skip
        out = tmp_path / str(workers)
        runs.append(train(config, waves[:12], labels[0], waves[12:], labels[1], out, progress=False))
    assert runs[0].history.equals(runs[1].history)
    again = train(config, waves[:12], labels[0], waves[12:], labels[1], tmp_path / "0", progress=False)
    assert again.history.equals(runs[0].history)  # workers are no part of what a run is


def test_bad_input_is_named():
    waves, targets = np.zeros((3, 100), np.float32), np.zeros((3, 2))
    with pytest.raises(AudiotkError, match=r"expected a mix of .* got 'mixup'"):
        Sequences(waves, targets, STILL, sr=SR, samples=100, mix="mixup")
    with pytest.raises(AudiotkError, match="as many targets as sources"):
        Sequences(waves, targets[:2], STILL, sr=SR, samples=100)
    with pytest.raises(AudiotkError, match="lengths_s for each of 3 waves, got 2"):
        Sources(waves, [1.0, 1.0])
    with pytest.raises(AudiotkError, match=r"stretch in 0\.\.1, a probability"):
        Recipe(stretch=2.0)
    with pytest.raises(AudiotkError, match="weak to be one of"):
        Recipe(weak="maybe")
    with pytest.raises(AudiotkError, match=r"unknown options \['pitch'\]"):
        Recipe.of({"pitch": 1.0})
