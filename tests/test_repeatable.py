"""Same seed, same machine: the same numbers bit for bit, however often, wherever and by how many processes."""

import json

import pytest
import torch
from small_mixtures import small_case

from audiotk.claims import CLAIMS_FILE, append_claims
from audiotk.experiments import label_joining, quickstart
from audiotk.results import RESULTS_FILE, append_results, read_lines


def joining(out, jobs):
    """What the cells of notebook 05 do, with mixtures of tones."""
    case = small_case(out)
    outcome = label_joining.run(case, "smoke", [0], out, jobs=jobs)
    ledger = label_joining.claims(outcome, "embedded", "smoke")
    table = label_joining.by_class(outcome)
    append_results(out, label_joining.results(outcome, table, ledger, "embedded", "smoke"))
    append_claims(out, ledger)
    return {f"{arm}, {seed}": scores for (arm, seed), scores in outcome.scores.items()}


def quick(out, jobs):
    """What the cells of notebook 00 do."""
    dataset = quickstart.load("embedded", "", "smoke")
    config = quickstart.recipe(dataset, "smoke")
    material = quickstart.read(dataset, config)
    labels = quickstart.resolve(dataset, material)
    scores = quickstart.score(quickstart.fit(config, material, labels, [0], out), material["test"])
    table = quickstart.evaluate(scores, labels["test"], material["test"])
    append_results(out, quickstart.results(table, seeds=[0], data="embedded", scale="smoke"))
    return scores


def told(folder, name):
    """Lines of a file of rows, as they were written, without the day."""
    path = folder / name
    return [json.dumps(row | {"date": ""}) for _, row in read_lines(path)] if path.exists() else []


@pytest.mark.parametrize(("work", "least"), [(joining, 25), (quick, 5)])
def test_a_whole_experiment_says_the_same_bit_for_bit(tmp_path, monkeypatch, work, least):
    """Data made anew in another place, one process or two, one thread for torch or two: nothing may show."""
    threads, found, rows = torch.get_num_threads(), [], []
    try:
        for jobs, place in ((1, "here"), (2, "some/where/else")):
            torch.set_num_threads(jobs)
            monkeypatch.setenv("AUDIOTK_CACHE", str(tmp_path / place / "cache"))
            found.append(work(tmp_path / place / "run", jobs))
            rows.append([line for name in (RESULTS_FILE, CLAIMS_FILE) for line in told(tmp_path / place / "run", name)])
    finally:
        torch.set_num_threads(threads)
    first, second = found
    assert list(first) == list(second)
    for key, scores in first.items():  # before rows, in which a small difference of scores may not show
        assert scores.equals(second[key]), f"scores of {key} differ by up to {(scores - second[key]).abs().max().max()}"
    assert rows[0] == rows[1]
    assert len(rows[0]) >= least
