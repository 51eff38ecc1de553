from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import audiotk
from audiotk.__main__ import main

Maker = Callable[..., Path]
COMMANDS = ("run", "report", "relabel", "store", "doctor")


def test_help_names_every_command_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command} " in told
    assert "examples:" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "exit status" in told or "example" in told
    assert max(map(len, told.splitlines())) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"audiotk {audiotk.__version__}\n"


def test_asking_for_help_loads_nothing_heavy() -> None:
    heavy = {"numpy", "pandas", "torch", "IPython", "papermill", "jupyter_client", "matplotlib", "nbformat"}
    script = f"import sys, audiotk.__main__; print(sorted({heavy!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-p", "scael", "demo"], "did you mean 'scale'"),
        (["-p", "scale", "demo", "--scale", "smoke"], "given twice"),
        (["-p", "rate", "1", "-p", "rate", "2"], "given twice"),
        (["--jobs", "0"], "jobs: expected 1 or more"),
    ],
)
def test_a_wrong_call_is_one_clean_line_and_status_2(
    tmp_path: Path, make_notebook: Maker, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    notebook = make_notebook(tmp_path / "a.ipynb", ["1"])
    assert main(["run", str(notebook), "--out", str(tmp_path / "run"), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("audiotk: ")
    assert captured.err.count("\n") == 1
    assert told in captured.err
    assert not (tmp_path / "run").exists()


def test_failing_notebook_gives_status_1_and_a_report(
    tmp_path: Path, make_notebook: Maker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_notebook(tmp_path / "nb" / "bad.ipynb", ["raise RuntimeError('the reason')"])
    make_notebook(tmp_path / "nb" / "good.ipynb", ["print(scale)"])
    assert main(["run", "nb", "--scale", "smoke"]) == 1
    told = capsys.readouterr().err
    assert "bad failed: RuntimeError: the reason" in told
    report = tmp_path / "runs" / "nb" / "report.html"  # the default run folder
    assert f"report: {report.relative_to(tmp_path)}" in told
    page = report.read_text()
    assert "the reason" in page
    assert "<span>scale</span> smoke" in page

    report.unlink()
    assert main(["report", "runs/nb"]) == 0
    assert report.read_text() == page


def test_a_notebook_that_does_not_apply_to_the_data_is_no_failure(
    tmp_path: Path, make_notebook: Maker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lacks = "from audiotk.errors import NotForThisData\nraise NotForThisData('it has no <ranges>')"
    make_notebook(tmp_path / "nb" / "other.ipynb", [lacks])
    make_notebook(tmp_path / "nb" / "good.ipynb", ["print(scale)"])
    assert main(["run", "nb", "--scale", "smoke"]) == 0
    assert "other not applicable: NotForThisData: it has no <ranges>" in capsys.readouterr().err
    page = (tmp_path / "runs" / "nb" / "report.html").read_text()
    assert "does not apply: it has no &lt;ranges&gt;" in page
    assert "<h2>Failures</h2>" not in page


def test_report_of_nothing_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "absent")]) == 2
    assert "no notebook was run" in capsys.readouterr().err


def test_doctor_fails_when_something_essential_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from audiotk import doctor

    monkeypatch.setattr(doctor, "examine", lambda out: [doctor.Finding("disk", "FAIL", str(out), "move")])
    assert main(["doctor", "--json", "--out", "here"]) == 1
    assert json.loads(capsys.readouterr().out) == [{"name": "disk", "mark": "FAIL", "text": "here", "todo": "move"}]
    monkeypatch.setattr(doctor, "examine", lambda out: [doctor.Finding("CLAP", "warn", "none", "get some")])
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "warn  CLAP  none -> get some\n"
