"""What people touch in a notebook: the segment labeler and its kin. Nothing is loaded before it is asked for."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "SegmentLabeler": "audiotk.widgets.labeler",
    "RuleReview": "audiotk.widgets.review",
    "TeacherReview": "audiotk.widgets.teacher_review",
    "Adjudicator": "audiotk.widgets.adjudicator",
    "ClusterExplorer": "audiotk.widgets.explorer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
