"""What every teacher is: it hears windows of sound of one length, and says what is in them. numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np

from audiotk.errors import AudiotkError
from audiotk.teachers.prompts import Prompts

__all__ = ["Teacher", "checked_waves", "unit"]


class Teacher:
    """A model that is asked what it hears. A new one is a subclass with two methods; see `audiotk.teachers`.

    There are two kinds. One gives **embeddings** (`dim` > 0) and compares them with one vector a class, made of the
    prompts: it writes :meth:`embed_audio` and :meth:`embed_text`. The other gives **scores** of `classes` of its own
    (`dim` 0), which prompts may pool into yours: it writes :meth:`embed_audio` not at all, but :meth:`own_scores`.

    What a teacher says of a window must depend on that window alone: not on chance, on the other windows of the
    batch, or on what came before.

    Attributes
    ----------
    name : str
        What `teachers.load` calls it.
    sr : int
        Sampling rate of the sound it hears, in Hz.
    window_s : float
        Length of what it hears at once, in seconds; longer sound is heard in several windows.
    dim : int
        Values of an embedding; 0 if it gives scores only.
    classes : tuple of str
        Its own classes, if it gives scores or has examples of them; else empty.
    logit_scale : float
        What cosines are multiplied by before a softmax (a CLAP checkpoint has learnt it); 1 where there is none.
    says : str
        What its numbers are, in a word: ``cosine``, or how scores were normalised (``sigmoid``, ``softmax``).
    aggregate : str
        How its windows become a segment unless told otherwise: "embedding" (their mean embedding is read), "mean" or
        "max" (of their scores); "" for the first, or the second where it gives scores only.
    checksum : str
        SHA-256 of the weights (in hex), or of whatever else makes two teachers of one name differ.
    """

    name: str = ""
    sr: int = 16000
    window_s: float = 10.0
    dim: int = 0
    classes: tuple[str, ...] = ()
    logit_scale: float = 1.0
    says: str = "cosine"
    aggregate: str = ""
    checksum: str = ""
    recipe: tuple[str, dict[str, Any]] | None = None  # name and options of `teachers.load`, if it came from there

    @property
    def samples(self) -> int:
        """Samples in a window."""
        return round(self.window_s * self.sr)

    def fingerprint(self) -> dict[str, Any]:
        """What the numbers depend on, as JSON can hold it: stored with them, and part of the key of the cache."""
        return {"teacher": self.name, "checksum": self.checksum, "sr": self.sr, "window_s": self.window_s}

    def about(self) -> dict[str, Any]:
        """Who it is, for whoever reads its scores: with what scores depend on besides the :meth:`fingerprint`."""
        return {"name": self.name, "checksum": self.checksum}

    def fill(self, wave: np.ndarray) -> np.ndarray:
        """Sound shorter than a window, [shape=(n,)], as one of `samples`: zeros are added behind unless overridden."""
        return np.pad(wave, (0, self.samples - len(wave)))

    def embed_audio(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples), float32] -> embeddings of unit norm [shape=(n, dim), float32]."""
        raise AudiotkError(f"{self.name}: gives scores of its own classes and no embeddings")

    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Texts -> embeddings of unit norm [shape=(len(texts), dim), float32]."""
        raise AudiotkError(f"{self.name}: does not read text; it needs examples, or classes of its own")

    def own_scores(self, waves: np.ndarray) -> np.ndarray:
        """Windows [shape=(n, samples), float32] -> scores of its own classes [shape=(n, len(classes)), float32]."""
        raise AudiotkError(f"{self.name}: has no classes of its own; it needs prompts")

    # --- what follows from these --------------------------------------------------------------------------------------

    def hear(self, waves: np.ndarray) -> np.ndarray:
        """What is worth keeping of windows: embeddings, or scores of its own classes; float32 [shape=(n, width)]."""
        return self.embed_audio(waves) if self.dim else self.own_scores(waves)

    @property
    def adds_up(self) -> str:
        """`aggregate`, or what stands for ""."""
        return self.aggregate or ("embedding" if self.dim else "mean")

    @property
    def width(self) -> int:
        """Numbers that :meth:`hear` gives for a window."""
        return self.dim or len(self.classes)

    def class_vectors(self, prompts: Prompts | None) -> np.ndarray:
        """One vector a class and background prompt [shape=(C + B, dim)], unit norm: the mean of its texts' vectors."""
        if prompts is None:
            raise AudiotkError(f"{self.name}: has no classes of its own; give prompts")
        texts = prompts.texts()
        vectors = unit(self.embed_text([text for _, text in texts]))  # (n_texts, dim)
        places = np.array([place for place, _ in texts])
        means = np.zeros((len(prompts.classes) + len(prompts.background), vectors.shape[1]))
        np.add.at(means, places, vectors / np.bincount(places)[places, None])
        return unit(means)  # (C + B, dim)

    def similarities(self, heard: np.ndarray, prompts: Prompts | None) -> np.ndarray:
        """From what :meth:`hear` gave to one number a class: cosines, or the highest score of the classes pooled.

        Parameters
        ----------
        heard
            Embeddings or own scores [shape=(n, width)].
        prompts
            Classes and what they mean to this teacher; None: its own classes as they are.

        Returns
        -------
        numpy.ndarray [shape=(n, C + B), float64]
            C classes, then B background prompts.
        """
        if self.dim:
            return unit(np.asarray(heard, np.float64)) @ self.class_vectors(prompts).astype(np.float64).T
        scores = np.asarray(heard, np.float64)
        if prompts is None:
            return scores
        place = {name: column for column, name in enumerate(self.classes)}
        groups = [*prompts.classes.values(), *((text,) for text in prompts.background)]
        if unknown := [name for group in groups for name in group if name not in place]:
            raise AudiotkError(
                f"{self.name}: has no class {unknown[0]!r} ({len(unknown)} such); for a teacher that gives scores, "
                f"prompts name some of its {len(place)} classes, as {', '.join(map(repr, self.classes[:3]))}"
            )
        return np.stack([scores[:, [place[name] for name in group]].max(axis=1) for group in groups], axis=1)

    def scores(self, waves: np.ndarray, prompts: Prompts | None = None) -> np.ndarray:
        """Windows [shape=(n, samples)] and prompts -> scores in [0, 1], [shape=(n, C), float64].

        A softmax over the classes of the scaled cosines (P1, section 3.4), or its own scores pooled;
        `audiotk.teachers.readings` has the other ways to read them.
        """
        from audiotk.teachers.readings import Reading

        similarities = self.similarities(self.hear(checked_waves(self, waves)), prompts)
        kind = "softmax" if self.dim else "own"
        n_classes = len(prompts.classes if prompts else self.classes)
        return Reading(kind, scale=self.logit_scale).scores(similarities, n_classes)


def checked_waves(teacher: Teacher, waves: np.ndarray) -> np.ndarray:
    """`waves` as float32 (n, samples), finite; AudiotkError if they are anything else."""
    waves = np.asarray(waves)
    if waves.ndim != 2 or waves.shape[1] != teacher.samples or waves.dtype.kind != "f":
        raise AudiotkError(
            f"{teacher.name}: expected floats of shape (n, {teacher.samples}), which is {teacher.window_s} s at "
            f"{teacher.sr} Hz, got {waves.dtype} of shape {waves.shape}; see Teacher.fill for shorter sound"
        )
    if not np.isfinite(waves).all():
        raise AudiotkError(f"{teacher.name}: got NaN or infinite samples")
    return waves.astype(np.float32, copy=False)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1; a row of zeros stays one."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
