"""``~`` and ``$VAR`` in options and YAML."""

from argparse import Namespace
from pathlib import Path

import pytest

from cinema_lightning.benchmark.matrix import read_matrix
from cinema_lightning.cli import main
from cinema_lightning.cluster.site import read_site
from cinema_lightning.configs import find_config
from cinema_lightning.errors import CinemaError
from cinema_lightning.paths import expand_all, expanded


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("CINEMA_PLACE", str(tmp_path / "place"))
    monkeypatch.delenv("CINEMA_UNSET", raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def test_home_and_variables(home, tmp_path):
    assert expanded("~", "x") == str(home)
    assert expanded("~/a", "x") == f"{home}/a"
    assert expanded("$CINEMA_PLACE/a", "x") == f"{tmp_path}/place/a"
    assert expanded("${CINEMA_PLACE}_b", "x") == f"{tmp_path}/place_b"
    for same in ("a/~/b", "a~", "cost$", "5$3", "mathpluscode/CineMA", "", "qkv$|proj$"):
        assert expanded(same, "x") == same


def test_unknown_users_and_variables_are_a_sentence():
    with pytest.raises(CinemaError, match=r"--out is '~nosuchuser/x', but there is no user called 'nosuchuser'"):
        expanded("~nosuchuser/x", "--out")
    with pytest.raises(CinemaError, match=r"data\.root is '\$CINEMA_UNSET/x', but the environment has no variable CIN"):
        expand_all({"data": {"root": "$CINEMA_UNSET/x"}})


def test_a_configuration_is_expanded_wherever_its_texts_are(home):
    config = Namespace(
        runs="~/runs", trainer=Namespace(callbacks=[Namespace(init_args={"dirpath": "~/c"})], max_epochs=3)
    )
    expand_all(config)
    assert config.runs == f"{home}/runs"
    assert config.trainer.callbacks[0].init_args == {"dirpath": f"{home}/c"}
    assert config.trainer.max_epochs == 3


def test_options_of_plain_verbs(home, tmp_path):
    options = ["--subjects=1", "--size=small", "--frames=2"]
    assert main(["phantom", *options, "--out=~/phantom"]) == 0
    assert main(["phantom", *options, "--out=$CINEMA_PLACE/phantom"]) == 0
    assert (home / "phantom" / "cohort.csv").is_file()
    assert (tmp_path / "place" / "phantom" / "cohort.csv").is_file()
    assert not (tmp_path / "~").exists()


def test_wrong_options_of_plain_verbs(tmp_path, capsys):
    assert main(["phantom", "--subjects=1", "--out=~nosuchuser/x"]) == 2
    assert main(["phantom", "--subjects=1", "--out=$CINEMA_UNSET/x"]) == 2
    said = capsys.readouterr().err
    assert "--out is '~nosuchuser/x'" in said
    assert "no variable CINEMA_UNSET" in said
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_options_and_yaml_of_a_training(home, tmp_path, capsys):
    (home / "mine.yaml").write_text("data:\n  init_args:\n    root: ~/nothing\n")
    command = ["fit", "--config=pretrain.yaml", "--config=~/mine.yaml", "--runs=~/runs", "--trainer.logger=false"]
    assert main(command) == 2
    assert f"There is no data folder {home}/nothing" in capsys.readouterr().err
    assert main([*command, "--data.root=$CINEMA_PLACE/none"]) == 2
    assert f"There is no data folder {tmp_path}/place/none" in capsys.readouterr().err
    assert main([*command, "--data.root=$CINEMA_UNSET/none"]) == 2
    assert "data.init_args.root is '$CINEMA_UNSET/none', but the environment has" in capsys.readouterr().err
    assert not (tmp_path / "~").exists()


def test_configurations_benchmarks_and_sites(home):
    (home / "a.yaml").write_text("{}")
    assert find_config("~/a.yaml") == home / "a.yaml"
    (home / "b.yaml").write_text(
        "root: ~/results\nseeds: [0]\nfractions: [100]\narms: {dense: {a: {}}}\ntasks: {acdc_seg: {kind: dense}}\n"
    )
    assert read_matrix("~/b.yaml").root == home / "results"
    (home / "site.yaml").write_text("python: ~/env/bin/python\n")
    assert read_site("~/site.yaml").python == f"{home}/env/bin/python"
