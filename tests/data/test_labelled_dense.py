"""Data modules for label maps and landmarks: what they read, leave out and refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from cinema_lightning.data.labels import IGNORE
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.data.table import write_cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.classification.data import ClassificationData
from cinema_lightning.tasks.landmarks.data import LandmarkData
from cinema_lightning.tasks.segmentation.data import SegmentationData

SIZES = {"sax": [16, 16, 4], "lax_2c": [20, 20], "lax_4c": [20, 20]}
FRAMES, ED, ES = 4, 1, 3
AFFINE = np.diag([2.0, 2, 10, 1])


# ---------------------------------------------------------------- segmentation


def test_segmentation_takes_ed_and_es_as_samples_with_their_own_label(kit, acdc):
    data = kit.quietly(kit.build(SegmentationData, acdc))
    assert data.n_train == 30
    assert data.spec["classes"] == ["background", "RV blood pool", "myocardium", "LV blood pool"]
    assert data.spec["label_codes"] == [0, 1, 2, 3]
    assert (data.spec["channels"], data.spec["kind"], data.spec["n_subjects"]) == (1, "segmentation", 15)
    pickle.loads(pickle.dumps(data.make_dataset()))  # noqa: S301
    loader = data.val_dataloader()
    assert sorted(zip(kit.every(loader, "id"), kit.every(loader, "frame").tolist(), strict=True)) == sorted(
        (f"p{i}", frame) for i in range(15, 20) for frame in (ED, ES)
    )
    for batch in data.val_dataloader():
        assert batch["sax"].shape == (5, 1, 14, 16, 3)
        assert batch["sax_label"].shape == (5, 14, 16, 3)
        assert batch["sax_label"].dtype == torch.uint8
        assert batch["sax_labelled"].all()
        assert torch.equal(batch["sax"][:, 0, 5, 0, 0].long(), 10 * batch["frame"])
        assert torch.equal(batch["sax_label"][:, 0, 0, 0].long(), batch["frame"])


def test_segmentation_of_all_frames(kit, acdc):
    data = kit.quietly(kit.build(SegmentationData, acdc, frames="all"))
    assert data.n_train == 30  # the frames that have labels
    data = kit.quietly(kit.build(SegmentationData, acdc, frames="all"), "test")
    loader = data.test_dataloader()
    labelled, frames, labels = (kit.every(loader, key) for key in ("sax_labelled", "frame", "sax_label"))
    assert len(frames) == 5 * FRAMES  # all, for volume curves
    assert torch.equal(labelled, (frames == ED) | (frames == ES))
    assert (labels[~labelled] == IGNORE).all()
    assert (labels[labelled] < 4).all()


def test_all_frames_are_those_of_the_series_whatever_the_other_views_have(kit, tmp_path):
    kit.write(tmp_path, "a", "sax", number=6, labels=[0, 3])
    kit.write(tmp_path, "a", "lax_4c", number=4)  # what prepare counts in n_frames: the frames that all have
    write_cohort(tmp_path, [{"id": "a", "split": "test", "views": "sax lax_4c", "n_frames": 4, "ed_frame": 0}])
    data = kit.quietly(kit.build(SegmentationData, tmp_path, frames="all", views=["sax"], batch_size=1), "test")
    assert kit.every(data.test_dataloader(), "frame").tolist() == list(range(6))


def test_prediction_assumes_phases_too(kit, tmp_path):
    kit.write(tmp_path, "a", "sax", number=6)
    write_cohort(tmp_path, [{"id": "a", "split": "test", "views": "sax", "n_frames": 6}])
    for phases, frames in (([0, 0.5], [0, 3]), (None, None)):
        data = kit.build(SegmentationData, tmp_path, assumed_phases=phases, predict_frames="ed_es", batch_size=1)
        data = kit.quietly(data, "predict")
        if frames:
            assert kit.every(data.predict_dataloader(), "frame").tolist() == frames
        else:
            with pytest.raises(CinemaError, match=r"no ed_frame or es_frame; set .* or data\.assumed_phases"):
                data.predict_dataloader()


def test_segmentation_through_the_trainer(kit, acdc):
    model = kit.Collect()
    kit.trainer(max_epochs=1, num_sanity_val_steps=0).fit(model, kit.build(SegmentationData, acdc))
    kit.trainer().test(model, kit.build(SegmentationData, acdc), verbose=False)
    for stage, count in (("train", 30), ("val", 10), ("test", 10)):
        assert sum(len(batch["id"]) for batch in model.seen[stage]) == count
        for batch in model.seen[stage]:
            assert batch["sax"].shape[1:] == (1, 16, 16, 3)  # three slices of up to four
            assert batch["sax_label"].shape[1:] == (16, 16, 3)
            assert batch["sax"].dtype == torch.float32
            assert not batch["sax_label"][:, 14:].any()  # padding is background
    for batch in model.seen["val"]:
        rows = batch["sax_label"][:, 2:10, 0, 0].tolist()
        assert rows == [[1, 1, 1, 2, 2, 2, 3, 3]] * len(rows)
    moved = [not torch.equal(batch["sax_affine"][:, 0, 1], torch.zeros(5)) for batch in model.seen["train"]]
    assert any(moved)  # augmented in training only
    assert not any(batch["sax_affine"][:, 0, 1].any() for batch in model.seen["val"])


def test_subjects_that_lack_views_are_grouped(kit, tmp_path):
    rows = []
    for i in range(12):
        views = ["sax", "lax_4c"] if i % 3 else ["sax"]
        for view in views:
            kit.write(tmp_path, f"s{i}", view, labels=[0, 1, 2, 3])
        split = "train" if i < 9 else "val"
        rows.append({"id": f"s{i}", "split": split, "views": views, "n_frames": FRAMES, "ed_frame": 0, "es_frame": 2})
    write_cohort(tmp_path, rows)
    data = kit.build(SegmentationData, tmp_path, dataset="mnms2", views=["sax", "lax_4c"], batch_size=2)
    data.setup()
    assert data.n_train == 18
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            views = [view for view in ("sax", "lax_4c") if view in batch]
            assert all(len(batch[f"{view}_label"]) == len(batch["id"]) for view in views)
            assert ("lax_4c" in batch) == ("lax_4c_label" in batch)


def test_a_view_without_label_maps_is_unknown(kit, tmp_path):
    kit.write(tmp_path, "a", "sax", labels=[0, 1, 2, 3])
    kit.write(tmp_path, "a", "lax_4c", number=7)  # and follows by phase
    write_cohort(
        tmp_path,
        [{"id": "a", "split": "train", "views": "sax lax_4c", "n_frames": FRAMES, "ed_frame": 0, "es_frame": 3}],
    )
    data = kit.build(
        SegmentationData, tmp_path, dataset="rescan", views=["sax", "lax_4c"], batch_size=1, val_fraction=0
    )
    data.setup()
    found = {int(batch["frame"]): batch for batch in data.train_dataloader()}
    assert not found[3]["lax_4c_labelled"].any()
    assert (found[3]["lax_4c_label"] == IGNORE).all()
    assert found[3]["sax_labelled"].all()
    assert found[3]["lax_4c"][0, 0, 5, 0] == 60  # the last of its seven


def test_three_sequences_are_channels(kit, tmp_path):
    rows = []
    for i in range(6):
        labels = [0] if i < 5 else None  # the test set has none
        kit.write(tmp_path, f"s{i}", "sax", number=3, labels=labels, facts={"channels": ["C0", "DE", "T2"]})
        rows.append({"id": f"s{i}", "views": "sax", "n_frames": 3, "split": ["train", "val", "test"][max(0, i - 3)]})
    write_cohort(tmp_path, rows)
    data = kit.quietly(kit.build(SegmentationData, tmp_path, dataset="myops", batch_size=2), None)
    assert data.n_train == 4
    assert data.spec["channels"] == 3
    assert data.spec["channel_names"] == ["C0", "DE", "T2"]
    assert data.spec["classes"][-2:] == ["edema", "scar"]
    batch = kit.batches(data.train_dataloader())[0]
    assert batch["sax"].shape == (2, 3, 14, 16, 3)
    assert batch["sax"][0, :, 5, 0, 0].tolist() == [0, 10, 20]
    test = kit.batches(data.test_dataloader())[0]
    assert (test["sax_label"] == IGNORE).all()
    data = kit.quietly(kit.build(SegmentationData, tmp_path, dataset="myops"), "predict")
    predicted = kit.batches(data.predict_dataloader())
    assert [tuple(batch["sax"].shape[:2]) for batch in predicted] == [(5, 3), (1, 3)]
    assert not kit.every(predicted, "frame").any()


def test_single_frames(kit, tmp_path):
    rows = []
    for i in range(5):
        kit.write(tmp_path, f"s{i}", "sax", number=1, labels=[0])
        rows.append({"id": f"s{i}", "views": "sax", "n_frames": 1, "split": "val" if i == 4 else "train"})
        rows[-1]["pathology"] = "NP"[i % 2]
    write_cohort(tmp_path, rows)
    data = kit.quietly(kit.build(SegmentationData, tmp_path, dataset="emidec", batch_size=2))
    assert data.n_train == 4
    data = kit.quietly(kit.build(ClassificationData, tmp_path, dataset="emidec", batch_size=2))
    assert data.spec["channels"] == 1
    assert kit.batches(data.train_dataloader())[0]["sax"].shape == (2, 1, 14, 16, 3)


def test_a_code_that_is_no_class(kit, acdc, tmp_path):
    kit.write(tmp_path, "a", "sax", labels=[0, 1, 2, 3])
    maps = np.zeros((FRAMES, 14, 16, 3), np.uint8)
    maps[:, 3] = 9
    write_series(series_path(tmp_path, "a", "sax", "label"), maps, affine=AFFINE)
    write_cohort(tmp_path, [{"id": "a", "split": "train", "views": "sax", "n_frames": 4, "ed_frame": 0, "es_frame": 2}])
    data = kit.build(SegmentationData, tmp_path, batch_size=1, val_fraction=0)
    data.setup("fit")
    with pytest.raises(CinemaError, match=r"sax_label\.b2nd holds the code 9 in frame \d, .*codes 0, 1, 2, 3.*id 'a'"):
        kit.batches(data.train_dataloader())


def test_a_label_of_another_size(kit, tmp_path):
    kit.write(tmp_path, "a", "sax")
    write_series(series_path(tmp_path, "a", "sax", "label"), np.zeros((4, 9, 9, 3), np.uint8), affine=AFFINE)
    write_cohort(tmp_path, [{"id": "a", "split": "train", "views": "sax", "n_frames": 4, "ed_frame": 0, "es_frame": 2}])
    data = kit.build(SegmentationData, tmp_path, batch_size=1, val_fraction=0)
    data.setup("fit")
    with pytest.raises(CinemaError, match=r"is \(9, 9, 3\) voxels, its image \(14, 16, 3\)"):
        kit.batches(data.train_dataloader())


def test_studies_without_ed_or_without_labels_are_named(kit, acdc, tmp_path):
    def change(rows):
        rows[0]["es_frame"] = None
        rows[1]["ed_frame"] = 0  # a frame without a label map

    data = kit.build(SegmentationData, kit.table_of(acdc, tmp_path, change))
    with pytest.warns(UserWarning, match="left out") as caught:
        data.setup("fit")
    told = [str(one.message) for one in caught]
    assert any("1 study without ed_frame or es_frame is left out (the first is 'p00')" in text for text in told)
    assert any("1 train study has no label map of a wanted frame" in text and "'p01'" in text for text in told)
    assert data.n_train == 27


def test_a_dataset_without_label_maps(kit, acdc):
    with pytest.raises(CinemaError, match="Kaggle DSB 2 has no label maps to train on"):
        kit.build(SegmentationData, acdc, dataset="kaggle").setup("fit")
    data = kit.quietly(kit.build(SegmentationData, acdc, dataset="kaggle", frames="all"), "test")
    assert len(kit.every(data.test_dataloader(), "frame")) == 20


def test_no_usable_training_study(kit, acdc, tmp_path):
    data = kit.build(SegmentationData, kit.table_of(acdc, tmp_path, lambda rows: [row.pop("ed_frame") for row in rows]))
    with (
        pytest.raises(CinemaError, match="none of the 15 training studies can be used for segmentation"),
        pytest.warns(),
    ):
        data.setup("fit")


# ---------------------------------------------------------------- landmarks


@pytest.fixture
def marked(kit, tmp_path):
    """Ten studies; the 2-chamber view of each has two landmarks in three frames, the 4-chamber view another."""
    rows, points = [], []
    for i in range(10):
        for view in ("lax_2c", "lax_4c"):
            kit.write(tmp_path, f"s{i}", view)
        split = "val" if i == 9 else "train"
        views = ["lax_2c", "lax_4c"]
        rows.append({"id": f"s{i}", "split": split, "views": views, "n_frames": FRAMES, "ed_frame": 0, "es_frame": 2})
        for frame in (0, 1, 2):
            for k, name in enumerate(("hinge", "apex")):
                if (i, name) != (3, "apex"):
                    points.append((f"s{i}", "lax_2c", frame, name, 4 + k + i / 10, 6 + frame))
            points.append((f"s{i}", "lax_4c", frame, "septal", 10, 11))
    write_cohort(tmp_path, rows)
    table = pd.DataFrame(points, columns=["id", "view", "frame", "landmark", "x", "y"])
    table.to_csv(tmp_path / "landmarks.csv", index=False)
    return tmp_path


def test_landmarks(kit, marked):
    data = kit.quietly(kit.build(LandmarkData, marked, dataset="phantom", views=["lax_2c"], batch_size=3))
    assert data.spec["landmarks"] == ["hinge", "apex"]
    assert data.n_train == 18
    for batch in data.train_dataloader():
        assert batch["lax_2c_points"].shape == (3, 2, 2)
        assert batch["lax_2c_points"].dtype == torch.float32
        for name, frame, points, valid in zip(
            batch["id"], batch["frame"], batch["lax_2c_points"], batch["lax_2c_points_valid"], strict=True
        ):
            i = int(name[1:])
            assert torch.allclose(points[0], torch.tensor([4 + i / 10, 6.0 + frame]))
            assert valid.tolist() == [True, i != 3]
        out = data.train_transform()(batch)
        assert out["lax_2c_points_valid"].sum() <= batch["lax_2c_points_valid"].sum()
    assert kit.quietly(kit.build(LandmarkData, marked, views=["lax_2c"], frames="all")).n_train == 27


def test_landmarks_of_two_views_share_one_list(kit, marked):
    data = kit.quietly(kit.build(LandmarkData, marked, views=["lax_2c", "lax_4c"], batch_size=3))
    assert data.spec["landmarks"] == ["hinge", "apex", "septal"]
    batch = kit.batches(data.train_dataloader())[0]
    assert batch["lax_4c_points_valid"].tolist() == [[False, False, True]] * 3
    assert not batch["lax_2c_points_valid"][:, 2].any()


def test_landmarks_can_be_chosen_and_follow_the_checkpoint(kit, marked):
    data = kit.quietly(kit.build(LandmarkData, marked, views=["lax_2c"], landmarks=["apex", "hinge"]))
    assert data.spec["landmarks"] == ["apex", "hinge"]
    other = kit.build(LandmarkData, marked, views=["lax_2c"])
    other.follow(data.spec)
    other.setup("validate")
    batch = kit.batches(other.val_dataloader())[0]
    assert torch.allclose(batch["lax_2c_points"][0, 0], torch.tensor([5.9, 6.0]))
    with pytest.raises(CinemaError, match="marks hinge, apex, but the checkpoint finds nose"):
        kit.build(LandmarkData, marked, views=["lax_2c"]).follow({**data.spec, "landmarks": ["nose"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"landmarks": ["nose"]}, "has no landmark called 'nose' in lax_2c; there are hinge, apex"),
        ({"views": ["sax", "lax_2c"]}, "Landmarks lie in long-axis images, not in sax"),
    ],
)
def test_wrong_landmarks(kit, marked, options, message):
    with pytest.raises(CinemaError, match=message):
        kit.build(LandmarkData, marked, **{"views": ["lax_2c"], **options}).setup("fit")


def test_the_landmark_table_is_checked(kit, marked):
    path = marked / "landmarks.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line for line in lines[1:] if not line.startswith("s0,lax_2c"))]) + "\n")
    data = kit.build(LandmarkData, marked, views=["lax_2c"])
    with pytest.warns(UserWarning, match=r"1 study without landmarks in lax_2c is left out \(the first is 's0'\)"):
        data.setup("fit")
    assert data.n_train == 16
    path.write_text("\n".join([lines[0], lines[1].rsplit(",", 1)[0] + ",far"]) + "\n")
    with pytest.raises(CinemaError, match=r"landmarks\.csv, row 2: 'far' in column y is not a number"):
        kit.build(LandmarkData, marked, views=["lax_2c"]).setup("fit")
    path.write_text("id,view,frame\n")
    with pytest.raises(CinemaError, match="has no column 'landmark'"):
        kit.build(LandmarkData, marked, views=["lax_2c"]).setup("fit")
    path.unlink()
    with pytest.raises(CinemaError, match=r"landmarks\.csv is missing, so there are no landmarks to train on"):
        kit.build(LandmarkData, marked, views=["lax_2c"]).setup("fit")
