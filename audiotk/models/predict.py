"""What a trained model says: logits and scores of waveforms, in batches, the next batch read while one is computed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import nn

from audiotk.models.checkpoints import Checkpoint
from audiotk.tables import AudiotkError


class Waves(Protocol):
    """Whatever gives waveforms by row: an array (n, samples), a memory map, `shards.StoredWaves`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: np.ndarray) -> np.ndarray: ...


def score(checkpoint: Checkpoint, waves: Waves, segments: Any, batch_size: int = 32) -> pd.DataFrame:
    """Scores (probabilities) of a trained model.

    Parameters
    ----------
    checkpoint
        The model and its classes.
    waves
        (n, samples) at the model's sample rate.
    segments
        n segment ids: the index of the result.

    Returns
    -------
    pandas.DataFrame
        Shape (n, n_classes), float64 sigmoids of the logits.

    Raises
    ------
    AudiotkError
        The numbers of waveforms and segments differ.
    """
    if len(waves) != len(segments):
        raise AudiotkError(f"score: {len(waves)} waveforms and {len(segments)} segments differ in number")
    logits = predict_logits(checkpoint.model, waves, batch_size).astype(np.float64)  # (n, C)
    index = pd.Index(segments, dtype="str", name="segment")
    return pd.DataFrame(1 / (1 + np.exp(-logits)), index=index, columns=pd.Index(checkpoint.classes, dtype="str"))


@torch.inference_mode()
def predict_logits(model: nn.Module, waves: Waves, batch_size: int = 32, rows: np.ndarray | None = None) -> np.ndarray:
    """Logits of a model in evaluation mode for all or some rows: float32 (n_rows, n_classes)."""
    rows = np.arange(len(waves)) if rows is None else rows
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    blocks = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    batches = (torch.as_tensor(np.asarray(wave), device=device) for wave in prefetch(waves, blocks))
    logits = [model(wave).float().cpu() for wave in batches]
    model.train(training)
    return torch.cat(logits).numpy()


def prefetch(waves: Waves, blocks: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Waveforms of each block of rows, the next one being read while the current one is used."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(waves.__getitem__, blocks[0])
        for block in blocks[1:]:
            array, ahead = ahead.result(), pool.submit(waves.__getitem__, block)
            yield array
        yield ahead.result()
