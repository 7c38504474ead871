"""Several processes, and what the configuration knows of them."""

import hashlib
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment

from cinema_lightning import launch
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError

SLURM = {"SLURM_JOB_ID": "13", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "node1", "SLURM_NODEID": "0"}
TWO_TASKS = {**SLURM, "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
STEP = {**TWO_TASKS, "SLURM_STEP_NUM_TASKS": "2"}
TORCHRUN = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in (*launch.RANKS, "WORLD_SIZE", *TWO_TASKS, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def given(monkeypatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({**TWO_TASKS, "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, "SLURM_PROCID=1"),
        ({**STEP, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, "SLURM_STEP_NUM_TASKS=2"),
        ({**TORCHRUN, "RANK": "1", "LOCAL_RANK": "1"}, "RANK=1"),
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, "WORLD_SIZE=2"),
        ({"NODE_RANK": "1"}, "NODE_RANK=1"),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_RANK=1"),
    ],
)
def test_a_second_process_of_one_device_is_refused(monkeypatch, variables, names):
    given(monkeypatch, variables)
    with pytest.raises(CinemaError, match=f"{names} says .* set --trainer.devices"):
        launch.check({"devices": 1, "accelerator": "cpu"})


@pytest.mark.parametrize(
    ("variables", "trainer"),
    [
        ({**SLURM, "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, {"devices": 1}),  # the batch step of a larger job
        ({**SLURM, "SLURM_NTASKS": "1"}, {"devices": "1"}),  # a shell of salloc
        ({**STEP, "SLURM_PROCID": "1"}, {"devices": 2}),
        ({**STEP, "SLURM_PROCID": "1"}, {"devices": "0,1"}),
        ({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, {"devices": 4}),  # Lightning starts the others
        ({**TORCHRUN, "RANK": "1", "LOCAL_RANK": "0"}, {"devices": 1, "num_nodes": 2}),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2", "NODE_RANK": "0"}, {"devices": [0, 1]}),
    ],
)
def test_what_fits_is_left_alone(monkeypatch, variables, trainer):
    given(monkeypatch, variables)
    launch.check({"accelerator": "cpu", **trainer})


@pytest.mark.parametrize(
    ("variables", "trainer", "said"),
    [
        ({**TORCHRUN, "RANK": "1"}, {"devices": 4}, "WORLD_SIZE is 2, but trainer.devices 4 x trainer.num_nodes 1"),
        ({**SLURM, "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, {"devices": 2}, "SLURM_NTASKS is 4"),
        ({**TWO_TASKS, "SLURM_PROCID": "0"}, {"devices": 1, "num_nodes": 2}, "SLURM_NTASKS_PER_NODE is 2, but"),
        ({}, {"devices": "many"}, "trainer.devices is many"),
    ],
)
def test_what_does_not_fit_is_said(monkeypatch, variables, trainer, said):
    given(monkeypatch, variables)
    with pytest.raises(CinemaError, match=said):
        launch.check({"accelerator": "cpu", **trainer})


def test_one_process_needs_no_tasks_of_slurm(monkeypatch):
    given(monkeypatch, {**SLURM, "SLURM_NTASKS": "4", "SLURM_PROCID": "0"})
    assert isinstance(launch.environment({"devices": 1}), LightningEnvironment)
    with pytest.raises(CinemaError, match="ntasks-per-node"):
        launch.environment({"devices": 4})


FIT = ["fit", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--trainer.max_epochs=1"]
FIT += ["--trainer.max_steps=1", "--pictures.every_n_epochs=0"]
FIT += ["--model.network.enc_depth=1", "--model.network.dec_depth=1"]
FIT += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


def _content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def test_no_second_process_touches_a_finished_run(phantom_cohort, tmp_path, monkeypatch, capsys):
    command = [*FIT, "--data.root", str(phantom_cohort), "--runs", str(tmp_path)]
    assert main(command) == 0
    before = _content(tmp_path)
    for variables in (
        {**TWO_TASKS, "SLURM_PROCID": "1"},
        {**TORCHRUN, "RANK": "1", "LOCAL_RANK": "1"},
        {"LOCAL_RANK": "1", "CINEMA_RUN_DIR": str(tmp_path / "pretrain+phantom" / "0")},
    ):
        with monkeypatch.context() as patch:
            given(patch, variables)
            assert main([*command, "--seed_everything=1"]) == 2
            assert "one of several processes" in capsys.readouterr().err
            # the folder is not handed out where the options let the process pass, but Lightning would make it the first
            patch.setattr(launch, "check", lambda trainer: None)
            assert main([*command, "--seed_everything=1"]) == 2
            assert main([*command, "--ckpt_path=last", "--trainer.max_steps=2"]) == 2
        assert _content(tmp_path) == before


def test_a_run_folder_in_the_environment_is_for_launched_ranks_only(phantom_cohort, tmp_path, monkeypatch):
    command = [*FIT, "--data.root", str(phantom_cohort), "--runs", str(tmp_path)]
    assert main(command) == 0
    monkeypatch.setenv("CINEMA_RUN_DIR", str(tmp_path / "pretrain+phantom" / "0"))
    before = _content(tmp_path / "pretrain+phantom" / "0")
    assert main(command) == 0
    assert _content(tmp_path / "pretrain+phantom" / "0") == before
    assert (tmp_path / "pretrain+phantom" / "1" / "checkpoints" / "last.ckpt").is_file()
