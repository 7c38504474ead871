"""Which plane of a study shows which view, by geometry; what the header calls it is one vote.

Descriptions are missing or wrong often enough (two of five long axes in one real study), directions are not: the short
axis is a stack of parallel slices that looks at the heart from the left, front and below, and the long-axis planes
stand upright on it, turned against each other about the long axis of the left ventricle. A 2-chamber view of the right
heart has the direction of the left one but does not hold that axis.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cinema_lightning.views import get_view

# Mean direction of the long axis, from apex to base, LPS; of eight hearts all were within 15 degrees.
LONG_AXIS = np.array([-0.63, 0.65, 0.43]) / np.linalg.norm([-0.63, 0.65, 0.43])
LIKE_MOST_HEARTS = 40.0
# Angle of the line in which a long-axis plane cuts the short axis, counted from the patient's left about the axis from
# apex to base, degrees; how far it may be off; and how far two views are apart at least.
TURNS = {"lax_4c": 0.0, "lax_3c": 55.0, "lax_2c": 108.0}
TURN_SD, FARTHEST_TURN, APART = 15.0, 35.0, 25.0
# Slices of a stack are parallel within this, and a long axis stands at least so steeply on them, degrees.
PARALLEL, UPRIGHT = 5.0, 65.0
# A slice that is tilted less against a stack, degrees, was meant to be one of it.
NEARLY = 15.0
# How far the axis may lie from a plane that shows it (SD, mm), and from where on it is another plane.
AXIS_SD, OTHER_PLANE = 8.0, 12.0
# What a word for the view weighs, and what a view costs that is left without a plane: as much as 2.4 SD.
VOTE, MISSING = 1.5, 6.0
# Choices whose costs differ by less cannot be told apart.
MARGIN = 1.0
FEWEST_SLICES, FEWEST_PHASES = 3, 8
# So many parallel slices are a stack; a view of the long axis comes in three at most.
MANY = 5

_NAMES = {
    "lax_2c": r"2 ?(?:ch|c|chamber|chambers)|two chambers?|vla|lv ?2ch",
    "lax_3c": r"3 ?(?:ch|c|chamber|chambers)|three chambers?|lvot|aplax|lv ?3ch",
    "lax_4c": r"4 ?(?:ch|c|chamber|chambers)|four chambers?|hla",
    "sax": r"sax|sa|short ?axis|short ?ax|kurzachse|petit axe|eje corto|asse corto|eixo curto|korte as",
}
_WORDS = {view: re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z])", re.IGNORECASE) for view, pattern in _NAMES.items()}
_OTHERS = re.compile(r"(?<![a-z])(?:rv ?[23] ?ch|rvot)(?![a-z])", re.IGNORECASE)
_NO_CINE = re.compile(
    r"(?<![a-z])(?:loc|localizer|localiser|scout|survey|inline ?vf|tags?|tagging|tagged|perf|perfusion|flow|venc|"
    r"velocity|molli|shmolli|t[12]? ?map|lge|psir)(?![a-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Plane:
    """What is known of one slice's cine.

    Attributes:
        name: What to call it in messages.
        position: (3,), centre of the first pixel, LPS mm.
        directions: (3, 3), direction columns (row, column, normal), LPS.
        spacing: Pixel size along x and y, mm.
        size: Pixels along x and y.
        phases: Frames over the cycle.
        words: Description or folder, from which a vote is taken.
    """

    name: str
    position: np.ndarray
    directions: np.ndarray
    spacing: tuple[float, float]
    size: tuple[int, int]
    phases: int
    words: str = ""

    @property
    def normal(self) -> np.ndarray:
        """(3,), unit normal."""
        return self.directions[:, 2]

    @property
    def centre(self) -> np.ndarray:
        """(3,), middle of the image, LPS mm."""
        half = (np.asarray(self.size) - 1) / 2 * np.asarray(self.spacing)
        return self.position + self.directions[:, :2] @ half

    def distance(self, point: np.ndarray) -> float:
        """Distance of a point from the plane, mm."""
        return float(abs((point - self.position) @ self.normal))


@dataclass
class Views:
    """Planes by view.

    Attributes:
        planes: View -> numbers of the planes; many for the short axis, one for a long axis.
        notes: Sentences about what could not be told, and about words that disagree.
    """

    planes: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def vote(words: str) -> str | None:
    """The view that a description or a folder's name speaks of; None where it speaks of none, several or another."""
    words = _spaced(words)
    found = [view for view, pattern in _WORDS.items() if pattern.search(words)]
    return found[0] if len(found) == 1 and not _OTHERS.search(words) and not _NO_CINE.search(words) else None


def is_called_no_cine(words: str) -> bool:
    """Whether a description speaks of another kind of image: localisers, tags, flow, perfusion, maps, overlays."""
    return bool(no_cine_word(words))


def no_cine_word(words: str) -> str:
    """The word by which a description speaks of another kind of image, in small letters; empty without one."""
    found = _NO_CINE.search(_spaced(words))
    return found[0].lower() if found else ""


def recognised(words: str) -> str:
    """What of a description is recognised, in our words: a view, a view of the right heart, or no cine; else empty."""
    other = _OTHERS.search(_spaced(words))
    view = vote(words)
    return no_cine_word(words) or (other[0].upper() if other else "") or (get_view(view).display if view else "")


def _spaced(words: str) -> str:
    return re.sub(r"[_\-./]+", " ", words)


def find_short_axis(planes: Sequence[Plane]) -> Views:
    """Finds the largest stack that lies like a short axis, or is called one.

    Args:
        planes: One for each slice's cine.

    Returns:
        The stack as ``sax``, or a sentence that there is none.
    """
    best: tuple[int, int, list[int]] = (0, 0, [])
    moving = _moving(planes)
    for first in moving:
        alike = [index for index in moving if _in_one_stack(planes[first], planes[index])]
        called = 2 * sum(vote(planes[index].words) == "sax" for index in alike) > len(alike)
        fits = called or _angle(planes[first].normal, LONG_AXIS) <= LIKE_MOST_HEARTS
        places = _places(planes, alike)
        if fits and (places >= FEWEST_SLICES or called):
            best = max(best, (places, len(alike), alike), key=lambda item: item[:2])
    if not best[2]:
        return Views(notes=["no stack of parallel slices lies like a short axis: name its folder sax_1 if one is"])
    views = {"sax": best[2]}
    return Views(views, _disagreeing(planes, views))


def belongs_to(plane: Plane, stack: Sequence[Plane], *, broken: bool = False) -> bool:
    """Whether a plane is one of a stack's slices, fit for it or not: a stack that lost some must not look whole.

    Args:
        plane: The plane.
        stack: Planes of the stack.
        broken: Whether frames of it are known to be missing.

    Returns:
        True if it lies nearly as most of them (15 degrees), with as many phases within a factor of two.
    """
    if not stack:
        return False
    normals = np.stack([other.normal for other in stack])
    middle = normals[int((np.abs(normals @ normals.T) > np.cos(np.radians(PARALLEL))).sum(axis=1).argmax())]
    phases = np.median([other.phases for other in stack])
    beats = broken or phases / 2 <= plane.phases <= phases * 2
    return bool(beats) and _angle(plane.normal, middle) <= NEARLY


def is_of_stack(plane: Plane, planes: Sequence[Plane]) -> bool:
    """Whether a plane is one of many parallel ones that are no long axis, such as an axial stack through the heart.

    Args:
        plane: The plane.
        planes: All planes that are not of the short axis.
    """
    alike = [index for index, other in enumerate(planes) if _in_one_stack(plane, other)]
    return vote(plane.words) not in TURNS and _places(planes, alike) >= MANY


def _moving(planes: Sequence[Plane]) -> list[int]:
    """Planes with the phases of a cine; a study's localisers and late enhancement have one or two."""
    most = max((plane.phases for plane in planes), default=0)
    return [index for index, plane in enumerate(planes) if plane.phases >= min(FEWEST_PHASES, most)]


def _disagreeing(planes: Sequence[Plane], views: dict[str, list[int]]) -> list[str]:
    """A sentence for each plane whose words speak of another view than the one it is used as."""
    return [
        f"{planes[index].name} is named {said}, but lies like {view}: used as {view}"
        for view, found in views.items()
        for index in found
        if (said := vote(planes[index].words)) not in (None, view)
    ]


def _in_one_stack(one: Plane, other: Plane) -> bool:
    same_grid = one.size == other.size and np.allclose(one.spacing, other.spacing, rtol=0.01)
    return same_grid and _angle(one.normal, other.normal) <= PARALLEL


def _places(planes: Sequence[Plane], indices: list[int]) -> int:
    """Number of different places along the normal, at least 2 mm apart."""
    heights = sorted(float(planes[index].position @ planes[indices[0]].normal) for index in indices)
    return 1 + sum(after - before > 2 for before, after in itertools.pairwise(heights))


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    """Angle between two lines, degrees."""
    return float(np.degrees(np.arccos(min(1.0, abs(float(one @ other))))))


def name_long_axes(planes: Sequence[Plane], axis: np.ndarray | None, centre: np.ndarray | None = None) -> Views:
    """Names the 2-, 3- and 4-chamber planes among long-axis cines.

    Args:
        planes: Candidates; right-heart and other planes may be among them.
        axis: (3,), normal of the short axis, LPS; None where there is none: then the line that the planes share.
        centre: (3,), a point of the left ventricle, LPS mm, where one is known.

    Returns:
        At most one plane for each view. Where the geometry is no usual heart's, words alone decide.
    """
    moving = [index for index in _moving(planes) if not is_of_stack(planes[index], planes)]
    if not moving:
        return Views()
    axis = _common_line([planes[index] for index in moving]) if axis is None else axis
    if _angle(axis, LONG_AXIS) > LIKE_MOST_HEARTS:
        return _by_words(planes, moving)
    axis = axis * np.sign(axis @ LONG_AXIS)
    upright = [index for index in moving if _angle(planes[index].normal, axis) >= UPRIGHT]
    chosen, notes = _best(planes, upright, axis, centre)
    views = Views({view: [index] for view, index in chosen.items()}, notes)
    views.notes += _disagreeing(planes, views.planes)
    left = [planes[index].name for index in moving if index not in chosen.values()]
    if left:
        views.notes.append(f"no long-axis view of the left ventricle: {', '.join(left)}")
    return views


def _common_line(planes: Sequence[Plane]) -> np.ndarray:
    """The direction that lies in all planes best; the usual long axis where they do not tell."""
    normals = np.stack([plane.normal for plane in planes])
    if all(_angle(normals[0], normal) < APART for normal in normals):
        return LONG_AXIS
    return np.linalg.svd(normals)[2][-1]


def _by_words(planes: Sequence[Plane], moving: list[int]) -> Views:
    views = Views()
    for index in moving:
        view = vote(planes[index].words)
        if view in TURNS:
            views.planes[view] = [index]  # of several the last
    named = {index for found in views.planes.values() for index in found}
    left = [planes[index].name for index in moving if index not in named]
    if left:
        where = "the planes do not lie as in most hearts, and no description says which view they are"
        views.notes.append(f"left out: {', '.join(left)} ({where})")
    return views


def _best(
    planes: Sequence[Plane], candidates: list[int], axis: np.ndarray, centre: np.ndarray | None
) -> tuple[dict[str, int], list[str]]:
    """The assignment of planes to views that fits best; a view is left out where another plane would do as well."""
    turns = {index: _turn(planes[index], axis) for index in candidates}
    fitting = {
        view: [index for index in candidates if _off(turns[index], usual) <= FARTHEST_TURN]
        for view, usual in TURNS.items()
    }
    ranked = []
    for choice in itertools.product(*([None, *fitting[view]] for view in TURNS)):
        chosen = {view: index for view, index in zip(TURNS, choice, strict=True) if index is not None}
        if _apart(chosen, turns):
            ranked.append((_cost(planes, chosen, turns, centre), chosen))
    ranked.sort(key=lambda item: item[0])
    cost, best = ranked[0]
    near = [other for value, other in ranked if value - cost < MARGIN]
    doubts = {view: doubt for view in best if (doubt := _doubt(view, best, near, planes))}
    notes = [f"{view} is left out: {doubt}" for view, doubt in doubts.items()]
    return {view: index for view, index in best.items() if view not in doubts}, notes


def _doubt(view: str, best: dict[str, int], near: list[dict[str, int]], planes: Sequence[Plane]) -> str | None:
    """Why a choice is none, by the others that fit nearly as well; repeats of one plane are no doubt."""
    index = best[view]
    for other in near:
        if other.get(view, index) != index:
            rival = planes[other[view]]
            if rival.distance(_foot(planes[index], planes, best)) > OTHER_PLANE:
                return f"{planes[index].name} and {rival.name} could both be it"
        elsewhere = next((name for name, number in other.items() if number == index and name != view), None)
        if elsewhere is not None:
            return f"{planes[index].name} could be {elsewhere} as well"
    return None


def _turn(plane: Plane, axis: np.ndarray) -> float:
    left = np.array([1.0, 0.0, 0.0])
    left = left - axis * (left @ axis)
    line = np.cross(plane.normal, axis)
    return float(np.degrees(np.arctan2(line @ np.cross(axis, left), line @ left))) % 180


def _off(turn: float, usual: float) -> float:
    return abs((turn - usual + 90) % 180 - 90)


def _apart(chosen: dict[str, int], turns: dict[int, float]) -> bool:
    return all(_off(turns[one], turns[other]) >= APART for one, other in itertools.combinations(chosen.values(), 2))


def _cost(planes: Sequence[Plane], chosen: dict[str, int], turns: dict[int, float], centre: np.ndarray | None) -> float:
    cost = MISSING * (len(TURNS) - len(chosen))
    for view, index in chosen.items():
        said = vote(planes[index].words)
        cost += (_off(turns[index], TURNS[view]) / TURN_SD) ** 2
        cost += 0 if said is None else -VOTE if said == view else VOTE
        if centre is not None:
            cost += (planes[index].distance(centre) / (2 * AXIS_SD)) ** 2
    if len(chosen) == len(TURNS):
        # The three planes share one line.
        cost += (planes[chosen["lax_3c"]].distance(_foot(planes[chosen["lax_3c"]], planes, chosen)) / AXIS_SD) ** 2
    return cost


def _foot(plane: Plane, planes: Sequence[Plane], chosen: dict[str, int]) -> np.ndarray:
    """The point of the line in which the 2- and 4-chamber planes meet that is nearest to a plane's middle."""
    if "lax_2c" not in chosen or "lax_4c" not in chosen:
        return plane.centre
    one, other = planes[chosen["lax_2c"]], planes[chosen["lax_4c"]]
    normals = np.stack([one.normal, other.normal, np.cross(one.normal, other.normal)])
    heights = [one.normal @ one.position, other.normal @ other.position, normals[2] @ plane.centre]
    return np.linalg.solve(normals, heights)
