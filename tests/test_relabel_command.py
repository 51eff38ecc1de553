"""``audiotk relabel``: golden numbers, twins, one clean line for what is wrong, and nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audiotk.__main__ import main
from audiotk.scores import write_scores
from audiotk.tables import AudiotkError, Labels, check_annotations

REAL = Path(os.environ.get("AUDIOTK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "audioset"
KEYS = {
    "segments", "labels_per_segment_before", "labels_per_segment_after", "masked_per_segment", "parent_coselected",
    "pairs",
}  # fmt: skip
# Pets is a node, but no class; Howl has two parents
TREE = {"Animal": ["Pets", "Wild"], "Pets": ["Dog, hound"], "Wild": ["Howl"], "Dog, hound": ["Bark", "Howl"]}
CLASSES = ["Animal", "Wild", "Dog, hound", "Bark", "Howl"]
ROWS = ['AAAAAAAAAAA, 0, 10, "/m/3"', 'BBBBBBBBBBB, 30, 40, "/m/4,/m/0"', "CCCCCCCCCCC, 0, 10, /m/0"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a small segments CSV, its classes, a hierarchy, labels (the same ones) and scores."""
    (tmp_path / "segments.csv").write_text("# a\n# b\n" + "\n".join(ROWS) + "\n")
    names = [*CLASSES, "Pets"]
    mids = {name: f"/m/{place}" for place, name in enumerate(names)}
    rows = [f'{place},{mids[name]},"{name}"' for place, name in enumerate(CLASSES)]
    (tmp_path / "classes.csv").write_text("index,mid,display_name\n" + "\n".join(rows) + "\n")
    nodes = [
        {"id": mids[name], "name": name, "child_ids": [mids[c] for c in TREE.get(name, [])], "restrictions": []}
        for name in names
    ]
    (tmp_path / "ontology.json").write_text(json.dumps(nodes))
    ids = ["AAAAAAAAAAA_0@0.000-10.000", "BBBBBBBBBBB_30000@0.000-10.000", "CCCCCCCCCCC_0@0.000-10.000"]
    values = pd.DataFrame([[0, 0, 0, 1, 0], [1, 0, 0, 0, 1], [1, 0, 0, 0, 0]], index=ids, columns=CLASSES)
    Labels.from_frame(values, default=0.0).to_parquet(tmp_path / "labels.parquet")
    write_scores(tmp_path / "scores.parquet", scores_of(ids))
    return tmp_path


def scores_of(ids: list[str]) -> pd.DataFrame:
    values = [[0.99, 0.1, 0.7, 0.01, 0.0], [0.3, 0.1, 0.1, 0.1, 0.9], [0.9, 0.1, 0.1, 0.1, 0.98]]
    return pd.DataFrame(values, index=pd.Index(ids, name="segment"), columns=CLASSES)


def calling(folder: Path, *more: str, scheme: str | None = "pel", source: str = "csv") -> list[str]:
    """Arguments of a call with the files of `folder`."""
    call = ["relabel", "--out", str(folder / "out.parquet")]
    if source == "csv":
        call += ["--segments", str(folder / "segments.csv"), "--classes", str(folder / "classes.csv")]
    else:
        call += ["--labels", str(folder / "labels.parquet")]
    if scheme:
        call += ["--scheme", scheme, "--ontology", str(folder / "ontology.json")]
    else:
        call += ["--scores", str(folder / "scores.parquet")]
    return call + list(more)


def ask(capsys: pytest.CaptureFixture[str], call: list[str]) -> dict:
    """Standard output of a call that works, which is nothing but JSON."""
    assert main(call) == 0
    return json.loads(capsys.readouterr().out)


# --- by a hierarchy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_pel(files: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = ask(capsys, calling(files, "--pair", "Howl>Animal", "--pair", "/m/3>/m/2", source=source))
    assert told == {
        "segments": 3,
        "labels_per_segment_before": 4 / 3,
        "labels_per_segment_after": (3 + 4 + 1) / 3,
        "masked_per_segment": 0.0,
        "parent_coselected": [0, 3],  # Bark without Dog; Howl with neither of its two parents
        "pairs": {"Howl>Animal": [1, 1], "/m/3>/m/2": [0, 1]},
    }
    after = Labels.from_parquet(files / "out.parquet")
    assert after.segments[1] == "BBBBBBBBBBB_30000@0.000-10.000"
    assert after.frame().to_numpy().tolist() == [[1, 0, 1, 1, 0], [1, 1, 1, 0, 1], [1, 0, 0, 0, 0]]


def test_pe_cml_on_all_nodes(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ask(capsys, calling(files, "--vocabulary", "632", scheme="pe-cml"))
    assert told.keys() == KEYS
    assert told["labels_per_segment_after"] == (4 + 5 + 1) / 3
    assert told["masked_per_segment"] == 5 / 3
    after = Labels.from_parquet(files / "out.parquet").frame()
    assert after.columns.tolist() == [*CLASSES, "Pets"]
    assert after.iloc[2].isna().tolist() == [False, True, True, True, True, True]
    assert after.iloc[:2].notna().all(axis=None)


@pytest.mark.parametrize(("how", "labels", "masks"), [("all", 8, 0), ("unambiguous", 6, 0), ("mask", 6, 2)])
def test_several_parents(files: Path, how: str, labels: int, masks: int, capsys: pytest.CaptureFixture[str]) -> None:
    told = ask(capsys, calling(files, "--multi-parent", how))
    assert told["labels_per_segment_after"] * 3 == pytest.approx(labels)
    assert told["masked_per_segment"] * 3 == pytest.approx(masks)


def test_a_table_for_people(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(calling(files, "--table", "--pair", "Howl>Animal")) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["labels", "per", "segment", "after", "2.667"] in lines
    assert ["Howl>Animal", "1", "of", "1", "(100.0%)"] in lines


def test_the_audit_is_an_annotations_table(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(capsys, calling(files, "--audit", str(files / "audit.parquet"), scheme="pe-cml"))
    notes = check_annotations(pd.read_parquet(files / "audit.parquet"))
    assert set(notes["source"]) == {"relabel:pe-cml"}
    frame = Labels.from_parquet(files / "labels.parquet").frame()
    for row in notes.to_dict("records"):
        assert frame.loc[row["segment"], row["class_name"]] == row["before"] == 0
        frame.loc[row["segment"], row["class_name"]] = row["value"]
    assert Labels.from_frame(frame, default=0.0) == Labels.from_parquet(files / "out.parquet")


def test_standard_output_of_a_process_is_one_json_object(files: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "audiotk", *calling(files)], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout).keys() == KEYS
    assert "audiotk: write" in told.stderr


# --- by scores --------------------------------------------------------------------------------------------------------


def test_correct(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rule", "correct", "--missing", "correct+mask", "--wrong", "correct+mask"]
    for source in ("csv", "parquet"):
        call = calling(files, *options, "--overwrite", "--audit", str(files / "a.parquet"), scheme=None, source=source)
        told = ask(capsys, call)
        changed = {
            "absent -> present": 2,
            "absent -> unknown": 1,
            "present -> absent": 1,
            "present -> unknown": 1,
        }
        assert told == {"segments": 3, "classes": 5, "changed": changed}
        after = Labels.from_parquet(files / "out.parquet").frame().to_numpy()
        nan = np.nan
        np.testing.assert_array_equal(after, [[1, 0, nan, 0, 0], [nan, 0, 0, 0, 1], [1, 0, 0, 0, 1]])
        assert set(pd.read_parquet(files / "a.parquet")["source"]) == {"relabel:correct"}


def test_a_threshold_by_class_from_a_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "t.json").write_text(json.dumps({name: 0.005 if name == "Animal" else 0.05 for name in CLASSES}))
    call = calling(files, "--rule", "correct", "--missing", "correct", "--wrong", "keep", scheme=None)
    changed = ask(capsys, [*call, "--threshold", str(files / "t.json")])["changed"]
    assert changed == {"absent -> present": 1}  # Howl of the last segment, not Animal of the first
    changed = ask(capsys, [*call, "--threshold", "0.4", "--overwrite"])["changed"]
    assert changed == {"absent -> present": 3}


def test_percentile(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = calling(files, "--rule", "percentile", "--q", "40", "--mode", "correct", scheme=None)
    negatives = np.array([1, 3, 3, 2, 2])  # a class
    assert ask(capsys, call)["changed"] == {"absent -> present": int(np.ceil(0.4 * negatives).sum())}


def test_mean_threshold(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = calling(files, "--rule", "mean-threshold", scheme=None)
    # thresholds: Animal (0.3 + 0.9) / 2, Bark 0.01, Howl 0.9; Wild and Dog have no positive
    assert ask(capsys, call)["changed"] == {"absent -> present": 1 + 2 + 1}
    related = ["--scope", "ontology", "--ontology", str(files / "ontology.json"), "--overwrite"]
    # of these: Animal is an ancestor of Bark; Bark and Howl are no direct children of a label
    assert ask(capsys, [*call, *related])["changed"] == {"absent -> present": 1}
    assert ask(capsys, [*call, "--statistic", "100", "--overwrite"])["changed"] == {"absent -> present": 4}


# --- what is wrong ----------------------------------------------------------------------------------------------------

BAD_FILES = {
    "an unknown label": ("segments.csv", ROWS[0] + '\nDDDDDDDDDDD,0,10,"/m/0,/m/77"\n', ["line 2", "'/m/77'"]),
    "a broken row": ("segments.csv", ROWS[0] + "\nDDDDDDDDDDD,0,/m/0\n", ["line 2", "'DDDDDDDDDDD,0,/m/0'"]),
    "a segment twice": ("segments.csv", "#\n" + ROWS[0] + "\n" + ROWS[0] + "\n", ["lines 2 and 3", "AAAAAAAAAAA_0"]),
    "no segments": ("segments.csv", "# only this\n", ["segments.csv", "got none"]),
    "no classes": ("classes.csv", "index,mid\n", ["classes.csv", "display_name"]),
    "a class outside": ("classes.csv", "index,mid,display_name\n0,/m/0,Zebra\n", ["/m/3"]),
    "no ontology": ("ontology.json", "[", ["ontology.json"]),
    "an unknown child": ("ontology.json", '[{"id": "a", "name": "A", "child_ids": ["b"]}]', ["'b'"]),
    "another ontology": ("ontology.json", '[{"id": "a", "name": "A", "child_ids": []}]', ["Animal"]),
}


def refused(capsys: pytest.CaptureFixture[str], folder: Path, call: list[str], *words: str) -> None:
    """The call ends with status 2 and one line that has `words`, and changes nothing in the folder."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(call) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("audiotk: read ")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named(files: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, content, words = BAD_FILES[case]
    (files / name).write_text(content)
    refused(capsys, files, calling(files), *words)


@pytest.mark.parametrize("name", ["segments.csv", "classes.csv", "ontology.json"])
def test_a_missing_file_is_named(files: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (files / name).unlink()
    refused(capsys, files, calling(files), name)


@pytest.mark.parametrize("name", ["labels.parquet", "scores.parquet"])
@pytest.mark.parametrize("broken", [None, b"PAR1 and no more"])
def test_a_missing_or_broken_parquet_file_is_named(
    files: Path, name: str, broken: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / name).write_bytes(broken) if broken else (files / name).unlink()
    refused(capsys, files, calling(files, "--rule", "correct", scheme=None, source="parquet"), name)


@pytest.mark.parametrize("bad", [np.nan, 1.0001, -0.5, np.inf])
def test_a_bad_score_is_named(files: Path, bad: float, capsys: pytest.CaptureFixture[str]) -> None:
    scores = pd.read_parquet(files / "scores.parquet").astype({"Bark": "float64"})
    scores.loc[1, "Bark"] = bad
    scores.to_parquet(files / "scores.parquet", index=False)
    call = calling(files, "--rule", "percentile", scheme=None)
    refused(capsys, files, call, "'BBBBBBBBBBB_30000@0.000-10.000'", "'Bark'", str(bad))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda scores: scores.iloc[1:], "AAAAAAAAAAA_0"),
        (lambda scores: pd.concat([scores, scores.iloc[:1].assign(segment="more")]), "more"),
        (lambda scores: scores.drop(columns="Howl"), "Howl"),
        (lambda scores: scores.assign(Meow=scores["Howl"]), "Meow"),
    ],
)
def test_scores_of_something_else(files: Path, change, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    change(pd.read_parquet(files / "scores.parquet")).to_parquet(files / "scores.parquet", index=False)
    refused(capsys, files, calling(files, "--rule", "correct", scheme=None), word)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--pair", "Howl"], ["CHILD>PARENT", "'Howl'"]),
        (["--pair", "Howl>"], ["CHILD>PARENT", "'Howl>'"]),
        (["--pair", "Howl>Animals"], ["'Animals'", "'Animal'"]),
        (["--pair", "Howl>Pets"], ["'Pets'", "not among the 5 classes"]),
        (["--rule", "correct"], ["one of --scheme and --rule"]),
        (["--labels", "x.parquet"], ["one of --segments and --labels"]),
        (["--scores", "x.parquet"], ["pel does not use --scores"]),
        (["--q", "5"], ["pel does not use --q"]),
    ],
)
def test_a_wrong_call(files: Path, more: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, files, calling(files, *more), *words)


@pytest.mark.parametrize(
    ("rule", "more", "words"),
    [
        ("correct", ["--threshold", "abc"], ["--threshold", "'abc'"]),
        ("correct", ["--threshold", "0.6"], ["threshold", "0.6"]),
        ("correct", ["--threshold", "none.json"], ["none.json"]),
        ("correct", ["--multi-parent", "all"], ["correct does not use --multi-parent"]),
        ("percentile", ["--q", "101"], ["101"]),
        ("mean-threshold", ["--statistic", "mode"], ["--statistic", "'mode'"]),
        ("mean-threshold", ["--scope", "ontology"], ["needs --ontology"]),
        ("mean-threshold", ["--ontology", "x.json"], ["only with --scope ontology"]),
    ],
)
def test_a_wrong_option_of_a_rule(
    files: Path, rule: str, more: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, files, calling(files, "--rule", rule, *more, scheme=None), *words)


def test_half_a_call(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["relabel", "--out", str(files / "out.parquet"), "--segments", str(files / "segments.csv")]
    refused(capsys, files, [*source, "--scheme", "pel"], "--segments and --classes go together")
    source += ["--classes", str(files / "classes.csv")]
    refused(capsys, files, [*source, "--scheme", "pel"], "pel needs --ontology")
    refused(capsys, files, [*source, "--rule", "correct"], "correct needs --scores")
    refused(capsys, files, source, "one of --scheme and --rule, got none")


def test_nothing_is_replaced_unless_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "out.parquet").write_bytes(b"precious")
    refused(capsys, files, calling(files), "out.parquet", "--overwrite")
    ask(capsys, calling(files, "--overwrite"))
    assert Labels.from_parquet(files / "out.parquet").shape == (3, 5)
    refused(capsys, files, calling(files, "--overwrite", "--audit", str(files / "out.parquet")), "used twice")
    call = calling(files, source="parquet", scheme="pel")
    call[call.index("--out") + 1] = str(files / "labels.parquet")
    refused(capsys, files, [*call, "--overwrite"], "labels.parquet", "used twice")


def test_a_folder_that_cannot_be_written(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = calling(files)
    call[call.index("--out") + 1] = str(files / "classes.csv" / "out.parquet")
    refused(capsys, files, call, "out.parquet: cannot be written", "classes.csv is no folder")


def without_out(call: list[str]) -> list[str]:
    at = call.index("--out")
    return call[:at] + call[at + 2 :]


def test_without_out_the_numbers_alone(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(files.iterdir())
    assert ask(capsys, without_out(calling(files))).keys() == KEYS
    assert sorted(files.iterdir()) == before
    ask(capsys, without_out(calling(files, "--audit", str(files / "audit.parquet"))))
    assert len(pd.read_parquet(files / "audit.parquet")) == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("labels.csv", ["labels.csv", "ends in .parquet"]),
        ("folder.parquet", ["folder.parquet", "no regular file"]),
        ("pipe.parquet", ["pipe.parquet", "no regular file"]),
    ],
)
@pytest.mark.parametrize("option", ["--out", "--audit"])
def test_an_output_that_cannot_be_is_refused_before_the_work(
    files: Path, name: str, words: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call = without_out(calling(files, "--overwrite"))
    call[call.index("--segments") + 1] = str(files / "absent.csv")  # it would be missed if work began
    (files / "folder.parquet").mkdir()
    os.mkfifo(files / "pipe.parquet")
    assert main([*call, option, str(files / name)]) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words)
    assert (files / "pipe.parquet").is_fifo()


def test_the_audit_does_not_stay_when_the_labels_cannot_be_written(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(labels: Labels, path: Path) -> None:
        raise AudiotkError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(Labels, "to_parquet", full)
    before = sorted(files.iterdir())
    assert main(calling(files, "--audit", str(files / "audit.parquet"))) == 2
    assert "out.parquet: cannot be written" in capsys.readouterr().err
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"Animal": 0.05, "Animal": 0.4}', ["t.json", "twice: Animal"]),
        ('["Animal"]', ["t.json", "expected a JSON object of {class: number}, got list"]),
        ('{"Animal": "0.05", "Wild": 0.05, "Dog, hound": 0.05, "Bark": 0.05, "Howl": 0.05}', ["'Animal'", "'0.05'"]),
        ('{"Animal": false, "Wild": 0.05, "Dog, hound": 0.05, "Bark": 0.05, "Howl": 0.05}', ["'Animal'", "False"]),
    ],
)
def test_a_bad_file_of_thresholds(files: Path, content: str, words: list[str], capsys) -> None:
    (files / "t.json").write_text(content)
    call = calling(files, "--rule", "correct", "--threshold", str(files / "t.json"), scheme=None)
    refused(capsys, files, call, *words)


def test_the_file_of_thresholds_is_no_output(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "out.parquet").symlink_to(files / "t.json")
    (files / "t.json").write_text(json.dumps(dict.fromkeys(CLASSES, 0.05)))
    call = calling(files, "--rule", "correct", "--threshold", str(files / "t.json"), "--overwrite", scheme=None)
    refused(capsys, files, call, "out.parquet", "used twice")


def test_a_cut_file_is_told_in_one_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "segments.csv").write_text("# num_segs=4, num_positive_labels=4\n" + "\n".join(ROWS) + "\n")
    assert main(calling(files)) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line.lower()]
    assert len(lines) == 1
    assert lines[0].startswith("audiotk: warning: ")
    assert "num_segs=4, but it has 3 rows" in lines[0]


# --- AudioSet ---------------------------------------------------------------------------------------------------------


def on_audioset(out: Path, *more: str) -> list[str]:
    if not REAL.is_dir():
        pytest.skip("AudioSet's CSV files are not here (set AUDIOTK_TEST_DATA)")
    call = ["relabel", "--segments", str(REAL / "balanced_train_segments.csv")]
    call += ["--classes", str(REAL / "class_labels_indices.csv"), "--ontology", str(REAL / "ontology.json")]
    return [*call, "--out", str(out / "out.parquet"), *more]


@pytest.mark.parametrize(
    ("scheme", "vocabulary", "labels", "masks"),
    [
        ("pel", "527", 3.592, 0),
        ("pel", "632", 5.597, 0),
        ("pe-cml", "527", 3.592, 19.91),
        ("pe-cml", "632", 5.597, 24.48),
    ],
)
def test_golden_numbers_of_audioset(
    tmp_path: Path, scheme: str, vocabulary: str, labels: float, masks: float, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ask(capsys, on_audioset(tmp_path, "--scheme", scheme, "--vocabulary", vocabulary))
    assert told["segments"] == 22_160
    assert told["labels_per_segment_before"] == 52_882 / 22_160
    assert round(told["labels_per_segment_after"], 3) == labels
    assert round(told["masked_per_segment"], 2) == masks
    assert told["parent_coselected"] == [10_689, 27_859]
    assert Labels.from_parquet(tmp_path / "out.parquet").shape == (22_160, int(vocabulary))


def test_pairs_of_audioset_as_a_plain_count_finds_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = ["Rain>Water", "Duck>Fowl", "Electric guitar>Guitar", "Baby cry, infant cry>Crying, sobbing"]
    call = on_audioset(tmp_path, "--scheme", "pel", *(word for pair in pairs for word in ("--pair", pair)))
    told = ask(capsys, call)["pairs"]
    with open(REAL / "class_labels_indices.csv", encoding="utf-8", newline="") as file:
        mids = {row["display_name"]: row["mid"] for row in csv.DictReader(file)}
    with open(REAL / "balanced_train_segments.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if not row[0].startswith("#")]
    sets = [set(row[3].split(",")) for row in rows]
    assert list(told) == pairs
    for pair in pairs:
        child, parent = (mids[name] for name in pair.split(">"))
        with_child = [labels for labels in sets if child in labels]
        assert told[pair] == [sum(parent in labels for labels in with_child), len(with_child)]
        assert len(with_child) > 20
