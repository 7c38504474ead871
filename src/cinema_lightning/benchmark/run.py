"""``cinema benchmark run``: one cell, or all of them on this machine."""

from __future__ import annotations

from pathlib import Path

from cinema_lightning.benchmark.children import relay_signals
from cinema_lightning.benchmark.local import line, run_local, summary
from cinema_lightning.benchmark.matrix import Cell, read_matrix, select
from cinema_lightning.benchmark.plan import DEFAULT
from cinema_lightning.benchmark.record import CellFolder
from cinema_lightning.benchmark.runner import PROGRAM, Workplace, run_cell
from cinema_lightning.benchmark.state import survey
from cinema_lightning.benchmark.submissions import read_frozen
from cinema_lightning.cluster import slurm
from cinema_lightning.errors import CinemaError
from cinema_lightning.runs import STOPPED_EXIT_CODE


def run(
    config: str = DEFAULT,
    root: Path | None = None,
    index: int | None = None,
    frozen: Path | None = None,
    local: bool = False,
    jobs: int = 1,
    select: str | None = None,
    retry: bool = False,
) -> int:
    """Runs one cell (--index), or all that are not done, some at a time (--local).

    A cell is trained, then tested on its own data and on the other datasets that the matrix names. What is done
    already is not repeated. SIGTERM, SIGUSR1, SIGUSR2 or Ctrl-C let what runs save its state; the same command goes on
    from there.

    Args:
        config: The benchmark's YAML, by path or packaged name.
        root: Folder of the results, in place of the YAML's own.
        index: Number of the cell, as `cinema benchmark plan` shows it whatever it selects.
        frozen: cells.json of a submission, in which --index then counts: what jobs of an array use.
        local: Run all cells on this machine.
        jobs: With --local, cells at a time (-j).
        select: With --local, which cells, such as task=*_seg,arm=cinema,unet,fraction=100,seed=0.
        retry: With --local, run cells that failed again.

    Returns:
        Exit code: 0 when done; 75 when a signal stopped the work after its state was saved; 1 when a cell failed, or
        another process is at work on it.

    Raises:
        CinemaError: If the options do not go together, or there is no such cell.
    """
    if local == (index is not None):
        raise CinemaError("give either --index N, one cell, or --local, all cells on this machine.")
    if local:
        return _local(config, root, jobs, select, retry)
    if select or retry:
        raise CinemaError("--select and --retry go with --local; --index counts all cells and always runs.")
    assert index is not None
    if frozen is not None:
        content = read_frozen(frozen)
        cells, place = content.cells, Workplace(content.root, content.program or PROGRAM, job_alive=slurm.job_alive)
    else:
        matrix = read_matrix(config, root)
        cells, place = matrix.cells, Workplace(matrix.root, job_alive=slurm.job_alive)
    return _one(_cell(cells, index), place)


def _cell(cells: tuple[Cell, ...], index: int) -> Cell:
    if not 0 <= index < len(cells):
        raise CinemaError(f"--index {index}: there are {len(cells)} cells, counted from 0; see the plan.")
    return cells[index]


def _one(cell: Cell, place: Workplace) -> int:
    print(f"{cell.name}: log in {CellFolder.of(place.root, cell).log}", flush=True)
    with relay_signals() as stop:
        end = run_cell(cell, place, stop)
    print(line(end), flush=True)
    return end.exit_code


_select = select


def _local(config: str, root: Path | None, jobs: int, select: str | None, retry: bool) -> int:
    if jobs < 1:
        raise CinemaError(f"--jobs is {jobs}; give 1 or more.")
    matrix = read_matrix(config, root)
    states = survey(matrix.cells, _select(matrix.cells, select), matrix.root)
    wanted = [state.cell for state in states if state.state not in ("done", "running", *(() if retry else ("failed",)))]
    failed = 0 if retry else sum(state.state == "failed" for state in states)
    if failed:
        print(f"{failed} cells failed before and are left out; --retry runs them again.")
    if not wanted:
        print("Nothing to run.")
        return 1 if failed else 0
    with relay_signals() as stop:
        ends = run_local(wanted, Workplace(matrix.root, job_alive=slurm.job_alive), jobs, stop)
    print(summary(ends, len(wanted) - len(ends)))
    if stop.signal is not None:
        return STOPPED_EXIT_CODE
    return max((end.exit_code for end in ends), default=0) or (1 if failed else 0)
