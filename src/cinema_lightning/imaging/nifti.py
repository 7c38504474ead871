"""NIfTI files whose headers are checked, as arrays that keep their type, with the message that a broken one deserves.

A NIfTI header says the size of a voxel up to three times: in pixdim (which the qform uses), in the sform's columns and
in the unit. nibabel believes the sform, SimpleITK and so the published code believe pixdim. Where they differ, every
volume in ml does, so that such a file is refused until the user says which is right.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import SAME_SIZE, Place, Volume, corners, millimetres
from cinema_lightning.imaging.geometry import spacing_of

Geometry = Literal["refuse", "sform", "pixdim"]
# Code in xyzt_units -> its name and how many mm one is; files without a unit count in mm.
UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
# Voxels of cardiac images lie within these, mm; others are a wrong unit or a lost header.
SMALLEST, LARGEST = 0.2, 30.0
# Voxels whose axes are so oblique that their volume is this share below the product of their sides have no spacing.
SHEARED = 0.01
# gzip packs 1032 bytes into one at best: a header that claims more is broken, and must not cost its memory.
PACKED_AT_BEST = 1032


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI file whose header was read and checked; its voxels have not been read.

    Attributes:
        path: The file that was found, which may end in .nii where .nii.gz was asked for.
        shape: Its axes as stored, (X, Y[, Z[, T]]).
        affine: (4, 4), voxel to RAS mm.
        place: Whether the header says where in the scanner the voxels lie, see :class:`~.alignment.Volume`.
        notes: What the user should know of the header, sentences.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    place: Place
    notes: tuple[str, ...]
    _image: Any

    def voxels(self) -> np.ndarray:
        """Reads all voxels.

        Returns:
            An array of ``shape`` in the type that it is stored in (floating where the header scales it).

        Raises:
            CinemaError: If the file is cut short, or voxels are not finite numbers.
        """
        with _reading(self.path):
            array = np.asanyarray(self._image.dataobj)
        return plain_voxels(self.path, array)


def plain_voxels(path: Path, array: np.ndarray) -> np.ndarray:
    """Voxels as the rest of the package takes them; CinemaError where they are not finite numbers."""
    if array.dtype.kind == "f" and not (known := np.isfinite(array)).all():
        first = tuple(int(index) for index in np.argwhere(~known)[0])
        raise CinemaError(
            f"{path} holds values that are not numbers ({np.count_nonzero(~known)} voxels, the first {first}): write "
            "numbers in their place, such as 0 where there is no image."
        )
    if array.dtype.itemsize > 8:  # SimpleITK knows no longer floats
        return array.astype(np.float64)
    # nibabel gives big-endian arrays for big-endian files; SimpleITK wants the machine's own order.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def find_nifti(path: Path) -> Path:
    """The file itself, or the same name with the other of the endings .nii and .nii.gz where only that is there."""
    path = Path(path)
    if path.is_file():
        return path
    other = path.with_name(path.name[:-3] if path.name.endswith(".gz") else f"{path.name}.gz")
    return other if other.is_file() else path


def open_nifti(path: Path, *, geometry: Geometry = "refuse", option: str = "--geometry") -> NiftiFile:
    """Opens a NIfTI file, reads its header and checks its geometry.

    The ending does not matter: a .nii.gz that is not compressed is read, a .nii that is, and either where only the
    other is there.

    Args:
        path: The .nii or .nii.gz file.
        geometry: What to believe where the sform's voxel size is not pixdim's: neither ("refuse"), or one of them.
        option: What the user sets to choose, for the message.

    Returns:
        The file. Its affine is the sform, or the qform where there is no sform, or the voxel size alone, as nibabel
        decides; in mm, whatever unit the header counts in.

    Raises:
        CinemaError: If it is missing, cut short or not NIfTI, holds other than plain numbers, or has a geometry that
            is contradictory or cannot be a heart's.
    """
    path = find_nifti(path)
    if not path.is_file():
        raise CinemaError(f"{path} is missing: put it there, or mend what names it.")
    with _reading(path):
        image = _load(path)
    return checked_nifti(image, path, geometry=geometry, option=option)


def checked_nifti(image: Any, path: Path, *, geometry: Geometry = "refuse", option: str = "--geometry") -> NiftiFile:
    """A nibabel image whose header is checked as that of a file.

    Args:
        image: A NIfTI image of nibabel.
        path: Its file, or what to call it.
        geometry: See :func:`open_nifti`.
        option: See :func:`open_nifti`.

    Returns:
        The file.

    Raises:
        CinemaError: See :func:`open_nifti`.
    """
    with _reading(path):
        header, affine = image.header, np.array(image.affine, dtype=np.float64)
        shape = tuple(int(n) for n in image.shape)
        check_voxels(path, shape, header.get_data_dtype())
    affine, notes = _in_millimetres(path, header, affine)
    check_usable(path, affine)
    affine, more = _agreed(path, header, affine, len(shape), geometry, option)
    check_sizes(path, affine, len(shape))
    place, said = _place(path, header, affine, shape)
    return NiftiFile(path, shape, affine, place, (*notes, *more, *said), image)


def read_volume(path: Path, *, dims: int, geometry: Geometry = "refuse") -> Volume:
    """Reads a NIfTI file whole.

    Args:
        path: The .nii or .nii.gz file.
        dims: 3 for one frame, 4 for a series; a missing trailing axis of a 3D image is added, a single frame may
            stand for a series, and further axes of length 1 are dropped.
        geometry: See :func:`open_nifti`.

    Returns:
        Its voxels, (X, Y, Z) or (X, Y, Z, T), in the type they are stored in, and where they lie.

    Raises:
        CinemaError: If it cannot be read, see :func:`open_nifti`, or has another number of axes.
    """
    file = open_nifti(path, geometry=geometry)
    shape = _shape(file.shape, dims)
    if len(shape) != dims:
        raise CinemaError(
            f"{file.path} has the shape {file.shape}; an image of {dims} axes was expected: save it as one."
        )
    return Volume(file.voxels().reshape(shape, order="F"), file.affine, str(file.path), file.place, file.notes)


def _shape(shape: tuple[int, ...], dims: int) -> tuple[int, ...]:
    extra = [axis for axis in range(len(shape) - 1, 2, -1) if shape[axis] == 1][: max(len(shape) - dims, 0)]
    kept = tuple(n for axis, n in enumerate(shape) if axis not in extra)
    return kept + (1,) * (dims - len(kept))


def read_nifti(path: Path, *, dims: int, geometry: Geometry = "refuse") -> tuple[np.ndarray, np.ndarray]:
    """The voxels and the (4, 4) RAS affine of :func:`read_volume`."""
    volume = read_volume(path, dims=dims, geometry=geometry)
    return volume.voxels, volume.affine


def read_series(path: Path, *, geometry: Geometry = "refuse") -> tuple[np.ndarray, np.ndarray]:
    """Reads a 4D file time first: (T, X, Y, Z) and its affine."""
    array, affine = read_nifti(path, dims=4, geometry=geometry)
    return np.moveaxis(array, -1, 0), affine


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever nibabel and gzip raise for a broken file into one sentence."""
    import nibabel as nib

    broken = (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError, EOFError, ValueError)
    try:
        yield
    except (*broken, zlib.error, MemoryError) as error:
        raise CinemaError(f"{path} cannot be read ({error}); it may be half downloaded: get it again.") from None


def _load(path: Path) -> Any:
    """The image; content and not the name decides whether it is compressed."""
    import nibabel as nib

    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed == path.name.lower().endswith(".gz"):
        image = nib.load(path, mmap=False)
    else:
        data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        kinds = [kind for kind in (nib.Nifti1Image, nib.Nifti2Image) if kind.header_class.may_contain_header(data)]
        if not kinds:
            raise ValueError("it is not NIfTI")
        image = kinds[0].from_bytes(data)
    if not isinstance(image, nib.Nifti1Pair):
        raise ValueError("it is not NIfTI")
    # What it takes once unpacked, against what the file can hold.
    needed = int(np.prod(image.shape, dtype=object)) * image.header.get_data_dtype().itemsize
    if needed > path.stat().st_size * (PACKED_AT_BEST if packed else 1):
        raise ValueError(f"its header promises {needed} bytes of voxels, more than the file can hold")
    return image


def check_voxels(path: Path, shape: tuple[int, ...], kind: np.dtype) -> None:
    """Refuses what is no image of grey levels or labels; CinemaError."""
    if kind.kind not in "iuf":
        word = "complex numbers" if kind.kind == "c" else f"voxels of the type {kind}"
        raise CinemaError(f"{path} holds {word}, not grey levels or labels: save its magnitude or one channel.")
    if len(shape) < 2 or 0 in shape:
        raise CinemaError(f"{path} has the shape {shape}; an image of two axes or more was expected: get it again.")


def _unit(header: Any) -> tuple[str, float]:
    """Name of the unit and how many mm it is; mm have no name."""
    return UNITS.get(int(header["xyzt_units"]) & 7, ("", 1.0))


def _in_millimetres(path: Path, header: Any, affine: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    unit, factor = _unit(header)
    if not unit:
        return affine, ()
    scaled = affine.copy()
    scaled[:3] *= factor
    return scaled, (f"{path} counts in {unit} by its header; its voxels are {millimetres(spacing_of(scaled))}",)


def _agreed(
    path: Path, header: Any, affine: np.ndarray, dims: int, geometry: Geometry, option: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The affine that sform and pixdim agree on, or that the user chose."""
    axes = min(dims, 3)
    sizes, pixdim = spacing_of(affine), np.abs(np.array(header["pixdim"][1:4], dtype=np.float64)) * _unit(header)[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        same = np.abs(sizes[:axes] / pixdim[:axes] - 1) <= SAME_SIZE
    if same.all():
        return affine, ()
    both = f"{path}: its sform says voxels of {millimetres(sizes[:axes])}, its pixdim {millimetres(pixdim[:axes])}"
    if geometry == "refuse":
        raise CinemaError(f"{both}; say which is right with {option} sform or {option} pixdim.")
    if geometry == "sform":
        return affine, (f"{both}; the sform was taken",)
    if not (np.isfinite(pixdim[:axes]).all() and (pixdim[:axes] > 0).all()):
        raise CinemaError(f"{both}; pixdim cannot be taken: mend it, or take the sform with {option} sform.")
    chosen = affine.copy()
    # As SimpleITK does: lengths of pixdim, directions and origin of the sform.
    chosen[:3, :axes] *= pixdim[:axes] / sizes[:axes]
    return chosen, (f"{both}; pixdim was taken",)


def check_usable(path: Path, affine: np.ndarray) -> None:
    """Refuses an affine that places no voxels; CinemaError."""
    if not np.isfinite(affine).all() or (spacing_of(affine) <= 0).any():
        raise CinemaError(f"{path} has no usable geometry (affine {affine.tolist()}): mend its header.")


def check_sizes(path: Path, affine: np.ndarray, dims: int) -> None:
    """Refuses voxels that are no heart's, or sheared; CinemaError."""
    sizes = spacing_of(affine)
    axes = sizes[: min(dims, 3)]
    if (axes < SMALLEST).any() or (axes > LARGEST).any():
        raise CinemaError(
            f"{path} has voxels of {millimetres(axes)} by its header, which are no heart's (from {SMALLEST:g} to "
            f"{LARGEST:g} mm): mend its voxel size or its unit."
        )
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 1 - SHEARED:
        raise CinemaError(f"{path} has axes that are not at right angles by its header (sheared): mend its sform.")


def _place(path: Path, header: Any, affine: np.ndarray, shape: tuple[int, ...]) -> tuple[Place, tuple[str, ...]]:
    """Whether the header says where the voxels lie: with codes 0 it does not, with two codes it may contradict itself.

    nibabel takes the sform then, SimpleITK the qform unless the sform is the scanner's.
    """
    import nibabel as nib

    if not header["sform_code"]:
        return ("known" if header["qform_code"] else "unknown"), ()
    try:
        qform = header.get_qform(coded=True)[0]
    except nib.spatialimages.HeaderDataError:  # no rotation, so there is nothing to compare
        return "known", ()
    if qform is None:
        return "known", ()
    # Lengths were compared before; here only directions and origins are.
    other = np.array(affine)
    other[:3, :3] = qform[:3, :3] / spacing_of(qform) * spacing_of(affine)
    other[:3, 3] = qform[:3, 3] * _unit(header)[1]
    size = (*shape, 1)[:3]
    apart = float(np.linalg.norm(corners(other, size) - corners(affine, size), axis=1).max())
    if apart <= spacing_of(affine).min():
        return "known", ()
    return "disputed", (f"{path}: its sform and qform place it up to {apart:.1f} mm apart; the sform was taken",)
