"""``audiotk claims``: what a run says of the sources' claims, and whether it contradicts what was recorded.

Imports what is heavy only when it works, so that asking for help is quick.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiotk.errors import AudiotkError

EPILOG = """\
Each claim stands in the ledger, audiotk/claims.json, with the effect that is measured, the smallest one that matters,
and the verdicts recorded in this repository. A run contradicts a recorded verdict of the same data, scale and settings
if it says "reproduced" where the record says "not reproduced", or the other way round.

examples:
  audiotk claims                  the ledger, with what was recorded
  audiotk claims runs/demo        what this run found
  audiotk claims runs/demo --record audiotk/claims.json    for maintainers: record it

exit status: 0 nothing contradicts, 1 something does, 2 the command cannot be carried out
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``claims`` to the commands of the command line."""
    parser = commands.add_parser(
        "claims",
        help="what a run says of the sources' claims",
        description="Print every claim of the sources with its verdict, ours and its interval.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="a run folder (default: what was recorded)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what RUN found into the ledger's file")
    parser.add_argument("--force", action="store_true", help="with --record: also turn verdicts into their opposites")
    parser.set_defaults(call=_claims)


def _claims(arguments: argparse.Namespace) -> int:
    from audiotk.claims import NOT_RUN, contradictions, record, table

    if arguments.record is not None:
        if arguments.run is None:
            raise AudiotkError("claims: --record needs a RUN whose verdicts are to be recorded")
        done = record(arguments.run, arguments.record, arguments.force)
        print(f"recorded: {', '.join(done) or 'nothing (scale smoke and notebooks run by hand are left out)'}")
        return 0
    found = table(arguments.run)
    if arguments.json:
        print(json.dumps(json.loads(found.reset_index().to_json(orient="records")), indent=1))
    else:
        print("\n".join(_lines(str(name), item.to_dict()) for name, item in found.iterrows()))
    if arguments.run is not None and (found["verdict"] == NOT_RUN).all():
        print(f"audiotk: nothing was tested in {arguments.run}", file=sys.stderr)
    against = contradictions(found)
    if against:
        print(f"audiotk: contradicts what was recorded: {', '.join(against)}", file=sys.stderr)
    return 1 if against else 0


def _lines(name: str, item: Mapping[Any, Any]) -> str:
    """One claim on a few lines."""
    from audiotk.claims import NOT_RUN, effect_text

    where = "" if item["verdict"] == NOT_RUN else _where(item)
    first = f"{name:5} {item['verdict']:26} {effect_text(item):34} {where}"
    standing = f" ({item['standing']}: {item['recorded_verdict'] or '–'})" if item["standing"] else ""
    told = textwrap.wrap(str(item["claim"]), 110, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join([first.rstrip() + standing, *told])


def _where(item: Mapping[Any, Any]) -> str:
    """With what a verdict was found, and when: ``embedded, demo, teacher=yamnet, 3 seeds, 2026-01-02``."""
    import pandas as pd

    seeds = "" if pd.isna(item["seeds"]) else f"{int(item['seeds'])} seed{'s' * (item['seeds'] != 1)}"
    return ", ".join(filter(None, (item["data"], item["scale"], item["settings"], seeds, item["date"], item["commit"])))
