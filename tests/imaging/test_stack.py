"""Short-axis stacks from what scanners and exporters do, with the volume that must come out."""

from dataclasses import replace

import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom import Cine, sort_slices
from cinema_lightning.imaging.dicom_file import DicomImage
from cinema_lightning.imaging.geometry import LPS_TO_RAS
from cinema_lightning.imaging.regrid import at_phases
from cinema_lightning.imaging.stack import Stack, stack

# An ellipsoid that beats: half axes in mm at end-diastole, and how much shorter they are at end-systole.
AXES, SHORTER = np.array([26.0, 24.0, 44.0]), 0.8
EDV = 4 / 3 * np.pi * AXES.prod() / 1000
EF = 100 * (1 - SHORTER**3)
ROW, COLUMN = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
NORMAL = np.cross(ROW, COLUMN)
SIZE, PIXEL, DISTANCE, SLICES, PHASES = (72, 64), 1.5, 8.0, 12, 8


def _slice(place: float, *, phases=PHASES, aside=(0.0, 0.0), tilt=0.0, size=SIZE, folder=None, **tags):
    """The frames of a slice as it would be scanned: its middle ``place`` distances from the centre of the ellipsoid."""
    turn, lean = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    row, column = ROW * turn + NORMAL * lean, COLUMN
    middle = place * DISTANCE * NORMAL + aside[0] * ROW + aside[1] * COLUMN
    position = middle - PIXEL * ((size[0] - 1) / 2 * row + (size[1] - 1) / 2 * column)
    x, y = (PIXEL * axis[..., None] for axis in np.indices(size, dtype=float))
    points = position + x * row + y * column
    within = np.stack([points @ ROW, points @ COLUMN, points @ NORMAL], axis=-1)
    folder = folder or f"sax_{round(place * 2) + 50}"
    frames = []
    for phase in range(phases):
        scale = 1 - (1 - SHORTER) * (1 - np.cos(2 * np.pi * phase / phases)) / 2
        off = np.linalg.norm(within / (AXES * scale), axis=-1) - 1
        frames.append(
            DicomImage(
                **{
                    "name": f"{folder}/IM-{phase + 1}.dcm",
                    "pixels": (1000 * np.clip(0.5 - off * 15, 0, 1)).astype(np.uint16),
                    "position": position,
                    "cosines": np.concatenate([row, column]),
                    "spacing": (PIXEL, PIXEL),
                    "series": "1.2.3",
                    "trigger_time": 800.0 * phase / phases,
                    "n_phases": phases,
                    **tags,
                }
            )
        )
    return frames


PLACES = [index - (SLICES - 1) / 2 for index in range(SLICES)]


def _assemble(slices) -> Stack:
    return stack(sort_slices([image for frames in slices for image in frames])[0])


def _volumes(stacked: Stack) -> tuple[float, float]:
    """EDV in ml and EF in %: voxels brighter than half, times the voxel that the affine says."""
    voxel = abs(np.linalg.det(stacked.affine[:3, :3])) / 1000
    volumes = (stacked.frames > 500).sum(axis=(1, 2, 3)) * voxel
    return volumes.max(), 100 * (1 - volumes.min() / volumes.max())


def _is_whole(stacked: Stack, filled=0, distance=DISTANCE) -> None:
    assert stacked.frames.shape == (PHASES, *SIZE, SLICES)
    assert stacked.filled == filled
    columns = stacked.affine[:3, :3]
    np.testing.assert_allclose(np.linalg.norm(columns, axis=0), [PIXEL, PIXEL, distance], atol=0.03)
    # Right angles, or volumes would not be counts times the voxel's sides.
    np.testing.assert_allclose((columns.T @ columns)[np.triu_indices(3, 1)], 0, atol=1e-6)
    edv, ef = _volumes(stacked)
    assert edv == pytest.approx(EDV, rel=0.02)
    assert ef == pytest.approx(EF, abs=1.5)


def test_a_regular_stack_is_taken_as_it_is():
    stacked = _assemble(map(_slice, PLACES))
    _is_whole(stacked)
    assert stacked.counts == {"n_slices_read": 12, "n_slices_left_out": 0, "n_slices_filled": 0}
    assert stacked.warnings == ()
    first = _slice(PLACES[0])[0]
    np.testing.assert_array_equal(stacked.frames[0, ..., 0], first.pixels)
    np.testing.assert_allclose(stacked.affine[:3, 3], (LPS_TO_RAS[:3, :3] @ first.position), atol=1e-6)


@pytest.mark.parametrize(
    ("every_second", "said"),
    [
        ({"aside": (0.9, 0.0)}, "0.9 mm beside the others"),
        ({"aside": (7.0, -9.0)}, "9.0 mm beside the others"),
        ({"tilt": 1.5}, "tilted by up to 1.5 degrees"),
        ({"tilt": 4.0}, "tilted by up to 4.0 degrees"),
    ],
)
def test_slices_beside_the_others_are_brought_onto_the_grid(every_second, said):
    stacked = _assemble(_slice(place, **(every_second if i % 2 else {})) for i, place in enumerate(PLACES))
    _is_whole(stacked)
    assert stacked.left_out == 0
    assert [warning for warning in stacked.warnings if said in warning]
    # The ellipsoid's middle stays at one pixel through the slices.
    bright = stacked.frames[0] > 500
    middles = [np.argwhere(bright[..., z]).mean(axis=0) for z in range(2, SLICES - 2)]
    np.testing.assert_allclose(middles, [middles[0]] * len(middles), atol=0.5)


@pytest.mark.parametrize("off", [0.4, 1.0, 2.0])
def test_slices_before_and_behind_their_places_are_kept(off):
    stacked = _assemble(_slice(place + (off / DISTANCE if i % 2 else 0)) for i, place in enumerate(PLACES))
    _is_whole(stacked, distance=DISTANCE + 3 * off / (SLICES**2 - 1))
    assert stacked.left_out == 0
    assert "vary from" in stacked.warnings[0]


def test_tilted_in_the_header_alone():
    """The whole tilt about the first pixel, so that the middles lie at unequal distances."""
    turn, lean = np.cos(np.radians(1.5)), np.sin(np.radians(1.5))
    tilted = np.concatenate([ROW * turn + NORMAL * lean, COLUMN])
    slices = [
        [replace(image, cosines=tilted) if index % 2 else image for image in _slice(place)]
        for index, place in enumerate(PLACES)
    ]
    _is_whole(_assemble(slices))


def test_folders_in_another_order():
    names = [5, 6, 9, 8, 7, 10, 11, 12, 13, 14, 15, 16]
    slices = [_slice(place, folder=f"sax_{name}") for place, name in zip(PLACES, names, strict=True)]
    _is_whole(_assemble(slices))
    # Against the normal: the folders' order is that of the slices all the same.
    turned = _assemble(_slice(place, folder=f"sax_{20 - index}") for index, place in enumerate(PLACES))
    _is_whole(turned)
    np.testing.assert_array_equal(turned.frames[0, ..., 0], _slice(PLACES[-1])[0].pixels)
    assert turned.affine[:3, 2] @ (LPS_TO_RAS[:3, :3] @ NORMAL) < 0


def test_one_folder_one_series_one_phase_after_another():
    """All slices in one folder, names that say nothing, phases that run slowest; instances run against the normal."""
    rng = np.random.default_rng(0)
    images = [image for place in PLACES for image in _slice(place)]
    total = len(images)
    images = [
        replace(image, name=f"export/{rng.integers(1 << 40):010x}", instance=float(total - number))
        for number, image in enumerate(images)
    ]
    rng.shuffle(images)
    stacked = stack(sort_slices(images)[0])
    _is_whole(stacked)
    assert stacked.warnings == ()
    np.testing.assert_array_equal(stacked.frames[0, ..., 0], _slice(PLACES[-1])[0].pixels)


@pytest.mark.parametrize(("factor", "said"), [(1.09, True), (0.5, True), (1.001, False)])
def test_the_header_only_checks_the_distance(factor, said):
    stacked = _assemble(_slice(place, between=DISTANCE * factor) for place in PLACES)
    _is_whole(stacked)
    assert any("the positions 8.00 mm" in warning for warning in stacked.warnings) is said


def test_one_missing_slice_is_filled():
    stacked = _assemble(_slice(place) for index, place in enumerate(PLACES) if index != 5)
    _is_whole(stacked, filled=1)
    assert stacked.counts == {"n_slices_read": 11, "n_slices_left_out": 0, "n_slices_filled": 1}
    assert "slice 6 of 12 is missing: filled" in stacked.warnings[-1]


@pytest.mark.parametrize("without", [(5, 6), (3, 7), (1, 3, 5, 7)])
def test_more_missing_slices_are_refused(without):
    with pytest.raises(CinemaError, match=rf"incomplete: {SLICES - len(without)} usable slices.* should be 12"):
        _assemble(_slice(place) for index, place in enumerate(PLACES) if index not in without)


def test_a_jittery_stack_is_regular():
    rng = np.random.default_rng(1)
    stacked = _assemble(_slice(place + rng.uniform(-1, 1) * 0.01 / DISTANCE) for place in PLACES)
    _is_whole(stacked)
    assert stacked.warnings == ()


def test_half_of_another_size_is_refused_and_one_left_out():
    stacked = _assemble(_slice(place, size=SIZE if index else (64, 64)) for index, place in enumerate(PLACES))
    assert (stacked.frames.shape[-1], stacked.left_out) == (11, 1)
    assert "64 x 64 pixels of 1.5 x 1.5 mm, of most 72 x 64" in stacked.warnings[0]
    # Half a heart would look like a small one.
    with pytest.raises(CinemaError, match="incomplete"):
        _assemble(_slice(place, size=SIZE if index < 7 else (64, 64)) for index, place in enumerate(PLACES))


def test_other_planes_are_left_out():
    across = [replace(image, cosines=np.concatenate([NORMAL, COLUMN])) for image in _slice(0.25, folder="across")]
    stacked = _assemble([across, *map(_slice, PLACES), _slice(0.2, folder="between")])
    _is_whole(stacked)
    assert (stacked.read, stacked.left_out) == (14, 2)
    assert {warning.split(": ")[1] for warning in stacked.warnings} == {
        "it is not parallel to the others",
        "it does not lie at a place of the stack",
    }


def test_slices_of_another_tilt_are_not_lost_in_silence():
    stacked = _assemble(_slice(place, tilt=0 if index else 8) for index, place in enumerate(PLACES))
    assert (stacked.frames.shape[-1], stacked.left_out) == (11, 1)
    with pytest.raises(CinemaError, match="incomplete: 7 usable slices"):
        _assemble(_slice(place, tilt=0 if index < 7 else 8) for index, place in enumerate(PLACES))


def _darker(images):
    return [replace(image, pixels=image.pixels // 4) for image in images]


@pytest.mark.parametrize("way", ["time", "folder", "order of instances", "instances twice", "series"])
def test_of_two_acquisitions_the_later_counts(way):
    """Repeats under one UID of every third slice; the first try shows next to nothing."""
    slices = []
    for index, place in enumerate(PLACES):
        first, second = _darker(_slice(place)), _slice(place)
        if way == "time":
            first = [replace(image, acquired="20200101120000", name=f"{image.name}a") for image in first]
            second = [replace(image, acquired="20200101120130", name=f"{image.name}b") for image in second]
        elif way == "folder":
            second = [replace(image, name=image.name.replace("sax_", "sax_9")) for image in second]
        elif way == "instances twice":
            bare = {"trigger_time": None, "n_phases": None}
            both = [
                replace(image, **bare, instance=float(n % PHASES), name=f"{image.name[:6]}/{n}")
                for n, image in enumerate(first + second)
            ]
            slices.append(both if index % 3 == 0 else both[PHASES:])
            continue
        elif way == "series":
            first = [replace(image, series="1.2.9", name=f"{image.name}a") for image in first]
            second = [replace(image, series="1.2.10") for image in second]
        else:
            both = [replace(image, instance=float(n + 1), name=f"x/{n}") for n, image in enumerate(first + second)]
            slices.append(both if index % 3 == 0 else second)
            continue
        slices.append(second + first if index % 3 == 0 else second)
    stacked = _assemble(slices)
    _is_whole(stacked)
    assert (stacked.read, stacked.left_out) == (16, 4)
    assert sum("is at the same place" in warning for warning in stacked.warnings) == 4


def test_a_complete_acquisition_counts_before_a_later_one():
    late = [replace(image, acquired="2", name=f"late/{image.name}") for image in _darker(_slice(PLACES[4]))]
    for kept in (PHASES // 4, PHASES - 1):
        early = [replace(image, acquired="1") for image in _slice(PLACES[4])]
        others = [_slice(place) for index, place in enumerate(PLACES) if index != 4]
        stacked = _assemble([*others, early, late[:kept]])
        _is_whole(stacked)
        assert stacked.left_out == 1


@pytest.mark.parametrize("clock", ["trigger_delay", "temporal_position", "instance", "names"])
def test_frames_without_trigger_times(clock):
    """Names 1, 2, ..., 10, 11, 12 and whatever clock there is; the ellipsoid must shrink, then grow."""
    images = _slice(0.0, phases=12)
    changed = []
    for number, image in enumerate(images):
        tags = {"trigger_time": None} if number % 2 else {"trigger_time": 0.0}
        if clock != "names":
            tags |= {clock: float(number), "name": f"x/{(7 * number) % 12}"}
        changed.append(replace(image, **tags))
    np.random.default_rng(0).shuffle(changed)
    [cine], said = sort_slices(changed)
    np.testing.assert_array_equal(cine.frames, np.stack([image.pixels for image in images]))
    assert not said


def test_other_numbers_of_phases_are_brought_to_the_commonest():
    slices = [_slice(place, phases=12 if index in (4, 7) else PHASES) for index, place in enumerate(PLACES)]
    stacked = _assemble(slices)
    _is_whole(stacked)
    assert sum("12 phases, most have 8" in warning for warning in stacked.warnings) == 2
    # One frame is no beat.
    stacked = _assemble([*slices[1:], _slice(PLACES[0], phases=1)])
    assert (stacked.frames.shape[-1], stacked.left_out) == (11, 1)


def test_phases_by_fraction_of_the_beat():
    wave = np.sin(2 * np.pi * np.arange(25) / 25)[:, None, None]
    np.testing.assert_allclose(
        at_phases(wave, 20)[:, 0, 0], np.sin(2 * np.pi * np.arange(20) / 20), atol=1 - np.cos(np.pi / 25)
    )
    assert at_phases(wave, 25) is wave
    # The beat closes on itself: what lies after the last frame is on its way to the first.
    np.testing.assert_allclose(at_phases(np.array([0.0, 3.0])[:, None, None], 3)[:, 0, 0], [0, 2, 2])


def test_pixel_sizes_at_the_edge_of_rounding():
    slices = [
        [replace(image, spacing=(1.505 - 2e-5 * (i % 2), 1.505)) for image in _slice(p)] for i, p in enumerate(PLACES)
    ]
    assert _assemble(slices).left_out == 0


def test_single_pictures_beside_the_cine():
    """Pictures of another kind at the places of slices, and far beyond them: no slice takes them for its frames."""
    late = [
        replace(_slice(place, folder=f"late_{index}")[0], series="1.2.4", n_phases=None, pixels=np.full(SIZE, 9))
        for index, place in enumerate([*PLACES, 9.5, 10.5, 11.5])
    ]
    slices = [_slice(place) for place in PLACES]
    stacked = _assemble(
        [late, [image for image in slices[3] if not image.name.endswith("-5.dcm")], *slices[:3], *slices[4:]]
    )
    _is_whole(stacked)
    assert (stacked.read, stacked.left_out) == (27, 15)
    assert "7 of 8 frames" in stacked.warnings[0]


@pytest.mark.parametrize("header", [PHASES, None])
def test_a_series_for_each_phase(header):
    images = [
        replace(image, series=f"1.2.{image.name[-5]}") for place in PLACES for image in _slice(place, n_phases=header)
    ]
    _is_whole(stack(sort_slices(images)[0]))


def test_slices_without_their_own_positions():
    images = [replace(image, position=np.zeros(3)) for place in PLACES for image in _slice(place)]
    with pytest.raises(CinemaError, match="all 12 SAX slices lie at one place"):
        stack(sort_slices(images)[0])


def test_velocities_and_frames_without_geometry_are_said_once():
    slices = [*map(_slice, PLACES), [replace(image, velocity=True) for image in _slice(0.3, folder="flow")]]
    slices += [[replace(image, position=None) for image in _slice(0.2, folder="lost")]]
    cines, said = sort_slices([image for frames in slices for image in frames])
    assert len(cines) == 12
    assert said == [
        "flow/IM-1.dcm holds velocities, not a picture (and 7 more)",
        "lost/IM-1.dcm has no usable ImagePositionPatient (and 7 more)",
    ]


def _still(height: float, **fields) -> Cine:
    return Cine(np.ones((2, 8, 8)), np.array([0.0, 0.0, height]), np.eye(3), (1.0, 1.0), found=2, **fields)


def test_stack_of_one_or_none():
    assert stack([_still(0, between=8.0)]).affine[2, 2] == pytest.approx(8)
    with pytest.raises(CinemaError, match="one SAX slice"):
        stack([_still(0)])
    with pytest.raises(CinemaError, match="no readable SAX slice"):
        stack([])


@pytest.mark.parametrize(
    ("heights", "distance", "filled", "left_out"),
    [
        ((0, 8, 16, 24, 40, 48), 8.0, 1, 0),
        ((0, 10, 13, 20, 30, 40), 10.0, 0, 1),
        ((0, 8.0, 16.0, 24.9, 33.0, 40.0), 8.11, 0, 0),
        ((0, 8, 16, 28, 36, 44), 9.03, 0, 0),
        ((0, 17.7, 35.4, 53.1), 17.7, 0, 0),
        ((0, 9.5), 9.5, 0, 0),
    ],
)
def test_distances(heights, distance, filled, left_out):
    stacked = stack([_still(height, name=str(number)) for number, height in enumerate(heights)])
    assert np.linalg.norm(stacked.affine[:3, 2]) == pytest.approx(distance, abs=0.02)
    assert (stacked.filled, stacked.left_out) == (filled, left_out)
    assert stacked.frames.shape[-1] == len(heights) + filled - left_out


@pytest.mark.parametrize(
    "heights", [(0, 10, 20, 30, 57, 67), (0, 8, 24, 40, 48), (0, 8, 16, 24, 80), (0, 1.5, 8, 16.5, 23, 80)]
)
def test_what_is_no_stack_is_refused(heights):
    with pytest.raises(CinemaError, match="incomplete"):
        stack([_still(height, name=str(number)) for number, height in enumerate(heights)])


@pytest.mark.parametrize("way", ["time", "folder", "order of instances"])
@pytest.mark.parametrize("kept", [1, 2, 3, 5])
def test_an_acquisition_that_was_broken_off(way, kept):
    """Under one UID, and no header says how many frames there should be."""
    slices = []
    for index, place in enumerate(PLACES):
        first, second = _darker(_slice(place, n_phases=None))[:kept], _slice(place, n_phases=None)
        if way == "time":
            first = [replace(image, acquired="1", name=f"{image.name}a") for image in first]
            second = [replace(image, acquired="2") for image in second]
        elif way == "folder":
            first = [replace(image, name=image.name.replace("sax_", "sax_0")) for image in first]
        else:
            both = [replace(image, instance=float(n), name=f"{index}/{n}") for n, image in enumerate([*first, *second])]
            first, second = both[:kept], both[kept:]
        slices.append(second + first if index % 3 == 0 else second)
    stacked = _assemble(slices)
    _is_whole(stacked)
    assert (stacked.read, stacked.left_out) == (16, 4)


def test_copies_of_frames_count_once():
    slices = [_slice(place, n_phases=None) for place in PLACES]
    slices = [[replace(image, uid=image.name) for image in images] for images in slices]
    copies = [replace(slices[z][5], name=slices[z][5].name.replace(".dcm", " (1).dcm")) for z in range(0, SLICES, 2)]
    cines, said = sort_slices([image for images in [*slices, copies] for image in images])
    assert [len(cine.frames) for cine in cines] == [PHASES] * SLICES
    assert said == ["sax_39/IM-6 (1).dcm (and 5 more) is left out: a copy of another frame"]
    _is_whole(stack(cines))


def test_of_broken_acquisitions_the_longer_counts():
    early = [replace(image, acquired="1", series="1.2.1") for image in _slice(PLACES[4])[:7]]
    late = [replace(image, acquired="2", name=f"late/{image.name}") for image in _darker(_slice(PLACES[4]))[:4]]
    stacked = _assemble([*(_slice(place) for index, place in enumerate(PLACES) if index != 4), early, late])
    _is_whole(stacked)
    assert any("with 7 frames, not 4" in warning for warning in stacked.warnings)


@pytest.mark.parametrize("asked", [1, 6, 16, 30])
def test_a_wrong_number_of_phases_in_some_headers(asked):
    slices = [_slice(place, n_phases=asked if index % 3 == 0 else PHASES) for index, place in enumerate(PLACES)]
    stacked = _assemble(slices)
    _is_whole(stacked)
    assert stacked.left_out == 0
    assert sum(f"asks for {asked} frames, most for {PHASES}" in warning for warning in stacked.warnings) == 4


@pytest.mark.parametrize("header", [PHASES, None])
def test_frames_missing_at_the_start_of_the_beat(header):
    """By the times of the other slices, whether or not they begin at zero; the ellipsoid must beat in step."""
    slices = [_slice(place, n_phases=header) for place in PLACES]
    late = [[replace(image, trigger_time=image.trigger_time + 140) for image in images] for images in slices]
    stacked = _assemble(images[1:] if index % 3 == 0 else images for index, images in enumerate(late))
    whole = _assemble(slices)
    np.testing.assert_array_equal(stacked.frames[1:], whole.frames[1:])
    # The last frame stands in for the first: it comes before it.
    np.testing.assert_array_equal(stacked.frames[0, ..., ::3], whole.frames[-1, ..., ::3])
    assert sum("7 of 8 frames" in warning for warning in stacked.warnings) == 4


@pytest.mark.parametrize("aside", [60.0, 200.0, -150.0])
def test_a_slice_of_another_part_of_the_body_is_left_out(aside):
    slices = [_slice(place, aside=(aside if index == 5 else 0.0, 0.0)) for index, place in enumerate(PLACES)]
    stacked = _assemble(slices)
    _is_whole(stacked, filled=1)
    assert (stacked.left_out, "lies beside the others" in stacked.warnings[0]) == (1, True)
    with pytest.raises(CinemaError, match="incomplete: 9 usable slices"):
        _assemble(_slice(place, aside=(aside * (index % 4 == 1), 0.0)) for index, place in enumerate(PLACES))


def test_a_stack_that_drifts_is_laid_out_from_its_middle():
    stacked = _assemble(_slice(place, aside=(4 * place, 3 * place)) for place in PLACES)
    _is_whole(stacked)
    assert stacked.left_out == 0


@pytest.mark.parametrize("turned", [(5,), (2, 6, 9)])
def test_slices_turned_by_a_right_angle(turned):
    """Rows for columns, which makes another matrix of them."""
    slices = [_slice(place) for place in PLACES]
    for index in turned:
        slices[index] = [
            replace(image, pixels=image.pixels.T, cosines=np.concatenate([image.cosines[3:], image.cosines[:3]]))
            for image in slices[index]
        ]
    stacked = _assemble(slices)
    _is_whole(stacked)
    np.testing.assert_array_equal(stacked.frames, _assemble(map(_slice, PLACES)).frames)
    assert stacked.left_out == 0
