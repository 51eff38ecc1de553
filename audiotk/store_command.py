"""The command ``audiotk store``: check, back up, export and merge annotation stores."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLES = """\
STORE is a path like labels.sqlite or a URL like postgresql://user@host/database (the password from PGPASSWORD or
~/.pgpass). Nothing here changes a store but merge, which appends what is missing and doubles nothing; recordings
that are registered already keep their paths and claims. No file is overwritten.

examples:
  audiotk store check labels.sqlite
  audiotk store backup labels.sqlite backups/labels-monday.sqlite
  audiotk store export labels.sqlite labels.parquet
  audiotk store export damaged.sqlite saved.parquet --salvage    and then, into a new store:
  audiotk store merge labels.sqlite saved.parquet

exit status: 0 done and all is well, 1 the store is damaged, 2 the command cannot be carried out
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``store`` to the commands of the command line."""
    store = commands.add_parser(
        "store",
        help="check, back up, export or merge what was labelled",
        description="Care of the annotation stores that the labeler writes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    acts = store.add_subparsers(title="what to do", metavar="ACT", required=True)
    check = acts.add_parser("check", help="read everything and say what is wrong")
    backup = acts.add_parser("backup", help="copy a store to a new file, also while it is written to")
    export = acts.add_parser("export", help="write all operations to a Parquet file")
    merge = acts.add_parser("merge", help="append the operations of another store or exported file")
    for act in (check, backup, export, merge):
        act.add_argument("store", metavar="STORE", help="a path or a URL")
    for act in (backup, export):
        act.add_argument("out", type=Path, metavar="FILE", help="the file to write")
    export.add_argument("--salvage", action="store_true", help="leave out what cannot be read, instead of stopping")
    merge.add_argument("source", metavar="SOURCE", help="a store, or a .parquet file of export")
    for act, call in ((check, _check), (backup, _backup), (export, _export), (merge, _merge)):
        act.set_defaults(call=call)


def _check(arguments: argparse.Namespace) -> int:
    from audiotk.store import open_store
    from audiotk.store.storage import StoreDamaged

    try:
        with open_store(arguments.store, read_only=True) as store:
            report = store.check()
    except StoreDamaged as err:
        print(f"cannot be opened: {err.reason}\nrestore the last backup", file=sys.stderr)
        return 1
    print(f"{report.operations:,} operations by {report.labelers} labelers on {report.recordings:,} recordings")
    for problem in report.problems:
        print(f"problem: {problem}")
    if report.ok:
        print("nothing is wrong")
    else:
        print("restore the last backup, or save what is readable: audiotk store export --salvage", file=sys.stderr)
    return 0 if report.ok else 1


def _backup(arguments: argparse.Namespace) -> int:
    from audiotk.store import open_store

    with open_store(arguments.store, read_only=True) as store:
        print(f"backup: {store.backup(arguments.out)}", file=sys.stderr)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from audiotk.store import open_store

    with open_store(arguments.store, read_only=True) as store:
        written, lost = store.export_parquet(arguments.out, arguments.salvage)
    told = f"; {lost:,} could not be read" if lost else ""
    print(f"export: {written:,} operations in {arguments.out}{told}", file=sys.stderr)
    return 1 if lost else 0


def _merge(arguments: argparse.Namespace) -> int:
    from audiotk.store import open_store, operations_of

    operations = operations_of(arguments.source)  # first: a wrong name must not leave a new, empty store
    with open_store(arguments.store) as store:
        print(f"merge: {store.merge(operations):,} operations were new", file=sys.stderr)
    return 0
