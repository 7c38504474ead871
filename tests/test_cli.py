"""The command line from outside: help, sentences, exit codes."""

import io
import subprocess
import sys
import time

import pytest

from cinema_lightning.cli import VERBS, main
from cinema_lightning.verbs import call

PHANTOM = ["--config", "pretrain.yaml", "--config", "phantom.yaml"]


def test_help_answers_in_about_a_second():
    begin = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "cinema_lightning", "--help"], capture_output=True, text=True, check=True
    )
    assert all(verb in result.stdout for verb in VERBS)
    assert time.monotonic() - begin < 3


def test_help_imports_nothing_heavy():
    code = (
        "import sys, cinema_lightning.cli as cli; cli.main(['--help']); "
        "print([name for name in ('torch', 'pandas', 'lightning') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fti"], ["no such verb", "fit"]),
        (["fit"], ["--config"]),
        (["fit", "--config", "pretrain.yml"], ["pretrain.yml", "pretrain.yaml"]),
        (["fit", *PHANTOM, "--model.optim.lr=fast"], ["optim.lr", "fast"]),
        (["fit", *PHANTOM, "--model.network.dept=3"], ["dept"]),
        (["fit", *PHANTOM, "--data.rot=x"], ["rot"]),
        (["fit", *PHANTOM, "--trainer.max_epocs=3"], ["max_epocs"]),
        (["fit", *PHANTOM, "--model", "Pretraining"], ["Pretraining", "Pretrain"]),
        (["fit", *PHANTOM, "--data.class_path", "Pretrain_Data"], ["Pretrain_Data", "Did you mean PretrainData"]),
        (["fit", *PHANTOM, "--trainer.precision", "bf17"], ["precision", "bf16-mixed"]),
        (["fit", "--config", "phantom.yaml"], ["overlay", "pretrain.yaml"]),
        (["fit", *PHANTOM, "--phantom=null", "--model.network.enc_heads=3"], ["enc_dim", "enc_heads"]),
        (["fit", *PHANTOM, "--phantom=null", "--data.views=[sax,lax_5c]"], ["lax_5c", "lax_4c"]),
        (["predict", *PHANTOM], ["random weights"]),
        (["test", *PHANTOM], ["random weights"]),
        (["fit", *PHANTOM, "--ckpt_path", "nowhere.ckpt"], ["nowhere.ckpt"]),
        (["phantom", "--subjects", "many"], ["subjects", "many"]),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert all(word in message for word in words), message
    assert len(message.splitlines()) == 1, message
    assert "Traceback" not in message
    assert not list(tmp_path.glob("runs/*/*")), "an empty run was left"


def test_an_interrupt_is_a_sentence(monkeypatch, capsys):
    from cinema_lightning import cli

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "configs", interrupted)
    assert main(["configs"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_unknown_key_in_a_yaml_is_named(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("model:\n  init_args:\n    optim:\n      learning_rate: 1\n")
    assert main(["fit", *PHANTOM, "--config", str(path)]) == 2
    assert "learning_rate" in capsys.readouterr().err


def test_a_missing_data_folder_says_how_to_get_data(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *PHANTOM, "--phantom=null", "--data.root", str(tmp_path / "nothing")]) == 2
    message = capsys.readouterr().err
    assert "nothing" in message
    assert "cinema phantom" in message


def test_a_mistyped_data_folder_is_not_filled_with_phantoms(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *PHANTOM, "--data.root", "chort"]) == 2
    assert "There is no data folder chort, and phantoms are made only where none is named" in capsys.readouterr().err
    assert not (tmp_path / "chort").exists()


def test_debug_shows_the_stack(monkeypatch):
    from cinema_lightning.errors import CinemaError

    monkeypatch.setenv("CINEMA_DEBUG", "1")
    with pytest.raises(CinemaError):
        main(["fti"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_log_of_another_encoding_ends_nothing(phantom_cohort, tmp_path, monkeypatch, encoding):
    written = [io.BytesIO(), io.BytesIO()]
    for name, stream in zip(("stdout", "stderr"), written, strict=True):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding=encoding, write_through=True))
    command = ["fit", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    command += ["--runs", str(tmp_path), "--trainer.max_epochs=1", "--pictures.every_n_epochs=0", "--name", "µ"]
    assert main(command) == 0
    assert (tmp_path / "µ" / "0" / "checkpoints" / "last.ckpt").is_file()
    assert main(["verify", "phantom", "--root", str(tmp_path / "µ")]) == 2
    assert "/µ".encode(encoding, "replace") in written[1].getvalue()


def test_an_option_of_several_values_is_given_several_times():
    given = []

    def verb(studies: list[str], weights: list[str] | None = None, fast: bool = False) -> None:
        """Takes lists.

        Args:
            studies: Several.
            weights: Several.
            fast: A switch.
        """
        given.append((studies, weights, fast))

    words = ["a", "b", "--weights", "x", "--fast", "--weights=y"]
    assert call("cinema verb", "", verb, words, ("studies",)) == 0
    assert call("cinema verb", "", verb, ["a", "--weights", "[x, y]"], ("studies",)) == 0
    assert given == [(["a", "b"], ["x", "y"], True), (["a"], ["x", "y"], False)]
