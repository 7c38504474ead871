"""Agreement of two measurements: errors, Bland-Altman, correlation, and repeatability of scan and rescan.

Errors are the first column less the second (prediction less truth). Every statistic takes ``weights`` (see
:mod:`cinema_lightning.metrics.weighted`), and so has an interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cinema_lightning.metrics.weighted import answer, case_weights, column, complete, deviation, divide, mean


def mae(predicted: Any, true: Any, *, weights: Any = None) -> Any:
    """Mean absolute error, in the unit of the columns, (N,) each."""
    return mean(np.abs(column(predicted) - column(true)), weights=weights)


def rmse(predicted: Any, true: Any, *, weights: Any = None) -> Any:
    """Root of the mean squared error, in the unit of the columns."""
    return _root(mean((column(predicted) - column(true)) ** 2, weights=weights), weights)


def bias(predicted: Any, true: Any, *, weights: Any = None) -> Any:
    """Mean difference, prediction less truth."""
    return mean(column(predicted) - column(true), weights=weights)


def difference_sd(predicted: Any, true: Any, *, weights: Any = None) -> Any:
    """Standard deviation (n - 1) of the differences."""
    return deviation(column(predicted) - column(true), weights=weights)


def limits_of_agreement(predicted: Any, true: Any) -> tuple[float, float]:
    """Bland-Altman's 95% limits: bias -/+ 1.96 SD of the differences (Bland and Altman, Lancet 1986)."""
    return lower_limit(predicted, true), upper_limit(predicted, true)


def lower_limit(predicted: Any, true: Any, *, weights: Any = None) -> Any:
    """Lower 95% limit of agreement."""
    return bias(predicted, true, weights=weights) - 1.96 * difference_sd(predicted, true, weights=weights)


def upper_limit(predicted: Any, true: Any, *, weights: Any = None) -> Any:
    """Upper 95% limit of agreement."""
    return bias(predicted, true, weights=weights) + 1.96 * difference_sd(predicted, true, weights=weights)


def coefficient_of_variation(first: Any, second: Any, *, weights: Any = None) -> Any:
    """Within-subject coefficient of variation of scan and rescan, sqrt(mean(s2 / m2)).

    Per subject, s2 = (x - y)^2 / 2 and m = (x + y) / 2.

    Args:
        first: (N,) first measurement.
        second: (N,) second measurement of the same subjects.
        weights: See the module's text.

    Returns:
        A share (0.08 is 8%). Subjects whose mean is 0 are left out.
    """
    x, y = column(first), column(second)
    return _root(mean(divide((x - y) ** 2 / 2, ((x + y) / 2) ** 2), weights=weights), weights)


def pearson(first: Any, second: Any, *, weights: Any = None) -> Any:
    """Pearson's correlation; NaN where a column does not vary."""
    _, _, sxx, syy, sxy, _ = _moments(first, second, weights)
    return answer(divide(sxy, np.sqrt(sxx * syy)), weights)


def concordance_correlation(first: Any, second: Any, *, weights: Any = None) -> Any:
    """Lin's concordance correlation, with moments over n (Lin, Biometrics 1989)."""
    mx, my, sxx, syy, sxy, _ = _moments(first, second, weights)
    return answer(divide(2 * sxy, sxx + syy + (mx - my) ** 2), weights)


def intraclass_correlation(first: Any, second: Any, *, weights: Any = None) -> Any:
    """ICC(A,1): two-way random effects, absolute agreement, single measurement (McGraw and Wong 1996)."""
    mx, my, sxx, syy, sxy, count = _moments(first, second, weights)
    degrees = np.where(count > 1, count - 1, 0.0)
    # Mean squares of a table of n rows and 2 columns; the moments are over n.
    rows = divide(count * (sxx + syy + 2 * sxy) / 2, degrees)
    error = divide(count * (sxx + syy - 2 * sxy) / 2, degrees)
    columns = count * (mx - my) ** 2 / 2
    return answer(divide(rows - error, rows + error + divide(2 * (columns - error), count)), weights)


def _root(value: Any, weights: Any) -> Any:
    return np.sqrt(value) if weights is not None and np.ndim(weights) == 2 else float(np.sqrt(value))


def _moments(first: Any, second: Any, weights: Any) -> tuple[np.ndarray, ...]:
    """Means, variances and covariance over n, and n; (D,) each."""
    x, y = column(first), column(second)
    mask = complete(x, y)
    table = case_weights(weights, mask)
    # One shift for both columns leaves their difference alone and spares the digits of the variances.
    shift = x[mask].mean() if mask.any() else 0.0
    x, y = x[mask] - shift, y[mask] - shift
    count = table.sum(axis=1)
    mx, my = divide(table @ x, count), divide(table @ y, count)
    sxx = np.maximum(divide(table @ x**2, count) - mx**2, 0.0)
    syy = np.maximum(divide(table @ y**2, count) - my**2, 0.0)
    sxy = divide(table @ (x * y), count) - mx * my
    return mx, my, sxx, syy, sxy, count
