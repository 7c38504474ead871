"""Data modules for one target per study: what they read, leave out, learn and refuse."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cinema_lightning.data.transforms import sample_keys
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.tasks.classification.data import ClassificationData
from cinema_lightning.tasks.classification.task import Classification
from cinema_lightning.tasks.regression.data import RegressionData
from cinema_lightning.tasks.segmentation.data import SegmentationData
from cinema_lightning.tasks.survival.data import SurvivalData, _later_visits

CLASSES = ("DCM", "HCM", "MINF", "NOR", "RV")
SIZES = {"sax": [16, 16, 4], "lax_2c": [20, 20], "lax_4c": [20, 20]}
FRAMES, ED, ES = 4, 1, 3


# ---------------------------------------------------------------- classification


def test_classification(kit, acdc):
    data = kit.quietly(kit.build(ClassificationData, acdc))
    assert data.spec["classes"] == list(CLASSES)
    assert data.spec["class_counts"] == [3] * 5
    assert data.spec["channel_names"] == ["ED", "ES"]
    assert data.spec["target"] == "pathology"
    assert data.n_train == 15
    for batch in data.val_dataloader():
        assert batch["label"].dtype == torch.int64
        assert batch["label"].tolist() == [int(name[1:]) % 5 for name in batch["id"]]
        assert batch["sax"].shape == (5, 2, 14, 16, 3)
        assert batch["sax"][:, :, 5, 0, 0].unique(dim=0).tolist() == [[10 * ED, 10 * ES]]
        assert batch["frame"].tolist() == [ED] * 5
        scaled = data.eval_transform()(batch)["sax"]
        assert scaled[:, 0, :14].max() < 1  # over both channels together
        assert scaled[:, 1].max() == 1


def test_other_classes_are_left_out_with_their_numbers(kit, acdc, tmp_path):
    def change(rows):
        rows[24]["pathology"] = "TRI"
        rows[23]["pathology"] = rows[22]["pathology"] = "LV"
        rows[3]["pathology"] = None

    data = kit.build(ClassificationData, kit.table_of(acdc, tmp_path, change))
    with pytest.warns(UserWarning, match="left out") as caught:
        data.setup("fit")
    told = [str(one.message) for one in caught]
    assert any(
        "3 studies whose pathology is not one of the classes" in text and "(LV 2, TRI 1)" in text for text in told
    )
    assert any("1 study without a value in column pathology is left out (the first is 'p03')" in t for t in told)
    assert len(data.rows["test"]) == 2


def test_a_validation_set_of_one_class_is_said(kit, acdc, tmp_path):
    def change(rows):
        for row in rows[15:20]:
            row["pathology"] = "HCM"

    data = kit.quietly(kit.build(ClassificationData, kit.table_of(acdc, tmp_path, change)))
    assert data.validation_classes == ["HCM"]
    task = Classification(data.spec, lambda **known: ConvViT(**known, size="tiny"))
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    steps = {"accumulate_grad_batches": 1, "limit_train_batches": 1.0}
    task._trainer = SimpleNamespace(datamodule=data, world_size=1, strategy=strategy, **steps)
    with pytest.warns(UserWarning, match="All validation studies are of the class HCM, so neither val/mcc nor val/au"):
        task.setup("fit")


def test_classes_of_an_undeclared_column_come_from_training(kit, acdc, tmp_path):
    def change(rows):
        for i, row in enumerate(rows):
            row["diabetes"] = None if i == 0 else i % 2

    data = kit.build(ClassificationData, kit.table_of(acdc, tmp_path, change), target="diabetes")
    with pytest.warns(UserWarning, match="without a value in column diabetes"):
        data.setup("fit")
    assert data.spec["classes"] == ["0", "1"]  # 0.0 and 1.0 in the table, for its gap


@pytest.mark.filterwarnings("ignore:.*is not one of the classes")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target": "smoker"},
            "there is no column 'smoker'; columns with values are lv_ef, age, pathology, time, event",
        ),
        ({"classes": ["NOR", "DCM", "ARV"]}, r"has no training study of ARV .* set data.classes .*\(\[NOR, DCM\]\)"),
        ({"classes": ["NOR"]}, "knows only the class NOR"),
        ({"classes": ["NOR", "NOR"]}, "name each class once"),
    ],
)
def test_classes_that_cannot_be_learnt(kit, acdc, options, message):
    data = kit.build(ClassificationData, acdc, **options)
    with pytest.raises(CinemaError, match=message):
        data.setup("fit")


def test_at_test_the_checkpoints_classes_win(kit, acdc, tmp_path):
    """A network of M&Ms on ACDC: its classes in its order; what it does not know is left out."""
    trained = {**kit.quietly(kit.build(ClassificationData, acdc)).spec, "classes": ["HHD", "NOR", "ARV", "HCM", "DCM"]}
    data = kit.build(ClassificationData, acdc)
    data.follow(trained)
    with pytest.warns(UserWarning, match=r"classes HHD, NOR, ARV, HCM, DCM are left out \(MINF 5, RV 5\)"):
        data.setup("test")
    found = {
        name: label for b in data.test_dataloader() for name, label in zip(b["id"], b["label"].tolist(), strict=True)
    }
    assert found == {"p20": 4, "p21": 3, "p23": 1}
    assert data.spec["classes"] == trained["classes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"classes": ["A", "B"]},
            "has the pathology classes DCM, HCM, MINF, NOR, RV, the checkpoint has A, B, and none",
        ),
        (
            {"kind": "regression"},
            "a network for regression of pathology, but the data is for classification of pathology",
        ),
        ({"target": "sex"}, "a network for classification of sex, but the data is for classification of pathology"),
        ({"channels": 1, "channel_names": ["image"]}, r"2 channel\(s\) \(ED, ES\), .* takes 1 \(image\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit(kit, acdc, change, message):
    trained = {**kit.quietly(kit.build(ClassificationData, acdc)).spec, **change}
    with pytest.raises(CinemaError, match=message):
        kit.build(ClassificationData, acdc).follow(trained)


def test_a_pretrained_checkpoint_is_no_classifier(acdc, kit):
    with pytest.raises(CinemaError, match="a network for pretraining, but the data is for classification of pathology"):
        kit.build(ClassificationData, acdc).follow(
            {"views": ["sax"], "input_size": {"sax": [16, 16, 4]}, "channels": 1}
        )


def test_labels_follow_the_names_of_the_checkpoints_classes(kit, acdc):
    """The same labels in another order; and other labels are refused by name."""
    spec = kit.quietly(kit.build(SegmentationData, acdc)).spec
    data = kit.build(SegmentationData, acdc)
    data.follow({**spec, "classes": [spec["classes"][i] for i in (0, 3, 2, 1)]})
    data.setup("test")
    label = kit.every(data.test_dataloader(), "sax_label")
    assert label[0, 3, 0, 0] == 3  # RV
    assert label[0, 9, 0, 0] == 1  # LV
    with pytest.raises(CinemaError, match="it has scar besides, and lacks LV blood pool"):
        kit.build(SegmentationData, acdc).follow({**spec, "classes": [*spec["classes"][:3], "scar"]})
    kaggle = kit.build(SegmentationData, acdc, dataset="kaggle")
    kaggle.follow(spec)
    assert kaggle.spec["classes"] == spec["classes"]


def test_to_predict_no_labels_are_needed(kit, acdc, tmp_path):
    spec = kit.quietly(kit.build(ClassificationData, acdc)).spec

    def change(rows):
        for row in rows:
            for key in ("pathology", "split"):
                del row[key]

    root = kit.table_of(acdc, tmp_path, change)
    data = kit.build(ClassificationData, root)
    data.follow(spec, "predict")
    outcome = kit.trainer().predict(kit.Collect(), data)
    assert sorted(name for batch in outcome for name in batch["id"]) == [f"p{i:02d}" for i in range(25)]
    assert outcome[0]["sax"].shape[1:] == (2, 16, 16, 3)  # three slices of up to four
    assert "label" not in outcome[0]
    assert data.spec == spec
    segmentation = kit.build(SegmentationData, root)
    segmentation.follow(kit.quietly(kit.build(SegmentationData, acdc)).spec, "predict")
    outcome = kit.trainer().predict(kit.Collect(), segmentation)
    assert sum(len(batch["id"]) for batch in outcome) == 25 * FRAMES
    assert "sax_label" not in outcome[0]


# ---------------------------------------------------------------- regression


def test_regression_is_standardised_by_the_training_studies_in_use(kit, acdc):
    data = kit.quietly(kit.build(RegressionData, acdc))
    values = 30.0 + np.arange(15)
    assert data.spec["mean"] == pytest.approx(values.mean())
    assert data.spec["std"] == pytest.approx(values.std(ddof=1))
    assert type(data.spec["mean"]) is float
    labels = kit.every(data.train_dataloader(), "label")
    assert labels.dtype == torch.float32
    assert labels.mean() == pytest.approx(0, abs=1e-5)
    assert labels.std() == pytest.approx(1, abs=1e-5)
    less = kit.quietly(kit.build(RegressionData, acdc, fraction=0.4))
    assert less.spec["mean"] == pytest.approx(float(values[less.rows["train"]].mean()))


def test_at_test_mean_and_sd_are_the_checkpoints(kit, acdc, tmp_path):
    spec = {**kit.quietly(kit.build(RegressionData, acdc)).spec, "mean": 10.0, "std": 5.0}

    def change(rows):
        for row in rows:
            row["split"] = "test"

    data = kit.build(RegressionData, kit.table_of(acdc, tmp_path, change))
    assert data.spec["mean"] is None
    data.setup("test")
    with pytest.raises(CinemaError, match="no training studies to take the mean and SD of lv_ef from"):
        data.test_dataloader()
    data.follow(spec)
    data.setup("test")
    labels = kit.every(data.test_dataloader(), "label")
    assert torch.allclose(labels, (30 + torch.arange(25.0) - 10) / 5)
    assert (data.spec["mean"], data.spec["std"]) == (10.0, 5.0)


def test_numbers_that_are_missing_or_no_numbers(kit, acdc, tmp_path):
    def gaps(rows):
        rows[4]["lv_ef"] = rows[20]["lv_ef"] = None

    (tmp_path / "a").mkdir()
    data = kit.build(RegressionData, kit.table_of(acdc, tmp_path / "a", gaps))
    with pytest.warns(
        UserWarning, match=r"2 studies without a value in column lv_ef are left out \(the first is 'p04'\)"
    ):
        data.setup("fit")
    assert data.n_train == 14

    def words(rows):
        rows[4]["lv_ef"] = "low"

    (tmp_path / "b").mkdir()
    with pytest.raises(CinemaError, match="row 'p04' has 'low' in column lv_ef, which is not a number"):
        kit.build(RegressionData, kit.table_of(acdc, tmp_path / "b", words)).setup("fit")
    with pytest.raises(CinemaError, match="there is no column 'bmi'; columns with values are lv_ef, age"):
        kit.build(RegressionData, acdc, target="bmi").setup("fit")

    def same(rows):
        for row in rows:
            row["age"] = 60

    (tmp_path / "c").mkdir()
    with pytest.raises(CinemaError, match="age is 60 in every training study"):
        kit.build(RegressionData, kit.table_of(acdc, tmp_path / "c", same), target="age").setup("fit")


def test_assumed_phases(kit, acdc, tmp_path):
    def change(rows):
        for row in rows:
            row["ed_frame"] = row["es_frame"] = None

    root = kit.table_of(acdc, tmp_path, change)
    with pytest.raises(CinemaError, match="none of the 15 training"), pytest.warns(UserWarning, match="assumed_phases"):
        kit.build(RegressionData, root).setup("fit")
    data = kit.quietly(kit.build(RegressionData, root, assumed_phases=[0, 0.5]))
    batch = kit.batches(data.train_dataloader())[0]
    assert batch["sax"][:, :, 5, 0, 0].unique(dim=0).tolist() == [[0, 20]]

    def uncounted(rows):
        change(rows)
        for row in rows:
            row["n_frames"] = None

    (tmp_path / "a").mkdir()
    root = kit.table_of(acdc, tmp_path / "a", uncounted)
    data = kit.quietly(kit.build(RegressionData, root, assumed_phases=[0, 0.5]))
    batch = kit.batches(data.train_dataloader())[0]
    assert batch["sax"][:, :, 5, 0, 0].unique(dim=0).tolist() == [[0, 20]]


# ---------------------------------------------------------------- survival


def test_survival(kit, acdc):
    data = kit.quietly(kit.build(SurvivalData, acdc))
    assert data.spec["n_events"] == 7
    for batch in data.train_dataloader():
        numbers = torch.tensor([int(name[1:]) for name in batch["id"]])
        assert torch.equal(batch["time"], 100.0 + numbers)
        assert torch.equal(batch["event"], (numbers % 2).float())
        assert batch["event"].dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": 0}, "row 'p06' has time 0; it has to be days above 0"),
        ({"time": -3}, "row 'p06' has time -3"),
        ({"event": 2}, "row 'p06' has event 2; it has to be 1 for an event or 0"),
    ],
)
def test_impossible_times_and_events(kit, acdc, tmp_path, change, message):
    with pytest.raises(CinemaError, match=message):
        kit.build(SurvivalData, kit.table_of(acdc, tmp_path, lambda rows: rows[6].update(change))).setup("fit")


def test_a_person_is_followed_from_the_first_visit_only(kit, acdc, tmp_path):
    def again(rows):
        rows[3]["subject"] = rows[9]["subject"] = "p01"

    data = kit.build(SurvivalData, kit.table_of(acdc, tmp_path, again))
    with pytest.warns(UserWarning, match=r"2 studies of people with an earlier visit are left out .*'p03'"):
        data.setup("fit")
    ids = {name for batch in data.train_dataloader() for name in batch["id"]}
    assert "p01" in ids
    assert not ids & {"p03", "p09"}


def test_the_second_visit_is_before_the_tenth():
    ids = ["p_10", "p_2", "p_9", "q_1"]
    table = {"subject": pd.Series(["p", "p", "p", "q"])}
    opened = SimpleNamespace(cohort=SimpleNamespace(ids=np.array(ids), table=table))
    assert _later_visits(opened, np.ones(4, bool)).tolist() == [True, False, True, False]
    assert _later_visits(opened, np.array([True, False, False, True])).tolist() == [False, False, False, False]


def test_survival_without_events_or_with_gaps(kit, acdc, tmp_path):
    def none(rows):
        for row in rows[:15]:
            row["event"] = 0

    (tmp_path / "a").mkdir()
    with pytest.raises(CinemaError, match="none of the 15 training studies has an event"):
        kit.build(SurvivalData, kit.table_of(acdc, tmp_path / "a", none)).setup("fit")

    def late(rows):
        for row in rows[15:20]:
            row["event"] = 0

    (tmp_path / "c").mkdir()
    with pytest.warns(UserWarning, match="none of the 5 validation studies has an event, so neither val/c_index"):
        kit.build(SurvivalData, kit.table_of(acdc, tmp_path / "c", late)).setup("fit")

    def gap(rows):
        rows[7]["time"] = None

    (tmp_path / "b").mkdir()
    data = kit.build(SurvivalData, kit.table_of(acdc, tmp_path / "b", gap))
    with pytest.warns(UserWarning, match=r"1 study without a value in column time .*'p07'"):
        data.setup("fit")
    assert data.n_train == 14


def test_an_empty_cell_is_no_class_to_balance(kit, acdc, tmp_path):
    def some(rows):
        for number, row in enumerate(rows):
            row["pathology"] = [None, "NOR", "DCM"][number % 3]

    data = kit.build(RegressionData, kit.table_of(acdc, tmp_path, some), sampling="balanced", batch_size=15)
    data.setup("fit")
    classes = data.train_sampler.classes
    rows = data.train_sampler.rows
    cells = data.cohort.texts("pathology")
    assert [kind < 0 for kind in classes] == [cells[row] is None for row in rows]
    (tmp_path / "none").mkdir()
    empty = kit.table_of(acdc, tmp_path / "none", lambda rows: [row.update(pathology=None) for row in rows])
    with pytest.raises(CinemaError, match=r"sampling is balanced, but regression of .* has no classes"):
        kit.build(RegressionData, empty, sampling="balanced").setup("fit")


def test_balanced_training_draws_rare_classes_again_with_other_keys(kit, acdc, tmp_path):
    def uneven(rows):
        for number, row in enumerate(rows):
            row["pathology"] = "DCM" if number % 5 else "NOR"

    root = kit.table_of(acdc, tmp_path, uneven)
    options = {"classes": ["NOR", "DCM"], "batch_size": 15}
    data = kit.build(ClassificationData, root, sampling="balanced", **options)
    data.setup("fit")
    (batch,) = list(data.train_dataloader())
    assert sorted(batch["label"].tolist()) in ([0] * 7 + [1] * 8, [0] * 8 + [1] * 7)
    keys = sample_keys(batch)
    assert len(set(keys)) == 15 > len(set(batch["id"]))
    plain = kit.build(ClassificationData, root, **options)
    plain.setup("fit")
    (batch,) = list(plain.train_dataloader())
    assert batch["label"].tolist().count(0) == 3
    assert "epochs" not in batch
    survival = kit.build(SurvivalData, root, sampling="balanced")
    with pytest.raises(CinemaError, match="sampling is balanced, but survival"):
        survival.setup("fit")
