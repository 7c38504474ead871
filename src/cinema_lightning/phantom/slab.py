"""One slice of a view: the heart painted into it frame by frame, and its labels."""

from __future__ import annotations

import numpy as np

from cinema_lightning.phantom.acquisition import Plane
from cinema_lightning.phantom.anatomy import N_FINE, Z_LOW, Tables
from cinema_lightning.phantom.motion import Phase, scar_extent
from cinema_lightning.phantom.scene import Scene
from cinema_lightning.phantom.texture import N_ANGLE, N_RHO, N_SIGMA
from cinema_lightning.phantom.torso import _paint, soft

EDEMA, SCAR, NO_REFLOW = 4, 5, 6


class Slab:
    """One slice of a view: places that never change, and the heart painted into it per frame.

    Args:
        scene: The heart and what lies around it.
        plane: Grid of the view.
        z: Slice.
        samples: Points through the slice.
        width: Blur of edges, mm.
    """

    def __init__(self, scene: Scene, plane: Plane, z: int, samples: int, width: float) -> None:
        self.scene, self.width = scene, width
        heart, contrast = scene.heart, scene.contrast
        offsets = (np.arange(samples) + 0.5) / samples - 0.5
        points = np.stack([plane.points(z, float(o) * plane.thickness) for o in offsets])
        q = heart.to_heart(points).astype(np.float32)
        ends = q[[0, -1]]
        rest = scene.torso.signal(points[[0, -1]], contrast, width)
        if q[..., 2].max() > 0.7 * heart.length:
            scene.vessels.rest(rest, (ends[..., 0], ends[..., 1], ends[..., 2]), contrast, width)
        if samples > 2:  # what rests hardly changes from one sample to the next
            rest = np.concatenate([rest[:1], *[rest.mean(axis=0, keepdims=True)] * (samples - 2), rest[1:]])
        self.background = rest.mean(axis=0)
        self.box = self._bounds(q)
        inside = (slice(None), *self.box)
        self.rest = np.ascontiguousarray(rest[inside])
        q = q[inside]
        self.p = (
            np.ascontiguousarray(q[..., 0]),
            np.ascontiguousarray(q[..., 1]),
            np.ascontiguousarray(q[..., 2]),
        )
        index = heart.table_index(q)
        radius = np.sqrt(self.p[0] ** 2 + self.p[1] ** 2)
        self.highest = float(self.p[2].max(initial=Z_LOW))
        # Eddies differ little through the slice, so its middle stands for all of it.
        middle = tuple(axis[samples // 2] for axis in self.p)
        look = heart.subject.look
        self._eddies = [scene.noise(middle, look.patches, shift) * look.flow for shift in (0.0, 31.7)]
        self._wall_texture = 1 + look.uneven * scene.noise(middle, look.patches, 73.3) if look.uneven else None
        self._uneven = scene.noise(middle, 9.0, 57.1) * 1.6
        self._select(index, radius)

    def _select(self, index: np.ndarray, radius: np.ndarray) -> None:
        """Finds the voxels that each part of the heart can reach."""
        scene, z = self.scene, self.p[2]
        some, ed = scene.some_tables(), scene.tables[0]
        epi = np.max([tables.epi for tables in some], axis=0)[index]
        least = np.min([tables.epi for tables in some], axis=0)[index]
        rv = np.max([tables.rv_wall for tables in some], axis=0)[index]
        hull = np.max([tables.hull for tables in some], axis=0)[index]
        self._hull = Zone(self, radius < hull + 2, index, radius)
        self._lv = Zone(self, radius < epi + 2, index, radius)
        self._rv = Zone(self, (radius > least - 3) & (radius < rv + 2), index, radius)
        self._lv_pool = np.flatnonzero(self._lv.radius < ed.endo[self._lv.index] + 1)
        self._rv_pool = np.flatnonzero(self._rv.radius > 0)
        lowest = min(min(scene.heart.length * phase.stretch, phase.rv_top) for phase in scene.phases)
        self._upper = np.flatnonzero(z > lowest - 14)
        self._uneven = np.broadcast_to(self._uneven, z.shape).ravel()[self._upper]
        self._aortic = np.flatnonzero((z > lowest - 14) & (scene.vessels.aortic_gap(self.p, scene.phases[0]) < 32))

    def _bounds(self, q: np.ndarray) -> tuple[slice, slice]:
        """Box of the pixels in which the heart moves."""
        heart = self.scene.heart
        x, y, z = (q[..., k] for k in range(3))
        index, radius = heart.table_index(q), np.sqrt(x * x + y * y)
        moving: np.ndarray = np.zeros(q.shape[:-1], bool)
        for tables in self.scene.some_tables():
            moving |= radius < tables.hull[index] + 3
        moving &= (z > Z_LOW + 2) & (z < heart.length + 45)
        above = (z > 0.8 * heart.length) & (z < heart.length + 78)
        moving |= above & (((x - 16) / 68) ** 2 + ((y - 6) / 62) ** 2 < 1)
        moving_plane: np.ndarray = np.any(moving, axis=0)
        if not moving_plane.any():
            return slice(0, 0), slice(0, 0)
        rows, columns = np.flatnonzero(moving_plane.any(1)), np.flatnonzero(moving_plane.any(0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    def frame(self, number: int, out: np.ndarray) -> np.ndarray:
        """Paints frame ``number`` into ``out`` (X, Y), signed, and returns the labels of the box."""
        scene, contrast, width = self.scene, self.scene.contrast, self.width
        phase, tables = scene.phases[number], scene.tables[number]
        if self.rest.size == 0:
            return np.zeros(self.rest.shape[1:], np.uint8)
        image = self.rest.copy()
        with_base = self._sees_base(phase)
        turn = 2 * np.pi * phase.time
        flow = 1 + self._eddies[0] * np.float32(np.cos(turn)) + self._eddies[1] * np.float32(np.sin(turn))
        flow = np.broadcast_to(flow, image.shape).ravel()
        self._paint_fat(image, tables, with_base)
        if with_base:
            with _Part(image, self.p, self._upper) as part:
                scene.vessels.atria(part.values, part.p, self._uneven, phase, contrast, width)
        shares = np.zeros((3, *image.shape), np.float32)
        rv, wall, lv = shares.reshape(3, -1)
        rv[self._rv.flat] = self._paint_rv(image, flow, tables, phase, with_base)
        if with_base:
            with _Part(image, self.p, self._aortic) as part:
                rv[self._aortic] *= 1 - scene.vessels.aorta(part.values, part.p, phase, contrast, width)
        outer, inner = self._paint_lv(image, flow, tables, phase, with_base)
        rv[self._lv.flat] *= 1 - outer
        wall[self._lv.flat] = outer * (1 - inner)
        lv[self._lv.flat] = inner
        if with_base:
            scene.vessels.leaflets(image, self.p, phase, contrast, width)
        out[self.box] = image.mean(axis=0)
        labels = _commonest(shares.mean(axis=1))
        if scene.acquisition.scar_labels and scene.heart.subject.scar is not None:
            self._label_infarct(labels, wall.reshape(image.shape), self._infarct(tables, phase))
        return labels

    def _sees_base(self, phase: Phase) -> bool:
        """Whether anything of the base, atria or open valves lies in this slice at this moment."""
        lowest = min(self.scene.heart.length * phase.stretch, phase.rv_top)
        return self.highest > lowest - max(14.0, 20 * self.scene.vessels.opening(phase.time))

    def _paint_fat(self, image: np.ndarray, tables: Tables, with_base: bool) -> None:
        """Epicardial fat: everything within its outer surface, as the ventricles are painted over it."""
        zone, values = self._hull, image.reshape(-1)
        share = soft(tables.hull[zone.index] - zone.radius, self.width)
        if with_base:
            share *= soft(self.scene.heart.length + 2 - zone.z, 6.0)
        values[zone.flat] += share * (self.scene.contrast["fat"] * 0.8 - values[zone.flat])

    def _paint_rv(
        self, image: np.ndarray, flow: np.ndarray, tables: Tables, phase: Phase, with_base: bool
    ) -> np.ndarray:
        """Wall and blood of the RV; returns the blood's share of its zone, before anything is painted over it."""
        contrast, width, heart, zone = self.scene.contrast, self.width, self.scene.heart, self._rv
        slope = tables.rv_slope[zone.index]
        wall = soft((tables.rv_wall[zone.index] - zone.radius) * slope, width)
        pool = soft((tables.rv[zone.index] - zone.radius) * slope, width)
        if with_base:
            under = soft(zone.radius - tables.rv_inner[zone.index], width)
            above = tables.rv_top[zone.column] - zone.z
            pool *= under * soft(above, width)
            wall *= under * soft(above + 1.5, width)
        blood = contrast["rv_blood"] * flow[zone.flat]
        self._add_muscle(blood, self._rv_pool, heart.rv_muscle, self._rv_place(tables, phase), phase)
        values = image.reshape(-1)[zone.flat]
        _paint(values, wall, contrast["rv_wall"])
        _paint(values, pool, blood)
        image.reshape(-1)[zone.flat] = values
        return pool

    def _paint_lv(
        self, image: np.ndarray, flow: np.ndarray, tables: Tables, phase: Phase, with_base: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Wall and blood of the LV; returns the shares of its zone inside the epicardium and the endocardium."""
        width, heart, zone = self.width, self.scene.heart, self._lv
        outer = soft((tables.epi[zone.index] - zone.radius) * tables.epi_slope[zone.index], width)
        inner = soft((tables.endo[zone.index] - zone.radius) * tables.endo_slope[zone.index], width)
        if with_base:
            lid = soft(heart.length * phase.stretch - zone.z, width)
            inner *= lid
            outer *= lid
        blood = self.scene.contrast["blood"] * flow[zone.flat]
        self._add_muscle(blood, self._lv_pool, heart.lv_muscle, self._lv_place(tables, phase), phase)
        values = image.reshape(-1)[zone.flat]
        _paint(values, outer, self._textured(self._wall_signal(tables, phase)))
        _paint(values, inner, blood)
        image.reshape(-1)[zone.flat] = values
        return outer, inner

    def _textured(self, signal: float | np.ndarray) -> float | np.ndarray:
        """Signal of the wall as uneven as it looks."""
        if self._wall_texture is None:
            return signal
        return signal * np.broadcast_to(self._wall_texture, self.p[2].shape).ravel()[self._lv.flat]

    def _wall_signal(self, tables: Tables, phase: Phase) -> float | np.ndarray:
        """Signal of the wall in the LV's zone; only where there is an infarct it depends on the place."""
        contrast = self.scene.contrast
        if self.scene.heart.subject.scar is None:
            return contrast["myocardium"]
        edema, scar, core = self._infarct(tables, phase)
        out = np.full(self._lv.radius.shape, contrast["myocardium"], np.float32)
        for where, tissue in ((edema, "edema"), (scar, "scar"), (core, "no_reflow")):
            _paint(out, where, contrast[tissue])
        return out

    def _infarct(self, tables: Tables, phase: Phase) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shares of edema, scar and no-reflow in the LV's zone, in coordinates that move with the wall."""
        heart, zone = self.scene.heart, self._lv
        scar = heart.subject.scar
        assert scar is not None
        inner = np.clip(tables.endo[zone.index], 0, None)
        depth = (zone.radius**2 - inner**2) / np.maximum(tables.epi[zone.index] ** 2 - inner**2, 1)
        s = zone.z / (heart.length * phase.stretch)
        theta = zone.column * np.float32(2 * np.pi / N_FINE)
        extent = scar_extent(scar, s, theta).astype(np.float32)
        necrosis = extent * soft(scar.depth * (0.4 + 0.6 * extent) - depth, 0.12)
        if scar.age >= 0.5:
            return 0 * extent, necrosis, 0 * extent
        edema = scar_extent(scar, s, theta, 0.25).astype(np.float32)
        # No-reflow lies in the core, under the endocardium but not at it.
        core = scar_extent(scar, s, theta, -0.45 * scar.width).astype(np.float32)
        core *= soft(0.16 * scar.depth - np.abs(depth - 0.3 * scar.depth), 0.1)
        return edema, necrosis, core

    # --- muscle in the pools ------------------------------------------------------------------------------------

    def _lv_place(self, tables: Tables, phase: Phase) -> np.ndarray:
        heart, zone, pool = self.scene.heart, self._lv, self._lv_pool
        apex = heart.ventricles.apex
        s = zone.z[pool] * np.float32(1 / (heart.length * phase.stretch))
        level = np.clip((s - apex) * np.float32(N_SIGMA / (1 - apex)), 0, N_SIGMA - 1).astype(np.intp)
        rho = zone.radius[pool] * np.float32(N_RHO - 1) / np.maximum(tables.endo[zone.index[pool]], 1)
        return level * (N_ANGLE * N_RHO) + zone.angle[pool] + _cell(rho)

    def _rv_place(self, tables: Tables, phase: Phase) -> np.ndarray:
        heart, zone, pool = self.scene.heart, self._rv, self._rv_pool
        low = heart.ventricles.rv_apex
        s = (zone.z[pool] - low) * np.float32(N_SIGMA / (phase.rv_top - low))
        level = np.clip(s, 0, N_SIGMA - 1).astype(np.intp)
        index = zone.index[pool]
        inner = tables.rv_inner[index]
        rho = (zone.radius[pool] - inner) * np.float32(N_RHO - 1) / np.maximum(tables.rv[index] - inner, 1)
        return level * (N_ANGLE * N_RHO) + zone.angle[pool] + _cell(rho)

    def _add_muscle(
        self, blood: np.ndarray, pool: np.ndarray, field: np.ndarray, place: np.ndarray, phase: Phase
    ) -> None:
        """Mixes muscle into the blood of a pool; more of the pool is muscle when it is small."""
        share = (field.ravel()[place] - np.float32(0.42 - 0.14 * phase.empty)) * np.float32(2.6)
        np.clip(share, 0, 1, out=share)
        values = blood[pool]
        blood[pool] = values + share * (np.float32(self.scene.contrast["myocardium"] * 1.05) - values)

    def _label_infarct(self, labels: np.ndarray, wall: np.ndarray, infarct: tuple[np.ndarray, ...]) -> None:
        """Divides the myocardium of a label map into healthy, edema, scar and no-reflow, in place."""
        myocardium = labels == 2
        whole = np.maximum(wall.mean(axis=0), 1e-6)
        for code, where in zip((EDEMA, SCAR, NO_REFLOW), infarct, strict=True):
            share = np.zeros_like(wall)
            share.reshape(-1)[self._lv.flat] = where
            labels[myocardium & ((share * wall).mean(axis=0) > 0.5 * whole)] = code


class Zone:
    """The voxels of a slab that one part of the heart can reach, as flat arrays.

    Args:
        slab: The slab.
        where: Which of its voxels.
        index: Their places in the tables.
        radius: Their distances from the axis, mm.
    """

    def __init__(self, slab: Slab, where: np.ndarray, index: np.ndarray, radius: np.ndarray) -> None:
        self.flat = np.flatnonzero(where)
        self.index, self.radius = index.ravel()[self.flat], radius.ravel()[self.flat]
        self.z = slab.p[2].ravel()[self.flat]
        self.column = self.index % N_FINE
        self.angle = self.column * N_ANGLE // N_FINE * N_RHO


def _commonest(shares: np.ndarray) -> np.ndarray:
    """The commonest of background, RV, myocardium and LV: shares (3, X, Y) to labels (X, Y)."""
    best = 1 - shares.sum(axis=0)
    label = np.zeros(best.shape, np.uint8)
    for code, share in enumerate(shares, start=1):
        label[share > best] = code
        best = np.maximum(best, share)
    return label


class _Part:
    """Some of the voxels, as flat arrays, written back at the end of the block.

    Args:
        image: Where they come from and go to.
        p: Coordinates of all voxels.
        flat: Which voxels.
    """

    def __init__(self, image: np.ndarray, p: tuple[np.ndarray, np.ndarray, np.ndarray], flat: np.ndarray) -> None:
        self._image, self._flat = image.reshape(-1), flat
        self.values = self._image[flat]
        self.p = (p[0].ravel()[flat], p[1].ravel()[flat], p[2].ravel()[flat])

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._image[self._flat] = self.values


def _cell(rho: np.ndarray) -> np.ndarray:
    return np.clip(rho + np.float32(0.5), 0, N_RHO - 1).astype(np.intp)
