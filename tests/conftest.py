"""What all tests share: one thread, no network, no traces outside temporary folders, repeatable property tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

import pytest
from hypothesis import settings

settings.register_profile("audiotk", deadline=None, derandomize=True)
settings.load_profile("audiotk")

PARAMETERS = "data = 'embedded'\ndata_root = None\nscale = 'smoke'\nseeds = [0]\nrate = 0.1\nout = '.'"


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what the tests make out of the user's cache."""
    os.environ["AUDIOTK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def make_notebook() -> Callable[..., Path]:
    """Writes a notebook: ``make(path, cells)``; a cell that begins with ``#md `` is Markdown."""

    def make(path: Path, cells: Sequence[str], needs: Sequence[str] = (), parameters: str | None = PARAMETERS) -> Path:
        from nbformat import v4, write

        notebook = v4.new_notebook()
        if needs:
            notebook.metadata["audiotk"] = {"needs": list(needs)}
        if parameters is not None:
            notebook.cells.append(v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        for source in cells:
            is_text = source.startswith("#md ")
            notebook.cells.append(v4.new_markdown_cell(source[4:]) if is_text else v4.new_code_cell(source))
        path.parent.mkdir(parents=True, exist_ok=True)
        write(notebook, path)
        return path

    return make
