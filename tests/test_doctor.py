from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from audiotk import doctor
from audiotk.teachers.weights import MICROSOFT, find_weights

VERSIONS = {"torch": "2.11.0+cpu", "torchaudio": "2.11.0", "torchvision": "0.26.0"}


def test_ten_lines_and_every_complaint_says_what_to_do(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path / "runs")
    assert len(findings) == 10
    assert len({finding.name for finding in findings}) == 10
    assert [finding for finding in findings if finding.mark != "ok" and not finding.todo] == []
    lines = doctor.tell(findings).splitlines()
    assert len(lines) == 10
    assert [line.split()[0] for line in lines] == [finding.mark for finding in findings]
    assert [entry["mark"] for entry in json.loads(doctor.tell(findings, as_json=True))] == [f.mark for f in findings]
    assert not (tmp_path / "runs").exists()  # it looks, and changes nothing


@pytest.mark.parametrize(
    ("package", "version", "mark"),
    [
        ("torch", "2.11.0", "ok"),
        ("torchaudio", "2.10.0", "FAIL"),
        ("torchvision", "0.25.1", "FAIL"),
        ("torchaudio", None, "FAIL"),
    ],
)
def test_torch_family_must_match(monkeypatch: pytest.MonkeyPatch, package: str, version: str | None, mark: str) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: (VERSIONS | {package: version}).get(name))
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace())
    assert doctor._torch().mark == mark


def test_an_import_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "_version", VERSIONS.get)
    monkeypatch.setattr(importlib, "import_module", broken)
    finding = doctor._torch()
    assert finding.mark == "FAIL"
    assert "libcudart" in finding.text


def test_a_library_without_mp3_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(
        available_formats=lambda: {"WAV": "", "FLAC": "", "OGG": "", "AIFF": ""}, __libsndfile_version__="1.0"
    )
    monkeypatch.setattr(importlib, "import_module", lambda name: old)
    finding = doctor._audio()
    assert (finding.mark, "no MP3" in finding.text) == ("warn", True)


def test_folders_that_take_no_files_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert doctor._disk(tmp_path / "file" / "runs").mark == "FAIL"
    assert doctor._disk(tmp_path / "a" / "b").mark == "ok"
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path / "file"))
    finding = doctor._disk(tmp_path)
    assert (finding.mark, "AUDIOTK_CACHE" in finding.todo) == ("FAIL", True)


def test_clap_weights_are_found_where_the_advice_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor, "_version", lambda name: "1")
    before = doctor._clap()
    assert before.mark == "warn"
    assert "630k-audioset-best.pt (huggingface.co/lukewys/laion_clap)" in before.todo
    assert "CLAP_weights_2023.pth (huggingface.co/microsoft/msclap)" in before.todo
    assert before.text.endswith("weights: none; tokenizers: none")
    folder = Path(before.todo.split(" go to ")[1])
    (folder / "gpt2").mkdir(parents=True)
    (folder / "CLAP_weights_2023.pth").touch()
    (folder / "gpt2" / "tokenizer.json").touch()
    after = doctor._clap()
    assert after.mark == "ok"
    assert after.text.endswith("weights: CLAP_weights_2023.pth 0 MB; tokenizers: gpt2")
    assert find_weights(None, MICROSOFT)[0] == folder / "CLAP_weights_2023.pth"  # where the teacher looks
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert doctor._clap().todo == doctor.SETUP


def test_without_a_browser_the_advice_is_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert doctor.find_chromium() is None
    assert "chromium" in doctor._browser().todo
