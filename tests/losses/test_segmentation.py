"""Cross-entropy + Dice against golden numbers and the plain formula."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.losses.segmentation import cross_entropy, deep_supervision, dice_loss, segmentation_loss


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 5, 2, generator=generator) * 2
    return logits, torch.randint(0, 3, (2, 6, 5, 2), generator=generator)


def test_golden(golden):
    numbers = load_file(golden / "misc/tensors.safetensors")
    logits, labels = numbers["seg.logits"], numbers["seg.labels"]
    torch.testing.assert_close(cross_entropy(logits, labels), numbers["seg.cross_entropy"], rtol=1e-5, atol=0)
    torch.testing.assert_close(dice_loss(logits, labels), numbers["seg.dice_loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(segmentation_loss(logits, labels), numbers["seg.loss"], rtol=1e-5, atol=0)


def test_ignored_voxels_count_in_neither_term(sample):
    logits, labels = sample
    labels[:, :, :, 1] = -1
    labels[1, 2:, :, 0] = -1
    changed = torch.where(labels[:, None] == -1, torch.randn_like(logits) * 9, logits)
    torch.testing.assert_close(segmentation_loss(changed, labels), segmentation_loss(logits, labels))
    cropped = segmentation_loss(logits[:1, ..., :1], labels[:1, ..., :1])
    torch.testing.assert_close(segmentation_loss(logits[:1], labels[:1]), cropped)
    dice = torch.zeros(2, 2)
    for b in range(2):
        for c in (1, 2):
            p = logits.softmax(1)[b, c][labels[b] >= 0]
            t = (labels[b] == c)[labels[b] >= 0]
            dice[b, c - 1] = 2 * (p * t).sum() / (p.sum() + t.sum())
    torch.testing.assert_close(dice_loss(logits, labels), 1 - dice.mean(), rtol=1e-4, atol=0)


def test_dice_is_a_mean_over_samples_not_pooled(sample):
    logits, labels = sample
    apart = torch.stack([dice_loss(logits[b : b + 1], labels[b : b + 1]) for b in range(2)])
    torch.testing.assert_close(dice_loss(logits, labels), apart.mean())


def test_dice_over_the_batch_sums_before_it_divides(sample):
    logits, labels = sample
    labels[0][labels[0] == 2] = (
        0  # the first sample lacks a class: over samples that costs 1 of 4 shares, whatever is said
    )
    p = logits.softmax(1)
    expected = []
    for c in (1, 2):
        t = (labels == c).float()
        expected.append(1 - 2 * (p[:, c] * t).sum() / (p[:, c].sum() + t.sum()))
    pooled = dice_loss(logits, labels, over="batch")
    torch.testing.assert_close(pooled, torch.stack(expected).mean(), rtol=1e-4, atol=0)
    assert pooled < dice_loss(logits, labels)
    loss = segmentation_loss(logits, labels, over="batch")
    torch.testing.assert_close(loss, cross_entropy(logits, labels) + pooled)


def test_a_batch_without_labels_has_a_finite_gradient(sample):
    logits, labels = sample
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.full_like(labels, -1))
    loss.backward()
    assert torch.isfinite(loss)
    assert (logits.grad == 0).all()


def test_gradient_and_precision(sample):
    logits, labels = sample
    assert segmentation_loss(logits.half(), labels.to(torch.int16)).dtype == torch.float32
    best = nn.functional.one_hot(labels, 3).movedim(-1, 1).float() * 40
    assert segmentation_loss(best, labels) < 1e-4


def test_deep_supervision_is_a_weighted_mean(sample):
    logits, labels = sample
    assert deep_supervision(segmentation_loss, logits, labels) == segmentation_loss(logits, labels)
    low = torch.randn(2, 3, 3, 5, 1)
    expected = (2 * segmentation_loss(logits, labels) + segmentation_loss(low, labels[:, 1::2, :, 1:])) / 3
    torch.testing.assert_close(deep_supervision(segmentation_loss, [logits, low], labels), expected)
    channel = deep_supervision(segmentation_loss, [logits, low], labels[:, None])
    torch.testing.assert_close(channel, expected)


def test_clear_sentence(sample):
    logits, labels = sample
    with pytest.raises(CinemaError, match="do not fit"):
        segmentation_loss(logits, labels[:, :-1])
