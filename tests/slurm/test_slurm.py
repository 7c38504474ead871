"""Arrays on a real SLURM of one node, started for these tests: failures, pre-emption, requeues, resubmission."""

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cinema_lightning.benchmark.matrix import Matrix, read_matrix
from cinema_lightning.benchmark.plan import plan
from cinema_lightning.benchmark.record import CellFolder, read_record
from cinema_lightning.benchmark.state import survey
from cinema_lightning.benchmark.submissions import read_submissions
from cinema_lightning.benchmark.submit import submit_cells
from cinema_lightning.cluster.site import Site
from cinema_lightning.cluster.submit import submit_command
from cinema_lightning.errors import CinemaError

pytestmark = pytest.mark.slow
START = Path(__file__).with_name("start_slurm.py")
FAKE = (sys.executable, str(Path(__file__).parents[1] / "benchmark" / "fake_cinema.py"))
SITE = Site(partition="main", gpus=0, cpus=1, throttle=3, environment={"SITE_SAYS": "it's so"}, setup=["true"])


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory):
    """SLURM's commands talk to a SLURM of this module's own."""
    folder = tmp_path_factory.mktemp("slurm")
    # through a file: the daemons keep what they inherit open
    with (folder / "start.out").open("w+") as out:
        code = subprocess.run([sys.executable, START, "start", folder], stdout=out, stderr=subprocess.STDOUT).returncode
        out.seek(0)
        said = out.read()
    if code == 1 and "cannot be started here" in said:
        pytest.skip(said.strip())
    assert code == 0, said
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        patch.delenv(name)
    for name, value in re.findall(r"export (\w+)=(.*)", said):
        patch.setenv(name, value)
    patch.setenv("OMP_NUM_THREADS", "1")
    yield folder
    subprocess.run([sys.executable, START, "stop", folder], check=False)
    patch.undo()


def matrix_of(folder: Path, seeds=(0,), **options) -> Matrix:
    content = {
        "name": "small",
        "root": str(folder / "results"),
        "seeds": list(seeds),
        "fractions": [100],
        "arguments": options,
        "arms": {"dense": {"unet": {}}},
        "tasks": {"pretrain": {"kind": "dense"}},
    }
    (folder / "m.yaml").write_text(yaml.safe_dump(content))
    return read_matrix(str(folder / "m.yaml"))


def submit(matrix: Matrix, site: Site = SITE) -> str | None:
    return submit_cells(matrix, site, range(len(matrix.cells)), program=FAKE)


def states(matrix: Matrix) -> Counter:
    return Counter(state.state for state in survey(matrix.cells, range(len(matrix.cells)), matrix.root))


def trace(matrix: Matrix, index: int = 0) -> list[str]:
    file = CellFolder.of(matrix.root, matrix.cells[index]).path / "trace.txt"
    return file.read_text().splitlines() if file.exists() else []


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            queue = subprocess.run(["squeue", "--array"], capture_output=True, text=True).stdout
            raise AssertionError(f"nothing happened; the queue:\n{queue}")
        time.sleep(0.25)


def wait_until_through(matrix: Matrix, seconds=90.0):
    wait_for(lambda: not (states(matrix)["queued"] or states(matrix)["running"]), seconds)


def command(*arguments) -> str:
    return subprocess.run([str(a) for a in arguments], check=True, capture_output=True, text=True).stdout


def test_an_array_with_one_failure_and_resubmission(tmp_path, capsys):
    mended = tmp_path / "mended"
    options = {"fake.code": 1, "fake.seed": 2, "fake.until": str(mended), "fake.steps": 20}
    matrix = matrix_of(tmp_path, seeds=range(6), **options)
    job = submit(matrix)
    assert states(matrix)["queued"] + states(matrix)["running"] >= 4
    assert submit(matrix) is None, "everything is queued or running"
    # what waits runs what was frozen, whatever becomes of the YAML
    matrix.path.write_text("tasks: {}")
    wait_until_through(matrix)
    assert states(matrix) == {"done": 5, "failed": 1}
    matrix = matrix_of(tmp_path, seeds=range(6), **options)
    failed = survey(matrix.cells, [2], matrix.root)[0]
    assert "the heart of this cell is broken" in failed.detail
    (submission,) = read_submissions(matrix.root)
    assert submission.job == job
    wait_for(lambda: [submission.exit_code(i) for i in range(6)] == [0, 0, 1, 0, 0, 0])
    assert "failed" in submission.log(2).read_text()
    record = read_record(CellFolder.of(matrix.root, matrix.cells[4]))
    assert record.jobs == [f"{job}_4"]
    assert all(len([line for line in trace(matrix, i) if line.startswith("trained")]) == 1 for i in (0, 1, 3, 4, 5))

    mended.touch()
    again = submit(matrix)
    assert read_submissions(matrix.root)[-1].cells == (matrix.cells[2].name,)
    wait_until_through(matrix)
    assert states(matrix) == {"done": 6}
    assert read_record(CellFolder.of(matrix.root, matrix.cells[2])).jobs == [f"{job}_2", f"{again}_0"]
    assert submit(matrix) is None
    capsys.readouterr()
    assert plan(config=str(matrix.path)) == 0
    assert "6 cells: 6 done." in capsys.readouterr().out


@pytest.mark.parametrize("number", ["USR2", "TERM", "USR1"])
def test_a_warned_element_saves_is_requeued_and_goes_on(tmp_path, number):
    matrix = matrix_of(tmp_path, seeds=(0, 1), **{"fake.steps": 120})
    job = submit(matrix)
    wait_for(lambda: trace(matrix, 0) and trace(matrix, 1))
    command("scancel", f"--signal={number}", "--batch", f"{job}_1")
    wait_for(lambda: len(trace(matrix, 1)) > 1)
    wait_for(lambda: "PENDING" in command("squeue", "--noheader", "--format=%T", f"--jobs={job}_1"))
    assert survey(matrix.cells, [1], matrix.root)[0].state == "queued"
    assert submit(matrix) is None
    wait_until_through(matrix)
    assert states(matrix) == {"done": 2}
    assert trace(matrix, 0) == ["fit from 0", "trained 120", "test pretrain"], "the other element was left alone"
    _first, stopped, second, *rest = trace(matrix, 1)
    assert stopped.startswith("stopped by SIGUSR2 after")
    assert second == f"fit from {stopped.split()[-1]}"
    assert rest == ["trained 120", "test pretrain"]
    record = read_record(CellFolder.of(matrix.root, matrix.cells[1]))
    assert (record.attempts, record.state) == (2, "done")


@pytest.mark.parametrize("how", ["requeue", "partition"])
def test_what_slurm_preempts_by_itself_goes_on(tmp_path, how):
    matrix = matrix_of(tmp_path, **{"fake.steps": 300})
    job = submit(matrix)
    wait_for(lambda: trace(matrix))
    if how == "requeue":
        command("scontrol", "requeue", f"{job}_0")
    else:
        command("sbatch", "--partition=urgent", "--ntasks=4", "--output=/dev/null", "--wrap=sleep 2")
    wait_until_through(matrix, 120)
    assert states(matrix) == {"done": 1}
    lines = trace(matrix)
    assert lines[1].startswith("stopped by")
    assert lines[2] == f"fit from {lines[1].split()[-1]}"
    assert lines[-1] == "test pretrain"


def test_the_time_limit_warns_and_requeues(tmp_path):
    matrix = matrix_of(tmp_path, **{"fake.steps": 1200})
    submit(matrix, replace(SITE, time="00:02:00", lead_seconds=110))
    wait_for(lambda: len(trace(matrix)) >= 3, 120)
    lines = trace(matrix)
    assert lines[1].startswith("stopped by SIGUSR2")
    assert lines[2] == f"fit from {lines[1].split()[-1]}"
    command("scancel", "--user=root")


def test_a_cancelled_job_stays_cancelled_and_can_be_submitted_again(tmp_path):
    matrix = matrix_of(tmp_path, **{"fake.steps": 60})
    job = submit(matrix)
    wait_for(lambda: trace(matrix))
    command("scancel", job)
    wait_until_through(matrix)
    time.sleep(3)
    assert states(matrix) == {"stopped": 1}
    assert submit(matrix) is not None
    wait_until_through(matrix)
    assert states(matrix) == {"done": 1}
    assert trace(matrix)[2] == f"fit from {trace(matrix)[1].split()[-1]}"


def test_a_lost_job_is_noticed(tmp_path):
    """SIGKILL to everything, as a node's failure would."""
    matrix = matrix_of(tmp_path, **{"fake.steps": 100})
    job = submit(matrix)
    wait_for(lambda: trace(matrix))
    command("scancel", "--signal=KILL", "--full", f"{job}_0")
    wait_until_through(matrix)
    (state,) = survey(matrix.cells, [0], matrix.root)
    assert state.state == "stopped"
    (CellFolder.of(matrix.root, matrix.cells[0]).path / "busy").unlink(missing_ok=True)  # of the killed child
    assert submit(matrix) is not None
    wait_until_through(matrix)
    assert states(matrix) == {"done": 1}


def test_two_people_submit_at_once(tmp_path):
    matrix = matrix_of(tmp_path, seeds=range(4), **{"fake.steps": 10})
    jobs: list[str | None] = []
    threads = [threading.Thread(target=lambda: jobs.append(submit(matrix))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(job is not None for job in jobs) == 1
    wait_until_through(matrix)
    assert states(matrix) == {"done": 4}


def test_a_job_that_cannot_start_python_is_a_failure_in_the_plan(tmp_path):
    matrix = matrix_of(tmp_path)
    submit(matrix, replace(SITE, python="/no/such/python"))
    wait_until_through(matrix)
    (state,) = survey(matrix.cells, [0], matrix.root)
    assert state.state == "failed"
    assert re.search(r"ended with code \d+ before the cell began", state.detail)
    assert "/no/such/python" in state.log.read_text()


def test_what_slurm_refuses_leaves_nothing_behind(tmp_path):
    matrix = matrix_of(tmp_path)
    with pytest.raises(CinemaError, match="invalid partition"):
        submit(matrix, replace(SITE, partition="moon"))
    assert read_submissions(matrix.root) == []
    assert states(matrix) == {"missing": 1}


def test_a_training_in_two_processes_that_is_preempted(tmp_path, phantom_cohort, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit = [
        *("fit", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)),
        *("--model.network.conv_channels=[4,8]", "--model.network.conv_blocks=1", "--model.network.enc_dim=16"),
        *("--model.network.enc_depth=1", "--model.network.enc_heads=2", "--model.network.dec_dim=16"),
        *("--model.network.dec_depth=1", "--model.network.dec_heads=2", "--model.optim.warmup_epochs=1"),
        *("--pictures.every_n_epochs=0", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *("--data.batch_size=2", "--trainer.max_epochs=100000", "--trainer.strategy=ddp"),
    ]
    assert submit_command(fit, SITE, processes=2) == 0
    job = re.search(r"job (\d+)", capsys.readouterr().out)[1]
    with pytest.raises(CinemaError, match=f"job {job} does that already"):
        submit_command(fit, SITE, processes=2)
    run = tmp_path / "runs" / "pretrain+phantom" / "0"
    last = run / "checkpoints" / "last.ckpt"
    wait_for(last.exists, 120)
    command("scancel", "--signal=USR2", "--batch", job)
    wait_for(lambda: "PENDING" in command("squeue", "--noheader", "--format=%T", f"--jobs={job}"))
    saved = last.stat().st_mtime_ns
    wait_for(lambda: last.stat().st_mtime_ns > saved, 120)
    command("scancel", job)
    wait_for(lambda: not command("squeue", "--noheader"), 60)
    assert [entry.name for entry in run.parent.iterdir()] == ["0"], "the requeued job went on in its folder"
    log = next((tmp_path / "jobs").glob("*.out")).read_text()
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in log
    assert "SIGUSR2 received" in log
