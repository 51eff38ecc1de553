from __future__ import annotations

import json
import platform
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotk.errors import AudiotkError
from audiotk.files import package_commit
from audiotk.results import BY_HAND, ORIGIN_COLUMNS, RESULT_COLUMNS, append_results, parameters_told, read_results

ROW = {
    "experiment": "quickstart", "arm": "melcnn", "seed": 0, "data": "embedded", "scale": "smoke", "split": "test",
    "metric": "mAP", "class_name": None, "value": 0.5, "low": 0.4, "high": 0.6, "n": 12,
}  # fmt: skip


def test_columns_are_those_of_the_contract() -> None:
    assert " ".join(RESULT_COLUMNS) == "experiment arm seed data scale split metric class_name value low high n"


def test_rows_of_several_calls_come_back_in_order(tmp_path: Path) -> None:
    append_results(tmp_path / "new", [ROW, ROW | {"class_name": "bark", "value": 1}])
    append_results(tmp_path / "new", pd.DataFrame([ROW | {"seed": np.int64(3), "low": np.nan, "high": pd.NA}]))
    table = read_results(tmp_path / "new")
    assert list(table.columns) == [*RESULT_COLUMNS, *ORIGIN_COLUMNS]
    assert table["class_name"].isna().tolist() == [True, False, True]
    assert table["value"].tolist() == [0.5, 1.0, 0.5]
    assert table["seed"].tolist() == [0, 0, 3]
    assert table["low"].isna().tolist() == table["high"].isna().tolist() == [False, False, True]


def test_mean_is_stored_with_class_name_null(tmp_path: Path) -> None:
    append_results(tmp_path, [ROW | {"low": float("nan")}])
    stored = json.loads((tmp_path / "results.jsonl").read_text())
    assert stored["class_name"] is None
    assert stored["low"] is None
    assert list(stored) == [*RESULT_COLUMNS, *ORIGIN_COLUMNS]


def test_every_row_says_where_it_comes_from(tmp_path: Path) -> None:
    append_results(tmp_path / "00_by_hand", [ROW, ROW])
    for row in read_results(tmp_path / "00_by_hand").to_dict("records"):
        assert (row["notebook"], row["seed_list"], row["settings"]) == ("00_by_hand", "", BY_HAND)
        assert row["commit"] == (package_commit() or "")
        assert f"python {platform.python_version()}, " in row["versions"]
        assert f"numpy {np.__version__}" in row["versions"]
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["date"])


def test_settings_are_what_differs_and_no_column_says_otherwise() -> None:
    defaults = {"data": "embedded", "scale": "demo", "seeds": [0], "teacher": "examples", "weights": "", "out": "x"}
    assert parameters_told(defaults, defaults) == {"seed_list": "0", "settings": ""}
    given = defaults | {"data": "esc50", "scale": "paper", "seeds": [0, 12], "teacher": "yamnet", "out": "y"}
    assert parameters_told(given, defaults) == {"seed_list": "0,12", "settings": "teacher=yamnet"}
    given = defaults | {"teacher": "mine:Teacher", "weights": "some/where/y.tflite"}  # the same file at any place
    assert parameters_told(given, defaults)["settings"] == "teacher=mine:Teacher, weights=y.tflite"


def test_rows_from_before_there_were_origins_can_still_be_read(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(json.dumps(ROW) + "\n")
    assert read_results(tmp_path).loc[0, list(ORIGIN_COLUMNS)].tolist() == [""] * len(ORIGIN_COLUMNS)


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
rows = st.fixed_dictionaries(
    {name: st.text() for name in ("experiment", "arm", "data", "scale", "split", "metric")}
    | {name: st.none() | st.integers(-(2**40), 2**40) for name in ("seed", "n")}
    | dict.fromkeys(("value", "low", "high"), numbers)
    | {"class_name": st.none() | st.text()}
)


@given(st.lists(rows, max_size=4))
def test_round_trip_of_any_row(tmp_path_factory: pytest.TempPathFactory, given_rows: list[dict[str, object]]) -> None:
    out = tmp_path_factory.mktemp("results")
    append_results(out, given_rows)
    table = read_results(out)[list(RESULT_COLUMNS)].astype(object)
    back = table.where(table.notna(), None).to_dict("records")
    assert back == [{name: row[name] for name in RESULT_COLUMNS} for row in given_rows]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"valu": 1.0}, "valu"),
        ({"metric": None}, "metric"),
        ({"value": "0.5"}, "'value' should be a number"),
        ({"value": True}, "'value' should be a number"),
        ({"value": float("inf")}, "infinite"),
        ({"seed": 1.5}, "'seed' should be a whole number"),
        ({"arm": 3}, "'arm' should be text"),
        ({"commit": None}, "'commit' should be text"),
    ],
)
def test_a_wrong_row_is_refused_and_nothing_is_written(tmp_path: Path, change: dict[str, object], told: str) -> None:
    with pytest.raises(AudiotkError, match=told) as caught:
        append_results(tmp_path, [ROW, ROW | change])
    assert "row 1" in str(caught.value)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudiotkError, match=r"missing columns \['n'\]"):
        append_results(tmp_path, [{name: value for name, value in ROW.items() if name != "n"}])


@pytest.mark.parametrize("line", ['{"experiment": "q"}', "[1, 2]", '{"experiment": "quick', ""])
def test_reading_names_the_bad_line(tmp_path: Path, line: str) -> None:
    append_results(tmp_path, [ROW, ROW])
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(AudiotkError, match="line 3"):
        read_results(tmp_path)


def test_no_results_is_an_empty_table_and_no_folder_is_an_error(tmp_path: Path) -> None:
    assert read_results(tmp_path).empty
    with pytest.raises(AudiotkError, match="no such run folder"):
        read_results(tmp_path / "absent")
