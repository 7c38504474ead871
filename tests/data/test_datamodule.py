"""Data modules, with and without a trainer."""

from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch

from cinema_lightning.data import DATA
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.data.table import write_cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.views import VIEWS

SIZES = {"sax": [16, 16, 6], "lax_2c": [24, 24], "lax_3c": [24, 24], "lax_4c": [24, 24]}
N = 20


def views_of(i):
    if i % 5 == 1:
        return ["lax_2c", "lax_3c", "lax_4c"]
    return ["sax"] if i % 10 == 2 else list(VIEWS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(N):
        for view in views_of(i):
            shape = (3, 16, 14, 5) if view == "sax" else (3, 24, 22)
            write_series(series_path(folder, f"s{i}", view), rng.integers(0, 255, shape, np.uint8), affine=np.eye(4))
        phases = {"ed_frame": 0, "es_frame": 2} if i != 3 else {}
        rows.append({"id": f"s{i}", "subject": f"p{i // 2}", "views": views_of(i), "n_frames": 3, **phases})
    write_cohort(folder, rows)
    return folder


def module(root, **options):
    options = {"batch_size": 4, "num_workers": 0, "input_size": SIZES, "val_fraction": 0.2, "seed": 0, **options}
    return PretrainData(str(root), **options)


class Collect(L.LightningModule):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.train_batches, self.val_batches = [], []

    def training_step(self, batch, _):
        self.train_batches.append(batch)
        return self.weight.sum()

    def validation_step(self, batch, _):
        self.val_batches.append(batch)

    def predict_step(self, batch, _):
        return batch["id"], batch["frame"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(accelerator="cpu", devices=1, **quiet, **options)


def test_it_is_registered():
    assert DATA["PretrainData"] is PretrainData


def test_facts():
    data = PretrainData("nowhere", views=["lax_4c", "sax"], input_size={"sax": [96, 96, 8]})
    assert data.spec == {
        "views": ["lax_4c", "sax"],
        "input_size": {"lax_4c": [256, 256], "sax": [96, 96, 8]},
        "spacing": {"lax_4c": [1.0, 1.0], "sax": [1.0, 1.0, 10.0]},
        "channels": 1,
        "depth": "own",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": ["sax", "lax_9c"]}, "no view called 'lax_9c'"),
        ({"views": []}, "name at least one view"),
        ({"views": ["sax", "sax"]}, "each once"),
        ({"input_size": {"sax": [8, 8]}}, "input_size of sax is .* it needs 3"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(CinemaError, match=message):
        PretrainData("nowhere", **options)


def test_setup(root):
    data = module(root)
    data.setup()
    assert len(data.rows["train"]) == data.n_train == 16
    assert len(data.rows["val"]) == 4
    assert len({i // 2 for i in data.rows["val"]}) == 2  # by subject
    assert data.train_sampler is not None
    assert len(data.train_dataloader()) == len(data.train_sampler) == 4


def test_the_seed_of_the_run_is_the_default(root, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert module(root, seed=None).run_seed == 0
    L.seed_everything(11, verbose=False)
    assert module(root, seed=None).run_seed == 11
    assert module(root, seed=5).run_seed == 5
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


def test_studies_without_a_wanted_view_are_left_out_with_a_sentence(root):
    data = module(root, views=["sax"])
    with pytest.warns(UserWarning, match="4 studies have fewer than 1 of the views sax and are left out"):
        data.setup("fit")
    assert sum(map(len, data.rows.values())) == 16
    data = module(root, min_views=4)
    with pytest.warns(UserWarning, match="6 studies have fewer than 4 of the views"):
        data.setup("fit")
    with (
        pytest.raises(CinemaError, match=r"No study of .* has 5 of the views"),
        pytest.warns(UserWarning, match="20 studies"),
    ):
        module(root, min_views=5).setup("fit")


def test_limit_subjects(root):
    data = module(root, limit_subjects=3)
    data.setup("fit")
    assert data.n_train == 6
    assert len(data.rows["val"]) == 4


def test_no_training_studies(tmp_path):
    write_cohort(tmp_path, [{"id": "a", "views": "sax", "split": "test"}])
    with pytest.raises(CinemaError, match="has no training studies"):
        module(tmp_path).setup("fit")


def test_no_folder():
    with pytest.raises(CinemaError, match="cinema phantom --out DIR"):
        module("/nowhere/at/all").setup("fit")


def test_fit_with_a_trainer(root):
    data, model = module(root), Collect()
    trainer(max_epochs=2, num_sanity_val_steps=0).fit(model, data)
    assert [batch["epoch"] for batch in model.train_batches] == [0] * 4 + [1] * 4
    for batch in model.train_batches + model.val_batches:
        views = [view for view in VIEWS if view in batch]
        assert len({len(batch[view]) for view in views}) == 1
        for view in views:
            assert batch[view].shape[1:] == (1, *(SIZES | {"sax": (16, 16, 5)})[view])  # five slices of up to six
            assert batch[view].dtype == torch.float32
            assert 0 <= batch[view].min() <= batch[view].max() <= 1
    first, second = model.val_batches[: len(model.val_batches) // 2], model.val_batches[len(model.val_batches) // 2 :]
    for one, other in zip(first, second, strict=True):  # validation is the same each time
        assert one["id"] == other["id"]
        for view in VIEWS:
            assert (view in one) == (view in other)
            if view in one:
                assert torch.equal(one[view], other[view])


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a["id"] == b["id"]
        assert torch.equal(a["frame"], b["frame"])
        assert all(torch.equal(a[view], b[view]) for view in VIEWS if view in a)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(root, num_workers):
    models = [Collect(), Collect()]
    for model, workers in zip(models, (0, num_workers), strict=True):
        trainer(max_epochs=2, limit_val_batches=0).fit(model, module(root, num_workers=workers))
    same(models[0].train_batches, models[1].train_batches)


def test_skip_goes_on_in_the_middle_of_an_epoch(root):
    whole = Collect()
    trainer(max_epochs=1, limit_val_batches=0).fit(whole, module(root))
    data = module(root)
    data.setup("fit")
    data.train_sampler.skip = 2
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert [batch["id"] for batch in batches] == [batch["id"] for batch in whole.train_batches[2:]]


def test_augment_only_while_training(root):
    with_it, without = Collect(), Collect()
    trainer(max_epochs=1).fit(with_it, module(root))
    trainer(max_epochs=1).fit(without, module(root, augment=False))
    same(with_it.val_batches, without.val_batches)
    changed = [
        not torch.equal(a[view], b[view])
        for a, b in zip(with_it.train_batches, without.train_batches, strict=True)
        for view in VIEWS
        if view in a
    ]
    assert any(changed)


@pytest.mark.parametrize(("frames", "count"), [("all", 3 * N), ([1], N), ([0, 2], 2 * N)])
def test_predict(root, frames, count):
    data = module(root, predict_frames=frames)
    outcome = trainer().predict(Collect(), data)
    pairs = [pair for ids, numbers in outcome for pair in zip(ids, numbers, strict=True)]
    assert len(pairs) == len(set(pairs)) == count
    assert {name for name, _ in pairs} == {f"s{i}" for i in range(N)}


def test_predict_ed_and_es(root):
    with pytest.raises(CinemaError, match="row 's3' has no ed_frame or es_frame; set predict_frames"):
        trainer().predict(Collect(), module(root, predict_frames="ed_es"))
    data = module(root, predict_split="val", seed=1, predict_frames="ed_es")
    data.setup("predict")
    if 3 in data.rows["val"]:
        pytest.skip("the study without phases validates")
    frames = {frame for _, numbers in trainer().predict(Collect(), data) for frame in numbers}
    assert frames == {0, 2}


def test_a_split_without_studies(root):
    data = module(root, predict_split="test")
    data.setup("predict")
    with pytest.raises(CinemaError, match="has no test studies"):
        data.predict_dataloader()
    with pytest.raises(CinemaError, match="has no test studies"):
        data.test_dataloader()


def test_no_validation(root):
    data = module(root, val_fraction=0.0)
    data.setup("fit")
    assert data.val_dataloader() == []
    trainer(max_epochs=1).fit(Collect(), module(root, val_fraction=0.0))


def test_real_images_work_as_they_are(real):
    model = Collect()
    with pytest.warns(UserWarning, match="batch size is 1 instead"):
        trainer(max_epochs=1).fit(model, PretrainData(str(real), num_workers=0, batch_size=4))
    assert model.train_batches[0]["sax"].shape == (1, 1, 192, 192, 10)  # its own slices
    predicted = trainer().predict(Collect(), PretrainData(str(real), num_workers=0))
    assert sum(len(ids) for ids, _ in predicted) == 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_missing_file_stops_training_with_one_sentence(tmp_path, num_workers):
    write_cohort(tmp_path, [{"id": f"s{i}", "views": "sax"} for i in range(6)])
    data = module(tmp_path, views=["sax"], num_workers=num_workers, batch_size=2)
    with pytest.raises(CinemaError, match=r"^\S+/sax\.b2nd does not exist; .*\(row \d of \S+/cohort\.csv, id 's\d'\)$"):
        trainer(max_epochs=1, num_sanity_val_steps=0).fit(Collect(), data)


def test_a_compressed_file_is_given_to_one_worker(tmp_path):
    import nibabel

    for study in ("a", "b"):
        (tmp_path / study).mkdir()
        image = np.random.default_rng(0).integers(0, 255, (16, 16, 3, 4)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / study / "sax.nii.gz")
    data = module(tmp_path, views=["sax"], num_workers=3, val_fraction=0.5)
    data.setup("predict")
    assert data.predict_dataloader().num_workers == 1
