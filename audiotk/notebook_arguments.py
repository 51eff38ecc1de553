"""What ``audiotk run`` and ``audiotk plan`` ask alike: which notebooks, with which parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

from audiotk.errors import AudiotkError


def add_notebooks(parser: argparse.ArgumentParser) -> None:
    """Add notebooks, ``-p NAME VALUE`` and ``--scale`` to the arguments of a command."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="NOTEBOOK", help="a notebook, or a folder of them")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], dest="parameters", metavar=("NAME", "VALUE"),
        help="set a parameter of the notebooks; may be repeated",
    )  # fmt: skip
    parser.add_argument("--scale", choices=("smoke", "demo", "paper"), help="short for -p scale SCALE")


def parameters_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The parameters by name, or an AudiotkError where one is given twice."""
    parameters = dict(arguments.parameters)
    if len(parameters) < len(arguments.parameters):
        raise AudiotkError("a parameter is given twice; say each -p NAME VALUE once")
    if arguments.scale is not None:
        if "scale" in parameters:
            raise AudiotkError("scale is given twice, by --scale and by -p scale; say it once")
        parameters["scale"] = arguments.scale
    return parameters
