"""The ledger, what runs say of it, the page, and the command that fails where a run contradicts what was recorded."""

import html
import json
import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotk import claim_figures, claims, stats
from audiotk.__main__ import main
from audiotk.errors import AudiotkError
from audiotk.report import write_report
from audiotk.results import BY_HAND, ORIGIN_COLUMNS, read_lines
from audiotk.runs import read_manifest, run_notebooks
from audiotk.stats import Interval

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
R, N, U, D = claims.VERDICTS
RECORDED = [
    {
        "data": "embedded", "scale": "demo", "settings": "", "seeds": 3, "value": -0.5, "low": -0.7, "high": -0.3,
        "n": 9, "verdict": R, "date": "2026-01-02", "commit": "abc",
    }
]  # fmt: skip


def found(name="B1.1", value=-0.5, half=0.2, data="embedded", scale="demo", seeds=3, settings=""):
    effect = Interval(value, value - half, value + half, 0.95, 30)
    return stats.claim_row(name, effect, data, scale, seeds) | {"settings": settings}


@pytest.fixture
def recorded(monkeypatch):
    """The ledger with B1.1 recorded as reproduced, and nothing else."""
    ledger = stats.claims()
    ledger["recorded"] = [RECORDED if name == "B1.1" else [] for name in ledger.index]
    monkeypatch.setattr(claims, "ledger", lambda: ledger)
    return ledger


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_every_claim_says_what_would_settle_it_and_what_was_recorded_is_whole():
    ledger = stats.claims()
    assert {*(f"P1.{i}" for i in (4, 5)), *(f"P2.{i}" for i in range(1, 7))} <= set(ledger.index)
    for name, item in ledger.iterrows():
        assert len(item["settles"]) > 10, name
        for row in item["recorded"]:
            assert set(row) == set(claims.RECORDED), name
            assert row["verdict"] in claims.VERDICTS, name
            assert row["scale"] != "smoke", f"{name}: nothing is learnt of a claim at smoke scale"


@pytest.mark.parametrize(
    "change",
    [{"low": -0.9, "value": -0.1, "high": 0.9}, {"seeds": 1}, {"low": None, "high": None}, {"verdict": N}],
)
def test_a_verdict_that_its_interval_does_not_give_is_refused(tmp_path, recorded, change):
    """Written, read from a run, and recorded in the ledger; the text names claim and file."""
    row = {**RECORDED[0], "id": "B1.1", **change}
    with pytest.raises(AudiotkError, match=r"row 0: the verdict on B1\.1"):
        claims.append_claims(tmp_path, [row])
    (tmp_path / "claims.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(AudiotkError, match=r"claims\.jsonl, line 1: the verdict on B1\.1"):
        claims.read_claims(tmp_path)
    recorded.at["B1.1", "recorded"] = [row]
    with pytest.raises(AudiotkError, match=r"claims\.json, recorded: the verdict on B1\.1"):
        claims.table(None)


def test_no_verdict_needs_no_interval_but_may_have_one(tmp_path):
    """P2.1 on a part of AudioSet has a number and no verdict."""
    rows = [stats.claim_row("P2.2", None, "embedded", "demo"), {**found("P2.1"), "verdict": D}]
    claims.append_claims(tmp_path, rows)
    assert claims.read_claims(tmp_path)["verdict"].tolist() == [D, D]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(tmp_path):
    table = pd.DataFrame([found(), stats.claim_row("P2.2", None, "embedded", "demo") | {"settings": ""}])
    table = table.set_index("id")
    claims.append_claims(tmp_path / "nb", table)
    back = claims.read_claims(tmp_path)  # no claims.jsonl of its own: what lies in the folders below
    assert back.index.tolist() == ["B1.1", "P2.2"]
    assert back.loc["B1.1", ["value", "low", "high", "n", "seeds", "verdict", "data", "scale"]].tolist() == [
        -0.5, -0.7, -0.3, 30, 3, R, "embedded", "demo",
    ]  # fmt: skip
    assert back.loc["P2.2", "verdict"] == D
    assert back.loc["P2.2", ["value", "low", "n", "seeds"]].isna().all()
    assert all(
        set(row) == {*claims.COLUMNS, *ORIGIN_COLUMNS} for _, row in read_lines(tmp_path / "nb" / "claims.jsonl")
    )


def test_a_cell_run_twice_counts_once_and_the_last_time(tmp_path):
    claims.append_claims(tmp_path / "nb", [found(value=-0.4)])
    claims.append_claims(tmp_path / "nb", [found(value=-0.6)])
    assert claims.read_claims(tmp_path)["value"].tolist() == [-0.6]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": "B9.9"}, "claim 'B9.9' is not in the ledger"),
        ({"verdict": "true"}, "expected a verdict of"),
        ({"value": np.inf}, "'value' should be a finite number"),
        ({"n": "many"}, "'n' should be a finite number"),
        ({"data": ""}, "'data' should be text"),
    ],
)
def test_a_wrong_row_writes_nothing(tmp_path, change, told):
    with pytest.raises(AudiotkError, match=told):
        claims.append_claims(tmp_path, [found(), {**found(), **change}])
    with pytest.raises(AudiotkError, match="lacks"):
        claims.append_claims(tmp_path, [{"id": "B1.1"}])
    assert not (tmp_path / "claims.jsonl").exists()


def test_a_broken_file_and_a_missing_folder_are_named(tmp_path):
    (tmp_path / "claims.jsonl").write_text(json.dumps(dict.fromkeys(claims.COLUMNS)) + "\n{")
    with pytest.raises(AudiotkError, match=r"claims\.jsonl, line 2: not JSON"):
        claims.table(tmp_path)
    (tmp_path / "claims.jsonl").write_text(json.dumps(dict.fromkeys(claims.COLUMNS)) + "\n")
    with pytest.raises(AudiotkError, match=r"line 1: 'id' should be text"):
        claims.table(tmp_path)
    with pytest.raises(AudiotkError, match="no such run folder; first: audiotk run"):
        claims.table(tmp_path / "absent")


# --- beside the ledger ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "standing"),
    [
        (found(), "as recorded"),
        (found(value=0.5), "contradicts"),
        (found(value=-0.2), "differs"),  # the interval holds the limit: says no more than that
        (found(value=0.5, scale="paper"), "new"),
        (found(value=0.5, data="folder"), "new"),
        (found(value=0.5, settings="teacher=yamnet"), "new"),
        (found(value=0.5, settings=BY_HAND), "new"),  # nobody knows its settings
        (found(value=0.5, seeds=1), "differs"),
    ],
)
def test_only_the_opposite_verdict_on_the_same_data_contradicts(tmp_path, recorded, capsys, row, standing):
    claims.append_claims(tmp_path, [row])
    table = claims.table(tmp_path)
    assert table.loc["B1.1", "standing"] == standing
    others = table.drop(index="B1.1")
    assert (others["verdict"] == claims.NOT_RUN).all()
    assert (others["standing"] == "").all()
    against = standing == "contradicts"
    assert main(["claims", str(tmp_path)]) == int(against)
    out, err = capsys.readouterr()
    assert ("contradicts what was recorded: B1.1" in err) == against
    assert f"{table.loc['B1.1', 'value']:+.3f}" in out
    assert out.count("not run") == len(others)


def test_the_ledger_alone_is_what_was_recorded(recorded, capsys):
    table = claims.table(None)
    assert table["verdict"].value_counts()[claims.NOT_RUN] == len(table) - 1
    assert table.loc["B1.1", ["value", "verdict", "standing"]].tolist() == [-0.5, R, "as recorded"]
    assert main(["claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == list(table.index)
    assert rows[0]["verdict"] == R


def test_each_recorded_setting_has_a_line(recorded, capsys):
    other = RECORDED[0] | {"settings": "teacher=yamnet", "value": 0.5, "low": 0.3, "high": 0.7, "verdict": N}
    recorded.at["B1.1", "recorded"] = [RECORDED[0], other, RECORDED[0] | {"scale": "paper"}]
    assert main(["claims"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("B1.1")]
    assert len(lines) == 3
    assert "embedded, demo, 3 seeds, 2026-01-02, abc" in lines[0]
    assert "not reproduced" in lines[1]
    assert "teacher=yamnet" in lines[1]
    assert "contradicts" not in lines[1]


def test_a_run_folder_that_is_missing_or_empty(tmp_path, capsys):
    assert main(["claims", str(tmp_path / "absent")]) == 2
    assert "no such run folder" in capsys.readouterr().err
    assert main(["claims", str(tmp_path)]) == 0
    assert f"nothing was tested in {tmp_path}" in capsys.readouterr().err
    assert (claims.table(tmp_path)["verdict"] == claims.NOT_RUN).all()


def test_what_is_needed():
    def told(**change):
        return claims.needed({**found(**change), "settles": "more of it"})

    assert told(seeds=1).startswith("at least 3 seeds")
    assert "scale demo or paper" in told(scale="smoke")
    unbounded = stats.claim_row("B1.1", Interval(-0.2, np.nan, np.nan, 0.95, 3), "embedded", "demo", 3)
    assert "no ends" in claims.needed(unbounded)
    assert told() == "more of it"
    assert "± 0.1, not ± 0.15" in told(value=-0.3, half=0.15)
    assert "lies at the limit" in told(value=-0.22, half=0.15)


def test_what_a_reader_has_to_know_first(recorded, run):
    table = claims.table(run / "run")
    assert any("Embedded data are synthetic" in one for one in claims.caveats(table))
    real = table.assign(data="esc50", verdict=R)
    told = " ".join(claims.caveats(real))
    assert "synthetic" not in told
    assert "Counted, not sampled: P1.1" in told
    assert "number of claims" in told
    assert "Embedded data are synthetic" in write_report(run / "run").read_text()


@given(value=st.floats(-1, 1), half=st.floats(0.001, 2))
def test_an_interval_as_narrow_as_is_said_would_settle_it(value, half):
    """Shrunk around the same effect to less than the told width, the verdict is no longer open."""
    row = found(value=value, half=half)
    told = claims.needed({**row, "settles": ""})
    if row["verdict"] == U and "±" in told:
        width = abs(-value - row["smallest_effect"])
        assert f"± {width:.2g}" in told
        if width > 1e-9:
            assert found(value=value, half=0.999 * width)["verdict"] != U


def test_recording_turns_no_verdict_round_unless_forced(tmp_path, capsys):
    path = tmp_path / "claims.json"
    path.write_text(json.dumps([{"id": "B1.1", "recorded": RECORDED}, {"id": "B1.2"}]))
    before = path.read_text()
    against = found(value=0.5), found("B1.2")
    claims.append_claims(tmp_path / "run", against)
    assert main(["claims", str(tmp_path / "run"), "--record", str(path)]) == 2
    assert "B1.1 (embedded, demo): reproduced -> not reproduced" in capsys.readouterr().err
    assert path.read_text() == before
    assert main(["claims", str(tmp_path / "run"), "--record", str(path), "--force"]) == 0
    new = json.loads(path.read_text())
    assert [row["verdict"] for row in new[0]["recorded"]] == [N]
    assert [len(row["recorded"]) for row in new] == [1, 1]
    assert new[0]["recorded"][0]["date"].startswith("20")
    assert set(new[0]["recorded"][0]) == set(claims.RECORDED)


def test_rounding_moves_no_recorded_verdict(tmp_path):
    path = tmp_path / "claims.json"
    path.write_text(json.dumps([{"id": "B1.1"}]))
    claims.append_claims(tmp_path, [found(value=-0.3, half=0.1 + 4e-6)])  # ends at -0.199996: open
    claims.record(tmp_path, path)
    kept = json.loads(path.read_text())[0]["recorded"][0]
    assert (kept["high"], kept["verdict"]) == (-0.199996, U)


def test_other_settings_and_notebooks_run_by_hand_replace_nothing(tmp_path):
    path = tmp_path / "claims.json"
    path.write_text(json.dumps([{"id": "B1.1", "recorded": RECORDED}]))
    claims.append_claims(tmp_path / "run", [found(value=0.5, settings="teacher=yamnet")])
    claims.append_claims(tmp_path / "hand", [found(value=0.5, settings=BY_HAND)])
    assert claims.record(tmp_path / "run", path) == ["B1.1"]
    assert claims.record(tmp_path / "hand", path) == []
    kept = json.loads(path.read_text())[0]["recorded"]
    assert [(row["settings"], row["verdict"]) for row in kept] == [("", R), ("teacher=yamnet", N)]


@pytest.mark.parametrize(
    ("name", "numbers", "told"),
    [
        ("B1.1", (-0.5, -0.7, -0.3), "-0.500 [-0.700, -0.300]"),
        ("B1.1", (-0.5, None, None), "-0.500 [unbounded]"),
        ("B1.6", (1.0, 1.0, 1.0), "+1.000 no spread"),  # of its few recordings, which is no certainty
        ("P1.1", (0.0021, 0.0021, 0.0021), "+0.002 exact"),  # counted, not sampled
        ("P2.4", (0.01, 0.0049, 0.02), "+0.0100 [+0.0049, +0.0200]"),  # short of the limit, 0.005
        ("P2.4", (0.01, 0.00501, 0.02), "+0.010 [+0.005, +0.020]"),
        ("B1.1", (-0.3, -0.5, -0.1999), "-0.3000 [-0.5000, -0.1999]"),
        ("B1.1", (None, None, None), ""),
    ],
)
def test_effects_are_told_no_surer_than_they_are(name, numbers, told):
    item = stats.claims().loc[name].to_dict() | dict(zip(claims.NUMBERS, numbers, strict=True))
    assert claims.effect_text(item) == told


def test_recording_replaces_the_same_data_and_scale_only(tmp_path, capsys):
    path = tmp_path / "claims.json"
    path.write_text((ROOT / "audiotk" / "claims.json").read_text())
    ids = [row["id"] for row in json.loads(path.read_text())]
    claims.append_claims(tmp_path / "run", [found(value=-0.4123456), found("B1.2", scale="smoke")])
    before = {row["id"]: row["recorded"] for row in json.loads(path.read_text())}
    assert main(["claims", str(tmp_path / "run"), "--record", str(path)]) == 0
    assert main(["claims", str(tmp_path / "run"), "--record", str(path)]) == 0
    assert capsys.readouterr().out == "recorded: B1.1\n" * 2
    after = {row["id"]: row["recorded"] for row in json.loads(path.read_text())}
    assert list(after) == ids
    new = [row for row in after["B1.1"] if (row["data"], row["scale"]) == ("embedded", "demo")]
    assert [row["value"] for row in new] == [-0.4123]
    assert {name: rows for name, rows in after.items() if name != "B1.1"} == {
        name: rows for name, rows in before.items() if name != "B1.1"
    }
    assert main(["claims", "--record", str(path)]) == 2


# --- the page ---------------------------------------------------------------------------------------------------------


def test_page_and_forest_show_every_kind_of_row(tmp_path, recorded):
    rows = [found(value=50.0), found("B1.4", value=-0.1, half=0.05), stats.claim_row("P2.2", None, "embedded", "demo")]
    rows.append(stats.claim_row("P2.4", Interval(0.01, np.nan, np.nan, 0.95, 3), "embedded", "demo", 1))
    claims.append_claims(tmp_path, rows)
    table = claims.table(tmp_path)
    table.loc["B1.4", "claim"] = "<script>alert(1)</script>"
    table.loc["B1.4", "changed"] = "2026-11-28: <b>the rule</b>"
    text = claim_figures.claims_html(table)
    assert "<script>" not in text
    assert text.count("<tr>") == len(table) + 1
    assert "02_<wbr>clip_" in text
    assert "<a " not in text  # here is neither an executed copy nor a folder, and the page has no parts
    assert "contradicts what was recorded: reproduced" in text
    assert "1 seed: interval over recordings only" in text
    assert "Changed 2026-11-28: &lt;b&gt;the rule&lt;/b&gt;" in text
    made = claims.read_claims(tmp_path).loc["B1.1", ["date", "commit"]]
    assert f"run {tmp_path.name}, {made['date']}, commit {made['commit'] or 'not known'}" in text
    assert text.index("P2.4") < text.index("B1.2")  # what was not run comes behind
    axes = claim_figures.forest(table).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["B1.1", "B1.4 (denies)", "P2.4"]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]]
    assert [line.get_linestyle() for line in lines[:3]] == ["-", "-", ":"]
    assert max(abs(x) for line in lines[:3] for x in line.get_xdata()) <= claim_figures.FAR
    np.testing.assert_allclose(lines[1].get_xdata(), [0.25, 0.75])  # B1.4 in its smallest effect, 0.2: to the right
    assert claim_figures.counts(table)[claims.NOT_RUN] == len(table) - 4
    assert text.count("<img ") == 3  # one of each number
    for name in table.index[table["verdict"] != R]:
        assert f"To settle it: {html.escape(table.loc[name, 'open'])}." in text


def marks(drawn):
    """Places of what a picture shows: shaded from and to, lines, bar, dot, diamond; and its text for a reader's ear."""
    root = ElementTree.fromstring(drawn)  # a picture that is no XML would be a broken image
    paths = {one.get("stroke-width", one.get("stroke-dasharray")): one.get("d") for one in root.iter(f"{SVG}path")}
    shade, dot = root.find(f"{SVG}rect"), root.find(f"{SVG}circle")
    begin, wide = float(shade.get("x")), float(shade.get("width"))
    told = root.find(f"{SVG}title").text
    assert root.get("aria-label") == told
    places = {key: [float(x) for x in re.findall(r"[MH]([-\d.]+)", path)] for key, path in paths.items()}
    return {
        "shade": (begin, begin + wide), "edge": places["3 2"][0], "bar": places["3"], "dot": float(dot.get("cx")),
        "printed": places.get("1.5"), "told": told,
    }  # fmt: skip


@given(
    name=st.sampled_from(["B1.1", "B1.4", "P1.1", "P1.2c"]),  # lower, not lower, not higher, higher
    value=st.floats(-1, 1),
    half=st.floats(0.001, 2),
)
def test_the_picture_shows_the_verdict(name, value, half):
    """Reproduced is a bar in the shade, not reproduced one outside, open one that crosses its edge."""
    row = found(name, value, half)
    shown = marks(claim_figures.strip(row))
    (begin, end), (low, high) = shown["shade"], shown["bar"]
    if row["verdict"] == R:
        assert begin - 0.11 <= low <= high <= end + 0.11
    elif row["verdict"] == N:
        assert high <= begin + 0.11 or low >= end - 0.11
    else:
        assert low - 0.11 <= shown["edge"] <= high + 0.11
    assert min(begin, low) >= 0
    assert max(end, high) <= claim_figures.WIDE
    assert low <= shown["dot"] <= high
    assert shown["told"].endswith(row["verdict"])


def test_pictures_of_what_has_no_ends_no_spread_or_no_number():
    assert claim_figures.strip(stats.claim_row("P2.2", None, "embedded", "demo")) == ""
    open_ended = stats.claim_row("P2.4", Interval(0.01, np.nan, np.nan, 0.95, 3), "embedded", "demo", 3)
    assert marks(claim_figures.strip(open_ended))["bar"] == [0, claim_figures.WIDE]
    same = marks(claim_figures.strip(found("B1.6", value=1.0, half=0.0)))
    assert same["bar"] == [same["dot"]] * 2
    assert same["printed"] is None
    printed = marks(claim_figures.strip(found("P2.3", value=0.058, half=0.02)))
    assert printed["printed"] == [printed["dot"]]  # the source prints 0.058, too
    assert "the source prints +0.058" in printed["told"]


def test_printed_effects_are_made_of_the_printed_numbers():
    """The ledger's text of what a source prints, and the effect that is drawn, say the same."""
    ledger = stats.claims()
    numbers = {name: [float(x) for x in re.findall(r"0\.\d+", text or "")] for name, text in ledger["printed"].items()}
    smallest_step = {name: min(np.diff(numbers[name])) for name in ("P2.3", "P2.4")}
    one_step = {name: numbers[name][0] - numbers[name][1] for name in ("P1.3a", "P1.3c")}
    expected = (
        smallest_step | one_step | {"P2.5": np.diff(numbers["P2.5"])[0], "P1.1": 0, "P1.3d": 1, "P2.1": 0, "P2.2": 0}
    )
    told = ledger["printed_effect"].dropna()
    assert dict(told) == pytest.approx(expected)  # P1.1, P2.1 and P2.2 measure the distance from what is printed
    assert ledger.loc[told.index, "printed"].notna().all()


def test_nothing_to_draw(tmp_path):
    assert len(claim_figures.forest(claims.table(tmp_path)).axes[0].get_yticklabels()) == 0


WRITE = """
from audiotk import stats
from audiotk.claims import append_claims
append_claims(out, [stats.claim_row("B1.1", stats.Interval(-rate, -rate - 0.1, -rate + 0.1, 0.95, 9), data, "demo", 3)])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_notebook):
    """The page of claims beside a notebook that finds something and one that writes, and then fails."""
    here = tmp_path_factory.mktemp("claims")
    good = make_notebook(here / "good.ipynb", ["#md # Good", WRITE])
    bad = make_notebook(here / "bad.ipynb", [WRITE.replace("B1.1", "B1.2"), "1 / 0"])
    page = ROOT / "notebooks" / "10_claims.ipynb"
    run_notebooks([page, good, bad], here / "run", {"rate": 0.6}, progress=False)
    return here


def page_of(run):
    cells = json.loads((run / "run" / "10_claims.ipynb").read_text())["cells"]
    return "".join(json.dumps(output) for cell in cells for output in cell.get("outputs", ()))


def test_the_page_works_when_only_some_notebooks_were_run(run):
    entries = read_manifest(run / "run")["notebooks"]
    assert {name: entry["status"] for name, entry in entries.items()} == {
        "good": "finished", "bad": "failed", "10_claims": "finished",
    }  # fmt: skip
    assert claims.read_claims(run / "run").index.tolist() == ["B1.1"]  # what failed says nothing
    shown = page_of(run)
    assert "-0.600" in shown
    assert "not run" in shown
    assert "image/png" in shown


def test_the_report_begins_with_the_claims(run):
    text = write_report(run / "run").read_text()
    assert text.index("Claims of the sources") < text.index('<article id="good"')
    assert "Not run here: B1.2" in text
    assert '<a href="#claims">Claims</a>' in text


def test_links_of_report_and_page_lead_to_what_was_run(run):
    """To the part of the report, the executed copy and the folder of the notebook, from where report and page lie."""
    text = write_report(run / "run").read_text()
    top, article = text.index('<section id="claims"'), text.index('<article id="10-claims"')
    row = text[text.index(">B1.1<", top) :].split("</tr>")[0]
    assert '<a href="#good">good</a>' in row
    assert 'src="data:image/svg+xml;base64,' in row
    again = text[text.index(">B1.1<", article) :].split("</tr>")[0]  # the notebook's own page, cleaned
    assert 'src="data:image/svg+xml;base64,' in again
    for part in (row, again, page_of(run).replace('\\"', '"')):
        links = [unquote(link) for link in re.findall(r'href="([^"#]+)"', part)]
        assert [(run / "run" / link).resolve() for link in links] == [run / "run" / "good.ipynb", run / "run" / "good"]


def test_links_from_a_notebook_that_a_person_runs(run, monkeypatch):
    monkeypatch.chdir(run)
    table = claims.of_notebook("", "run/10_claims")
    assert 'href="run/good.ipynb"' in claim_figures.page(table, "", "run/10_claims").data
    monkeypatch.setenv("AUDIOTK_HEADLESS", "1")
    assert 'href="./good.ipynb"' in claim_figures.page(table, "", "run/10_claims").data
    assert 'href="../run/good"' in claim_figures.page(table, "run", "other/10_claims").data


def test_the_page_is_made_anew_when_another_notebook_changed(run, monkeypatch):
    monkeypatch.setattr("audiotk.runs.package_hash", lambda: "the same package")
    paths = [ROOT / "notebooks" / "10_claims.ipynb", run / "good.ipynb"]
    run_notebooks(paths, run / "run", {"rate": 0.3}, progress=False)
    assert "-0.300" in page_of(run)
    made = (run / "run" / "10_claims.ipynb").stat().st_mtime_ns
    run_notebooks(paths, run / "run", {"rate": 0.3}, progress=False)
    assert (run / "run" / "10_claims.ipynb").stat().st_mtime_ns == made
