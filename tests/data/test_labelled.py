"""What the data modules with labels share, and each of them on the phantom cohort."""

from __future__ import annotations

import numpy as np
import pytest

from cinema_lightning.data import DATA
from cinema_lightning.data.splits import fraction_of_subjects, split_rows
from cinema_lightning.data.table import read_cohort, write_cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.classification.data import ClassificationData
from cinema_lightning.tasks.landmarks.data import LandmarkData
from cinema_lightning.tasks.regression.data import RegressionData
from cinema_lightning.tasks.segmentation.data import SegmentationData
from cinema_lightning.tasks.survival.data import SurvivalData

FRAMES, ED, ES = 4, 1, 3


# ---------------------------------------------------------------- what all share


def test_they_are_registered():
    for cls in (SegmentationData, LandmarkData, ClassificationData, RegressionData, SurvivalData):
        assert DATA[cls.__name__] is cls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "acdd"}, "no dataset called 'acdd'; data.dataset is one of acdc, .*phantom"),
        ({"fraction": 0}, "fraction is 0; it is a share"),
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"assumed_phases": [0.0]}, "give ED and ES as fractions of the cycle"),
        ({"assumed_phases": [0, 1.0]}, "give ED and ES as fractions of the cycle"),
        ({"frames": "some"}, "it is ed_es or all"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(CinemaError, match=message):
        SegmentationData("nowhere", **options)


def test_views_are_the_datasets_unless_given():
    assert SegmentationData("nowhere", "ed_es", dataset="mnms2").views == ["sax", "lax_4c"]
    assert SegmentationData("nowhere", dataset="mnms2", views=["lax_4c"]).views == ["lax_4c"]
    assert SegmentationData("nowhere").views == ["sax", "lax_2c", "lax_3c", "lax_4c"]


def test_the_command_line_sees_all_arguments():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SegmentationData, "data")
    config = parser.parse_args(
        ["--data=SegmentationData", "--data.root=x", "--data.dataset=acdc", "--data.batch_size=3", "--data.frames=all"]
    )
    data = parser.instantiate_classes(config).data
    assert (data.batch_size, data.frames, data.facts.name) == (3, "all", "acdc")


def test_fields_of_a_study(kit, acdc):
    data = kit.quietly(kit.build(ClassificationData, acdc))
    fields = data.fields("p03")
    assert fields["pathology"] == "NOR"
    assert fields["lv_ef"] == 33.0
    assert type(fields["age"]) is int
    with pytest.raises(CinemaError, match="has no row 'p99'"):
        data.fields("p99")


def test_empty_cells_are_none(kit, acdc, tmp_path):
    def change(rows):
        rows[2].update(age=None, pathology=None)

    data = kit.build(RegressionData, kit.table_of(acdc, tmp_path, change))
    data.setup()
    assert data.fields("p02")["age"] is None
    assert data.fields("p02")["pathology"] is None


# ---------------------------------------------------------------- fraction


def test_fraction_is_nested_stratified_and_counted(kit, acdc):
    kept = {}
    for fraction in (0.34, 0.5, 0.7, 1.0):
        data = kit.build(ClassificationData, acdc, fraction=fraction)
        data.setup("fit")
        kept[fraction] = set(data.rows["train"].tolist())
        assert len(kept[fraction]) == data.spec["n_subjects"] == int(fraction * 15)
        counts = data.spec["class_counts"]
        assert max(counts) - min(counts) <= 1
        assert len(data.rows["val"]) == len(data.rows["test"]) == 5
    assert kept[0.34] < kept[0.5] < kept[0.7] < kept[1.0]


def test_fraction_keeps_shares_of_uneven_classes_and_follows_the_seed(tmp_path):
    pathology = ["A"] * 60 + ["B"] * 30 + ["C"] * 10
    write_cohort(tmp_path, [{"id": f"s{i}", "views": "sax"} for i in range(100)])
    cohort, rows = read_cohort(tmp_path), np.arange(100)
    strata = np.unique(pathology, return_inverse=True)[1]

    def draw(fraction, seed=0):
        return fraction_of_subjects(cohort, rows, fraction, seed, strata)

    assert np.bincount(strata[draw(0.1)]).tolist() in ([6, 3, 1], [5, 3, 2], [6, 2, 2])
    half = np.bincount(strata[draw(0.5)])
    assert abs(half - [30, 15, 5]).max() <= 1
    assert len(draw(0.29)) == 29  # 0.29 * 100 is 28.999... in binary
    assert len(draw(0.001)) == 1
    previous = set()
    for fraction in np.arange(0.05, 1.01, 0.05):
        now = set(draw(min(float(fraction), 1.0)).tolist())
        assert previous < now
        previous = now
    assert set(draw(0.3)) != set(draw(0.3, seed=1))
    with pytest.raises(CinemaError, match="fraction is 2"):
        draw(2)


def test_fraction_takes_whole_subjects(tmp_path):
    write_cohort(tmp_path, [{"id": f"s{i}", "subject": f"p{i // 2}", "views": "sax"} for i in range(40)])
    kept = fraction_of_subjects(read_cohort(tmp_path), np.arange(40), 0.25, 0)
    assert len(kept) == 10
    assert set(kept // 2) == set(kept[::2] // 2)


def test_a_share_of_the_subjects_can_be_set_aside_for_testing(tmp_path):
    write_cohort(tmp_path, [{"id": f"s{i}", "subject": f"p{i // 2}", "views": "sax"} for i in range(40)])
    cohort = read_cohort(tmp_path)
    splits = split_rows(cohort, 0.25, 0, 0.2)
    assert [len(splits[name]) for name in ("train", "val", "test")] == [24, 8, 8]
    assert len({row // 2 for row in splits["test"]}) == 4
    assert sorted(np.concatenate(list(splits.values()))) == list(range(40))
    assert len(split_rows(cohort, 0.25, 0)["test"]) == 0
    with pytest.raises(CinemaError, match="test_fraction is 1"):
        split_rows(cohort, 0.1, 0, 1.0)


# ---------------------------------------------------------------- the phantom cohort

SMALL = {"sax": [64, 64, 8], "lax_2c": [64, 64], "lax_3c": [64, 64], "lax_4c": [64, 64]}


@pytest.mark.parametrize(
    ("cls", "options", "keys"),
    [
        (SegmentationData, {"views": ["sax", "lax_4c"]}, ("sax_label", "lax_4c_label")),
        (ClassificationData, {"views": ["sax"]}, ("label",)),
        (ClassificationData, {"views": ["sax"], "target": "sex"}, ("label",)),
        (RegressionData, {"views": ["sax", "lax_2c"]}, ("label",)),
        (SurvivalData, {"views": ["sax"]}, ("time", "event")),
        (LandmarkData, {"views": ["lax_2c"]}, ("lax_2c_points",)),
    ],
)
def test_each_kind_on_the_phantom(kit, phantom_cohort, cls, options, keys):
    sizes = {view: SMALL[view] for view in options["views"]}
    data = cls(str(phantom_cohort), input_size=sizes, batch_size=2, num_workers=0, seed=0, **options)
    model = kit.Collect()
    kit.trainer(max_epochs=1, num_sanity_val_steps=0).fit(model, data)
    for batch in [*model.seen["train"], *model.seen["val"]]:
        for view in options["views"]:
            size = (64, 64, 6) if view == "sax" else SMALL[view]  # six slices of up to eight
            assert batch[view].shape == (len(batch["id"]), data.spec["channels"], *size)
        assert all(key in batch for key in keys)
    assert len(model.seen["train"]) == data.n_train // 2
    assert data.spec["phantoms"]
    assert data.fields(model.seen["val"][0]["id"][0])["vendor"] in ("GE", "Philips", "Siemens")


def test_a_network_of_phantoms_is_doubted_on_people(kit, acdc, phantom_cohort, recwarn):
    trained = SegmentationData(str(phantom_cohort), views=["sax"], input_size=SMALL).spec
    assert kit.build(SegmentationData, acdc).spec["phantoms"] is False
    for root, told in ((phantom_cohort, 0), (acdc, 1)):
        recwarn.clear()
        data = SegmentationData(str(root), views=["sax"], input_size=SMALL, spacing="own")
        data.follow(trained)
        data.setup("test")
        assert sum("trained on phantoms only" in str(one.message) for one in recwarn) == told
