"""Statistics of weighted cases, the form that makes intervals fast.

A statistic is a function ``statistic(*columns, weights=None)``. Its columns have one row per case. ``weights`` says
how often each case counts: None (once each), (N,) for one answer, or (D, N) for D answers at once. Leaving a subject
out is nothing but such a row of counts, so that hundreds of them are a few matrix products, not hundreds of calls.

Cases with a missing value (NaN or infinite) in any column are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError

BLOCK = 4_000_000
"""Weights at a time, 32 MB, so that large cohorts do not fill the memory."""
Statistic = Callable[..., Any]
"""``statistic(*columns, weights=None)`` -> float, or (D,) for weights of shape (D, N)."""


def to_numpy(values: Any) -> np.ndarray:
    """Array of a tensor (any device), a pandas column, a list or an array; low precision becomes float32."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() and values.itemsize < 4:
            values = values.float()
        return np.asarray(values.numpy())
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def column(values: Any) -> np.ndarray:
    """One number per case as float64; None and empty cells become NaN."""
    array = to_numpy(values)
    if array.dtype == object:
        array = np.array([np.nan if value is None or value == "" else value for value in array.ravel()])
    return array.astype(np.float64).reshape(-1)


def complete(*columns: Any) -> np.ndarray:
    """Which cases have every value.

    Args:
        columns: Arrays with one row per case, (N,) or (N, K).

    Returns:
        (N,) bool.

    Raises:
        CinemaError: If the columns differ in length.
    """
    arrays = [to_numpy(values) for values in columns]
    if len({len(array) for array in arrays}) > 1:
        raise CinemaError(f"Columns of one statistic differ in length: {[len(array) for array in arrays]} cases.")
    mask = np.ones(len(arrays[0]), dtype=bool)
    for array in arrays:
        present = np.isfinite(array) if array.dtype.kind == "f" else ~_blank(array)
        mask &= present.all(axis=tuple(range(1, array.ndim)))
    return mask


def _blank(array: np.ndarray) -> np.ndarray:
    """Cells of a column of objects or texts that hold nothing."""
    if array.dtype.kind not in "OU":
        return np.zeros(array.shape, dtype=bool)
    return np.array([value is None or value == "" or value != value for value in array.ravel()]).reshape(array.shape)


def case_weights(weights: Any, mask: np.ndarray) -> np.ndarray:
    """Weights of the complete cases as (D, M).

    Args:
        weights: None, (N,) or (D, N).
        mask: (N,) bool, M of them true.

    Returns:
        (D, M) float64; D is 1 for None and (N,).
    """
    if weights is None:
        return np.ones((1, int(mask.sum())))
    table = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    if table.shape[1] != len(mask):
        raise CinemaError(f"There are {table.shape[1]} weights for {len(mask)} cases.")
    return table if mask.all() else table[:, mask]


def answer(values: np.ndarray, weights: Any) -> Any:
    """A float for one set of weights, the array (D,) for a table of them."""
    return values if weights is not None and np.ndim(weights) == 2 else float(values[0])


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient that is NaN where the denominator is 0, without a warning."""
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, np.nan, numerator / safe)


def mean(values: Any, *, weights: Any = None) -> Any:
    """Mean; NaN without cases.

    Args:
        values: (N,).
        weights: See the module's text.
    """
    mask = complete(column(values))
    table = case_weights(weights, mask)
    return answer(divide(table @ column(values)[mask], table.sum(axis=1)), weights)


def deviation(values: Any, *, weights: Any = None) -> Any:
    """Standard deviation with n - 1; NaN with fewer than two cases."""
    mask = complete(column(values))
    table = case_weights(weights, mask)
    data = column(values)[mask]
    centred = data - (data.mean() if data.size else 0.0)
    count = table.sum(axis=1)
    middle = divide(table @ centred, count)
    spread = table @ centred**2 - count * middle**2
    degrees = np.where(count > 1, count - 1, 0.0)
    return answer(np.sqrt(divide(np.maximum(spread, 0.0), degrees)), weights)


def median(values: Any, *, weights: Any = None) -> Any:
    """Median of whole-number weights: the middle case, or the mean of the two middle ones."""
    mask = complete(column(values))
    data = column(values)[mask]
    order = np.argsort(data, kind="stable")
    table = case_weights(weights, mask)[:, order]
    if not data.size:
        return answer(np.full(len(table), np.nan), weights)
    until = np.cumsum(table, axis=1)
    total = until[:, -1:]
    low = data[order][np.argmax(until > np.floor((total - 1) / 2), axis=1)]
    high = data[order][np.argmax(until > np.floor(total / 2), axis=1)]
    return answer(np.where(total[:, 0] > 0, (low + high) / 2, np.nan), weights)
