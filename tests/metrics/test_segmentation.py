"""Segmentation metrics against golden numbers and plain definitions."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.segmentation import (
    NESTED,
    case_metrics,
    class_regions,
    hd95,
    region_masks,
    regions_of,
    stability,
)

NAMES = {
    "dice": "dice_score",
    "iou": "iou_score",
    "hd95": "hausdorff_distance_95",
    "stability": "stability_score",
    "volume_true": "true_volume",
    "volume_pred": "pred_volume",
}
EDGE_SPACING = (1.3, 1.1, 8.0)


def assert_golden(numbers, prefix, spacing, regions):
    """Every golden figure of every case, NaN included; none of ours may lack a golden one but stability of regions."""
    logits, labels = numbers[f"{prefix}.logits"], numbers[f"{prefix}.labels"][:, 0]
    seen = set()
    for case in range(len(logits)):
        ours = case_metrics(logits[case].argmax(0), labels[case], spacing, regions, logits[case])
        heads = {name: f"class_{place}" for place, name in enumerate(regions.labels, 1)} | {"mean": "mean"}
        for key, value in ours.items():
            name = next(head for head in heads if key.startswith(f"{head}_"))
            theirs = f"{prefix}.metric.{heads[name]}_{NAMES[key.removeprefix(f'{name}_')]}"
            if regions.score_absent and key.endswith("_stability"):
                continue
            np.testing.assert_allclose(value, numbers[theirs][case].item(), rtol=1e-4, err_msg=key)
            seen.add(theirs)
    assert seen == {key for key in numbers if key.startswith(f"{prefix}.metric")}


def test_golden(golden):
    numbers = load_file(golden / "misc/tensors.safetensors")
    assert_golden(numbers, "seg", (1, 1, 10), class_regions({0: "background", 1: "a", 2: "b", 3: "c"}))


@pytest.mark.parametrize("prefix", ["edge", "emidec", "myops"])
def test_golden_with_absent_classes(golden, prefix):
    numbers = load_file(golden / "misc/metrics_edge_cases.safetensors")
    assert_golden(numbers, prefix, EDGE_SPACING, regions_of(prefix, {0: "background", 1: "a", 2: "b", 3: "c"}))


def surface(mask):
    return mask & ~ndimage.binary_erosion(mask)


@pytest.mark.parametrize("shape", [(14, 12), (14, 12, 6)])
def test_hd95_is_the_larger_directed_percentile_between_surfaces(rng, shape):
    spacing = (1.5, 0.8, 7.0)[: len(shape)]
    a, b = (ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) > 0.02 for _ in range(2))
    points = [np.argwhere(surface(mask)) * spacing for mask in (a, b)]
    table = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    expected = max(np.percentile(table.min(axis=1), 95), np.percentile(table.min(axis=0), 95))
    np.testing.assert_allclose(hd95(a[None], b[None], spacing), [expected], rtol=1e-5)


def test_plane_reports_area_and_masks_out_unlabelled_voxels():
    true = np.zeros((8, 8), dtype=np.int16)
    true[2:4, 2:6] = 1
    predicted = true.copy()
    predicted[6, :] = 1
    true[6, :] = -1
    figures = case_metrics(predicted, true, (2.0, 2.0, 8.0), class_regions({0: "background", 1: "LV blood pool"}))
    assert figures["lv_dice"] == 1
    assert figures["lv_hd95"] == 0
    assert figures["lv_area_true"] == figures["lv_area_pred"] == pytest.approx(8 * 4 / 100)
    assert "lv_volume_true" not in figures


def test_absent_classes_follow_the_declared_rule():
    empty, full = np.zeros((4, 4, 2), int), np.full((4, 4, 2), 4)
    plain, nested = class_regions({0: "background", 4: "no-reflow"}), NESTED["emidec"]
    assert math.isnan(case_metrics(empty, empty, (1, 1, 1), plain)["no_reflow_dice"])
    assert math.isnan(case_metrics(full, empty, (1, 1, 1), plain)["no_reflow_dice"])
    assert case_metrics(empty, full, (1, 1, 1), plain)["no_reflow_dice"] == 0
    assert case_metrics(empty, empty, (1, 1, 1), nested)["no_reflow_dice"] == 1
    assert case_metrics(full, empty, (1, 1, 1), nested)["no_reflow_dice"] == 0
    both_empty = case_metrics(empty, empty, (1, 1, 1), nested)
    assert both_empty["mean_dice"] == 1
    assert math.isnan(both_empty["mean_hd95"])


def test_nested_regions_contain_each_other():
    labels = np.arange(6).reshape(6, 1, 1)
    masks = dict(zip(NESTED["myops"].labels, region_masks(labels, NESTED["myops"])[:, :, 0, 0], strict=True))
    assert masks["myocardium"].tolist() == [False, False, False, True, True, True]
    assert not (masks["scar"] & ~masks["edema_and_scar"]).any()
    assert not (masks["edema_and_scar"] & ~masks["myocardium"]).any()


def test_stability_does_not_change_with_a_shift_of_all_logits():
    logits = torch.randn(3, 9, 8, 2, generator=torch.Generator().manual_seed(0)) * 3
    np.testing.assert_allclose(stability(logits), stability(logits.log_softmax(dim=0)), atol=0.02)
    assert np.isnan(stability(torch.full((2, 3, 3), -5.0) * torch.tensor([1.0, -1.0])[:, None, None])[0])


def test_regions_of_several_classes_have_no_stability_and_others_keep_theirs():
    logits = torch.randn(5, 9, 8, 2, generator=torch.Generator().manual_seed(0)) * 3
    labels = logits.argmax(dim=0)
    figures = case_metrics(labels, labels, (1, 1, 1), NESTED["emidec"], logits)
    scores = stability(logits)
    assert math.isnan(figures["myocardium_stability"])
    assert figures["cavity_stability"] == scores[1]
    assert figures["no_reflow_stability"] == scores[4]
    assert figures["mean_stability"] == pytest.approx((scores[1] + scores[4]) / 2)


def test_clear_sentences():
    regions = class_regions({0: "background", 1: "a"})
    with pytest.raises(CinemaError, match="crop the padding"):
        case_metrics(np.zeros((4, 4)), np.zeros((4, 5)), (1, 1), regions)
    with pytest.raises(CinemaError, match="spacing"):
        case_metrics(np.zeros((4, 4, 2)), np.zeros((4, 4, 2)), (1, 1), regions)
    with pytest.raises(CinemaError, match="spacing"):
        case_metrics(np.zeros((4, 4)), np.zeros((4, 4)), (1, float("nan")), regions)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
