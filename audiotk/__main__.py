"""The command line: thin calls into the modules of the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from audiotk import __version__
from audiotk.claims_command import add_parser as add_claims
from audiotk.errors import AudiotkError
from audiotk.notebook_arguments import add_notebooks, parameters_of
from audiotk.plan_command import add_parser as add_plan
from audiotk.relabel_command import add_parser as add_relabel
from audiotk.score_command import add_parser as add_score
from audiotk.store_command import add_parser as add_store

EXAMPLES = """\
examples:
  audiotk run notebooks                                  every notebook, on the embedded data
  audiotk run notebooks/00_quickstart.ipynb -p data esc50 -p data_root ../ESC-50
  audiotk plan notebooks --scale paper                   what that would cost here
  audiotk claims runs/demo                               what a run says of the sources' claims
  audiotk relabel --help                                 repair labels by a hierarchy or a teacher's scores
  audiotk score --help                                   have a teacher hear recordings
  audiotk store check labels.sqlite                      whether all labels are as they were written
  audiotk doctor                                         what works on this machine
"""
RUN_EXAMPLES = """\
Each notebook runs in the folder you call from (so relative paths mean what you typed), leaves an executed copy and
its files in the run folder, and adds its numbers to results.jsonl there; report.html shows everything and opens
offline. Ctrl+C stops; the same command goes on with what is not finished, and runs again what changed (notebook,
parameters, package or data).

examples:
  audiotk run notebooks --out runs/demo
  audiotk run notebooks/00_quickstart.ipynb -p data folder -p data_root ~/my-recordings
  audiotk run notebooks --scale smoke -p seeds "[0, 1]" --jobs 1

exit status: 0 all finished (or do not apply to the data), 1 a notebook failed, 2 the command cannot be carried out,
130 interrupted
"""
DOCTOR_EXAMPLES = """\
exit status: 0 nothing essential is broken, 1 something is
"""


def main(argv: list[str] | None = None) -> int:
    """Carry out one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.call(arguments))
    except AudiotkError as err:
        print(f"audiotk: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\naudiotk: stopped; what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="audiotk",
        description="Turn noisy audio labels into trustworthy ones: see and hear what is wrong, repair it, train, "
        "and prove that it helped.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"audiotk {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    add_plan(commands)
    _add_report(commands)
    add_claims(commands)
    add_relabel(commands)
    add_score(commands)
    add_store(commands)
    _add_export(commands)
    _add_doctor(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run notebooks and write a report",
        description="Run notebooks, several at a time, and write one report.",
        epilog=RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_notebooks(run)
    run.add_argument(
        "--out", type=Path, metavar="DIR", help="the run folder (default: runs/NAME of the first notebook)"
    )
    run.add_argument("--jobs", type=int, metavar="N", help="notebooks at the same time (default: one a core)")
    run.add_argument("--force", action="store_true", help="run again what is finished, from scratch")
    run.add_argument("--quiet", action="store_true", help="no progress")
    run.set_defaults(call=_run)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report",
        help="write the report of a run folder anew",
        description="Write DIR/report.html from the executed notebooks and results in the run folder DIR.",
        epilog="example:\n  audiotk report runs/demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument("out", type=Path, metavar="DIR", help="a run folder")
    report.set_defaults(call=_report)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser(
        "export",
        help="write a trained model as ONNX",
        description="Write a trained model with its front end as an ONNX file: waveform in, scores out.",
        epilog="example:\n  audiotk export runs/demo/00_quickstart/melcnn-seed0 model.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument("run", type=Path, metavar="RUN", help="folder of a training run, or its best.pt")
    export.add_argument("out", type=Path, metavar="ONNX", help="the file to write")
    export.set_defaults(call=_export)


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what works on this machine",
        description="Say in a few lines what works on this machine, and what to do about the rest.",
        epilog=DOCTOR_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="run folder to check (default: runs)"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(call=_doctor)


def _run(arguments: argparse.Namespace) -> int:
    from audiotk.report import write_report
    from audiotk.runs import run_notebooks

    out = arguments.out or Path("runs") / arguments.paths[0].resolve().stem
    entries = run_notebooks(
        arguments.paths,
        out,
        parameters_of(arguments),
        jobs=arguments.jobs,
        resume=not arguments.force,
        progress=not arguments.quiet,
    )
    report = write_report(out)
    fine = ("finished", "not applicable")
    bad = [name for name, entry in entries.items() if entry["status"] not in fine]
    for name, entry in entries.items():
        if (error := entry["error"]) is None:
            continue
        print(f"audiotk: {name} {entry['status']}: {error['name']}: {error['text']}", file=sys.stderr)
    print(f"report: {report}", file=sys.stderr)
    return 1 if bad else 0


def _report(arguments: argparse.Namespace) -> int:
    from audiotk.report import write_report

    print(f"report: {write_report(arguments.out)}", file=sys.stderr)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from audiotk.models.export import export_onnx

    best = arguments.run / "best.pt" if arguments.run.is_dir() else arguments.run
    print(export_onnx(best, arguments.out))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from audiotk.doctor import examine, tell

    findings = examine(arguments.out)
    print(tell(findings, as_json=arguments.json))
    return 1 if any(finding.mark == "FAIL" for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
