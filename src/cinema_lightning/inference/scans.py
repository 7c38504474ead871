"""Whatever a scan comes as, as series that the data pipe reads: files, nibabel and SimpleITK images, arrays."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from cinema_lightning.data import nifti
from cinema_lightning.data.native import Native, native_of
from cinema_lightning.data.plain import PlainSeries, Scan
from cinema_lightning.data.table import VIEW_BITS
from cinema_lightning.datasets.dicom_study import read_dicom
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import Place
from cinema_lightning.imaging.geometry import affine_from_lps
from cinema_lightning.imaging.nifti import (
    Geometry,
    check_sizes,
    check_usable,
    check_voxels,
    checked_nifti,
    find_nifti,
    open_nifti,
    plain_voxels,
)
from cinema_lightning.listing import list_paths
from cinema_lightning.views import VIEWS, get_view

if TYPE_CHECKING:
    import nibabel
    import SimpleITK as sitk  # noqa: N813

Image: TypeAlias = Union[str, Path, np.ndarray, "nibabel.spatialimages.SpatialImage", "sitk.Image"]
"""One image of one or more frames: a NIfTI file, an image of nibabel or SimpleITK, or an array (X, Y[, Z[, T]])."""
Scans: TypeAlias = Image | Sequence[Image] | Mapping[str, Image | Sequence[Image]]
"""An image, several that hold one frame after the other, or either by view; a folder of them may stand for all."""

STUDY = "scan"
"""Id of the one study that there is."""
OPTION = "geometry"


_SAYS_ITSELF = "{} says its voxel size itself; spacing= and affine= are for arrays."


@dataclass(frozen=True)
class Voxels:
    """How the voxels of an array lie; one of the two is given.

    Attributes:
        spacing: Voxel size x, y[, z], mm.
        affine: (4, 4), voxel to RAS mm.
    """

    spacing: Sequence[float] | None = None
    affine: np.ndarray | None = None

    @property
    def given(self) -> bool:
        """Whether anything is said."""
        return self.spacing is not None or self.affine is not None

    def of(self, name: str, dims: int) -> tuple[np.ndarray, Place]:
        """The affine of an array of a view of so many dimensions, and whether it says where its voxels lie.

        Raises:
            CinemaError: If neither or both are given, or they are no geometry.
        """
        if (self.spacing is None) == (self.affine is None):
            given = "gives both" if self.spacing is not None else "has no voxel size"
            raise CinemaError(f"{name} {given}: give either spacing=(x, y, z) in mm or affine=(4 x 4, to RAS mm).")
        if self.affine is not None:
            affine = np.asarray(self.affine, dtype=np.float64)
            if affine.shape != (4, 4):
                raise CinemaError(f"{name}: affine has the shape {affine.shape}; it is 4 x 4, voxel to RAS mm.")
            return affine, "known"
        size = [float(s) for s in (() if self.spacing is None else self.spacing)]
        if len(size) not in {dims, 3}:  # a slice's distance is never guessed
            wanted = "x, y, z" if dims == 3 else "x, y"
            raise CinemaError(f"{name}: spacing is {size}; give the voxel size {wanted} in mm.")
        if not all(s > 0 for s in size):
            raise CinemaError(f"{name}: spacing is {size}; voxel sizes are above 0 mm (affine= says directions).")
        return np.diag([*size, *[1.0] * (4 - len(size))]), "unknown"


@dataclass(frozen=True)
class ArrayScan:
    """An image in memory, as :class:`cinema_lightning.data.plain.Scan` asks for it."""

    path: Path
    array: np.ndarray
    affine: np.ndarray
    place: Place = "known"
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y[, Z[, T]])."""
        return tuple(self.array.shape)

    def voxels(self) -> np.ndarray:
        """The array; CinemaError where it holds what is no number."""
        return plain_voxels(self.path, self.array)


class OpenStudy:
    """The scans of one study, opened: a reader of series for the dataset, and what leads back to the scans.

    Args:
        series: View -> its series.

    Attributes:
        frames: Nothing: the series are open and know.
    """

    frames: Mapping[str, np.ndarray] = MappingProxyType({})

    def __init__(self, series: Mapping[str, PlainSeries]) -> None:
        self.series = dict(series)

    @property
    def views(self) -> tuple[str, ...]:
        """The views that are there, in the order of ``VIEWS``."""
        return tuple(view for view in VIEW_BITS if view in self.series)

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return ", ".join(dict.fromkeys(str(one.path) for one in self.series.values()))

    def open(self, study: str, view: str) -> PlainSeries:
        """See :class:`cinema_lightning.data.table.Reader`."""
        return self.series[view]

    def native(self, study: str, view: str) -> Native:
        """How the image of a view came."""
        one = self.series[view]
        return native_of(one.info, one.shape)


def open_study(
    scan: Scans,
    views: Sequence[str],
    spacing: Mapping[str, Sequence[float] | None],
    *,
    voxels: Voxels,
    geometry: Geometry = "refuse",
) -> OpenStudy:
    """Opens the scans of one study.

    Args:
        scan: What was given.
        views: Views that the network knows.
        spacing: Voxel size that each view is brought to, mm; None keeps the scan's own.
        voxels: How arrays lie.
        geometry: What to believe where a NIfTI header contradicts itself.

    Returns:
        The study, of the views that the network knows.

    Raises:
        CinemaError: If a scan cannot be read, is of no known view, or lacks its voxel size.
    """
    if voxels.given and isinstance(scan, str | Path):
        raise CinemaError(_SAYS_ITSELF.format(scan))
    if isinstance(scan, str | Path) and _is_dicom(Path(scan).expanduser()):
        dicom = _dicom(Path(scan).expanduser(), views)
        return OpenStudy({view: PlainSeries([one], view, spacing.get(view)) for view, one in dicom.items()})
    found = {view: _listed(images) for view, images in _by_view(scan, views).items()}
    if empty := [view for view, images in found.items() if not images]:
        raise CinemaError(f"The list of {get_view(empty[0]).display} scans is empty; give one or more.")
    if voxels.given and all(isinstance(image, str | Path) for images in found.values() for image in images):
        raise CinemaError(_SAYS_ITSELF.format(", ".join(str(image) for images in found.values() for image in images)))
    series = {}
    for view in (view for view in VIEWS if view in found):
        scans = [_scan(image, view, voxels, geometry) for image in found[view]]
        names = [nifti.phase_of(image) if isinstance(image, str | Path) else "" for image in found[view]]
        series[view] = PlainSeries(scans, view, spacing.get(view), names)
    return OpenStudy(series)


def _is_dicom(path: Path) -> bool:
    """Whether a path is a DICOM file, a zip, or a folder without NIfTI files."""
    if path.is_dir():
        return not any(file.name.endswith((".nii", ".nii.gz")) for file in list_paths(path, "**/*.nii*"))
    return path.suffix.lower() in (".zip", ".dcm", ".ima")


def _dicom(path: Path, views: Sequence[str]) -> dict[str, ArrayScan]:
    """The views of a DICOM study, sorted as `cinema prepare` does."""
    if not path.exists():
        raise CinemaError(f"{path} does not exist; check the path of the scan.")
    case = read_dicom(path, views)
    for said in case.warnings:
        warnings.warn(f"{path}: {said}", stacklevel=4)
    return {
        view: _checked(ArrayScan(path, np.moveaxis(one.frames, 0, -1), one.affine, one.place, one.notes))
        for view, one in case.series.items()
    }


def _by_view(scan: Scans, views: Sequence[str]) -> Mapping[str, Image | Sequence[Image]]:
    if isinstance(scan, Mapping):
        unknown = [str(view) for view in scan if view not in views]
        if unknown or not scan:
            what = f"of the view '{unknown[0]}'" if unknown else "of no view"
            raise CinemaError(f"The scan is {what}; the network knows {', '.join(views)}.")
        return scan
    if isinstance(scan, str | Path) and Path(scan).expanduser().is_dir():
        return _folder(Path(scan).expanduser(), views)
    return {_view_of(scan, views): scan}


def _folder(folder: Path, views: Sequence[str]) -> Mapping[str, Sequence[Path]]:
    """The files of a folder that holds one study, named as those that `cinema predict` reads."""
    studies = nifti.scan(folder)
    if len(studies) > 1:
        raise CinemaError(
            f"{folder} holds {len(studies)} studies ({', '.join(list(studies)[:3])}, ...); give one of them, or all to "
            "`cinema predict --data.root`."
        )
    found = {view: files for one in studies.values() for view, files in one.items() if view in views}
    if not found:
        raise CinemaError(
            f"{folder} holds no NIfTI files named <view>.nii.gz of the views {', '.join(views)}; name the scans by "
            "view: {'" + views[0] + "': file}."
        )
    return found


def _view_of(scan: Any, views: Sequence[str]) -> str:
    """The view of a scan that was given without one."""
    first = _listed(scan)[0] if _listed(scan) else None
    named = nifti.view_of(Path(first)) if isinstance(first, str | Path) else None
    if named is not None and named in views:
        return named
    stacks = [view for view in views if not get_view(view).is_long_axis]
    # what has slices and frames is a stack; three axes may be those of a plane that moves
    candidates = stacks if len(views) > 1 and _is_stack(first) else views
    if len(candidates) == 1:
        return candidates[0]
    raise CinemaError(f"The network knows the views {', '.join(views)}; say which it is: {{'{views[0]}': scan}}.")


def _is_stack(image: Any) -> bool:
    """Whether an image has several slices and several frames."""
    if isinstance(image, str | Path):
        shape = open_nifti(_file(Path(image)), geometry="sform").shape
    else:
        shape = image.GetSize() if hasattr(image, "GetSize") else getattr(image, "shape", ())
    return len(shape) == 4 and shape[2] > 1


def _listed(images: Any) -> list[Any]:
    return list(images) if isinstance(images, list | tuple) else [images]


def _scan(image: Any, view: str, voxels: Voxels, geometry: Geometry) -> Scan:
    name = Path(f"the {get_view(view).display} scan")
    if isinstance(image, str | Path):
        return nifti.open_scan(_file(Path(image)), geometry, OPTION)
    if isinstance(image, np.ndarray):
        return _checked(ArrayScan(name, image, *voxels.of(str(name), get_view(view).dims)))
    kind = type(image).__module__.partition(".")[0]
    if voxels.given and kind in ("SimpleITK", "nibabel"):
        raise CinemaError(_SAYS_ITSELF.format(name))
    if kind == "SimpleITK":
        return _checked(_from_sitk(image, name))
    if kind == "nibabel":
        return _from_nibabel(image, name, geometry)
    raise CinemaError(
        f"{name} is a {type(image).__name__}; give a path, a nibabel or SimpleITK image, or a numpy array (X, Y, Z, T)."
    )


def _file(path: Path) -> Path:
    """The file, which has to be there."""
    path = path.expanduser()
    if not find_nifti(path).is_file():
        raise CinemaError(f"{path} does not exist; check the path of the scan.")
    return path


def _checked(scan: ArrayScan) -> ArrayScan:
    """What :func:`cinema_lightning.imaging.nifti.open_nifti` asks of a file, asked of an image in memory."""
    check_voxels(scan.path, scan.shape, scan.array.dtype)
    check_usable(scan.path, scan.affine)
    check_sizes(scan.path, scan.affine, len(scan.shape))
    return scan


def _from_nibabel(image: Any, name: Path, geometry: Geometry) -> Scan:
    import nibabel

    file = image.get_filename()
    if not isinstance(image, nibabel.Nifti1Pair):
        image = nibabel.Nifti1Image.from_image(image)
    return checked_nifti(image, Path(file) if file else name, geometry=geometry, option=OPTION)


def _from_sitk(image: Any, name: Path) -> ArrayScan:
    """An image of SimpleITK, whose arrays run z, y, x and whose world is LPS."""
    import SimpleITK as sitk  # noqa: N813

    if image.GetNumberOfComponentsPerPixel() != 1:
        raise CinemaError(f"{name} holds {image.GetNumberOfComponentsPerPixel()} values a voxel, not grey levels.")
    dims = image.GetDimension()
    axes = min(dims, 3)
    directions = np.eye(3)
    directions[:axes, :axes] = np.array(image.GetDirection()).reshape(dims, dims)[:axes, :axes]
    size, origin = np.ones(3), np.zeros(3)
    size[:axes], origin[:axes] = image.GetSpacing()[:axes], image.GetOrigin()[:axes]
    array = sitk.GetArrayFromImage(image)
    return ArrayScan(name, array.transpose(), affine_from_lps(origin.tolist(), directions, size.tolist()))
