import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom import cohort
from cinema_lightning.phantom.cohort import Settings, normalised
from cinema_lightning.phantom.command import phantom
from cinema_lightning.phantom.subject import draw_subject
from cinema_lightning.phantom.truth import survival


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "store"
    phantom(3, root, seed=5, size="small", frames=3)
    return root


def test_store_and_tables(small):
    table = pd.read_csv(small / "cohort.csv")
    assert len(table) == 3
    assert set(table.views) == {"sax lax_2c lax_3c lax_4c"}
    for row in table.itertuples():
        sax = open_series(series_path(small, row.id, "sax"))
        assert sax.shape == (64, 64, 6)
        assert sax.n_frames == 3 == row.n_frames
        assert np.linalg.norm(sax.info.affine[:3, :3], axis=0) == pytest.approx(sax.info.spacing)
        labels = open_series(series_path(small, row.id, "sax", "label")).read()
        voxel = np.prod(sax.info.spacing) / 1000
        assert (labels[row.ed_frame] == 3).sum() * voxel == pytest.approx(row.lv_edv, abs=0.01)
        assert (labels[row.es_frame] == 3).sum() * voxel == pytest.approx(row.lv_esv, abs=0.01)
        assert row.lv_ef == pytest.approx(100 * (1 - row.lv_esv / row.lv_edv), abs=0.02)
        assert row.lv_edv == pytest.approx(row.lv_edv_true, rel=0.1)
        frame = sax.read([0])[0]
        assert frame.max() >= 254
        assert frame.min() == 0
        assert open_series(series_path(small, row.id, "lax_4c")).shape == (64, 64)


def test_slices_lie_as_far_apart_as_asked(small, tmp_path):
    phantom(1, tmp_path, seed=5, size="small", frames=3, slice_distance=10)
    row = pd.read_csv(tmp_path / "cohort.csv").iloc[0]
    sax = open_series(series_path(tmp_path, row["id"], "sax"))
    assert sax.info.spacing == pytest.approx((3, 3, 10))
    assert 8 <= sax.shape[2] == row["n_slices"] <= 14
    assert row["lv_edv"] == pytest.approx(row["lv_edv_true"], rel=0.05)
    assert json.loads((tmp_path / "phantom.json").read_text())["slice_distance"] == 10
    with pytest.raises(CinemaError, match=r"slice_distance = 10, not none"):
        phantom(1, tmp_path, seed=5, size="small", frames=3)
    phantom(1, tmp_path / "full", seed=5, frames=1, size="full", slice_distance=20)
    assert open_series(series_path(tmp_path / "full", row["id"], "sax")).info.spacing == pytest.approx((1, 1, 20))


def test_landmarks_lie_on_the_heart(small):
    points = pd.read_csv(small / "landmarks.csv")
    assert set(points.view) == {"lax_2c", "lax_4c"}
    for row in points[points.frame == 0].itertuples():
        label = open_series(series_path(small, row.id, row.view, "label")).read([0])[0]
        x, y = round(row.x), round(row.y)
        assert label[x - 2 : x + 3, y - 2 : y + 3].any()
    apex = points[(points.landmark == "apex") & (points.view == "lax_4c")].groupby("id")[["x", "y"]]
    assert (apex.std().abs().to_numpy() < 1.5).all()


def test_same_seed_same_bytes_with_workers_and_shards(small, tmp_path):
    phantom(3, tmp_path / "workers", seed=5, size="small", frames=3, workers=2)
    assert digest(tmp_path / "workers") == digest(small)
    for part in ("2/2", "1/2"):
        phantom(3, tmp_path / "shards", seed=5, size="small", frames=3, shard=part)
    shards = {name: value for name, value in digest(tmp_path / "shards").items() if "-of-" not in name}
    assert shards == digest(small)


def test_another_number_of_subjects_changes_nothing_else(small, tmp_path):
    phantom(1, tmp_path / "one", seed=5, size="small", frames=3)
    few, many = digest(tmp_path / "one"), digest(small)
    assert all(many[name] == value for name, value in few.items() if name.startswith("phantom_"))


def test_second_run_makes_only_what_is_missing(tmp_path, monkeypatch):
    phantom(2, tmp_path, seed=5, size="small", frames=2)
    before = digest(tmp_path)
    made = []
    real = cohort.make_subject
    monkeypatch.setattr(cohort, "make_subject", lambda root, index, s: made.append(index) or real(root, index, s))
    (tmp_path / "phantom_00001" / "row.json").unlink()
    for left in (tmp_path / "phantom_00001").iterdir():
        left.unlink()
    (tmp_path / "phantom_00001").rmdir()
    phantom(2, tmp_path, seed=5, size="small", frames=2)
    assert made == [1]
    assert digest(tmp_path) == before


def test_other_settings_are_refused(small, tmp_path):
    with pytest.raises(CinemaError, match="seed = 5"):
        phantom(3, small, seed=6, size="small", frames=3)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(CinemaError, match="not empty"):
        phantom(1, tmp_path, size="small", frames=2)
    with pytest.raises(CinemaError, match="not empty"):
        phantom(1, tmp_path, size="small", frames=2, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_overwrite_starts_anew(tmp_path):
    phantom(2, tmp_path, seed=1, size="small", frames=2)
    phantom(1, tmp_path, seed=2, size="small", frames=2, overwrite=True)
    assert len(pd.read_csv(tmp_path / "cohort.csv")) == 1
    assert not (tmp_path / "phantom_00001").exists()


def test_disk_full_leaves_complete_subjects_only(tmp_path, monkeypatch):
    phantom(1, tmp_path, seed=5, size="small", frames=2)
    before = digest(tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cohort, "write_series", full)
    with pytest.raises(CinemaError, match="No space left"):
        phantom(2, tmp_path, seed=5, size="small", frames=2)
    assert digest(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


def test_disk_full_inside_the_store_names_the_subject(tmp_path, monkeypatch):
    from cinema_lightning.data import store

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.Path, "write_bytes", full)
    with pytest.raises(CinemaError, match=r"phantom_00000 could not be written .No space left"):
        phantom(1, tmp_path, seed=5, size="small", frames=2)
    assert not list(tmp_path.glob("*phantom_0*"))


def test_parts_wait_for_each_other(tmp_path):
    phantom(2, tmp_path, seed=5, size="small", frames=2, shard="1/2")
    assert (tmp_path / "cohort.1-of-2.csv").exists()
    assert not (tmp_path / "cohort.csv").exists()
    phantom(2, tmp_path, seed=5, size="small", frames=2, shard="2/2")
    assert len(pd.read_csv(tmp_path / "cohort.csv")) == 2


def test_missing_views(tmp_path):
    phantom(4, tmp_path, seed=5, size="small", frames=2, missing_views=0.6)
    table = pd.read_csv(tmp_path / "cohort.csv")
    assert table.views.nunique() > 1
    for row in table.itertuples():
        files = {p.name.removesuffix(".b2nd") for p in (tmp_path / row.id).glob("*.b2nd") if "label" not in p.name}
        assert files == set(row.views.split())
        assert files
        assert np.isnan(row.lv_edv) == ("sax" not in files)
        assert row.lv_edv_true > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"subjects": 0},
        {"workers": 0},
        {"missing_views": 1.0},
        {"frames": 0},
        {"shard": "3/2"},
        {"shard": "half"},
        {"slice_distance": 0.0},
    ],
)
def test_impossible_options_are_refused(tmp_path, wrong):
    with pytest.raises(CinemaError, match=f"--{next(iter(wrong))}"):
        phantom(out=tmp_path, **wrong)


def test_normalised_as_preparation_does():
    frames = np.random.default_rng(0).gamma(2.0, size=(2, 30, 30)).astype(np.float32)
    low, high = np.percentile(frames[1], (0.95, 99.5))
    expected = ((np.clip(frames[1], low, high) - low) / (high - low) * 255).astype(np.uint8)
    assert np.abs(normalised(frames)[1].astype(int) - expected).max() <= 1
    assert not normalised(np.ones((1, 4, 4), np.float32)).any()


def test_survival_depends_on_risk_and_is_mostly_censored():
    subjects = [draw_subject(1, index) for index in range(1000)]
    drawn = [survival(s) for s in subjects]
    events = np.mean([event for _, event in drawn])
    assert 0.28 < events < 0.42
    table = json.loads(json.dumps([t for t, _ in drawn]))
    assert min(table) >= 1
    ill = [event for s, (_, event) in zip(subjects, drawn, strict=True) if s.lv_ef < 0.35]
    well = [event for s, (_, event) in zip(subjects, drawn, strict=True) if s.pathology == "NOR"]
    assert np.mean(ill) > 1.5 * np.mean(well)


def test_small_size_is_fast(tmp_path):
    import time

    start = time.perf_counter()
    cohort.make_subject(tmp_path, 0, Settings(size="small", frames=8))
    assert time.perf_counter() - start < 5


@pytest.mark.slow
def test_picture(tmp_path):
    phantom(picture=tmp_path / "docs" / "phantom.png")
    from PIL import Image

    assert Image.open(tmp_path / "docs" / "phantom.png").size == (1040, 670)
    assert (tmp_path / "docs" / "phantom.png").stat().st_size < 400_000
    with pytest.raises(CinemaError, match="PNG"):
        phantom(picture=tmp_path / "phantom.jpg")
