"""``cinema benchmark submit``: what is not done goes to SLURM as one array."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cinema_lightning.benchmark.locks import Lock
from cinema_lightning.benchmark.matrix import Cell, Matrix, read_matrix, select
from cinema_lightning.benchmark.plan import DEFAULT, counts
from cinema_lightning.benchmark.state import survey
from cinema_lightning.benchmark.submissions import Frozen, write_submission
from cinema_lightning.cluster import slurm
from cinema_lightning.cluster.script import header, launch, script
from cinema_lightning.cluster.site import Site, read_site
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text

WAIT_SECONDS = 60.0
LEFT_ALONE = ("done", "running", "queued")


def submit(
    site: str,
    config: str = DEFAULT,
    root: Path | None = None,
    select: str | None = None,
    dry_run: bool = False,
) -> int:
    """Submits the cells that are neither done, running nor queued to SLURM, as one array.

    What was pre-empted or ran into the time limit saves, is requeued and goes on. Submitting again adds only what is
    still missing, cells that failed included; two people who submit at once wait for each other. Jobs run what was
    frozen at submission, whatever happens to the YAML since.

    Args:
        site: YAML of the cluster (see site_example.yaml), by path.
        config: The benchmark's YAML, by path or packaged name.
        root: Folder of the results, in place of the YAML's own; on a file system that all nodes share.
        select: Which cells, such as task=*_seg,arm=cinema,unet,fraction=100,seed=0.
        dry_run: Print the batch script and submit nothing.

    Returns:
        0.

    Raises:
        CinemaError: If a YAML is malformed, another submission is under way, or SLURM refuses.
    """
    matrix = read_matrix(config, root)
    submit_cells(matrix, read_site(site), _select(matrix.cells, select), dry_run)
    return 0


_select = select


def submit_cells(
    matrix: Matrix, site: Site, indices: Sequence[int], dry_run: bool = False, program: Sequence[str] | None = None
) -> str | None:
    """Submits cells.

    Args:
        matrix: The benchmark.
        site: The cluster.
        indices: Cells to look at.
        dry_run: Print the script only.
        program: What the cells' verbs are given to, in place of this package.

    Returns:
        The array's job id; None where nothing was submitted.

    Raises:
        CinemaError: If another submission is under way, or SLURM refuses.
    """
    if dry_run:
        cells = _left(matrix, indices, site.max_array)
        folder = matrix.root.resolve() / "submissions" / _stamp()
        print(batch_script(site, folder, _job_name(matrix, folder), len(cells)) if cells else "Nothing to submit.")
        return None
    with _claim(matrix.root):
        if indices and slurm.queue(["cinema"]) is None:
            raise CinemaError(
                "squeue does not answer here, so that nobody knows what is queued already: submit from a login node of "
                "the cluster, when its controller is up; --dry-run shows the script anywhere."
            )
        cells = _left(matrix, indices, site.max_array)
        if not cells:
            return None
        return _submit(matrix, site, cells, program)


def _left(matrix: Matrix, indices: Sequence[int], limit: int) -> list[Cell]:
    """Cells to submit; says what is left alone."""
    states = survey(matrix.cells, indices, matrix.root)
    print(counts(states))
    cells = [state.cell for state in states if state.state not in LEFT_ALONE]
    if not cells:
        print("Nothing to submit.")
    if len(cells) > limit:
        print(f"The first {limit} of {len(cells)} cells fit into an array; submit again when it is through.")
    return cells[:limit]


@contextmanager
def _claim(root: Path) -> Iterator[None]:
    """Lets one submission at a time look and submit."""
    lock = Lock(root / "submit.lock")
    until = time.monotonic() + WAIT_SECONDS
    while (holder := lock.acquire()) is not None:
        if time.monotonic() > until:
            raise CinemaError(
                f"{holder.facts.get('user', 'Somebody')} is submitting this benchmark from {holder.host} (process "
                f"{holder.pid}) and has not finished in {WAIT_SECONDS:.0f} s; look there, then submit again."
            )
        time.sleep(0.5)
    try:
        yield
    finally:
        lock.release()


def _submit(matrix: Matrix, site: Site, cells: list[Cell], program: Sequence[str] | None) -> str:
    folder = matrix.root.resolve() / "submissions" / _stamp()
    for part in ("logs", "exits"):
        (folder / part).mkdir(parents=True)
    name = _job_name(matrix, folder)
    facts = {"user": getpass.getuser(), "host": socket.gethostname(), "cwd": str(Path.cwd()), "submitted": time.time()}
    Frozen(matrix.root.resolve(), None if program is None else tuple(program), tuple(cells)).write(
        folder / "cells.json"
    )
    write_text(folder / "job.sh", batch_script(site, folder, name, len(cells)))
    write_submission(folder, name, cells, **facts)  # first: if this process dies now, the queue still tells by name
    try:
        job = slurm.sbatch(folder / "job.sh")
    except CinemaError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    write_submission(folder, name, cells, job=job, **facts)
    print(f"Submitted {len(cells)} cells as job {job}. Script, logs and exit codes: {folder}.")
    return job


def batch_script(site: Site, folder: Path, name: str, count: int) -> str:
    """The batch script of an array.

    Args:
        site: The cluster.
        folder: The submission's folder.
        name: Job name.
        count: Number of cells.

    Returns:
        Its text.
    """
    lines = header(site, name, f"{folder}/logs/%a.out", array=f"0-{count - 1}")
    frozen = ["benchmark", "run", "--frozen", str(folder / "cells.json"), "--index"]
    return script(
        lines,
        site,
        f'{launch(site, frozen)} "$SLURM_ARRAY_TASK_ID"',
        job="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}",
        note=f'"{folder}/exits/$SLURM_ARRAY_TASK_ID"',
    )


def _stamp() -> str:
    return f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def _job_name(matrix: Matrix, folder: Path) -> str:
    """Unique, so that squeue finds the job by it; SLURM's own tools take no commas in it."""
    return f"cinema-{matrix.name}-{folder.name[-6:]}".replace(",", "_").replace(os.sep, "_")
