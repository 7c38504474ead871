"""Nobody is judged on people that the network was trained on, also where the table says otherwise by now."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.trainer.states import TrainerFn

from cinema_lightning.data.facts import OF_PHANTOMS
from cinema_lightning.data.seen import check_unseen
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.regression.data import RegressionData
from cinema_lightning.tasks.survival.data import SurvivalData


def rotated(rows):
    """As another fold, drawn into the same store: five others test, and those that tested train."""
    for place, row in enumerate(rows):
        row["split"] = "test" if place < 5 else "val" if place < 10 else "train"


def grown_val(rows):
    """Who chose the weights tests."""
    for row in rows[15:20]:
        row["split"] = "test"
    for row in rows[20:]:
        row["split"] = "val"


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (rotated, {}, "5 test subjects ('p00', ...) trained the network in best.ckpt or chose its weights"),
        (rotated, {"test_split": "val"}, "5 val subjects ('p05', ...) trained the network"),
        (grown_val, {}, "5 test subjects ('p15', ...)"),
        (lambda rows: rows[0].update(split="test"), {}, "1 test subject ('p00') trained the network"),
        (lambda rows: rows[0].update(split="test"), {"test_split": "train"}, ""),
        (lambda rows: None, {}, ""),
        (lambda rows: [row.update(age=1) for row in rows], {"test_split": "val"}, ""),
    ],
)
def test_people_of_the_training_are_no_test_of_it(kit, acdc, tmp_path, change, options, said):
    trained = kit.build(RegressionData, acdc)
    known = {"best.ckpt": (trained.spec, trained.state_dict())}
    later = kit.build(RegressionData, kit.table_of(acdc, tmp_path, change), **options)
    later.follow(trained.spec)
    later.setup(TrainerFn.TESTING)
    if not said:
        check_unseen(later, known, "test")
        return
    with pytest.raises(CinemaError) as caught:
        check_unseen(later, known, "test")
    assert said in str(caught.value)
    check_unseen(later, known, "predict")
    check_unseen(later, {"before.ckpt": (trained.spec, {"epoch": 1})}, "test")


def test_validation_judges_too_and_a_fraction_has_seen_no_more_than_it_saw(kit, acdc, tmp_path):
    trained = kit.build(SurvivalData, acdc, fraction=0.4)
    known = {"best.ckpt": (trained.spec, trained.state_dict())}
    used = set(trained.cohort.ids[trained.rows["train"]])
    unused = [name for name in trained.cohort.ids[:15] if name not in used]

    def change(rows):
        for row in rows:
            row["split"] = "test" if row["id"] in unused else "val" if row["id"] in used else "train"

    later = kit.build(SurvivalData, kit.table_of(acdc, tmp_path, change))
    later.follow(trained.spec)
    later.test_splits = ("test",)
    check_unseen(later, known, "test")
    with pytest.raises(CinemaError, match="6 val subjects"):
        check_unseen(later, known, "validate")


def test_phantoms_of_another_folder_and_another_dataset_are_others(kit, acdc, tmp_path):
    trained = kit.build(RegressionData, acdc)
    spec, state = trained.spec, trained.state_dict()
    later = kit.build(RegressionData, kit.table_of(acdc, tmp_path, rotated))
    later.follow(spec)
    later.setup(TrainerFn.TESTING)
    check_unseen(later, {"best.ckpt": (spec | {"phantoms": True}, state)}, "test")
    check_unseen(later, {"best.ckpt": (spec | {"dataset": "mnms"}, state)}, "test")
    trained_on_people = {"best.ckpt": (spec, state)}
    (Path(later.options.root) / OF_PHANTOMS).write_text("{}")
    check_unseen(later, trained_on_people, "test")
    (Path(later.options.root) / OF_PHANTOMS).unlink()
    with pytest.raises(CinemaError, match="trained the network"):
        check_unseen(later, {"a.ckpt": (spec | {"dataset": "mnms"}, state), "b.ckpt": (spec, state)}, "test")


def test_the_validation_of_a_fold_that_is_left_out_is_no_leak(kit, acdc, tmp_path):
    """Of a table that has changed the folds are others: survival is then tested without those who validate."""
    trained = kit.build(SurvivalData, acdc, fold="1/3")
    known = {"best.ckpt": (trained.spec, trained.state_dict())}
    later = kit.build(SurvivalData, kit.table_of(acdc, tmp_path, lambda rows: rows.__delitem__(slice(3))))
    later.follow(trained.spec)
    assert set(later.cohort.ids[later.rows["val"]]) & set(trained.cohort.ids[trained.rows["train"]])
    check_unseen(later, known, "test")
    later.setup(TrainerFn.TESTING)
    assert later.test_splits == ("test",)
    with pytest.raises(CinemaError, match="divides into other folds"):
        later.setup(TrainerFn.VALIDATING)
