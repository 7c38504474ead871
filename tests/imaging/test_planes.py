import json
import zipfile

import numpy as np
import pytest

from cinema_lightning.imaging.dicom_file import DicomFile, read_files
from cinema_lightning.imaging.geometry import LPS_TO_RAS, directions_from_cosines
from cinema_lightning.imaging.planes import Plane, Views, find_short_axis, is_called_no_cine, name_long_axes, vote
from cinema_lightning.phantom.acquisition import Acquisition, plan
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.subject import PATHOLOGIES

LONG = ("lax_2c", "lax_3c", "lax_4c")


def _study(number: int, views=("lax_3c", "sax", "lax_4c", "lax_2c"), words=None) -> list[Plane]:
    """The planes that an operator plans on a phantom heart, one for each slice, named by their view."""
    heart = Heart(person(3, number, PATHOLOGIES[number % len(PATHOLOGIES)]))
    planes = []
    for view in views:
        grid = plan(heart, Acquisition(seed=number), view)
        lps = LPS_TO_RAS @ grid.affine
        axes = (lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)).T
        directions = directions_from_cosines([*axes[0], *axes[1]])
        for z in range(grid.shape[2]):
            position = lps[:3, 3] + z * lps[:3, 2]
            said = (words or {}).get(view, "")
            planes.append(Plane(view, position, directions, grid.spacing[:2], grid.shape[:2], 25, said))
    return planes


def _moved(plane: Plane, mm: float, **changes) -> Plane:
    """A plane moved along its normal."""
    return Plane(**(vars(plane) | {"position": plane.position + mm * plane.normal} | changes))


def name_views(planes: list[Plane], centre=None) -> Views:
    """The short axis and the long axes of a study."""
    views = find_short_axis(planes)
    stack = views.planes.get("sax", [])
    others = [index for index in range(len(planes)) if index not in stack]
    long_axes = name_long_axes([planes[index] for index in others], planes[stack[0]].normal if stack else None, centre)
    named = {view: [others[index] for index in found] for view, found in long_axes.planes.items()}
    return Views({**views.planes, **named}, [*views.notes, *long_axes.notes])


def _named(planes: list[Plane], centre=None) -> dict[str, set[str]]:
    return {view: {planes[index].name for index in found} for view, found in name_views(planes, centre).planes.items()}


@pytest.mark.parametrize("number", range(12))
def test_views_are_named_by_geometry(number):
    planes = _study(number)
    assert _named(planes) == {view: {view} for view in ("sax", *LONG)}
    assert len(name_views(planes).planes["sax"]) == len(planes) - 3
    # Without a short axis the line that the planes share stands for its normal.
    assert _named([plane for plane in planes if plane.name != "sax"]) == {view: {view} for view in LONG}


def test_words_are_one_vote():
    planes = _study(0, words={"lax_3c": "cine_trufi 4CH", "lax_4c": "cine_trufi 4CH", "sax": "4_Chamber"})
    assert _named(planes)["lax_3c"] == {"lax_3c"}
    notes = name_views(planes).notes
    assert "lax_3c is named lax_4c, but lies like lax_3c: used as lax_3c" in notes
    assert "sax is named lax_4c, but lies like sax: used as sax" in notes


def test_a_right_heart_view_is_told_by_its_distance():
    planes = _study(1)
    left = next(plane for plane in planes if plane.name == "lax_2c")
    right = _moved(left, 38.7, name="right")
    assert _named([right, *planes])["lax_2c"] == {"lax_2c"}
    # Without a third plane, or a point of the heart, the two cannot be told apart: neither is taken, and it is said.
    two = [right, *(plane for plane in planes if plane.name != "lax_3c")]
    views = name_views(two)
    assert "lax_2c" not in views.planes
    assert "could both be it" in " ".join(views.notes)
    assert _named(two, centre=left.centre)["lax_2c"] == {"lax_2c"}
    # A repeat beside the first is no question.
    assert _named([_moved(left, 4.0), *planes])["lax_2c"] == {"lax_2c"}


def test_still_pictures_are_no_cines():
    planes = _study(2)
    scout = [_moved(plane, 3.0, name="scout", phases=1) for plane in planes]
    assert _named([*scout, *planes]) == {view: {view} for view in ("sax", *LONG)}


def test_an_axial_stack_is_no_short_axis_unless_it_is_called_one():
    axial = [Plane("axial", np.array([0.0, 0.0, 8.0 * z]), np.eye(3), (1.0, 1.0), (64, 64), 25) for z in range(12)]
    views = name_views(axial)
    assert views.planes == {}
    assert "no stack" in views.notes[0]
    called = [_moved(plane, 0.0, words="SAX_stack") for plane in axial]
    assert len(name_views(called).planes["sax"]) == 12
    # Where the heart does not lie as most do, words alone name the long axes.
    rows = {"CINE 2Ch": [0, 1, 0, 0, 0, -1], "4-chamber": [1, 0, 0, 0, 0, -1], "what": [0.6, 0.8, 0, 0, 0, -1]}
    long_axis = [
        Plane(words, np.zeros(3), directions_from_cosines(cosines), (1.0, 1.0), (64, 64), 25, words)
        for words, cosines in rows.items()
    ]
    named = name_long_axes(long_axis, np.array([0.0, 0.0, 1.0]))
    assert named.planes == {"lax_2c": [0], "lax_4c": [1]}
    assert "left out: what" in named.notes[0]


@pytest.mark.parametrize(
    ("words", "view"),
    [
        ("CINE_segmented_SAX_b3", "sax"),
        ("sax_12", "sax"),
        ("SA_STACK", "sax"),
        ("cine short axis", "sax"),
        ("2ch_21", "lax_2c"),
        ("CINE_segmented_LAX_2Ch", "lax_2c"),
        ("4_Chamber", "lax_4c"),
        ("VLA", "lax_2c"),
        ("LVOT", "lax_3c"),
        ("cine_trufi_retro 4CH", "lax_4c"),
        ("Cine_2CH_loc", None),
        ("RV2CH_FIESTA", None),
        ("RVOT", None),
        ("sagittal block", None),
        ("", None),
    ],
)
def test_what_words_say(words, view):
    assert vote(words) == view


@pytest.mark.parametrize(
    ("words", "other"),
    [
        ("CINE_segmented_SAX_b3_InlineVF", True),
        ("cine_tagging_3sl_SAX_b1s", True),
        ("Ao_flow_venc150", True),
        ("3-pl_Loc_Fiesta", True),
        ("cine_trufi_retro", False),
        ("LVOT location", False),
        ("block_stage", False),
        ("", False),
    ],
)
def test_other_kinds_of_images(words, other):
    assert is_called_no_cine(words) is other


@pytest.mark.parametrize("with_words", [True, False])
def test_a_real_study_with_two_wrong_descriptions(real, with_words):
    """As seen by eye; the right 2-chamber view and the RVOT are left out."""
    truth = json.loads((real / "dicom" / "siemens_truth.json").read_text())
    with zipfile.ZipFile(real / "dicom" / "siemens_study.zip") as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        files = [DicomFile(name, lambda name=name: archive.read(name)) for name in names]
        images = read_files(files, "study", [])
    series: dict[str, list] = {}
    for image in images:
        series.setdefault(image.series, []).append(image)
    assert {len(frames) for frames in series.values()} == {truth["phases"]}
    firsts = [frames[0] for frames in series.values()]
    planes = [
        Plane(
            first.description,
            first.position,
            directions_from_cosines(first.cosines),
            first.spacing,
            first.pixels.shape,
            25,
            first.description if with_words else "",
        )
        for first in firsts
    ]
    views = name_views(planes).planes
    wanted = {
        view: [entry["description"] for entry in truth["series"] if entry["view"] == view]
        for view in ("sax", "lax_2c", "lax_3c", "lax_4c")
    }
    assert {view: [planes[index].name for index in found] for view, found in views.items()} == wanted
