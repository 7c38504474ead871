"""Every dataset from what a user downloads to one epoch of training, on phantoms in the raw layout."""

from pathlib import Path

import pandas as pd
import pytest

from cinema_lightning.cli import main
from cinema_lightning.data.facts import is_of_phantoms
from cinema_lightning.datasets.base import DATASETS

SUBJECTS = {
    "acdc": 10,
    "mnms": 8,
    "mnms2": 8,
    "kaggle": 7,
    "rescan": 6,
    "landmark": 6,
    "emidec": 8,
    "myops": 6,
    "ukb": 6,
}
FIT = [
    *("--config", "pretrain.yaml", "--config", "phantom.yaml", "--phantom=null"),
    *("--model.network.conv_channels=[4,8]", "--model.network.conv_blocks=1", "--model.network.enc_depth=1"),
    *("--model.network.enc_dim=16", "--model.network.enc_heads=2", "--model.network.dec_dim=16"),
    *("--model.network.dec_depth=1", "--model.network.dec_heads=2", "--trainer.max_epochs=1"),
    *("--data.batch_size=2", "--data.val_fraction=0.3", "--trainer.limit_train_batches=2"),
]


def test_each_dataset_has_a_raw_phantom_and_is_listed_here():
    from cinema_lightning.phantom.raw.base import LAYOUTS

    assert set(SUBJECTS) <= set(DATASETS)
    assert set(SUBJECTS) == set(LAYOUTS)


@pytest.mark.parametrize(
    "name", [n if n in ("acdc", "ukb") else pytest.param(n, marks=pytest.mark.slow) for n in SUBJECTS]
)
def test_from_raw_to_an_epoch_of_training(name, tmp_path: Path, capsys):
    raw, out = tmp_path / "raw", tmp_path / "store"
    size = ["--size", "small", "--subjects", str(SUBJECTS[name]), "--frames", "3"]
    assert main(["phantom", "--dataset", name, "--out", str(raw), *size]) == 0
    more = ["--outcomes", str(raw / "outcomes.csv")] if name == "ukb" else []
    assert main(["prepare", name, "--raw", str(raw), "--out", str(out), "--size", "small", *more]) == 0
    assert is_of_phantoms(out)
    assert main(["verify", name, "--root", str(out)]) == 0
    assert main(["describe", name, "--root", str(out)]) == 0
    table = pd.read_csv(out / "cohort.csv", dtype={"id": str})
    assert len(table)
    assert list(out.rglob("*.png")), "no contact sheet"
    views = [view for view in DATASETS[name].views if table["views"].str.contains(view).any()]
    options = [f"--data.views=[{','.join(views)}]"]
    if not (table["split"].fillna("") == "train").any():  # Kaggle is a test set, UK Biobank has no splits
        table["split"] = ""
        table.to_csv(out / "cohort.csv", index=False)
    capsys.readouterr()
    assert main(["fit", *FIT, "--data.root", str(out), *options, "--runs", str(tmp_path / "runs")]) == 0, (
        capsys.readouterr().err
    )
    assert (tmp_path / "runs" / "pretrain+phantom" / "0" / "checkpoints" / "last.ckpt").is_file()
