"""The rules of the layout, read from the source: imports point down, modules stay small, notebooks stay thin."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from audiotk.runs import notebook_parameters

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "audiotk"
# Top-level modules and folders by layer, lowest first. A new one is added here, on purpose.
LAYERS = (
    {"errors", "files", "fingerprints", "tristate", "tables"},
    {"audio", "decode", "ontology", "shards"},
    {
        "agreement", "backgrounds", "claims", "datasets", "energy", "events", "formats", "labels", "metrics",
        "mining", "noise", "oscillators", "relabel", "resample", "results", "scores", "silence", "soundscapes",
        "stats", "store", "synthesis", "validator",
    },
    {"augment", "embed", "experiments", "features", "losses", "models", "scoring", "search", "teachers", "train"},
    {
        "agreement_figures", "claim_figures", "coverage_figures", "doctor", "figures", "ghost_figures", "kernels",
        "label_figures", "notebook_arguments", "paper_figures", "render", "report", "runs", "transfer_figures", "trees",
        "widgets",
    },
    {"__main__", "claims_command", "plan_command", "relabel_command", "score_command", "store_command"},
)  # fmt: skip
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}
TORCH = {"torch", "torchaudio", "torchvision", "lightning_fabric", "transformers", "torchlibrosa"}
# Import name -> distribution, and import name -> the declared distribution that always brings it.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml", "jscatter": "jupyter-scatter", "umap": "umap-learn"}
BROUGHT_BY = {
    "IPython": "ipykernel", "dask": "distributed", "filelock": "torch", "joblib": "scikit-learn",
    "packaging": "distributed", "PIL": "matplotlib", "safetensors": "transformers", "traitlets": "ipywidgets",
}  # fmt: skip

MODULES = sorted(PACKAGE.rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def part_of(path: Path) -> str:
    """The name in LAYERS that a file of the package belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: line {node.lineno} imports relatively; say from audiotk.x import y"
            assert node.module is not None
            is_folder = (PACKAGE.parent / node.module.replace(".", "/")).is_dir()
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if is_folder else {node.module}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = part_of(path)
    if own == "__init__":
        assert imported(path) == set(), "the package root imports nothing"
        return
    assert own in LAYER_OF, f"add {own!r} to LAYERS, in the layer where it belongs"
    for name in imported(path):
        if name.split(".")[0] == "audiotk":
            if own == "__main__" and name == "audiotk.__version__":
                continue
            target = name.split(".")[1] if "." in name else ""
            assert target in LAYER_OF, f"{own} imports {name}: import a sibling, never the package root"
            assert LAYER_OF[target] <= LAYER_OF[own], (
                f"{own} (layer {LAYER_OF[own]}) imports {name}, which lies above it"
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torch_lives_in_one_layer(path: Path) -> None:
    if LAYER_OF.get(part_of(path)) != 3:
        assert {name.split(".")[0] for name in imported(path)} & TORCH == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 400


def test_the_lower_layers_need_only_the_core_and_all_else_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    bare = {"core": project["dependencies"], **project["optional-dependencies"]}
    declared = {key: {re.split(r"[<>=\[; ]", line)[0].lower() for line in lines} for key, lines in bare.items()}
    everything = set().union(*declared.values())
    undeclared = []
    for path in MODULES:
        allowed = declared["core"] if LAYER_OF.get(part_of(path), 9) <= 2 else everything
        for name in sorted({name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"audiotk"}):
            distribution = (DISTRIBUTIONS | BROUGHT_BY).get(name, name.lower().replace("_", "-"))
            if distribution not in allowed and (part_of(path), name) not in {("events", "sed_scores_eval")}:
                undeclared.append(f"{path.relative_to(ROOT)}: {name}")
    assert undeclared == []


def test_importing_the_package_loads_nothing() -> None:
    script = "import sys; before = set(sys.modules); import audiotk; print(sorted(set(sys.modules) - before))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "['audiotk']\n"


def test_every_module_has_a_docstring() -> None:
    silent = [path.name for path in MODULES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


# --- notebooks --------------------------------------------------------------------------------------------------------


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_carry_no_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell.get("attachments")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_thin(path: Path) -> None:
    cells = code_cells(path)
    assert len(cells) <= 16
    for source in cells:
        assert len(source.splitlines()) <= 15, source
        python = "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
        heavy = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While)
        assert not [node for node in ast.walk(ast.parse(python)) if isinstance(node, heavy)], source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_begin_with_their_parameters(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    tagged = [index for index, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", ())]
    assert tagged in ([0], [1])  # imports may come before
    assert {"data", "data_root", "scale", "seeds", "out"} <= set(notebook_parameters(path))
