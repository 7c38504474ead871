"""A cohort is opened into a value: the same options give the same, and nothing changes it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from lightning.pytorch.trainer.states import TrainerFn

from cinema_lightning.data.evaluation import Left
from cinema_lightning.data.open import Options, open_cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.classification.data import ClassificationData
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.tasks.regression.data import RegressionData
from cinema_lightning.tasks.segmentation.data import SegmentationData


@pytest.fixture
def options(acdc):
    return Options(str(acdc), ["sax"], {"sax": [16, 16, 4]}, seed=0)


def test_the_same_options_give_the_same(options):
    one, other = open_cohort(options), open_cohort(options)
    assert one.spec == other.spec == {**options.spec({"sax": (2.0, 2.0, 10.0)}), "channels": 1}
    assert one.fingerprint == other.fingerprint != open_cohort(replace(options, limit_subjects=3)).fingerprint
    assert [len(one.rows[split]) for split in ("train", "val", "test")] == [15, 5, 5]
    with pytest.raises(FrozenInstanceError):
        one.samples = {}


def test_targets_are_another_value(kit, acdc):
    data = kit.build(RegressionData, acdc)
    opened = open_cohort(data.options)
    before = {split: rows.tolist() for split, (rows, _) in opened.samples.items()}
    known = data.open(None, predict=False)
    assert (known.facts["target"], known.facts["mean"]) == ("lv_ef", 37.0)
    assert known.targets["label"][:15].mean() == pytest.approx(0, abs=1e-6)
    assert not opened.targets
    assert {split: rows.tolist() for split, (rows, _) in opened.samples.items()} == before
    again = data.open({**data.spec, "mean": 10.0, "std": 5.0}, predict=False)
    assert again.targets["label"][0] == 4  # (30 - 10) / 5
    assert known.facts["mean"] == 37.0


def test_a_module_can_follow_one_network_after_another(kit, acdc):
    spec = kit.build(ClassificationData, acdc).spec
    data = kit.build(ClassificationData, acdc)
    for classes in (["NOR", "HCM"], spec["classes"]):
        data.follow({**spec, "classes": classes})
        assert data.spec["classes"] == classes
    assert data.views == ["sax"]
    data.follow({**spec, "views": ["sax"], "input_size": {"sax": [32, 32, 8]}}, "predict")
    assert data.input_size == {"sax": (32, 32, 8)}
    assert data.opened.samples["test"][1] is None  # no targets were read


def test_the_order_of_the_stages_changes_nothing(kit, acdc):
    fresh, used = kit.build(SegmentationData, acdc), kit.build(SegmentationData, acdc)
    used.setup("predict")
    for data in (used, fresh):
        data.setup("fit")
    assert used.spec == fresh.spec
    assert used.n_train == fresh.n_train == 30
    assert [list(batch["id"]) for batch in used.train_dataloader()] == [
        list(batch["id"]) for batch in fresh.train_dataloader()
    ]


def test_what_is_left(kit, acdc):
    data = kit.quietly(kit.build(SegmentationData, acdc), "test")
    left = Left(lambda ids: sorted(ids)[:2], frozenset({("p20", 1)}))
    rows, frames = left.to_test(data.opened, ("test",))
    assert list(zip(rows.tolist(), frames.tolist(), strict=True)) == [(20, 3), (21, 1), (21, 3)]
    rows, frames = left.to_predict(data.opened, "test", "ed_es", data.make_dataset())
    assert list(zip(rows.tolist(), frames.tolist(), strict=True)) == [(20, 3), (21, 1), (21, 3)]
    data.restrict_prediction(lambda _: [])
    assert data.test_dataloader() == []


def test_a_network_is_not_tested_on_whom_it_was_trained_on(kit, acdc, tmp_path):
    """Where the table names no splits, they are drawn as the network's were."""

    def unsplit(rows):
        for row in rows:
            del row["split"]

    root = kit.table_of(acdc, tmp_path, unsplit)
    trained = kit.build(RegressionData, root, seed=7, val_fraction=0.2, test_fraction=0.2)
    other = kit.build(RegressionData, root, seed=1)
    other.follow(trained.spec)
    assert np.array_equal(other.rows["test"], trained.rows["test"])
    assert other.run_seed == 7


def test_a_pretrained_network_is_fed_its_views(acdc):
    data = PretrainData(str(acdc), input_size={"sax": [16, 16, 4]}, num_workers=0)
    data.follow({"views": ["sax"], "input_size": {"sax": [8, 8, 2]}, "spacing": {"sax": None}}, "predict")
    assert (data.views, data.input_size) == (["sax"], {"sax": (8, 8, 2)})


def test_folds_validate_each_subject_once_and_in_the_shares_of_the_classes(kit, acdc):
    folds = [kit.build(ClassificationData, acdc, fold=f"{n}/5") for n in range(1, 6)]
    seen = np.concatenate([data.rows["val"] for data in folds])
    assert sorted(seen) == list(range(20)), "the rows of train and val together, each in one fold"
    for data in folds:
        assert data.rows["test"].tolist() == list(range(20, 25))
        assert not set(data.rows["val"]) & set(data.rows["train"])
        assert len(data.rows["train"]) == 16
        cells = data.cohort.texts("pathology")
        assert len({cells[row] for row in data.rows["val"]}) == 4, "no class twice among four of five"
    again = kit.build(ClassificationData, acdc, fold="1/5")
    assert np.array_equal(again.rows["val"], folds[0].rows["val"])
    other = kit.build(ClassificationData, acdc, fold="1/5", seed=9)
    assert not np.array_equal(other.rows["val"], folds[0].rows["val"])


def test_a_fold_is_the_networks_own(kit, acdc, tmp_path):
    trained = kit.build(RegressionData, acdc, fold="2/4", seed=3)
    assert trained.spec["split"]["fold"] == "2/4"
    later = kit.build(RegressionData, acdc, seed=1)
    later.follow(trained.spec)
    assert np.array_equal(later.rows["val"], trained.rows["val"])
    with pytest.raises(CinemaError, match=r"data.fold is 3/4, but the network in use was trained with fold 2/4"):
        RegressionData(str(acdc), dataset="acdc", fold="3/4").follow(trained.spec)
    with pytest.raises(CinemaError, match=r"data.fold is 5/4; give the fold that validates"):
        RegressionData(str(acdc), dataset="acdc", fold="5/4")
    with pytest.raises(CinemaError, match="20 subjects to divide, too few for 30 folds"):
        kit.build(RegressionData, acdc, fold="1/30").setup("fit")


def test_the_held_out_subjects_of_a_fold_are_judged_on_the_same_table_only(kit, acdc, tmp_path):
    trained = kit.build(RegressionData, acdc, fold="2/4")
    same = kit.build(RegressionData, acdc, test_split="val")
    same.follow(trained.spec)
    same.setup(TrainerFn.TESTING)
    same.setup(TrainerFn.VALIDATING)
    other = kit.build(RegressionData, kit.table_of(acdc, tmp_path, lambda rows: rows.pop(0)), test_split="val")
    other.follow(trained.spec)
    for stage in (TrainerFn.TESTING, TrainerFn.VALIDATING):
        with pytest.raises(CinemaError, match="divides into other folds than the table of the training"):
            other.setup(stage)
    other.setup("predict")
