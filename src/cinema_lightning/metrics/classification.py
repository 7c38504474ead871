"""Classification over cases: accuracy, AUROC, F1, MCC, sensitivity, specificity, calibration.

Numbers agree with torchmetrics where both are defined; these also take case weights, so that intervals are cheap, and
say NaN instead of 0 for what a class that is absent leaves undefined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.weighted import answer, case_weights, complete, divide, to_numpy


def _checked(probabilities: Any, true: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (N, C), true classes (N,) and which cases have both; a true class below 0 is unknown."""
    scores = np.asarray(to_numpy(probabilities), dtype=np.float64)
    labels = to_numpy(true)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise CinemaError(f"Class probabilities must be (cases, classes of two or more), not {scores.shape}.")
    mask = complete(scores, labels.astype(np.float64))
    classes = np.where(mask, labels, 0).astype(np.int64)
    mask &= classes >= 0
    if mask.any() and classes[mask].max() >= scores.shape[1]:
        raise CinemaError(f"A case has class {classes[mask].max()}, but there are {scores.shape[1]} classes from 0.")
    return scores, classes, mask


def confusion(probabilities: Any, true: Any, *, weights: Any = None) -> np.ndarray:
    """Confusion matrices of the most probable class.

    Args:
        probabilities: (N, C).
        true: (N,) class numbers.
        weights: None, (N,) or (D, N).

    Returns:
        (D, C, C), true class by predicted class; D is 1 without a table of weights.
    """
    scores, labels, mask = _checked(probabilities, true)
    count = scores.shape[1]
    cell = labels[mask] * count + scores[mask].argmax(axis=1)
    table = case_weights(weights, mask)
    return (table @ np.eye(count * count)[cell]).reshape(-1, count, count)


def accuracy(probabilities: Any, true: Any, *, weights: Any = None) -> Any:
    """Share of cases whose most probable class is right."""
    matrix = confusion(probabilities, true, weights=weights)
    return answer(divide(np.trace(matrix, axis1=1, axis2=2), matrix.sum(axis=(1, 2))), weights)


def f1_macro(probabilities: Any, true: Any, *, weights: Any = None) -> Any:
    """Mean F1 over the classes that occur in the truth or the predictions."""
    matrix = confusion(probabilities, true, weights=weights)
    hits = np.diagonal(matrix, axis1=1, axis2=2)
    f1 = divide(2 * hits, matrix.sum(axis=1) + matrix.sum(axis=2))
    return answer(divide(np.nansum(f1, axis=1), np.isfinite(f1).sum(axis=1)), weights)


def mcc(probabilities: Any, true: Any, *, weights: Any = None) -> Any:
    """Matthews correlation of any number of classes (Gorodkin 2004); 0 where truth or prediction does not vary."""
    matrix = confusion(probabilities, true, weights=weights)
    total, hits = matrix.sum(axis=(1, 2)), np.trace(matrix, axis1=1, axis2=2)
    rows, columns = matrix.sum(axis=2), matrix.sum(axis=1)
    covariance = hits * total - (rows * columns).sum(axis=1)
    spread = np.sqrt((total**2 - (rows**2).sum(axis=1)) * (total**2 - (columns**2).sum(axis=1)))
    value = np.where(spread == 0, 0.0, divide(covariance, spread))
    return answer(np.where(total == 0, np.nan, value), weights)


def sensitivity(probabilities: Any, true: Any, *, weights: Any = None) -> Any:
    """Share of the cases of class 1 that are found (two classes); NaN without such cases."""
    matrix = _two(confusion(probabilities, true, weights=weights))
    return answer(divide(matrix[:, 1, 1], matrix[:, 1].sum(axis=1)), weights)


def specificity(probabilities: Any, true: Any, *, weights: Any = None) -> Any:
    """Share of the cases of class 0 that are left alone (two classes); NaN without such cases."""
    matrix = _two(confusion(probabilities, true, weights=weights))
    return answer(divide(matrix[:, 0, 0], matrix[:, 0].sum(axis=1)), weights)


def _two(matrix: np.ndarray) -> np.ndarray:
    if matrix.shape[1] != 2:
        raise CinemaError(f"Sensitivity and specificity need two classes, not {matrix.shape[1]}.")
    return matrix


def detection(probabilities: Any, true: Any, normal: int) -> tuple[np.ndarray, np.ndarray]:
    """Turns several diseases into one question: disease or normal.

    Args:
        probabilities: (N, C).
        true: (N,) class numbers.
        normal: Class number of normal (NOR).

    Returns:
        What :func:`sensitivity` and :func:`specificity` take, (N, 2) and (N,). A case counts as disease where the most
        probable class is a disease, as the published figures do, so the two columns are 0 and 1.
    """
    scores, labels, mask = _checked(probabilities, true)
    disease = (scores.argmax(axis=1) != normal).astype(np.float64)
    disease[~mask] = np.nan
    return np.stack([1 - disease, disease], axis=1), np.where(mask, labels != normal, np.nan)


def area_under_curve(score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties counting half.

    Args:
        score: (N,) higher for more likely positive.
        positive: (D, N) weight of each case as a positive, 0 for negatives.
        negative: (D, N) weight of each case as a negative.

    Returns:
        (D,); NaN where either side has no weight.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0]) if len(score) else np.array([], dtype=int)
    if not len(starts):
        return np.full(len(positive), np.nan)
    wins = np.add.reduceat(positive[:, order], starts, axis=1)
    losses = np.add.reduceat(negative[:, order], starts, axis=1)
    below = np.cumsum(losses, axis=1) - losses / 2
    return divide((wins * below).sum(axis=1), wins.sum(axis=1) * losses.sum(axis=1))


def auroc(probabilities: Any, true: Any, *, weights: Any = None) -> Any:
    """Area under the ROC curve: of class 1 for two classes, else the mean over pairs of classes, one against one.

    For a pair, the cases of the two classes are ranked by the probability of the one and of the other, and the two
    areas are averaged (Hand and Till, Machine Learning 2001; the macro one-vs-one mean of the published figures).

    Args:
        probabilities: (N, C).
        true: (N,) class numbers.
        weights: None, (N,) or (D, N).

    Returns:
        0 to 1. The mean is over the pairs of classes that both occur; NaN where there is none.
    """
    scores, labels, mask = _checked(probabilities, true)
    table, scores, labels = case_weights(weights, mask), scores[mask], labels[mask]
    count = scores.shape[1]
    pairs = [(1, 0)] if count == 2 else [(a, b) for a in range(count) for b in range(count) if a != b]
    areas = np.stack(
        [area_under_curve(scores[:, a], table * (labels == a), table * (labels == b)) for a, b in pairs], axis=1
    )
    return answer(divide(np.nansum(areas, axis=1), np.isfinite(areas).sum(axis=1)), weights)


@dataclass(frozen=True)
class Reliability:
    """Calibration in bins of equal width.

    Attributes:
        edges: (K + 1,) ends of the bins, 0 to 1.
        count: (K,) cases per bin.
        confidence: (K,) mean probability; NaN in an empty bin.
        frequency: (K,) share that was right (several classes) or positive (two).
        ece: Expected calibration error: mean of |confidence - frequency| over the cases.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray
    ece: float


def reliability(probabilities: Any, true: Any, bins: int = 10) -> Reliability:
    """Reliability bins and expected calibration error (Guo et al., ICML 2017).

    Args:
        probabilities: (N, C). Two classes: the probability of class 1 against how often it is true; more: that of
            the most probable class against how often it is right.
        true: (N,) class numbers.
        bins: Number of bins.

    Returns:
        The bins.
    """
    scores, labels, mask = _checked(probabilities, true)
    scores, labels = scores[mask], labels[mask]
    two = scores.shape[1] == 2
    confidence = scores[:, 1] if two else scores.max(axis=1)
    outcome = (labels == 1) if two else (scores.argmax(axis=1) == labels)
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    total = [np.bincount(place, weights=values, minlength=bins) for values in (confidence, outcome.astype(float))]
    gaps = np.abs(total[0] - total[1]).sum()
    ece = float(gaps / len(labels)) if len(labels) else float("nan")
    edges = np.linspace(0, 1, bins + 1)
    return Reliability(edges, count, divide(total[0], count), divide(total[1], count), ece)


def brier(probabilities: Any, true: Any, *, weights: Any = None) -> Any:
    """Brier score: mean squared error of the probabilities; for two classes that of class 1 alone."""
    scores, labels, mask = _checked(probabilities, true)
    error = (scores[mask] - np.eye(scores.shape[1])[labels[mask]]) ** 2
    per_case = error[:, 1] if scores.shape[1] == 2 else error.sum(axis=1)
    table = case_weights(weights, mask)
    return answer(divide(table @ per_case, table.sum(axis=1)), weights)


STATISTICS = {"accuracy": accuracy, "auroc": auroc, "f1_macro": f1_macro, "mcc": mcc}
"""What every classification reports; each takes (probabilities, true, weights=None)."""
