"""Points from heatmaps, distances, long-axis function."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cinema_lightning.losses.landmarks import gaussian_heatmaps
from cinema_lightning.metrics.landmarks import (
    argmax_points,
    distances,
    long_axis_length,
    long_axis_shortening,
    plane_excursion,
    refined_points,
)


def test_argmax_golden(golden):
    numbers = load_file(golden / "misc/tensors.safetensors")
    assert torch.equal(argmax_points(numbers["heatmap.target"]).flatten(1), numbers["heatmap.argmax"])


@pytest.fixture
def off_grid():
    generator = torch.Generator().manual_seed(3)
    points = 6 + torch.rand(20, 3, 2, generator=generator, dtype=torch.float64) * 50
    points[0] = torch.tensor([[0.3, 0.4], [62.7, 47.6], [0.0, 47.0]])  # at the image's corners
    return points.clamp(max=47)


def test_refined_argmax_is_exact_for_a_gaussian_off_the_grid(off_grid):
    maps = gaussian_heatmaps(off_grid, (64, 48))
    assert (refined_points(maps) - off_grid).norm(dim=-1).max() < 0.01
    assert (argmax_points(maps) - off_grid).norm(dim=-1).max() > 0.4


def test_refined_argmax_with_noise_background_and_saturation(off_grid):
    maps = gaussian_heatmaps(off_grid, (64, 48))
    noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(0)) * 0.02
    error = (refined_points((maps + noise).clamp(0, 1)) - off_grid).norm(dim=-1)
    assert error.mean() < 0.12
    assert error.max() < 0.5
    saturated = (maps * 1.2).clamp(max=1)
    inside = ((off_grid > 4) & (off_grid < torch.tensor([59.0, 43.0]))).all(dim=-1)
    assert (refined_points(saturated) - off_grid).norm(dim=-1)[inside].max() < 0.6


def test_refined_argmax_falls_back_to_the_pixel():
    flat = torch.full((1, 2, 9, 7), 0.5)
    flat[0, 1] = 0
    assert torch.equal(refined_points(flat), torch.zeros(1, 2, 2, dtype=torch.float64))
    small = gaussian_heatmaps(torch.tensor([[[1.2, 0.7]]]), (3, 3))
    np.testing.assert_allclose(refined_points(small)[0, 0], [1.2, 0.7], atol=1e-3)


def test_distances_in_pixels_and_mm():
    predicted, true = np.zeros((2, 1, 2)), np.array([[[3.0, 4.0]], [[np.nan, 0.0]]])
    pixels, mm = distances(predicted, true, [[2.0, 1.0, 8.0], [1.0, 1.0, 8.0]])
    np.testing.assert_allclose(pixels, [[5], [np.nan]])
    np.testing.assert_allclose(mm, [[np.sqrt(52)], [np.nan]])
    assert np.isnan(distances(predicted, true)[1]).all()


def test_long_axis_function():
    spacing = (2.0, 2.0, 8.0)
    ed, es = np.array([[10.0, 0.0], [10.0, 10.0]]), np.array([[15.0, 0.0], [17.0, 11.0]])
    apex_ed, apex_es = np.array([50.0, 5.0]), np.array([49.0, 5.5])
    np.testing.assert_allclose(plane_excursion(ed, es, apex_ed, spacing), [10, 14])
    assert long_axis_length(ed, apex_ed, spacing) == pytest.approx(80)
    assert long_axis_shortening(ed, apex_ed, es, apex_es, spacing) == pytest.approx((80 - 66) / 80 * 100)
    # the lateral tricuspid point moves (2, 6) mm; the mitral axis runs along x, from whichever points it is taken
    tricuspid = np.array([[9.0, -20.0]]), np.array([[10.0, -17.0]])
    np.testing.assert_allclose(plane_excursion(*tricuspid, apex_ed, spacing, ed_base=ed), [2])
    batch = plane_excursion(ed[None], es[None], apex_ed[None], spacing)
    assert batch.shape == (1, 2)
    assert np.isnan(long_axis_shortening(ed, ed.mean(axis=0), es, apex_es, spacing))
