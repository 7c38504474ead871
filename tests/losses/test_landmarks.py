"""Heatmap and Wing losses against golden numbers; masking of landmarks outside the image."""

import pytest
import torch
from safetensors.torch import load_file

from cinema_lightning.losses import landmarks as lm


@pytest.fixture
def numbers(golden):
    return load_file(golden / "misc/tensors.safetensors")


def test_heatmap_golden(numbers):
    targets = lm.gaussian_heatmaps(numbers["heatmap.points"], (32, 32))
    torch.testing.assert_close(targets, numbers["heatmap.target"], rtol=1e-5, atol=1e-6)
    bce, dice = lm.heatmap_terms(numbers["heatmap.logits"], targets)
    torch.testing.assert_close(bce, numbers["heatmap.bce"], rtol=1e-5, atol=0)
    torch.testing.assert_close(dice, numbers["heatmap.dice_loss"], rtol=1e-5, atol=0)
    loss = lm.heatmap_loss(numbers["heatmap.logits"], targets)
    torch.testing.assert_close(loss, numbers["heatmap.loss"], rtol=1e-5, atol=0)


def test_wing_golden(numbers):
    predicted, true = numbers["wing.pred"], numbers["wing.true"]
    offsets = lm.midpoint_offsets(predicted.view(-1, 3, 2)).flatten(1)
    torch.testing.assert_close(offsets, numbers["wing.offset_values"], rtol=1e-5, atol=1e-4)
    points, offset_term = lm.wing_terms(predicted, true)
    torch.testing.assert_close(points, numbers["wing.points"], rtol=1e-5, atol=0)
    torch.testing.assert_close(offset_term, numbers["wing.offsets"], rtol=1e-5, atol=0)
    total = numbers["wing.points"] + numbers["wing.offsets"]
    torch.testing.assert_close(lm.wing_loss(predicted.view(-1, 3, 2), true.view(-1, 3, 2)), total, rtol=1e-5, atol=0)


def test_wing_is_continuous_and_smooth_at_zero_error():
    error = torch.tensor([0.0, 9.9999, 10.0001, -3.0], requires_grad=True)
    value = lm.wing(error)
    assert value[0] == 0
    assert (value[2] - value[1]).abs() < 1e-2
    value.sum().backward()
    assert torch.isfinite(error.grad).all()


def test_heatmaps_of_points_off_the_grid_and_padding():
    points = torch.tensor([[[3.25, 7.5], [-0.1, 4.0], [float("nan"), 2.0], [11.0, 9.0]]])
    maps = lm.gaussian_heatmaps(points, (12, 10), sigma=2.0)
    assert maps.shape == (1, 4, 12, 10)
    torch.testing.assert_close(maps[0, 0, 5, 6], torch.exp(torch.tensor(-(1.75**2 + 1.5**2) / 8)))


def test_a_masked_landmark_has_no_part_in_the_heatmap_loss(numbers):
    logits = numbers["heatmap.logits"].clone().requires_grad_()
    points = numbers["heatmap.points"].clone()
    points[1, 2] = float("nan")
    valid = points.isfinite().all(dim=-1)
    assert valid.sum() == 5
    loss = lm.heatmap_loss(logits, lm.gaussian_heatmaps(points, (32, 32)), valid)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[1, 2] == 0).all()
    target = numbers["heatmap.target"]
    one_by_one = [
        lm.heatmap_loss(logits[b : b + 1, k : k + 1], target[b : b + 1, k : k + 1]) for b, k in valid.nonzero().tolist()
    ]
    torch.testing.assert_close(loss, torch.stack(one_by_one).mean())


def test_a_masked_landmark_has_no_part_in_the_wing_loss(numbers):
    predicted = numbers["wing.pred"].clone().requires_grad_()
    true = numbers["wing.true"].clone().view(4, 3, 2)
    true[2, 1] = float("nan")
    valid = torch.isfinite(true).all(dim=-1)
    points, offsets = lm.wing_terms(predicted, true, valid)
    (points + offsets).backward()
    assert torch.isfinite(predicted.grad).all()
    assert (predicted.grad.view(4, 3, 2)[2, 1] == 0).all()
    kept = [0, 1, 3]
    torch.testing.assert_close(offsets, lm.wing_terms(predicted[kept], true[kept])[1])
    error = lm.wing(predicted.view(4, 3, 2) - true)[valid]
    torch.testing.assert_close(points, error.mean())
    nothing = lm.wing_loss(predicted, true, torch.zeros(4, 3, dtype=torch.bool))
    assert nothing == 0
