"""Frames into samples, samples into batches."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from cinema_lightning.data.dataset import FrameDataset, Prepared, collate
from cinema_lightning.data.loader import BatchLoader
from cinema_lightning.data.sampler import Draw
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.data.table import StoreReader, read_cohort, write_cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS

N_FRAMES = 7
AFFINE = np.diag([-1.0, -1, 10, 1])


def write(root, study, view, shape, n_frames=N_FRAMES):
    """Frame t holds the value 10 t in its first half, t + 1 in the second."""
    frames = np.empty((n_frames, *shape), np.uint8)
    for t in range(n_frames):
        frames[t] = 10 * t
        frames[t, shape[0] // 2 :] = 10 * t + 1
    write_series(series_path(root, study, view), frames, affine=AFFINE)


@pytest.fixture
def dataset(tmp_path):
    for i in range(4):
        write(tmp_path, f"s{i}", "sax", (16, 12, 3 + i))
        for view in ("lax_2c", "lax_3c", "lax_4c"):
            write(tmp_path, f"s{i}", view, (16, 20))
    return FrameDataset(np.array([f"s{i}" for i in range(4)]), StoreReader(tmp_path), 0, "cohort.csv")


def draw(row, epoch=0, views=tuple(VIEWS), frame=None, weight=1.0):
    return Draw(epoch, row, tuple(views), weight, frame)


def test_the_batch(dataset):
    batch = dataset[[draw(0, 3), draw(2, 3, weight=0.0)]]
    assert batch["id"] == ["s0", "s2"]
    assert batch["epoch"] == 3
    assert batch["weight"].tolist() == [1, 0]
    assert batch["weight"].dtype == torch.float32
    assert batch["frame"].dtype == torch.int64
    assert batch["sax"].shape == (2, 1, 16, 12, 5)
    assert batch["sax"].dtype == torch.uint8
    assert batch["sax_size"].tolist() == [[16, 12, 3], [16, 12, 5]]
    assert not batch["sax"][0, ..., 3:].any()
    assert batch["lax_2c"].shape == (2, 1, 16, 20)
    assert batch["lax_2c_size"].dtype == torch.int64
    assert batch["lax_2c_spacing"].tolist() == [[1, 1, 10]] * 2
    assert batch["sax_affine"].dtype == torch.float32
    assert np.array_equal(batch["sax_affine"][1], AFFINE)
    for view in VIEWS:  # the same frame in all views
        assert torch.equal(batch[view][:, 0, 0, 0].reshape(2, -1)[:, 0].long(), 10 * batch["frame"])


def test_only_the_views_of_the_draw_are_read(dataset, tmp_path):
    series_path(tmp_path, "s1", "sax").unlink()
    batch = dataset[[draw(1, views=("lax_2c", "lax_4c"))]]
    assert [view for view in VIEWS if view in batch] == ["lax_2c", "lax_4c"]


def test_frames_are_uniform_keyed_and_new_in_each_epoch(dataset):
    frames = np.array([[dataset.sample(draw(row, epoch))["frame"] for row in range(4)] for epoch in range(100)])
    assert np.array_equal(frames[:3], [[dataset.sample(draw(r, e))["frame"] for r in range(4)] for e in range(3)])
    counts = np.bincount(frames.ravel(), minlength=N_FRAMES)
    assert len(counts) == N_FRAMES
    assert counts.min() > 30  # 57 expected
    assert len({tuple(column) for column in frames.T}) == 4


def test_views_with_other_numbers_of_frames_follow_by_phase(dataset, tmp_path):
    write(tmp_path, "s0", "lax_2c", (16, 20), n_frames=4)
    write(tmp_path, "s0", "lax_3c", (16, 20), n_frames=1)
    assert dataset.count_frames(0, tuple(VIEWS)) == N_FRAMES
    for frame in range(N_FRAMES):
        sample = dataset.sample(draw(0, frame=frame))
        assert sample["frame"] == frame
        assert sample["sax"][0, 0, 0] == sample["lax_4c"][0, 0] == 10 * frame
        assert sample["lax_2c"][0, 0] == 10 * round(frame / 6 * 3)
        assert sample["lax_3c"][0, 0] == 0


def test_pad_at_the_end_with_any_order_of_sizes():
    base = {"frame": 0, "weight": 1.0, "epoch": 0, "sax_affine": np.eye(4, dtype=np.float32)}
    base["sax_spacing"] = np.ones(3, np.float32)
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 9, shape, dtype=np.uint8) for shape in ((4, 6, 2), (5, 3, 4), (2, 2, 2))]
    batch = collate([{**base, "id": str(i), "sax": image} for i, image in enumerate(images)])
    assert batch["sax"].shape == (3, 1, 5, 6, 4)
    for padded, image in zip(batch["sax"][:, 0].numpy(), images, strict=True):
        wanted = np.zeros((5, 6, 4), np.uint8)
        wanted[tuple(slice(n) for n in image.shape)] = image
        assert np.array_equal(padded, wanted)


def test_a_constant_frame_is_named_once(dataset, tmp_path):
    write_series(series_path(tmp_path, "s0", "lax_2c"), np.full((N_FRAMES, 16, 20), 5, np.uint8), affine=AFFINE)
    with pytest.warns(UserWarning, match=r"s0/lax_2c\.b2nd: frame \d is constant and is used as zeros") as caught:
        dataset[[draw(0, epoch) for epoch in range(5)]]
    assert len(caught) == 1


def missing(path):
    path.unlink()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(("breaks", "what"), [(missing, "does not exist"), (truncated, "is cut short")])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_file_is_one_sentence_from_workers_too(dataset, tmp_path, breaks, what, num_workers):
    breaks(series_path(tmp_path, "s2", "lax_3c"))
    loader = BatchLoader(
        dataset, batch_size=None, sampler=[[draw(0)], [draw(1), draw(2)]], num_workers=num_workers, collate_fn=_same
    )
    with pytest.raises(CinemaError) as caught:
        list(loader)
    message = str(caught.value)
    assert message.startswith(str(series_path(tmp_path, "s2", "lax_3c")))
    assert what in message
    assert message.endswith("(row 3 of cohort.csv, id 's2')")
    assert "\n" not in message


def _same(batch):
    return batch


def test_a_frame_that_is_not_there(dataset):
    with pytest.raises(CinemaError, match=r"Frame 7 was asked for.*row 2"):
        dataset[[draw(1, frame=7)]]


def test_the_dataset_travels_to_spawned_workers(dataset):
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert copy.sample(draw(1))["frame"] == dataset.sample(draw(1))["frame"]


def test_the_frames_of_a_study_open_its_files_once(dataset, monkeypatch):
    opened = []
    real = StoreReader.open
    monkeypatch.setattr(StoreReader, "open", lambda self, study, view: opened.append(view) or real(self, study, view))
    for frame in range(N_FRAMES):
        dataset[[draw(0, frame=frame)]]
    assert sorted(opened) == sorted(VIEWS)


def test_a_sample_of_four_views_costs_four_opens(dataset, monkeypatch):
    opened = []
    original = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *args, **options: opened.append(path) or original(path, *args, **options)
    )
    dataset[[draw(0, 3)]]
    assert len(opened) == 4
    dataset[[draw(0, 3)]]  # the study that was opened last is still open
    assert len(opened) == 4


def test_what_was_read_from_can_be_sent_to_a_spawned_worker(dataset):
    first = dataset[[draw(0, 3)]]
    loader = BatchLoader(
        Prepared(dataset, [_named]),
        batch_size=None,
        sampler=[[draw(0, 3)]],
        num_workers=1,
        multiprocessing_context="spawn",
    )
    (batch,) = loader
    assert batch["added"] == "s0"
    assert torch.equal(batch["sax"], first["sax"])


def _named(batch):
    return batch | {"added": batch["id"][0]}


def counted(root, **cells):
    counts = {f"n_frames_{view}": N_FRAMES for view in VIEWS}
    rows = [{"id": f"s{i}", "views": " ".join(VIEWS)} | counts for i in range(4)]
    rows[1] |= cells
    write_cohort(root, rows)
    cohort = read_cohort(root)
    return FrameDataset(cohort.ids, cohort.reader, 0, str(cohort.source))


def test_frames_that_the_table_counts_are_counted_without_opening_a_file(dataset, tmp_path, monkeypatch):
    opened = []
    real = StoreReader.open
    monkeypatch.setattr(StoreReader, "open", lambda self, study, view: opened.append(view) or real(self, study, view))
    told = counted(tmp_path, n_frames_sax=None)
    assert told.count_frames(0, tuple(VIEWS)) == N_FRAMES
    assert opened == []
    assert told.count_frames(1, ("sax", "lax_4c")) == N_FRAMES
    assert opened == ["sax"]


@pytest.mark.parametrize("said", [N_FRAMES - 1, N_FRAMES + 1])
def test_a_table_that_counts_other_frames_than_the_file_has_is_refused(dataset, tmp_path, said):
    told = counted(tmp_path, n_frames_lax_2c=said)
    assert told.sample(draw(0))["id"] == "s0"
    with pytest.raises(CinemaError, match=rf"lax_2c.b2nd has {N_FRAMES} frames, but .*cohort.csv says {said} .*row 2"):
        told.sample(draw(1))


@pytest.mark.parametrize("said", [0, -3, 2.5, float("inf")])
def test_a_count_of_frames_that_is_none_is_refused(dataset, tmp_path, said):
    with pytest.raises(CinemaError, match=rf"row 's1' has {said:g} in column n_frames_sax, which is no number"):
        counted(tmp_path, n_frames_sax=said)
