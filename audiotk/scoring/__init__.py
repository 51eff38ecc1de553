"""What a teacher hears in a million recordings: kept, so that nothing is heard twice, and read in any way afterwards.

>>> heard = listen(dataset.recordings, segments, teacher, "runs/heard")   # killed? the same call goes on
>>> scores = heard.scores(Prompts.read(P1), Reading("softmax", teacher.logit_scale))
>>> heard.embeddings().search(teacher.embed_text(["rain on a tin roof"]), k=20)

Windows are cut on a fixed grid (:mod:`~audiotk.scoring.windows`), heard in shards
(:mod:`~audiotk.scoring.hearing`) on this machine or on a Dask cluster (:mod:`~audiotk.scoring.cluster`), and kept by
the checksums of teacher and sound (:mod:`~audiotk.scoring.parts`). On a CPU the numbers do not depend on the number of
threads, processes or machines; between batch sizes they agree to 1e-5.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tqdm.auto import tqdm

from audiotk.files import cores
from audiotk.scoring.heard import Heard
from audiotk.scoring.hearing import hear_shard
from audiotk.scoring.plan import Plan
from audiotk.tables import AudiotkError, check_recordings, check_segments, whole_recordings
from audiotk.teachers.base import Teacher

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Heard", "listen"]

SHARD = 256  # windows of a shard, about: what a killed worker loses at most


def listen(
    recordings: pd.DataFrame,
    segments: pd.DataFrame | None,
    teacher: Teacher,
    out: str | Path,
    *,
    hop_s: float | None = None,
    batch_size: int = 8,
    threads: int | None = None,
    client: Client | None = None,
    shard: int = SHARD,
    progress: bool = True,
) -> Heard:
    """Have a teacher hear segments; what `out` holds already is not heard again.

    Parameters
    ----------
    recordings, segments
        Tables as in :mod:`audiotk.tables`; `segments` None: each recording whole.
    teacher
        From `audiotk.teachers.load`.
    out
        Folder of what teachers heard; each teacher gets a folder of its own in it. Several runs may share it.
    hop_s
        Distance of windows in seconds; None: the teacher's `window_s`, no overlap.
    batch_size
        Windows at once.
    threads
        Threads that read files (0: none beside the one that hears); None: one less than processors, at least one, and
        on a cluster one less than a worker has.
    client
        A Dask client whose workers do the work; they need the same paths.
    shard
        Windows of a shard: larger ones cost less time between them, and more when a worker is killed.
    progress
        Show a progress bar in windows, with an estimate of the end.

    Returns
    -------
    Heard
        Segments whose recording could be read; the others are in its `problems`, and counted in a warning.

    Raises
    ------
    AudiotkError
        Tables or options that are wrong, a disk that is full, or no recording that can be read.
    """
    recordings = check_recordings(recordings)
    segments = check_segments(whole_recordings(recordings) if segments is None else segments, recordings)
    if batch_size < 1 or shard < 1:
        raise AudiotkError(f"listen: expected batch_size and shard of 1 or more, got {batch_size} and {shard}")
    plan = Plan(recordings, segments, teacher, out, hop_s)
    shards = list(plan.shards(shard))
    windows = sum(len(job.ranges) for jobs in shards for job in jobs)
    with tqdm(total=windows, desc=f"{teacher.name}: windows", unit="w", disable=not (progress and windows)) as bar:
        if client is None:
            readers = max(1, cores() - 1) if threads is None else threads
            for jobs in shards:
                plan.parts.write(hear_shard(teacher, jobs, batch_size, readers, bar.update))
        else:
            from audiotk.scoring.cluster import hear_on

            hear_on(client, teacher, shards, plan.parts, batch_size, threads, bar.update)
    return plan.result()
