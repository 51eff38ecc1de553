"""The files around the package agree with each other."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import audiotk

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = ("help", "setup", "demo", "run", "lab", "test", "lint", "clean")
WRITTEN = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".ipynb", ".js", ".css", ".json", ".cfg", "", ".sh"}


def requirements() -> list[str]:
    """Every requirement of the core and all extras, but for ``all``, which only names the others."""
    return sorted(PROJECT["dependencies"] + [line for name, lines in EXTRAS.items() if name != "all" for line in lines])


def files_of_the_project() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_extra_all_names_the_others() -> None:
    others = ",".join(name for name in EXTRAS if name != "all")
    assert EXTRAS["all"] == [f"audiotk[{others}]"]
    assert others == "notebooks,train,scale,test"


def test_conda_environment_is_equal_to_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert sorted(line for line in pip if not line.startswith("--")) == requirements()
    assert [line for line in pip if line.startswith("--")] == ["--constraint constraints.txt", "--editable ."]
    python = next(str(entry) for entry in environment["dependencies"] if str(entry).startswith("python"))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.split("=")[-1])


def test_constraints_pin_every_dependency_within_its_bounds_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins: dict[str, list[Requirement]] = {}
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.+!]+( ; [\w\s.'<>!=()]+)?", line), line
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    for line in requirements():
        wanted = Requirement(line)
        found = pins[canonicalize_name(wanted.name)]
        assert all(next(iter(pin.specifier)).version in wanted.specifier for pin in found), line


def test_installed_version_and_changelog_are_of_this_version() -> None:
    assert importlib.metadata.version("audiotk") == audiotk.__version__
    assert re.search(rf"^## {re.escape(audiotk.__version__)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)


def test_both_clap_packages_are_named_alike_everywhere() -> None:
    clap = re.search(r"^CLAP := (.+)$", MAKEFILE, re.M)
    assert clap is not None
    assert f"pip install --no-deps {clap[1]}" in (ROOT / "environment.yml").read_text("utf-8")
    assert {pin.split("==")[0] for pin in clap[1].split()} == {"laion-clap", "msclap"}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_without_a_target_explains_every_target() -> None:
    told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    explained = dict(re.findall(r"^make (\w+) +(.+)$", told, re.M))
    assert set(TARGETS) <= set(explained)
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.M)
    assert phony is not None
    assert sorted(phony[1].split()) == sorted(explained)


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in {"help", "setup", "clean"}])
def test_every_target_brings_its_own_set_up(target: str) -> None:
    assert re.search(rf"^{target}: \$\(STAMP\)", MAKEFILE, re.M)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_demo_passes_real_data_on() -> None:
    command = [
        "make",
        "-n",
        "--no-print-directory",
        "demo",
        "DATA=folder",
        "DATA_ROOT=my recordings",
        "OUT=runs/mine",
        "SCALE=smoke",
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    last = told.strip().splitlines()[-1]
    assert last.endswith("run notebooks --out runs/mine --scale smoke -p data folder -p data_root 'my recordings'")


def test_an_old_python_is_refused_with_a_word_of_advice(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\ntest "$1" = -V && echo Python 3.9.1\ntest "$1" = -V\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    told = subprocess.run(["make", "setup", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode != 0
    assert "needs Python 3.11 or newer" in told.stderr
    assert "Python 3.9.1" in told.stderr
    assert not (tmp_path / ".venv").exists()


def test_readme_shows_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "make demo" in readme
    assert re.search(r"(make demo DATA=|audiotk run .*-p data )", readme)


def test_continuous_integration_runs_the_same_targets() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "make lint" in script
    assert "make test" in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_no_file_names_a_machine() -> None:
    """Paths of one machine, and addresses with a login in them, stay out of the project."""
    private = re.compile(
        "|".join(("/" + "work/", "/" + "root/", r"/home/\w+/", r"/Users/\w+/", r"://[^/\s]+:[^/\s]+@"))
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files_of_the_project()
        if path.suffix in WRITTEN and path != Path(__file__)
        for match in private.finditer(path.read_text("utf-8", "replace"))
    ]
    assert found == []


def test_no_data_and_nothing_large_is_kept() -> None:
    listed = files_of_the_project()
    assert [path.name for path in listed if path.suffix in {".wav", ".ogg", ".flac", ".mp3", ".pt", ".pth"}] == []
    assert [path.name for path in listed if path.stat().st_size > 1_000_000] == []
