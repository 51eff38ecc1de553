"""The same work on a Dask cluster: a shard is a task, a worker loads its teacher once and writes its parts itself.

A worker that is killed costs the shards it had not finished; Dask gives them to another. Workers read the same paths
and write to the same folder, so the disk is shared (as it is on Slurm clusters and with a Kubernetes volume).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import dask

from audiotk.scoring.hearing import Job, hear_shard
from audiotk.scoring.parts import Parts
from audiotk.tables import AudiotkError
from audiotk.teachers import load
from audiotk.teachers.base import Teacher

if TYPE_CHECKING:
    from distributed import Client

AHEAD = 8  # shards for each worker that the scheduler knows of; the others wait here, so that it stays small
_loaded: dict[str, Teacher] = {}  # the teacher of this worker, by key and recipe
_lock = threading.Lock()  # one shard at a time hears; a worker's other threads would only share its processors


def hear_on(
    client: Client,
    teacher: Teacher,
    shards: list[list[Job]],
    parts: Parts,
    batch_size: int,
    threads: int | None,
    told: Callable[[int], Any],
) -> None:
    """Have the workers of `client` hear all shards.

    Raises
    ------
    AudiotkError
        A worker has other weights or another version, a shard failed on several workers, or there is no worker.
    """
    from distributed import KilledWorker, as_completed

    workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        raise AudiotkError("cluster: has no worker; start some, as with dask worker tcp://…")
    shared = None if teacher.recipe else client.scatter(teacher, broadcast=True)
    options: dict[str, Any] = {"pure": False}
    if any("GPU" in worker["resources"] for worker in workers.values()):
        options["resources"] = {"GPU": 1}
    task = Task(teacher.recipe, parts.key, str(parts.folder.resolve().parent), batch_size, threads)
    left = iter(shards)
    some = client.map(_hear, list(islice(left, AHEAD * len(workers) + AHEAD)), task=task, shared=shared, **options)
    futures = as_completed(some)
    try:
        for future in futures:
            told(future.result())
            some.remove(future)
            for jobs in islice(left, 1):
                some.append(client.submit(_hear, jobs, task=task, shared=shared, **options))
                futures.add(some[-1])
    except AudiotkError:
        raise
    except KilledWorker as err:
        raise AudiotkError(f"cluster: workers died on one shard again and again, out of memory? {err}") from err
    except Exception as err:  # whatever a worker or the connection raises: who asks should read which
        raise AudiotkError(f"cluster: a shard failed: {type(err).__name__}: {err}") from err
    finally:
        client.cancel(some)


@dataclass(frozen=True)
class Task:
    """What is the same for all shards: how to load the teacher (or None), and where its numbers go."""

    recipe: tuple[str, dict[str, Any]] | None
    key: str
    out: str
    batch_size: int
    threads: int | None


def _hear(jobs: list[Job], task: Task, shared: Teacher | None) -> int:
    """On a worker: hear a shard and write its part; returns its number of windows."""
    from distributed import get_worker

    wanted = f"{task.key} {task.recipe}"
    threads = get_worker().state.nthreads - 1 if task.threads is None else task.threads
    with _lock:
        if wanted not in _loaded:
            _loaded.clear()
            teacher = load(task.recipe[0], **task.recipe[1]) if task.recipe else shared
            assert teacher is not None
            _loaded[wanted] = teacher
        teacher = _loaded[wanted]
        Parts(task.out, teacher, make=False).write(hear_shard(teacher, jobs, task.batch_size, threads))
    return sum(len(job.ranges) for job in jobs)


@contextmanager
def local(jobs: int) -> Iterator[Client]:
    """A client of `jobs` processes on this machine, one thread each, reachable from this machine only."""
    from distributed import Client, LocalCluster

    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), 1)
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": one_thread}),
        LocalCluster(n_workers=jobs, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """A client of the scheduler at `address`, as ``tcp://host:8786``; AudiotkError if it does not answer."""
    from distributed import Client

    try:
        client = Client(address, timeout="30s")
    except (OSError, ValueError) as err:
        raise AudiotkError(f"cluster {address}: does not answer ({err}); start one with: dask scheduler") from err
    with client:
        yield client
