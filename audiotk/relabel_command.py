"""``audiotk relabel``: read labels, apply one rule, write the new labels, and print what changed.

Imports what is heavy only when it works, so that asking for help is quick.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotk.errors import AudiotkError
from audiotk.files import atomic, not_a_file

if TYPE_CHECKING:
    from audiotk.relabel.audit import Audit, Relabeled
    from audiotk.tables import Labels

DESCRIPTION = """\
Repair labels by a rule. The labels are AudioSet's CSV files (--segments, --classes) or a file that audiotk wrote
(--labels). The rule is one of a hierarchy (--scheme, with --ontology) or of a teacher's scores (--rule, with --scores).
"""
EPILOG = """\
Standard output is one JSON object (with --table a table instead); messages go to standard error.
The result is read by audiotk.tables.Labels.from_parquet; with --audit also an annotations table of what changed.
Without --out and --audit nothing is written: the numbers alone.

examples:
  audiotk relabel --segments balanced_train_segments.csv --classes class_labels_indices.csv \\
      --ontology ontology.json --scheme pe-cml --out pe-cml.parquet --pair "Rain>Water" --table
  audiotk relabel --labels pe-cml.parquet --scores teacher.parquet --rule correct --missing correct+mask \\
      --out corrected.parquet --audit corrections.parquet

exit status: 0 done, 2 bad input or call (nothing is written)
"""
INPUTS = {"segments": {"classes"}, "labels": set()}
OPTIONS = {
    "pel": {"ontology", "vocabulary", "multi_parent", "pairs"},
    "pe-cml": {"ontology", "vocabulary", "multi_parent", "pairs"},
    "correct": {"scores", "threshold", "missing", "wrong"},
    "percentile": {"scores", "q", "mode"},
    "mean-threshold": {"scores", "statistic", "scope", "ontology"},
}
ALL_OPTIONS = set().union(*OPTIONS.values())
BLOCK = 65536  # segments whose changes are in memory together
CELL_RULES = ("keep", "correct", "mask", "correct+mask")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``relabel`` to the commands of the command line."""
    parser = commands.add_parser(
        "relabel",
        help="repair labels by a hierarchy or a teacher's scores",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("labels to repair").add_argument
    add("--segments", type=Path, metavar="CSV", help="AudioSet's segments")
    add("--classes", type=Path, metavar="CSV", help="AudioSet's class_labels_indices.csv")
    add("--labels", type=Path, metavar="PARQUET", help="labels that audiotk wrote")
    add = parser.add_argument_group("by a hierarchy").add_argument
    add("--scheme", choices=("pel", "pe-cml"), help="add all ancestors; and mask the descendants of what stays general")
    add("--ontology", type=Path, metavar="JSON", help="AudioSet's ontology.json, or another hierarchy (.json, .csv)")
    add("--vocabulary", choices=("527", "632"), help="the classes of the labels (default), or all nodes")
    add(
        "--multi-parent", choices=("all", "unambiguous", "mask"),
        help="where a class has several parents: add all (default), none, or make them unknown",
    )  # fmt: skip
    add(
        "--pair", action="append", dest="pairs", metavar='"CHILD>PARENT"',
        help="count the segments with both and with the child, before; may be repeated",
    )  # fmt: skip
    add = parser.add_argument_group("by the scores of a teacher").add_argument
    add("--rule", choices=[name for name in OPTIONS if "scores" in OPTIONS[name]])
    add("--scores", type=Path, metavar="PARQUET", help="column segment, and one a class with scores in [0, 1]")
    add("--threshold", metavar="T", help="correct: a number (default 0.05), or a JSON file of {class: number}")
    add("--missing", choices=CELL_RULES, help="correct: absent labels of high score (default correct+mask)")
    add("--wrong", choices=CELL_RULES, help="correct: present labels of low score (default keep)")
    add("--q", type=float, metavar="PERCENT", help="percentile: share of each class's absent labels (default 5)")
    add("--mode", choices=("mask", "correct"), help="percentile: what becomes of them (default mask)")
    add("--statistic", metavar="NAME", help="mean-threshold: mean (default), median or a percentile (a number)")
    add(
        "--scope",
        choices=("any", "ontology"),
        help="mean-threshold: any class (default), or relatives (with --ontology)",
    )
    add = parser.add_argument_group("output").add_argument
    add("--out", type=Path, metavar="PARQUET", help="write the new labels (left out: print the numbers only)")
    add("--audit", type=Path, metavar="PARQUET", help="write what changed, as annotations of source relabel:RULE")
    add("--overwrite", action="store_true", help="replace files that are there")
    add("--table", action="store_true", help="print a table instead of JSON")
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out ``audiotk relabel``; returns the exit status."""
    name = _check(arguments)
    labels = _read_labels(arguments)
    if not len(labels.segments):
        raise AudiotkError(f"{arguments.labels}: expected labels of at least one segment, got none")
    with _stage(f"{arguments.scheme or arguments.rule}"):
        if arguments.scheme:
            result, told = _by_hierarchy(labels, arguments)
        else:
            result, told = _by_scores(labels, name, arguments)
    _write(result, arguments)
    print(_table(told) if arguments.table else json.dumps(told, ensure_ascii=False, allow_nan=False))
    return 0


def _check(arguments: argparse.Namespace) -> str:
    """Refuse options that lack another one or that the chosen rule would not look at; returns its name."""
    given = {name for name, value in vars(arguments).items() if value is not None}
    for names in (("segments", "labels"), ("scheme", "rule")):
        if len(given & set(names)) != 1:
            raise AudiotkError(f"relabel: expected one of --{names[0]} and --{names[1]}, got {_flags(given, names)}")
    if ("segments" in given) != ("classes" in given):
        raise AudiotkError("relabel: --segments and --classes go together")
    rule: str = arguments.scheme or arguments.rule
    needed = {"ontology"} if arguments.scheme or arguments.scope == "ontology" else set()
    needed |= {"scores"} & OPTIONS[rule]
    if missing := needed - given:
        raise AudiotkError(f"relabel: {rule} needs {_flags(missing, sorted(missing))}")
    if strange := (given & ALL_OPTIONS) - OPTIONS[rule]:
        raise AudiotkError(f"relabel: {rule} does not use {_flags(strange, sorted(strange))}; leave it out")
    if rule == "mean-threshold" and "ontology" in given and arguments.scope != "ontology":
        raise AudiotkError("relabel: mean-threshold uses --ontology only with --scope ontology; leave it out")
    _check_outputs(arguments)
    return rule


def _flags(given: set[str], names: Any) -> str:
    return (
        ", ".join(
            "--" + name.removesuffix("s" if name == "pairs" else "").replace("_", "-")
            for name in names
            if name in given
        )
        or "none"
    )


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Before any work: outputs that are there, that are an input, or that cannot be a Parquet file."""
    read = [arguments.segments, arguments.classes, arguments.labels, arguments.ontology, arguments.scores]
    if _is_json(arguments.threshold):
        read.append(Path(arguments.threshold))
    taken = {path.resolve() for path in read if path is not None}
    for path in (arguments.out, arguments.audit):
        if path is None:
            continue
        if path.suffix.lower() != ".parquet":
            raise AudiotkError(f"{path}: expected a name that ends in .parquet, which is what will be written")
        if not_a_file(path):
            raise AudiotkError(f"{path}: is no regular file and will not be replaced; give the name of a file")
        if path.resolve() in taken:
            raise AudiotkError(f"{path}: is used twice; give each file to read and to write a name of its own")
        if path.exists() and not arguments.overwrite:
            raise AudiotkError(f"{path}: is there already; choose another name, or allow it with --overwrite")
        above = next(folder for folder in path.resolve().parents if folder.exists())
        if not above.is_dir():
            raise AudiotkError(f"{path}: cannot be written, {above} is no folder")
        taken.add(path.resolve())


@contextmanager
def _stage(what: str) -> Iterator[None]:
    """Say on standard error what was done, and how long it took."""
    start = time.perf_counter()
    yield
    print(f"audiotk: {what}: {time.perf_counter() - start:.1f} s", file=sys.stderr)


def _read_labels(arguments: argparse.Namespace) -> Labels:
    from audiotk.datasets.audioset import read_labels
    from audiotk.tables import Labels

    with _stage(f"read {arguments.segments or arguments.labels}"):
        if arguments.segments:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                labels = read_labels(arguments.segments, arguments.classes)
            for one in told:
                print(f"audiotk: warning: {one.message}", file=sys.stderr)
            return labels
        return Labels.from_parquet(arguments.labels)


def _by_hierarchy(labels: Labels, arguments: argparse.Namespace) -> tuple[Relabeled, dict[str, Any]]:
    from audiotk.ontology import Ontology
    from audiotk.relabel import coselection, parent_expand, pe_cml, statistics

    ontology = Ontology.read(arguments.ontology)
    pairs = arguments.pairs or []
    together = coselection(labels, [_pair(text) for text in pairs], ontology)
    before = statistics(labels, ontology)
    change = parent_expand if arguments.scheme == "pel" else pe_cml
    vocabulary = "all" if arguments.vocabulary == "632" else None
    result = change(labels, ontology, multi_parent=arguments.multi_parent or "all", vocabulary=vocabulary)
    after = result.labels.counts().sum() / len(labels.segments)
    return result, {
        "segments": before["segments"],
        "labels_per_segment_before": before["labels_per_segment"],
        "labels_per_segment_after": float(after["present"]),
        "masked_per_segment": float(after["unknown"]),
        "parent_coselected": list(before["parent_coselected"]),
        "pairs": dict(zip(pairs, together, strict=True)),
    }


def _pair(text: str) -> tuple[str, str]:
    """Child and parent of ``CHILD>PARENT``."""
    child, arrow, parent = (part.strip() for part in text.partition(">"))
    if not (child and arrow and parent):
        raise AudiotkError(f'--pair: expected "CHILD>PARENT", got {text!r}')
    return child, parent


def _by_scores(labels: Labels, rule: str, arguments: argparse.Namespace) -> tuple[Relabeled, dict[str, Any]]:
    from audiotk import relabel
    from audiotk.ontology import Ontology
    from audiotk.scores import open_scores

    names = OPTIONS[rule] - {"scores"}
    options = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if "threshold" in options:
        options["threshold"] = _threshold(options["threshold"])
    if "statistic" in options and options["statistic"] not in ("mean", "median"):
        options["statistic"] = _number(options["statistic"], "--statistic: expected mean, median or a percentile")
    if "ontology" in options:
        options["ontology"] = Ontology.read(options["ontology"])
    rules: dict[str, Callable[..., Relabeled]] = {
        "correct": relabel.correct,
        "percentile": relabel.percentile,
        "mean-threshold": relabel.mean_threshold,
    }
    result = rules[rule](labels, open_scores(arguments.scores), **options)
    table = result.audit.table()
    cells = table["cells"].groupby(table["before"] + " -> " + table["after"]).sum()
    changed = {str(kind): int(count) for kind, count in cells.items()}
    return result, {"segments": len(labels.segments), "classes": len(labels.classes), "changed": changed}


def _write(result: Relabeled, arguments: argparse.Namespace) -> None:
    """Write --out and --audit: both or none, for the audit takes its name only after the labels have theirs."""
    with ExitStack() as stack:
        if arguments.audit is not None:
            draft = stack.enter_context(atomic(arguments.audit))
            with _stage(f"write {arguments.audit}"):
                _write_audit(result.audit, draft)
        if arguments.out is not None:
            with _stage(f"write {arguments.out}"):
                result.labels.to_parquet(arguments.out)


def _write_audit(audit: Audit, draft: Path) -> None:
    """The annotations of an audit, with a column `before`, a block of segments at a time."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from audiotk.relabel.audit import Audit
    from audiotk.tables import Labels

    def part(labels: Labels, rows: slice) -> Labels:
        return Labels(labels.segments[rows], labels.classes, labels.cells[rows], labels.default)

    at, writer = pd.Timestamp.now("UTC"), None
    try:
        for start in range(0, len(audit.after.segments), BLOCK):
            rows = slice(start, start + BLOCK)
            some = Audit(audit.rule, part(audit.before, rows), part(audit.after, rows))
            notes = some.annotations(at).assign(before=some.changes()["before"].array)
            table = pa.Table.from_pandas(notes, preserve_index=False)
            writer = writer or pq.ParquetWriter(draft, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _is_json(text: str | None) -> bool:
    return text is not None and text.lower().endswith(".json")


def _threshold(text: str) -> Any:
    """A number, or what a JSON file holds of {class: number}; the rule looks at the numbers."""
    if not _is_json(text):
        return _number(text, "--threshold: expected a number or a .json file of {class: number}")
    from audiotk.ontology.files import no_key_twice

    try:
        read = json.loads(Path(text).read_text("utf-8-sig"), object_pairs_hook=no_key_twice)
    except (OSError, ValueError, RecursionError, AudiotkError) as err:
        raise AudiotkError(f"{text}: cannot be read as JSON of {{class: number}}: {err}") from err
    if not isinstance(read, dict):
        raise AudiotkError(f"{text}: expected a JSON object of {{class: number}}, got {type(read).__name__}")
    return read


def _number(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise AudiotkError(f"{expected}, got {text!r}") from None


def _table(told: dict[str, Any]) -> str:
    rows = []
    for name, value in told.items():
        nested = value if isinstance(value, dict) else {}
        rows.append((name.replace("_", " "), "" if nested else _cell(value)))
        rows += [(f"  {key}", _cell(item)) for key, item in nested.items()]
    left, right = (max(len(row[side]) for row in rows) for side in (0, 1))
    return "\n".join(f"{name:{left}}  {value:>{right}}".rstrip() for name, value in rows)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]:,} of {value[1]:,}" + (f" ({value[0] / value[1]:.1%})" if value[1] else "")
    if isinstance(value, dict):
        return "none"
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
