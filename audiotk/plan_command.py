"""``audiotk plan``: check data and settings of notebooks, and say what running them will cost.

Imports what is heavy only when it works, so that asking for help is quick.
"""

from __future__ import annotations

import argparse
import sys

from audiotk.errors import AudiotkError, NotForThisData
from audiotk.notebook_arguments import add_notebooks, parameters_of

EPILOG = """\
Labels are read whole, a few recordings of each split are read, and each kind of training is timed for a few steps on
noise. Hours are those of this machine, one training after the other; run it where you mean to train. More sound
than memory should hold is decoded once, into files whose size is said. No run folder is written; embedded recordings
that 09 needs go to the cache.

examples:
  audiotk plan notebooks                                  the embedded data, at scale "demo"
  audiotk plan notebooks/05_label_joining_mixup.ipynb --scale paper -p data fsd50k -p data_root ../FSD50K \\
      -p train_data audioset -p train_root ../AudioSet    P1's data
  audiotk plan notebooks/09_base_target_transfer.ipynb --scale paper -p data audioset -p data_root ../AudioSet

exit status: 0 all can run (or do not apply to the data), 1 something stands in the way of a notebook, 2 the command
cannot be carried out
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``plan`` to the commands of the command line."""
    parser = commands.add_parser(
        "plan",
        help="check data and settings of notebooks, and say what running them will cost",
        description="Check data and settings of notebooks, train nothing, and say what running them will cost here.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_notebooks(parser)
    parser.set_defaults(call=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    from audiotk.experiments.plan_costs import costs, machine
    from audiotk.experiments.plans import plan
    from audiotk.runs import notebook_values

    bad, hours = 0, 0.0
    for name, values in notebook_values(arguments.paths, parameters_of(arguments)).items():
        try:
            found = plan(name, values)
        except NotForThisData as err:
            print(f"{name}\n  does not apply: {err}\n")
            continue
        except AudiotkError as err:
            print(f"{name}\n  {err}\n")
            bad += 1
            continue
        if found is None:
            print(f"{name}\n  trains nothing\n")
            continue
        table = costs(found.stages)
        hours += table["hours"].sum()
        print(f"{name}\n  {found.data}\n{_text(table)}\n{_sound(found.sound_gb)}", flush=True)
    print(f"in all {_time(hours)} of training, one after the other, on {machine()}")
    if bad:
        print(f"audiotk: {bad} notebook(s) cannot run as asked", file=sys.stderr)
    return 1 if bad else 0


def _sound(gigabytes: float) -> str:
    """How much decoded sound is kept, and where; nothing if memory holds it all."""
    from audiotk.shards import free_bytes, sound_dir

    if not gigabytes:
        return ""
    folder = sound_dir()
    return f"  decoded sound: {gigabytes:,.1f} GB in {folder}, where {free_bytes(folder) / 1e9:,.1f} GB are free\n"


def _text(table: object) -> str:
    import pandas as pd

    assert isinstance(table, pd.DataFrame)
    shown = pd.DataFrame({
        "trainings": table["what"],
        "model": table["model"],
        "runs": table["runs"],
        "epochs": table["epochs"],
        "sequences": table["sequences"].map("{:,}".format),
        "of": table["seconds"].map("{:g} s".format),
        "10^15 MACs": table["petamacs"].map("{:,.3g}".format),
        "time here": table["hours"].map(_time),
        "checkpoints": table["disk_gb"].map(lambda gb: f"{1000 * gb:,.0f} MB"),
    })  # fmt: skip
    lines = shown.to_string(index=False).splitlines()
    return "\n".join(f"  {line}" for line in lines)


def _time(hours: float) -> str:
    if hours < 0.1:
        return f"{3600 * hours:,.0f} s"
    return f"{60 * hours:,.0f} min" if hours < 3 else f"{hours:,.0f} h"
