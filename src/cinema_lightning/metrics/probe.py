"""How much of a column simple readers find in features: a linear one (ridge) and the nearest neighbours."""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 10
_PENALTIES = np.logspace(-3, 5, 17)


def probe_number(train: np.ndarray, values: np.ndarray, test: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """R2 of a number read from features.

    Args:
        train: (N, D) features of the subjects that the readers learn from.
        values: (N,) their numbers.
        test: (M, D) features of other subjects.
        truth: (M,) their numbers.

    Returns:
        ``linear`` and ``knn``: 1 is perfect, 0 as good as the mean of ``train``; NaN where ``truth`` does not vary.
    """
    spread = float(((truth - values.mean()) ** 2).sum())
    return {
        name: 1 - float(((truth - found[:, 0]) ** 2).sum()) / spread if np.ptp(truth) else float("nan")
        for name, found in read_features(train, values[:, None], test).items()
    }


def probe_classes(train: np.ndarray, classes: np.ndarray, test: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Balanced accuracy of classes read from features.

    Args:
        train: (N, D) features of the subjects that the readers learn from.
        classes: (N,) their classes.
        test: (M, D) features of other subjects.
        truth: (M,) their classes.

    Returns:
        ``linear`` and ``knn``: mean over the classes of ``truth`` of the share that is found.
    """
    names, index = np.unique(classes, return_inverse=True)
    shares = np.eye(len(names))[index]
    scores = read_features(train, shares, test)
    found = {name: names[score.argmax(axis=1)] for name, score in scores.items()}
    return {
        name: float(np.mean([(guess[truth == one] == one).mean() for one in np.unique(truth)]))
        for name, guess in found.items()
    }


def read_features(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """What the readers say of other subjects; features are standardised by those of ``train``.

    Args:
        train: (N, D) features of the subjects that the readers learn from.
        targets: (N, T) their numbers, or 1 for their class and 0 for the others.
        test: (M, D) features of other subjects.

    Returns:
        ``linear`` and ``knn``: (M, T) each.
    """
    mean, scale = train.mean(axis=0), train.std(axis=0)
    known = scale > 1e-12
    ours, theirs = ((part[:, known] - mean[known]) / scale[known] for part in (train, test))
    return {"linear": _ridge(ours, targets, theirs), "knn": _nearest(ours, targets, theirs)}


def _ridge(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ridge regression whose penalty generalised cross-validation on ``train`` chooses."""
    centre = targets.mean(axis=0)
    u, s, vt = np.linalg.svd(train, full_matrices=False)
    inside = u.T @ (targets - centre)
    best = min(_PENALTIES, key=lambda penalty: _error_left_out(u, s, inside, targets - centre, penalty))
    weights = vt.T @ ((s / (s**2 + best))[:, None] * inside)
    return np.asarray(centre + test @ weights)


def _error_left_out(u: np.ndarray, s: np.ndarray, inside: np.ndarray, targets: np.ndarray, penalty: float) -> float:
    shrunk = s**2 / (s**2 + penalty)
    residual = targets - u @ (shrunk[:, None] * inside)
    freedom = max(1 - (shrunk.sum() + 1) / len(targets), 1e-6)
    return float((residual**2).sum()) / freedom**2


def _nearest(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Mean target of the neighbours of the largest cosine similarity."""
    ours, theirs = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (train, test))
    count = min(NEIGHBOURS, len(train))
    order = np.argsort(-(theirs @ ours.T), axis=1, kind="stable")[:, :count]
    return np.asarray(targets[order].mean(axis=1))
