"""``audiotk score``: have a teacher hear recordings, on this machine or a cluster, and write scores or embeddings.

Imports what is heavy only when it works, so that asking for help is quick.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotk.errors import AudiotkError

if TYPE_CHECKING:
    from distributed import Client

    from audiotk.scoring import Heard
    from audiotk.teachers import Prompts, Teacher
    from audiotk.teachers.readings import Reading

DESCRIPTION = """\
Have a teacher hear recordings and write what it says. What it heard is kept in DIR/heard, so a killed run goes on where
it was, and other prompts, readings or thresholds cost nothing.
"""
EPILOG = """\
DIR then holds scores.parquet (column segment and one a class; the teacher, prompts and thresholds are in its metadata),
problems.csv (files that could not be heard, with the reason), with --embeddings a folder to search in, and heard/.
Standard output is one JSON object; messages go to standard error.

Teachers: laion-clap, msclap, transformers (a folder), yamnet, onnx, audiotk (a checkpoint), examples, or module:Class.
Further options of a teacher: -o NAME VALUE, as -o tokenizer DIR.

examples:
  audiotk score --teacher laion-clap --weights clap.pt --prompts prompts.yaml --audio recordings --out runs/clap
  audiotk score --teacher yamnet --weights yamnet.tflite --audio files.csv --hop-s 0.4875 --out runs/yamnet
  audiotk score --teacher laion-clap --prompts prompts.yaml --audio recordings --out runs/clap --jobs 2
  audiotk score ... --cluster tcp://scheduler:8786      workers need the same paths; see the README

exit status: 0 done (files that could not be heard are counted), 2 bad input or call, 130 interrupted
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``score`` to the commands of the command line."""
    parser = commands.add_parser(
        "score",
        help="have a teacher hear recordings",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--teacher", required=True, metavar="NAME", help="who hears")
    add("--weights", metavar="FILE", help="weights of the teacher (default: found in the cache, or downloaded)")
    add("-o", nargs=2, action="append", default=[], dest="options", metavar=("NAME", "VALUE"), help="another option")
    add("--device", help="cpu, cuda, cuda:1, ...")
    add("--dtype", choices=("float32", "bfloat16"), help="bfloat16 is faster where the processor has it")
    add("--prompts", metavar="FILE", help="YAML of classes and texts, or p1 for P1's Table 1 (default: own classes)")
    add("--audio", required=True, metavar="DIR|CSV", help="sound files, or a CSV with path[,start_s,end_s]")
    add("--out", required=True, type=Path, metavar="DIR", help="where to write")
    add("--hop-s", type=float, metavar="S", help="distance of windows in seconds (default: no overlap)")
    add("--aggregate", choices=("embedding", "mean", "max"), help="how windows become a segment")
    add("--reading", choices=("softmax", "cosine", "background", "own"), help="how a similarity becomes a score")
    add("--threshold", type=float, metavar="T", help="kept with the scores: a class is present above it")
    add("--embeddings", action="store_true", help="also write embeddings to search in")
    add("--batch-size", type=int, default=8, metavar="N", help="windows at once (default: 8)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=int, default=1, metavar="N", help="processes on this machine, one thread each")
    where.add_argument("--cluster", metavar="tcp://…", help="address of a Dask scheduler")
    add("--quiet", action="store_true", help="no progress")
    parser.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out ``audiotk score``; returns the exit status."""
    from audiotk.datasets.sounds import find
    from audiotk.scoring import listen
    from audiotk.teachers import P1, Prompts, load

    prompts = None
    if arguments.prompts:
        prompts = Prompts.read(P1 if arguments.prompts == "p1" else arguments.prompts)
    teacher = load(arguments.teacher, **_options(arguments))
    if prompts is None and teacher.dim and not teacher.classes and not arguments.embeddings:
        raise AudiotkError(f"{teacher.name}: needs --prompts, or --embeddings to keep embeddings alone")
    _check(arguments, teacher, prompts)
    with _warnings_told(), _client(arguments) as client:
        recordings, segments, problems = find(arguments.audio, progress=not arguments.quiet)
        heard = listen(
            recordings, segments, teacher, arguments.out / "heard", hop_s=arguments.hop_s,
            batch_size=arguments.batch_size, client=client, progress=not arguments.quiet,
        )  # fmt: skip
    print(json.dumps(_write(arguments, heard, prompts, problems), ensure_ascii=False))
    return 0


def _check(arguments: argparse.Namespace, teacher: Teacher, prompts: Prompts | None) -> None:
    """Refuse before hours of hearing what could not be written after them."""
    from audiotk.scoring.heard import check_question
    from audiotk.scoring.windows import check_hop

    check_hop(teacher.window_s, arguments.hop_s)
    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise AudiotkError(f"--threshold: expected a number from 0 to 1, as scores are, got {arguments.threshold}")
    if arguments.embeddings and not teacher.dim:
        raise AudiotkError(f"--embeddings: {teacher.name} gives scores and no embeddings")
    if prompts is not None or teacher.classes:
        check_question(teacher, prompts, _reading(arguments, teacher), arguments.aggregate)


def _reading(arguments: argparse.Namespace, teacher: Teacher) -> Reading | None:
    from audiotk.teachers.readings import Reading

    return Reading(arguments.reading, teacher.logit_scale) if arguments.reading else None


def _write(arguments: argparse.Namespace, heard: Heard, prompts: Any, unreadable: Any) -> dict[str, Any]:
    import pandas as pd

    from audiotk.files import atomic

    out, teacher = arguments.out, heard.teacher
    told: dict[str, Any] = {
        "teacher": heard.parts.about,
        "segments": len(heard.segments),
        "windows": len(heard.windows),
    }
    if prompts is not None or teacher.classes:
        reading = _reading(arguments, teacher)
        path = out / "scores.parquet"
        heard.write_scores(path, prompts, reading, arguments.aggregate, arguments.threshold)
        told |= {"scores": str(path), "classes": len(heard.classes(prompts))}
    if arguments.embeddings:
        told["embeddings"] = str(heard.embeddings().save(out / "embeddings"))
    problems = pd.concat([unreadable, heard.problems], ignore_index=True)
    with atomic(out / "problems.csv") as draft:
        problems.to_csv(draft, index=False)
    return told | {"problems": len(problems), "problems_file": str(out / "problems.csv")}


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of the teacher, from all places where they can be given."""
    options: dict[str, Any] = {}
    given = [(name, getattr(arguments, name)) for name in ("weights", "device", "dtype")]
    further = [(name, _plain(value)) for name, value in arguments.options]
    for name, value in [*((name, value) for name, value in given if value is not None), *further]:
        if name in options:
            raise AudiotkError(f"score: option {name!r} is given twice")
        options[name] = value
    return options


def _plain(text: str) -> Any:
    """A number, true, false or null as such; anything else is text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | None) else text


@contextmanager
def _client(arguments: argparse.Namespace) -> Iterator[Client | None]:
    """A client of the cluster, of processes on this machine, or none."""
    if arguments.cluster is None and arguments.jobs == 1:
        yield None
        return
    if arguments.jobs < 1:
        raise AudiotkError(f"--jobs: expected 1 or more, got {arguments.jobs}")
    from audiotk.scoring.cluster import connect, local

    with connect(arguments.cluster) if arguments.cluster else local(arguments.jobs) as client:
        yield client


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Warnings as lines on standard error."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for one in told:
                if issubclass(one.category, UserWarning):
                    print(f"audiotk: warning: {one.message}", file=sys.stderr)
