"""Measuring: shapes whose thickness, segments and volumes are known, and phantoms from any direction."""

from statistics import NormalDist

import numpy as np
import pytest

from cinema_lightning.analysis.measure import measure
from cinema_lightning.analysis.reference import references, tables
from cinema_lightning.analysis.segments import find_segments, is_base_last
from cinema_lightning.analysis.values import AsScanned, Landmarks, Measured, Person, Segmented, Study, View
from cinema_lightning.analysis.wall import slice_thickness, wall_thickness
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.subject import draw_subject

COARSE = Acquisition(n_frames=3, sax_size=(110, 110), sax_spacing=(1.7, 1.7))


@pytest.fixture(scope="module")
def stacks():
    """(X, Y, Z, T) labels, affine and subject of a few phantoms."""
    out = []
    for index in range(3):
        heart = Heart(draw_subject(5, index))
        series = Imager(heart, COARSE).image("sax")
        out.append((np.moveaxis(series.labels, 0, -1), series.affine, heart))
    return out


def ring(inner: float, outer: float, spacing: tuple[float, float], off: float = 0.0) -> np.ndarray:
    x, y = np.meshgrid(*((np.arange(80) - 40 + 0.3) * step for step in spacing), indexing="ij")
    labels = np.where(np.hypot(x, y) < outer, 2, 0)
    labels[np.hypot(x - off, y) < inner] = 3
    return labels


@pytest.mark.parametrize(("inner", "outer"), [(20, 28), (15, 27), (25, 30), (10, 16)])
@pytest.mark.parametrize("spacing", [(1.4, 1.4), (1.0, 1.0), (1.3, 1.7)])
def test_thickness_of_a_ring(inner, outer, spacing):
    _, _, thickness = slice_thickness(ring(inner, outer, spacing), np.array(spacing))
    assert thickness.mean() == pytest.approx(outer - inner, abs=0.15)


def test_thickness_of_a_ring_that_is_not_round():
    """A cavity 3 mm off: 11 mm on one side, 5 on the other, and nowhere more."""
    x, _, thickness = slice_thickness(ring(20, 28, (1.0, 1.0), off=3.0), np.array([1.0, 1.0]))
    assert thickness[x < x.min() + 3].mean() == pytest.approx(11, abs=0.6)
    assert thickness[x > x.max() - 3].mean() == pytest.approx(5, abs=0.6)


def test_no_wall_no_thickness():
    assert len(slice_thickness(np.zeros((20, 20), dtype=int), np.ones(2))[2]) == 0
    assert len(slice_thickness(np.full((20, 20), 3), np.ones(2))[2]) == 0


def flips(labels, affine):
    """The same heart with its stack and its first axis the other way round."""
    for axis in (None, 2, 0):
        if axis is None:
            yield labels, affine
            continue
        turned = affine.copy()
        turned[:3, 3] += affine[:3, axis] * (labels.shape[axis] - 1)
        turned[:3, axis] *= -1
        yield np.flip(labels, axis), turned


def test_segments_do_not_depend_on_how_the_stack_is_stored(stacks):
    for labels, affine, _ in stacks:
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        found = []
        for turned, matrix in flips(labels[..., 0], affine):
            place = find_segments(turned, matrix)
            assert place.sure
            found.append(wall_thickness(turned, spacing, place))
            # the anterior wall of a heart lies above the inferior one
            along = matrix[:3, 0] / spacing[0] * np.cos(place.anterior) + matrix[:3, 1] / spacing[1] * np.sin(
                place.anterior
            )
            assert along[2] > 0.7
        np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
        np.testing.assert_allclose(found[2], found[0], rtol=0.02)


def test_segments_of_a_wall_that_is_thick_in_one_place():
    """A septum to the right: its middle is the border of segments 2 and 3, opposite are 5 and 6."""
    size, n = 90, 7
    labels = np.zeros((size, size, n), dtype=int)
    x, y = np.meshgrid(np.arange(size) - 45, np.arange(size) - 45, indexing="ij")
    for z in range(n):
        cavity, wall = 12 + 1.5 * z, 20 + 1.5 * z
        labels[..., z][np.hypot(x - 18, y) < wall] = 1  # RV beside it, in the direction of +x
        labels[..., z][np.hypot(x, y) < wall] = 2
        labels[..., z][np.hypot(x - 3, y) < cavity] = 3  # the wall is thinner towards the septum
    # seen with +x right, +y up in the body, +z (towards the base) into the picture
    up = np.array([0.63, -0.65, 0.43]) / np.linalg.norm([0.63, -0.65, 0.43])
    right = np.array([0.75, 0.66, 0.0]) / np.linalg.norm([0.75, 0.66, 0.0])
    right -= up * (right @ up)
    right /= np.linalg.norm(right)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([right, np.cross(up, right), up * 8], axis=1)
    place = find_segments(labels, affine)
    assert place.base_last
    assert place.level.tolist() == [2, 2, 1, 1, 1, 0, 0]
    thickness = wall_thickness(labels, np.array([1.0, 1.0, 8.0]), place)
    for low, high in (((2, 3), (5, 6)), ((8, 9), (11, 12)), ((14,), (16,))):
        thin, thick = (np.mean([thickness[s - 1] for s in group]) for group in (low, high))
        assert thin < thick - 2.5
    assert thickness[0] == pytest.approx(thickness[3], abs=0.4)  # anterior and inferior are alike


def test_base_is_told_from_cut_stacks(stacks):
    for labels, affine, _ in stacks:
        truth = affine[:3, 2] @ [0.63, -0.65, 0.43] > 0
        places = np.flatnonzero((labels[..., 0] == 3).any(axis=(0, 1)))
        for part in (slice(None), slice(places[0] + 2, None), slice(0, places[-1] - 1)):
            assert is_base_last(labels[:, :, part, 0]) == truth


def test_numbers_of_a_phantom(stacks, segmented):
    labels, affine, heart = stacks[0]
    view = View("sax", labels, affine, rr=800.0, rr_range=(700, 900))
    study = Study("one", {"sax": view}, person=Person("M", 60, False, 1.80, 80))
    numbers = measure(study, {"sax": segmented(labels, affine)}).numbers
    subject = heart.subject
    assert numbers["lv_edv"] == pytest.approx(subject.lv_edv, rel=0.05)
    assert numbers["lv_mass"] == pytest.approx(heart.ventricles.lv_mass, rel=0.08)
    assert numbers["lv_sv"] == pytest.approx(numbers["lv_edv"] - numbers["lv_esv"])
    assert numbers["heart_rate"] == 75
    assert numbers["bsa"] == pytest.approx(2.0)
    assert numbers["cardiac_output"] == pytest.approx(numbers["lv_sv"] * 0.075)
    assert numbers["lv_edv_index"] == pytest.approx(numbers["lv_edv"] / 2)
    wall = [numbers[f"wall_thickness_ed_{segment:02d}"] for segment in range(1, 17)]
    assert np.mean(wall) == pytest.approx(heart.ventricles.wall_thickness, rel=0.15)
    assert "peak_filling_rate" not in numbers  # three frames are no curve


def test_peak_rates_of_a_known_curve():
    """A cosine of 50 ml amplitude in a beat of one second: the largest slope is 50 x 2 pi ml/s."""
    n, spacing = 40, 2.0
    labels = np.zeros((20, 20, 20, n), dtype=np.uint8)
    curve = 90 + 50 * np.cos(2 * np.pi * np.arange(n) / n)
    found = Segmented(labels, tuple(range(n)), {"lv": curve}, {})
    study = Study("one", {"sax": View("sax", labels, np.diag([spacing] * 3 + [1]), rr=1000.0)})
    numbers = measure(study, {"sax": found}).numbers
    assert numbers["peak_filling_rate"] == pytest.approx(50 * 2 * np.pi, rel=0.06)
    assert numbers["peak_ejection_rate"] == pytest.approx(50 * 2 * np.pi, rel=0.06)


def test_rates_of_a_part_of_the_beat_are_by_its_own_time():
    """The same cosine, of which prospective gating leaves 0.85 of the beat: 34 of 40 frames, and no way round."""
    n, kept = 40, 34
    labels = np.zeros((20, 20, 20, kept), dtype=np.uint8)
    curve = (90 + 50 * np.cos(2 * np.pi * np.arange(n) / n))[:kept]
    found = Segmented(labels, tuple(range(kept)), {"lv": curve}, {})
    view = View("sax", labels, np.diag([2.0] * 3 + [1]), AsScanned(beat=kept / n), rr=1000.0)
    numbers = measure(Study("one", {"sax": view}), {"sax": found}).numbers
    assert view.times is not None
    assert view.times[1] == pytest.approx(25)
    assert numbers["peak_filling_rate"] == pytest.approx(50 * 2 * np.pi, rel=0.06)
    assert numbers["peak_ejection_rate"] == pytest.approx(50 * 2 * np.pi, rel=0.06)
    assert numbers["heart_rate"] == pytest.approx(60)


def test_frames_that_last_longer_than_rr_have_no_heart_rate(segmented, stacks):
    labels, affine, _ = stacks[0]
    numbers = {}
    for share in (1.05, 2.0):
        study = Study("one", {"sax": View("sax", labels, affine, AsScanned(beat=share), rr=500.0)})
        numbers[share] = measure(study, {"sax": segmented(labels, affine)}).numbers
    assert numbers[1.05]["heart_rate"] == 120
    assert numbers[1.05]["cardiac_output"] is not None
    assert numbers[2.0]["heart_rate"] is numbers[2.0]["cardiac_output"] is None
    assert numbers[2.0]["lv_edv"] == numbers[1.05]["lv_edv"]


def test_slices_that_a_person_left_out_do_not_count(stacks, segmented):
    labels, affine, _ = stacks[0]
    study = Study("one", {"sax": View("sax", labels, affine)})
    levels = len(np.flatnonzero((labels[..., 0] == 3).any(axis=(0, 1))))
    fewer = segmented(labels, affine, slices=(0, labels.shape[2] // 2))
    both = [measure(study, {"sax": found}).segments for found in (segmented(labels, affine), fewer)]
    assert levels > 6
    assert both[0] != both[1]


def test_long_axis_strain_and_excursion():
    """Hinges 30 mm apart move 12 and 14 mm towards an apex 90 mm away, which stays."""
    apex = np.zeros((2, 3))
    septal = np.array([[15.0, 0, 90], [15, 0, 78]])
    lateral = np.array([[-15.0, 0, 90], [-15, 0, 76]])
    view = View("lax_4c", np.zeros((4, 4, 1, 2)), np.eye(4))
    points = Landmarks({"hinge_1": lateral, "hinge_2": septal, "apex": apex})
    numbers = measure(Study("one", {"lax_4c": view}), {}, {"lax_4c": points}).numbers
    assert numbers["mapse_septal"] == pytest.approx(12)
    assert numbers["mapse_lateral"] == pytest.approx(14)
    assert numbers["long_axis_strain_4c"] == pytest.approx(-100 * 13 / 90)


def test_a_cine_beside_ed_and_es_of_the_short_axis(segmented):
    """Two frames say nothing of where in another view's beat ES is: the hinges come down until frame 3 of 10."""
    height = 90 - np.array([0, 4, 9, 12, 10, 8, 6, 4, 2, 1.0])
    hinges = [np.stack([np.full(10, x), np.zeros(10), height], axis=1) for x in (-15.0, 15.0)]
    points = Landmarks({"hinge_1": hinges[0], "hinge_2": hinges[1], "apex": np.zeros((10, 3))})
    sax = View("sax", np.zeros((4, 4, 3, 2)), np.eye(4), phases=(0, 1))
    labels = np.full(sax.frames.shape, 3, np.uint8)
    labels[:2, ..., 1] = 0
    study = Study("one", {"sax": sax, "lax_4c": View("lax_4c", np.zeros((4, 4, 1, 10)), np.eye(4))})
    numbers = measure(study, {"sax": segmented(labels, sax.affine)}, {"lax_4c": points}).numbers
    assert (numbers["mapse_septal"], numbers["mapse_lateral"]) == pytest.approx((12, 12))
    assert numbers["long_axis_strain_4c"] == pytest.approx(-100 * 12 / 90)


def test_ranges_and_z():
    measured = Measured({"lv_edv": 198.0, "rv_ef": 58.0, "lv_esv": 60.0, "lv_mass": 100.0})
    found, said = references(measured, Person("M", 60))
    by = {reference.column: reference for reference in found}
    assert (by["lv_edv"].z, said) == (pytest.approx(1.0), "")
    assert (by["lv_edv"].low, by["lv_edv"].high) == (pytest.approx(103.28), pytest.approx(228.72))
    assert by["rv_ef"].z == pytest.approx(0)
    at_the_limit = references(Measured({"rv_edv": 172.0}), Person("F", 30))[0]
    assert at_the_limit[0].z == pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-3)
    assert "approximate" in by["rv_ef"].source
    assert "lv_mass" not in by
    # women's LVESV was read in one work only
    assert "lv_esv" not in {reference.column for reference in references(measured, Person("F", 60))[0]}


@pytest.mark.parametrize("person", [Person("M", None), Person(None, 60), Person("M", 12), Person("F", 90, aged=True)])
def test_no_range_without_sex_and_age_of_a_table(person):
    found, said = references(Measured({"lv_edv": 150.0}), person)
    assert found == ()
    assert said.startswith("No ranges")


def test_only_checked_values_are_shipped():
    for table in tables():
        assert table["papillary"] == "in the volume"
        entries = [entry for by_sex in table["values"].values() for entry in by_sex.values()]
        assert {entry["checked"] for entry in entries} <= {"source", "twice"}


def test_no_ring_no_segments():
    with pytest.raises(CinemaError, match="myocardium all around"):
        find_segments(np.zeros((8, 8, 4), dtype=int), np.eye(4))
