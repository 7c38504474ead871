"""Cells run, stop, go on, fail and cost, with a stand-in for `cinema` itself."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from cinema_lightning.benchmark.children import Relay
from cinema_lightning.benchmark.estimate import estimate
from cinema_lightning.benchmark.local import Watch, run_local, slot_environments
from cinema_lightning.benchmark.locks import Lock
from cinema_lightning.benchmark.matrix import Matrix, read_matrix
from cinema_lightning.benchmark.plan import counts, plan
from cinema_lightning.benchmark.record import CellFolder, read_record
from cinema_lightning.benchmark.run import run
from cinema_lightning.benchmark.runner import Workplace, run_cell, steps_of
from cinema_lightning.benchmark.state import survey
from cinema_lightning.errors import CinemaError

FAKE = (sys.executable, str(Path(__file__).with_name("fake_cinema.py")))


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """No scheduler, wherever the tests run."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("cinema_lightning.cluster.slurm._ask", lambda command: None)


def matrix_of(folder: Path, seeds=(0,), fractions=(100,), **options) -> Matrix:
    content = {
        "root": str(folder / "results"),
        "seeds": list(seeds),
        "fractions": list(fractions),
        "arguments": options,
        "arms": {"dense": {"unet": {"network": "UNet"}}},
        "tasks": {"pretrain": {"kind": "dense", "also_test": ["laptop"]}},
    }
    (folder / "m.yaml").write_text(yaml.safe_dump(content))
    return read_matrix(str(folder / "m.yaml"))


def place(matrix: Matrix) -> Workplace:
    return Workplace(matrix.root, FAKE)


def states(matrix: Matrix) -> list[str]:
    return [state.state for state in survey(matrix.cells, range(len(matrix.cells)), matrix.root)]


def trace(matrix: Matrix, index: int = 0) -> list[str]:
    return (CellFolder.of(matrix.root, matrix.cells[index]).path / "trace.txt").read_text().splitlines()


def test_training_then_tests_once(tmp_path):
    matrix = matrix_of(tmp_path)
    folder = CellFolder.of(matrix.root, matrix.cells[0])
    assert states(matrix) == ["missing"]
    assert run_cell(matrix.cells[0], place(matrix), Relay()).state == "done"
    assert trace(matrix) == ["fit from 0", "trained 2", "test pretrain", "test laptop"]
    assert (folder.results("laptop") / "cases.csv").is_file()
    record = read_record(folder)
    assert record.state == "done"
    assert list(record.steps) == ["fit", "test pretrain", "test laptop"]
    assert all(
        step.exit_code == 0 and step.seconds > 0 and step.max_rss_bytes > 2**20 for step in record.steps.values()
    )
    assert record.devices == 0
    assert "cores" in record.device
    assert record.gpu_hours == 0
    assert record.attempts == 1
    assert record.max_epochs == 800
    assert states(matrix) == ["done"]
    assert run_cell(matrix.cells[0], place(matrix), Relay()).reason == "was done already"
    assert len(trace(matrix)) == 4


def test_a_new_test_is_all_that_a_finished_cell_still_does(tmp_path):
    matrix = matrix_of(tmp_path)
    run_cell(matrix.cells[0], place(matrix), Relay())
    content = yaml.safe_load((tmp_path / "m.yaml").read_text())
    content["tasks"]["pretrain"]["also_test"] = ["laptop", "phantom"]
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(content))
    more = read_matrix(str(tmp_path / "m.yaml"))
    (state,) = survey(more.cells, [0], more.root)
    assert (state.state, state.detail) == ("stopped", "not tested yet: phantom; resumable")
    assert run_cell(more.cells[0], place(more), Relay()).state == "done"
    assert trace(more)[4:] == ["test phantom"]


def test_a_failure_says_why_and_can_be_run_again(tmp_path):
    matrix = matrix_of(tmp_path, **{"fake.code": 3, "fake.until": str(tmp_path / "mended")})
    outcome = run_cell(matrix.cells[0], place(matrix), Relay())
    assert (outcome.state, outcome.exit_code) == ("failed", 1)
    assert outcome.reason == "fit ended with code 3: cinema fit: the heart of this cell is broken."
    (state,) = survey(matrix.cells, [0], matrix.root)
    assert (state.state, state.detail) == ("failed", outcome.reason)
    assert "Traceback" in state.log.read_text()
    (tmp_path / "mended").touch()
    assert run_cell(matrix.cells[0], place(matrix), Relay()).state == "done"
    assert read_record(CellFolder.of(matrix.root, matrix.cells[0])).attempts == 2


def test_a_test_without_results_is_a_failure(tmp_path):
    matrix = matrix_of(tmp_path)
    program = (sys.executable, "-c", "")
    outcome = run_cell(matrix.cells[0], Workplace(matrix.root, program), Relay())
    assert outcome.state == "failed"
    assert "wrote no" in outcome.reason


def test_a_killed_child_is_a_failure(tmp_path):
    matrix = matrix_of(tmp_path)
    program = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    outcome = run_cell(matrix.cells[0], Workplace(matrix.root, program), Relay())
    assert outcome.reason == "fit was killed by SIGKILL (out of memory?)"


def test_options_that_change_begin_the_cell_anew(tmp_path):
    matrix = matrix_of(tmp_path, **{"fake.code": 3})
    run_cell(matrix.cells[0], place(matrix), Relay())
    matrix = matrix_of(tmp_path)
    assert run_cell(matrix.cells[0], place(matrix), Relay()).state == "done"
    record = read_record(CellFolder.of(matrix.root, matrix.cells[0]))
    assert record.attempts == 1
    assert (matrix.root / "earlier" / matrix.cells[0].name / "1" / "run").is_dir()
    matrix = matrix_of(tmp_path, **{"trainer.max_epochs": 3})
    (state,) = survey(matrix.cells, [0], matrix.root)
    assert state.state == "done"
    assert "other options" in state.detail


def start_runner(matrix: Matrix) -> subprocess.Popen:
    """A runner in a process of its own, as jobs of an array are."""
    code = f"""
import signal
import sys
from pathlib import Path
for number in (signal.SIGHUP, signal.SIGINT):  # which nohup, or a shell's background, lets the tests ignore
    signal.signal(number, signal.SIG_DFL)
import cinema_lightning.benchmark.run as run
from cinema_lightning.benchmark.matrix import read_matrix
from cinema_lightning.benchmark.runner import Workplace
matrix = read_matrix({str(matrix.path)!r})
sys.exit(run._one(matrix.cells[0], Workplace(matrix.root, {FAKE!r})))
"""
    return subprocess.Popen([sys.executable, "-c", code])


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_the_next_run_goes_on(tmp_path, number):
    matrix = matrix_of(tmp_path, **{"fake.steps": 30})
    runner = start_runner(matrix)
    folder = CellFolder.of(matrix.root, matrix.cells[0])
    wait_for((folder.path / "trace.txt").exists)
    assert states(matrix) == ["running"]
    runner.send_signal(number)
    assert runner.wait(20) == 75
    record = read_record(folder)
    assert record.state == "stopped"
    assert record.reason == f"{signal.Signals(number).name} during fit"
    (state,) = survey(matrix.cells, [0], matrix.root)
    assert state.state == "stopped"
    before = record.seconds
    assert run_cell(matrix.cells[0], place(matrix), Relay()).state == "done"
    lines = trace(matrix)
    saved = int(lines[1].split()[-1])
    assert 0 < saved < 30
    assert lines[2] == f"fit from {saved}"
    assert read_record(folder).seconds > before


def test_a_killed_runner_leaves_a_cell_that_goes_on(tmp_path):
    matrix = matrix_of(tmp_path, **{"fake.steps": 40})
    runner = start_runner(matrix)
    folder = CellFolder.of(matrix.root, matrix.cells[0])
    wait_for((folder.path / "trace.txt").exists)
    wait_for(lambda: "child" in Lock(folder.lock).last().facts)
    runner.kill()
    runner.wait()
    assert run_cell(matrix.cells[0], place(matrix), Relay()).state == "elsewhere", "its training still runs"
    wait_for(lambda: Lock(folder.lock).holder() is None)
    (state,) = survey(matrix.cells, [0], matrix.root)
    assert state.state == "stopped"
    assert "vanished" in state.detail
    assert run_cell(matrix.cells[0], place(matrix), Relay()).state == "done"
    assert "TWO AT ONCE" not in trace(matrix)


def test_two_runners_of_one_cell(tmp_path):
    matrix = matrix_of(tmp_path, **{"fake.steps": 10})
    outcomes = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(run_cell(matrix.cells[0], place(matrix), Relay()).state))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "elsewhere", "elsewhere", "elsewhere"]
    assert "TWO AT ONCE" not in trace(matrix)


def test_a_runner_that_was_taken_over_kills_its_child_and_writes_nothing(tmp_path, monkeypatch):
    matrix = matrix_of(tmp_path, **{"fake.steps": 400})
    folder = CellFolder.of(matrix.root, matrix.cells[0])
    monkeypatch.setattr("cinema_lightning.benchmark.runner.Lock", lambda path, alive: Lock(path, alive, heartbeat=0.05))
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(run_cell(matrix.cells[0], place(matrix), Relay())))
    thread.start()
    wait_for((folder.path / "trace.txt").exists)
    (folder.lock / "000002").write_text("{}")
    thread.join(20)
    assert outcomes[0].state == "elsewhere"
    assert read_record(folder).state == "running"


def test_all_cells_here(tmp_path, capsys):
    matrix = matrix_of(tmp_path, seeds=(0, 1, 2, 3), **{"fake.code": 1, "fake.seed": 2})
    outcomes = run_local(matrix.cells, place(matrix), 2, Relay())
    assert sorted(outcome.state for outcome in outcomes) == ["done", "done", "done", "failed"]
    printed = capsys.readouterr()
    assert printed.out.count(": done (") == 3
    assert "pretrain/unet/f100/s2: failed" in printed.out


def test_cells_at_work_say_how_far_they_are(tmp_path):
    matrix = matrix_of(tmp_path, seeds=(0, 1))
    watch, folders = Watch(place(matrix)), [CellFolder.of(matrix.root, cell) for cell in matrix.cells]
    for folder in folders:
        folder.path.mkdir(parents=True)
    with watch.over(matrix.cells[0]), watch.over(matrix.cells[1]):
        folders[0].log.write_text("=== fit, attempt 1\nfit: 50%, epoch 3 of 6, train/loss 0.3, 2 min left\n")
        half = "pretrain/unet/f100/s0: fit 50%, epoch 3 of 6, train/loss 0.3, 2 min left"
        assert watch.look() == (0.5, f"{half}; pretrain/unet/f100/s1 begins")
        with folders[0].log.open("a") as log:
            log.write("=== test pretrain, attempt 1\n")
        assert watch.look() == (0.5, "pretrain/unet/f100/s0 is tested; pretrain/unet/f100/s1 begins")
    assert watch.look() == (0, "")


def test_a_cell_that_is_done_says_what_was_learnt(tmp_path):
    matrix = matrix_of(tmp_path)
    folder = CellFolder.of(matrix.root, matrix.cells[0])
    results = folder.results("pretrain")
    results.mkdir(parents=True)
    rows = [{"metric": "mean_dice", "display": "Dice", "value": 0.9123, "low": 0.9, "high": 0.92, "n_subjects": 10}]
    rows += [{"metric": "mean_hd95", "display": "HD95", "unit": "mm", "value": 5.0, "low": 4.0, "high": 6.0}]
    rows += [{"metric": "lv_ef_mae", "display": "LVEF MAE", "unit": "%", "value": 4.06, "low": None, "high": None}]
    (results / "summary.json").write_text(json.dumps({"headlines": rows, "facts": {"kind": "segmentation"}}))
    end = run_cell(matrix.cells[0], place(matrix), Relay())
    assert (end.state, end.reason) == ("done", "segmentation: Dice 0.912 [0.9, 0.92], LVEF MAE 4.06 %, 10 subjects")
    assert read_record(folder).reason == ""


def test_the_local_verb_leaves_failed_cells_out_unless_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cinema_lightning.benchmark.run.Workplace", lambda root, **_: Workplace(root, FAKE))
    mended = tmp_path / "mended"
    matrix = matrix_of(tmp_path, seeds=(0, 1), **{"fake.code": 1, "fake.seed": 1, "fake.until": str(mended)})
    options = {"config": str(matrix.path), "local": True}
    assert run(**options) == 1
    assert states(matrix) == ["done", "failed"]
    mended.touch()
    assert run(**options) == 1
    assert "--retry" in capsys.readouterr().out
    assert run(**options, retry=True, jobs=2) == 0
    assert states(matrix) == ["done", "done"]
    assert run(**options) == 0
    assert run(config=str(matrix.path), index=1) == 0


@pytest.mark.parametrize(
    "options", [{}, {"local": True, "index": 0}, {"index": 99}, {"index": 0, "retry": True}, {"local": True, "jobs": 0}]
)
def test_options_that_do_not_go_together(tmp_path, options):
    with pytest.raises(CinemaError):
        run(config=str(matrix_of(tmp_path).path), **options)


def test_the_plan_and_its_table(tmp_path, capsys):
    matrix = matrix_of(tmp_path, seeds=(0, 1, 2), **{"fake.code": 1, "fake.seed": 1})
    for cell in matrix.cells[:2]:
        run_cell(cell, place(matrix), Relay())
    assert plan(config=str(matrix.path), select="seed=0,1", estimate=True) == 0
    printed = capsys.readouterr().out
    assert "2 cells: 1 done, 1 failed." in printed
    assert "log: " in printed
    assert "hours without GPU" in printed
    rows = (matrix.root / "plan.csv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].startswith("index,cell,task,kind,arm,fraction,seed,state")
    assert ",missing," in rows[3]


def test_a_damaged_record_is_one_sentence(tmp_path):
    matrix = matrix_of(tmp_path)
    folder = CellFolder.of(matrix.root, matrix.cells[0])
    folder.path.mkdir(parents=True)
    folder.record.write_text('{"cell": 1')
    with pytest.raises(CinemaError, match=r"cell.json is no record"):
        states(matrix)


def finish(matrix: Matrix, index: int, fit: float, test: float = 10.0, devices: int = 1) -> None:
    """A cell that is done and took so long."""
    folder = CellFolder.of(matrix.root, matrix.cells[index])
    folder.path.mkdir(parents=True, exist_ok=True)
    cell = matrix.cells[index]
    steps = {name: {"state": "done", "exit_code": 0, "seconds": test} for name in steps_of(cell, folder)}
    steps["fit"]["seconds"] = fit
    content = {"cell": cell.name, "digest": cell.digest, "state": "done", "devices": devices, "steps": steps}
    folder.record.write_text(json.dumps(content | {"max_epochs": 800, "device": "H100"}))


def total(matrix: Matrix, among=None):
    everything = survey(matrix.cells, range(len(matrix.cells)), matrix.root)
    return estimate(everything if among is None else [everything[i] for i in among], everything)


def test_the_estimate_scales_what_it_knows(tmp_path):
    matrix = matrix_of(tmp_path, seeds=(0, 1), fractions=(100, 25))
    nothing = total(matrix)
    assert nothing.unknown == {"pretrain": 4}
    assert "no cell of the task is done: pretrain (4)" in "\n".join(nothing.lines())
    finish(matrix, 0, fit=3600, test=10, devices=2)
    guess = total(matrix)
    # the other seed takes the same; a quarter of the subjects a quarter of the training; tests take what they take
    assert guess.gpu_hours == pytest.approx(2 * (3620 + 2 * (900 + 20)) / 3600)
    assert guess.cpu_hours == 0
    assert sum(guess.by_basis.values()) == 3
    finish(matrix, 2, fit=1000, test=10)
    assert total(matrix, [3]).gpu_hours == pytest.approx(1020 / 3600)
    for index in (1, 3):
        finish(matrix, index, fit=1)
    assert total(matrix).lines() == ["Estimate: nothing is left to do."]


def test_the_estimate_scales_by_epochs(tmp_path):
    finish(matrix_of(tmp_path, seeds=(0, 1)), 0, fit=800)
    longer = matrix_of(tmp_path, seeds=(0, 1), **{"trainer.max_epochs": 1600})
    assert total(longer, [1]).gpu_hours == pytest.approx((1600 + 20) / 3600)


def test_counts_name_only_what_there_is(tmp_path):
    matrix = matrix_of(tmp_path)
    assert counts(survey(matrix.cells, [0], matrix.root)) == "1 cells: 1 missing."


def test_each_cell_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr("cinema_lightning.benchmark.local.query_gpus", lambda *fields, visible: [["A"], ["A"]])
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slot_environments(3)] == ["2", "5", "2"]
    assert "OMP_NUM_THREADS" in slot_environments(2)[0]
