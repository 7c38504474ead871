"""Classification figures against torchmetrics and scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional import classification as tm

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics import classification as cl
from cinema_lightning.metrics.estimates import figure


def sample(classes, n=80, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.standard_normal((n, classes)).round(1) + 1.0 * np.eye(classes)[labels]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


def one_against_one(scores, labels, classes):
    areas = []
    for a in range(classes):
        for b in (other for other in range(classes) if other != a):
            part = (labels == a) | (labels == b)
            areas.append(tm.binary_auroc(scores[part, a], (labels[part] == a).long()))
    return sum(areas) / len(areas)


def figures(scores, labels, classes):
    """All figures of a classification; those of two classes, or of disease detection, under their names."""
    out = {name: statistic(scores, labels) for name, statistic in cl.STATISTICS.items()}
    out |= {"brier": cl.brier(scores, labels), "ece": cl.reliability(scores, labels).ece}
    pair = cl.detection(scores, labels, classes.index("NOR")) if "NOR" in classes else (scores, labels)
    if len(classes) == 2 or "NOR" in classes:
        out |= {"sensitivity": cl.sensitivity(*pair), "specificity": cl.specificity(*pair)}
    return out


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_against_torchmetrics(classes):
    scores, labels = sample(classes)
    # Ties, as quantised probabilities have them.
    scores = np.float32(scores)
    args = (torch.from_numpy(scores), torch.from_numpy(labels), classes)
    found = figures(scores, labels, [str(c) for c in range(classes)])
    expected = {
        "accuracy": tm.multiclass_accuracy(*args, average="micro"),
        "f1_macro": tm.multiclass_f1_score(*args, average="macro"),
        "mcc": tm.multiclass_matthews_corrcoef(*args),
        "auroc": one_against_one(*args) if classes > 2 else tm.binary_auroc(args[0][:, 1], args[1]),
        "ece": tm.multiclass_calibration_error(*args, n_bins=10)
        if classes > 2
        else tm.binary_calibration_error(args[0][:, 1], args[1], n_bins=10),
    }
    if classes == 2:
        predicted = args[0].argmax(1)
        expected["sensitivity"] = tm.binary_recall(predicted, args[1])
        expected["specificity"] = tm.binary_specificity(predicted, args[1])
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), abs=1e-5), name


def test_area_is_the_rank_statistic_of_mann_and_whitney():
    scores, labels = sample(2)
    scores = scores.round(1)
    u = stats.mannwhitneyu(scores[labels == 1, 1], scores[labels == 0, 1]).statistic
    expected = u / ((labels == 1).sum() * (labels == 0).sum())
    assert cl.auroc(scores, labels) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["accuracy", "auroc", "f1_macro", "mcc", "brier"])
def test_weights_are_repeats(name):
    statistic = getattr(cl, name)
    scores, labels = sample(4, 30)
    weights = np.random.default_rng(1).integers(0, 3, size=(20, 30))
    repeated = [statistic(np.repeat(scores, row, axis=0), np.repeat(labels, row)) for row in weights]
    np.testing.assert_allclose(statistic(scores, labels, weights=weights), repeated)


def test_absent_classes():
    scores, labels = sample(4)
    kept = labels < 3
    scores, labels = scores[kept], labels[kept]
    assert cl.auroc(scores, labels) == pytest.approx(cl.auroc(scores[:, :3], labels))
    assert np.isfinite(list(figures(scores, labels, list("abcd")).values())).all()
    one = figures(scores[:, :2], np.zeros(len(labels)), ["no", "yes"])
    assert np.isnan(one["auroc"])
    assert np.isnan(one["sensitivity"])
    assert one["mcc"] == 0
    nothing = figures(np.empty((0, 2)), np.empty(0), ["no", "yes"])
    assert np.isnan(nothing["accuracy"])


def test_unknown_labels_are_left_out():
    scores, labels = sample(3)
    holed = labels.astype(float)
    holed[:10] = np.nan
    holed[10:12] = -1
    assert figures(scores, holed, list("abc")) == figures(scores[12:], labels[12:], list("abc"))


def test_disease_detection():
    names = ["DCM", "HCM", "NOR"]
    scores, labels = sample(3)
    found = figures(scores, labels, names)
    guess = scores.argmax(axis=1)
    # A disease taken for another disease is found all the same.
    assert found["sensitivity"] == pytest.approx((guess[labels != 2] != 2).mean())
    assert found["specificity"] == pytest.approx((guess[labels == 2] == 2).mean())
    interval = figure(cl.sensitivity, *cl.detection(scores, labels, 2))
    assert interval.value == found["sensitivity"]
    assert interval.low < interval.value < interval.high


def test_reliability_bins():
    scores = np.array([0.1, 0.12, 0.55, 0.95, 1.0])
    bins = cl.reliability(np.stack([1 - scores, scores], axis=1), [0, 1, 1, 1, 1], bins=10)
    assert bins.count.tolist() == [0, 2, 0, 0, 0, 1, 0, 0, 0, 2]
    assert bins.confidence[1] == pytest.approx(0.11)
    assert bins.frequency[1] == 0.5
    assert np.isnan(bins.confidence[0])
    assert bins.ece == pytest.approx((2 * 0.39 + 0.45 + 2 * 0.025) / 5)
    assert len(bins.edges) == 11


def test_clear_sentences():
    scores, labels = sample(3)
    with pytest.raises(CinemaError, match="two classes"):
        cl.sensitivity(scores, labels)
    with pytest.raises(CinemaError, match="class 3"):
        cl.accuracy(scores, labels + 1)
    with pytest.raises(CinemaError, match="must be"):
        cl.accuracy(scores[:, :1], labels)
