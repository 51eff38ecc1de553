"""A teacher of one's own: the example in the description of audiotk.teachers runs as it stands there."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import audiotk.teachers
from audiotk.errors import AudiotkError
from audiotk.teachers import Prompts, load


def example() -> str:
    """The code block of the description."""
    assert audiotk.teachers.__doc__ is not None
    return textwrap.dedent(audiotk.teachers.__doc__.partition(".. code-block:: python\n")[2])


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``mine.py`` from the description, importable, and weights for it."""
    rng = np.random.default_rng(0)
    (tmp_path / "mine.py").write_text(example(), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    arrays = {"filters": rng.normal(size=(16000, 128)), "vectors": np.abs(rng.normal(size=(2, 128)))}
    np.savez(tmp_path / "mine.npz", words=np.array(["dog barking", "rain"]), **arrays)
    return tmp_path / "mine.npz"


def test_the_example_of_the_description_is_a_teacher(weights: Path) -> None:
    teacher = load("mine:Mine", weights=str(weights))
    waves = np.random.default_rng(1).normal(0, 0.1, (3, 16000)).astype(np.float32)
    scores = teacher.scores(waves, Prompts({"dog": ("dog barking",), "rain": ("rain",)}))
    assert scores.shape == (3, 2)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert teacher.fingerprint()["teacher"] == "mine"
    assert len(teacher.checksum) == 64
    with pytest.raises(AudiotkError, match="expected floats of shape"):
        teacher.scores(waves[:, 1:], Prompts.of(["rain"]))


def test_the_example_is_short() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= 20


def test_a_missing_option_is_told(weights: Path) -> None:
    with pytest.raises(AudiotkError, match="missing a required argument"):
        load("onnx", weights=str(weights))
    with pytest.raises(AudiotkError, match="unknown option colour"):
        load("mine:Mine", colour="red")


def test_the_interface_loads_no_torch() -> None:
    modules = ["teachers", "teachers.base", "teachers.examples", "teachers.yamnet", "teachers.onnx"]
    heavy = {"torch", "transformers", "onnxruntime", "ai_edge_litert"}
    imports = "; ".join(f"import audiotk.{name}" for name in modules)
    script = f"import sys; {imports}; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
