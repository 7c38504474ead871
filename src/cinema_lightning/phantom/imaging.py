"""Forms images: evaluates the heart on the planes of an acquisition, with partial volume, shading and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.acquisition import Plane, plan
from cinema_lightning.phantom.motion import Phase
from cinema_lightning.phantom.scene import Scene
from cinema_lightning.phantom.slab import Slab

FEW_SAMPLES, MANY_SAMPLES = 2, 3  # through the slice


@dataclass(frozen=True)
class ViewSeries:
    """One imaged view.

    Attributes:
        view: View name.
        images: float32 magnitude, (T, X, Y, Z) for SAX and (T, X, Y) for long axis; blood is near 1.
        labels: uint8 of the same shape: 0 background, 1 RV, 2 myocardium, 3 LV (4 to 6 where asked for).
        affine: (4, 4) voxel to RAS mm.
        spacing: Voxel size x, y, z, mm.
        phases: The moment of every frame.
        plane: The grid.
    """

    view: str
    images: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    phases: list[Phase]
    plane: Plane


class Imager(Scene):
    """Images one heart, view by view; arguments are those of :class:`~cinema_lightning.phantom.scene.Scene`."""

    def image(self, view: str) -> ViewSeries:
        """Images one view: images, labels and affine."""
        return self.image_plane(view, plan(self.heart, self.acquisition, view))

    def image_plane(self, view: str, plane: Plane) -> ViewSeries:
        """Images any plane, or stack of planes.

        Args:
            view: Its name; it seeds the noise. Arrays of ``sax``, and of several slices, have the slices' axis.
            plane: The grid.

        Returns:
            Images, labels and affine.
        """
        acquisition = self.acquisition
        n, (nx, ny, nz) = len(self.phases), plane.shape
        # Slices lie together in memory while they are painted; callers see (T, X, Y, Z).
        images = np.empty((n, nz, nx, ny), np.float32)
        labels = np.zeros((n, nz, nx, ny), np.uint8)
        pixel = max(plane.spacing[:2])
        # Edges are as soft as a voxel, and the point spread function is applied to the finished image.
        width = float(np.hypot(0.6 * acquisition.blur, pixel))
        tail = min(0.25, 0.5 * (0.45 * acquisition.blur / pixel) ** 2)
        for z in range(nz):
            slab = Slab(self, plane, z, self._samples(plane, z), width)
            shade = self._shading(plane, z)
            for frame in range(n):
                image = images[frame, z]
                image[...] = slab.background
                labels[frame, z][slab.box] = slab.frame(frame, image)
                _smooth(image, tail)
                np.abs(image, out=image)
                image *= shade
        rng = generator(acquisition.seed, "phantom", "noise", self.heart.phase_seed, view)
        for stack in images:
            self._add_noise(stack, rng)
        images, labels = images.transpose(0, 2, 3, 1), labels.transpose(0, 2, 3, 1)
        if view != "sax" and nz == 1:
            images, labels = images[..., 0], labels[..., 0]
        return ViewSeries(view, images, labels, plane.affine, plane.spacing, self.phases, plane)

    def _samples(self, plane: Plane, z: int) -> int:
        """Points through a slice: more where surfaces lie across it, at the apex and the base of a short axis."""
        middle = plane.points(z)[plane.shape[0] // 2, plane.shape[1] // 2]
        level = float(self.heart.to_heart(middle)[2]) / self.heart.length
        return FEW_SAMPLES if plane.shape[2] == 1 or 0.3 < level < 0.65 else MANY_SAMPLES

    def _shading(self, plane: Plane, z: int) -> np.ndarray:
        """Sensitivity of a chest and a back array, 1 at the heart, (X, Y)."""
        strength = self.acquisition.shading
        if strength == 0:
            return np.ones(plane.shape[:2], np.float32)
        rng = generator(self.acquisition.seed, "phantom", "shading", self.heart.phase_seed)
        r, a, s = np.moveaxis(plane.points(z).astype(np.float32), -1, 0)
        depth = self.heart.subject.body[1]
        u, v, w = (float(slope) for slope in rng.normal(0, 0.0012, 3))
        middle = (float(rng.normal(-15, 20)), depth + 15, float(rng.normal(-15, 15)))

        def field(r: np.ndarray, a: np.ndarray, s: np.ndarray) -> np.ndarray:
            front = np.sqrt((0.7 * (r - middle[0])) ** 2 + (a - middle[1]) ** 2 + (0.7 * (s - middle[2])) ** 2)
            return 0.45 + 1.9 * np.exp(-front / 62) + 0.6 * np.exp(-(a + depth + 15) / 60) + u * r + v * a + w * s

        centre = self.heart.to_patient(np.array([10.0, 0.0, 0.55 * self.heart.length])).astype(np.float32)
        relative = field(r, a, s) / field(*centre)
        return np.clip(relative, 0.15, None) ** strength

    def _add_noise(self, stack: np.ndarray, rng: np.random.Generator) -> None:
        """Rician noise, in place: magnitude of a complex signal with noise in both channels, (Z, X, Y)."""
        sd = self.acquisition.noise
        if sd == 0:
            return
        noise = rng.standard_normal(stack.shape, dtype=np.float32)
        # Reconstruction interpolates, so neighbours share noise; the factor keeps its standard deviation.
        noise[:, 1:] += noise[:, :-1]
        noise[:, :, 1:] += noise[:, :, :-1]
        noise *= sd / 2
        stack += noise
        stack *= stack
        # The other channel reads the same field from its far end, which is as good as drawing it.
        noise *= noise
        stack += noise[::-1, ::-1, ::-1]
        np.sqrt(stack, out=stack)


def _smooth(image: np.ndarray, tail: float) -> None:
    """Point spread function (tail, 1 - 2 tail, tail) along both axes of an image (X, Y), in place."""
    for axes in (image, image.T):
        inner = axes[1:-1] * np.float32(1 - 2 * tail)
        inner += np.float32(tail) * axes[:-2]
        inner += np.float32(tail) * axes[2:]
        axes[1:-1] = inner
