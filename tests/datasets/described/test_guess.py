"""What `cinema prepare --guess` leaves open, because no file tells it."""

import pytest

from cinema_lightning.cli import main
from cinema_lightning.datasets.described.guess import guess
from cinema_lightning.tables import read_table

ED, ES = 1, 3


@pytest.fixture
def place(own, tmp_path, monkeypatch):
    """Cines with label maps by phase, and no table that names ED and ES."""
    own.make(tmp_path / "raw", subjects=3)
    for path in (tmp_path / "raw/people.csv", tmp_path / "raw/mine.yaml"):
        path.unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "raw"


def _number(place, ed: int, es: int) -> None:
    for path in list((place / "masks").iterdir()):
        name = path.name.replace("_ED", f"_frame{ed:02d}").replace("_ES", f"_frame{es:02d}")
        path.rename(path.with_name(name))


def test_where_label_maps_count_from_is_asked_for_unless_a_frame_0_tells(place, own):
    _number(place, ED, ES)
    assert main(["prepare", "--guess", "raw"]) == 0
    text = (place.parent / "raw.yaml").read_text()
    assert "is the first frame 0 or 1? It could not be known" in text
    command = ["prepare", "raw.yaml", "--raw", "raw", "--out", "store", "--size", "small"]
    assert main(command) == 1
    assert "add frames_from: 0 or frames_from: 1" in (place.parent / "store/failures.csv").read_text()
    (place.parent / "raw.yaml").write_text(text.replace("frames_from: null", "frames_from: 0"))
    assert main(command) == 0
    for number, row in enumerate(read_table(place.parent / "store/cohort.csv"), start=1):
        # nothing names ED and ES either: they are the largest and the smallest LV
        assert (row["ed_frame"], row["es_frame"]) == (str(ED), str(ES))
        volumes = [own.millilitres(own.label_map(radius), 10) for radius in own.radii(number, 4)]
        assert float(row["lv_ef"]) == pytest.approx(100 * (1 - volumes[ES] / volumes[ED]), abs=4)


def test_a_frame_0_tells(place):
    _number(place, 0, 2)
    assert guess(place).content["frames_from"] == 0


def test_label_maps_of_named_phases_need_somebody_who_says_which_frames_they_are(place):
    found = guess(place)
    assert "phases" not in found.content
    assert any("Which frames are ED and ES could not be known" in note for note in found.notes["views"])


def test_long_axes_that_do_not_meet_say_what_to_do(place, own):
    for number in (1, 2, 3):
        for view in ("2ch", "4ch"):  # headers that say the same of both
            image = own.label_map(12)[:, :, :1]
            own.save(place / f"scans/P0{number}/la_{view}.nii.gz", image.astype("float32"))
    (place.parent / "raw.yaml").write_text(
        "name: raw\nviews:\n  lax_2c: scans/{id}/la_2ch.nii.gz\n  lax_4c: scans/{id}/la_4ch.nii.gz\n"
    )
    assert main(["prepare", "raw.yaml", "--raw", "raw", "--out", "store", "--size", "small"]) == 1
    failures = (place.parent / "store/failures.csv").read_text()
    assert "are parallel, so there is no line in which they meet: mend the header" in failures
    assert "; or say crop: centre or crop: none" in failures
