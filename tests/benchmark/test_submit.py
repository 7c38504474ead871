"""Sites and batch scripts, without a cluster."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from cinema_lightning.benchmark.command import SUBVERBS, benchmark
from cinema_lightning.benchmark.matrix import read_matrix
from cinema_lightning.benchmark.state import survey
from cinema_lightning.benchmark.submissions import Frozen, read_frozen, write_submission
from cinema_lightning.benchmark.submit import batch_script, submit_cells
from cinema_lightning.cluster import slurm
from cinema_lightning.cluster.site import Site, read_site
from cinema_lightning.cluster.submit import submit_job
from cinema_lightning.errors import CinemaError


def site_file(folder: Path, **content) -> str:
    (folder / "site.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "site.yaml")


def matrix_file(folder: Path) -> str:
    content = {
        "root": str(folder / "results"),
        "seeds": [0, 1],
        "fractions": [100],
        "arms": {"dense": {"unet": {}}},
        "tasks": {"pretrain": {"kind": "dense"}},
    }
    (folder / "m.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "m.yaml")


def syntax_is_right(script: str) -> bool:
    return subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_the_example_site_is_valid():
    site = read_site("site_example.yaml")
    assert (site.partition, site.time, site.gpus) == ("gpu", "24:00:00", 1)
    assert Site() == read_site_of({})


def read_site_of(content):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return read_site(site_file(Path(folder), **content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"partitoin": "x"}, "did you mean partition"),
        ({"gpus": "two"}, "key 'gpus' is 'two'; give a whole number"),
        ({"gpus": -1}, "whole number from 0"),
        ({"gpus": True}, "whole number from 0"),
        ({"setup": "module load"}, "list of lines"),
        ({"environment": ["A=1"]}, "NAME: value"),
        ({"time": 86400}, "quotes"),
    ],
)
def test_a_mistake_in_a_site_is_one_sentence(content, words):
    with pytest.raises(CinemaError, match=words):
        read_site_of(content)


def test_the_script_asks_for_what_the_site_says(tmp_path):
    site = Site(
        partition="gpu",
        account="heart",
        qos="long",
        gpus=2,
        gpu_type="a100",
        cpus=6,
        memory="64G",
        time="12:00:00",
        throttle=4,
        lead_seconds=90,
        options=["--constraint=big"],
        setup=["module load cuda"],
        prefix="apptainer exec --nv 'my image.sif'",
        python="python3",
        environment={"HF_HOME": "/a b"},
    )
    script = batch_script(site, tmp_path / "with space", "cinema-x", 12)
    assert syntax_is_right(script)
    for line in (
        "#SBATCH --array=0-11%4",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=heart",
        "#SBATCH --qos=long",
        "#SBATCH --gres=gpu:a100:2",
        "#SBATCH --cpus-per-task=6",
        "#SBATCH --mem=64G",
        "#SBATCH --time=12:00:00",
        "#SBATCH --signal=B:USR2@90",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --constraint=big",
        f'#SBATCH --output="{tmp_path}/with space/logs/%a.out"',
        "export HF_HOME='/a b'",
        "module load cuda",
    ):
        assert line in script.splitlines()
    assert "srun --ntasks=1 --cpus-per-task=6 apptainer exec --nv 'my image.sif' python3 -m cinema_lightning" in script


def test_a_dry_run_prints_the_script_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "_ask", lambda command: None)
    matrix = read_matrix(matrix_file(tmp_path))
    assert submit_cells(matrix, Site(), [0, 1], dry_run=True) is None
    printed = capsys.readouterr().out
    assert "2 cells: 2 missing." in printed
    assert "#SBATCH --array=0-1\n" in printed
    assert syntax_is_right(printed[printed.index("#!/bin/bash") :])
    assert not matrix.root.exists()


def test_an_array_is_no_longer_than_the_cluster_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "_ask", lambda command: None)
    submit_cells(read_matrix(matrix_file(tmp_path)), Site(max_array=1), [0, 1], dry_run=True)
    printed = capsys.readouterr().out
    assert "--array=0-0" in printed
    assert "first 1 of 2" in printed


def test_without_squeue_nothing_is_submitted(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "_ask", lambda command: None)
    with pytest.raises(CinemaError, match="squeue does not answer"):
        submit_cells(read_matrix(matrix_file(tmp_path)), Site(), [0])


def answer(monkeypatch, **outputs):
    """SLURM's commands, by what they print; a negative number is an exit code."""

    def ask(command):
        text = outputs.get(command[0])
        if text is None:
            return None
        return subprocess.CompletedProcess(
            command, 1 if text.startswith("!") else 0, text.lstrip("!"), text.lstrip("!")
        )

    monkeypatch.setattr(slurm, "_ask", ask)
    slurm.cluster_name.cache_clear()


def test_the_queue_as_squeue_prints_it(monkeypatch):
    answer(monkeypatch, squeue="12_3|a|PENDING|Priority\n12_4|a|RUNNING|None\n13|b|RUNNING|None\n")
    found = slurm.queue(["a", "b"])
    assert found["a"][3] == slurm.QueueEntry("12_3", "PENDING", "Priority")
    assert set(found["a"]) == {3, 4}
    assert found["b"][0].state == "RUNNING"
    answer(monkeypatch, squeue="!slurm_load_jobs error")
    assert slurm.queue(["a"]) is None


@pytest.mark.parametrize(
    ("squeue", "alive"),
    [
        ("RUNNING\n", True),
        ("COMPLETING\n", True),
        ("PENDING\n", False),
        ("\n", False),
        ("!slurm_load_jobs error: Invalid job id specified", False),
        ("!Unable to contact slurm controller", None),
    ],
)
def test_whether_a_holder_still_runs(monkeypatch, squeue, alive):
    facts = {"job": "12_3", "cluster": "here"}
    answer(monkeypatch, squeue=squeue, scontrol="ClusterName             = here\n")
    assert slurm.job_alive(facts) is alive
    assert slurm.job_alive(facts | {"cluster": "there"}) is None, "another cluster's jobs are not in this queue"


def test_states_of_queued_cells(tmp_path, monkeypatch):
    matrix = read_matrix(matrix_file(tmp_path))
    folder = matrix.root / "submissions" / "one"
    write_submission(folder, "cinema-one", matrix.cells, job="12")
    answer(monkeypatch, squeue="12_0|cinema-one|PENDING|Resources\n", sacct="CANCELLED by 0|0:0\n")
    queued, gone = survey(matrix.cells, [0, 1], matrix.root)
    assert (queued.state, queued.detail) == ("queued", "job 12_0, pending, Resources")
    assert (gone.state, gone.detail) == ("missing", "job 12_1 left the queue before the cell began: CANCELLED by 0")
    (folder / "exits").mkdir()
    (folder / "exits" / "1").write_text("127\n")
    gone = survey(matrix.cells, [1], matrix.root)[0]
    assert (gone.state, gone.detail) == ("failed", "job 12_1 ended with code 127 before the cell began")
    answer(monkeypatch)
    assert [state.state for state in survey(matrix.cells, [0, 1], matrix.root)] == ["queued", "failed"]


def test_frozen_cells_come_back_as_they_were(tmp_path):
    cells = read_matrix(matrix_file(tmp_path)).cells
    frozen = Frozen(tmp_path, None, cells)
    frozen.write(tmp_path / "cells.json")
    assert read_frozen(tmp_path / "cells.json") == frozen
    (tmp_path / "cells.json").write_text(json.dumps({"cells": [{}]}))
    with pytest.raises(CinemaError, match="no list of cells"):
        read_frozen(tmp_path / "cells.json")
    with pytest.raises(CinemaError, match="cannot be read"):
        read_frozen(tmp_path / "none.json")


def test_a_training_on_two_nodes(tmp_path, capsys):
    site = site_file(tmp_path, gpus=4, cpus=8)
    assert submit_job(["--site", site, "--nodes", "2", "--dry-run", "--", "fit", "--config", "pretrain.yaml"]) == 0
    script = capsys.readouterr().out
    assert syntax_is_right(script)
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=4\n#SBATCH --cpus-per-task=8\n#SBATCH --gres=gpu:4\n" in script
    assert "fit --config pretrain.yaml --ckpt_path auto --trainer.num_nodes=2 --trainer.devices=4 &" in script


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "after --"),
        (["--", "fly"], "after --"),
        (["--nodes", "2", "--", "test", "--config", "x"], "for fit"),
        (["--nodes", "0", "--", "fit"], "at least 1"),
        (["--", "fit", "--trainer.devices=2"], "leave it out"),
    ],
)
def test_what_cannot_be_submitted(tmp_path, arguments, words):
    with pytest.raises(CinemaError, match=words):
        submit_job(["--site", site_file(tmp_path), "--dry-run", *arguments])


def test_help_and_mistakes_of_the_verb(tmp_path, capsys):
    assert benchmark(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in SUBVERBS)
    with pytest.raises(CinemaError, match="there are plan, run, submit"):
        benchmark(["fly"])
    with pytest.raises(CinemaError, match="nonsense"):
        benchmark(["plan", "--nonsense", "1"])
    with pytest.raises(SystemExit):
        benchmark(["run", "--help"])
    assert "-j" in capsys.readouterr().out
    assert benchmark(["plan", "--config", matrix_file(tmp_path)]) == 0
    assert "2 missing" in capsys.readouterr().out
