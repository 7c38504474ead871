"""What statistics accept: tensors, tables, missing cells."""

import numpy as np
import pandas as pd
import pytest
import torch

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.weighted import column, complete, mean, to_numpy


def test_low_precision_becomes_float32():
    assert to_numpy(torch.ones(2, dtype=torch.bfloat16, requires_grad=True)).dtype == np.float32
    assert to_numpy(np.ones(2, dtype=np.float16)).dtype == np.float32
    assert to_numpy(torch.ones(2, dtype=torch.uint8)).dtype == np.uint8


def test_columns_of_tables_with_empty_cells():
    np.testing.assert_array_equal(column([1, None, "", "2.5"]), [1, np.nan, np.nan, 2.5])
    np.testing.assert_array_equal(column(pd.Series([1.0, None, 3.0])), [1, np.nan, 3])
    assert column(pd.Series([True, False])).tolist() == [1, 0]


def test_complete_looks_at_all_columns():
    scores = np.array([[0.1, 0.9], [np.nan, 1.0], [0.5, 0.5], [0.2, 0.8]])
    assert complete(scores, [1.0, 2.0, np.inf, 3.0]).tolist() == [True, False, False, True]
    assert complete(np.array(["M", None, "", "F"], dtype=object)).tolist() == [True, False, False, True]
    assert complete(np.arange(2)).tolist() == [True, True]
    with pytest.raises(CinemaError, match="differ in length"):
        complete([1.0], [1.0, 2.0])


def test_weights_must_fit_the_cases():
    assert mean([1.0, np.nan, 3.0], weights=[1, 5, 3]) == 2.5
    np.testing.assert_allclose(mean([1.0, 3.0], weights=[[1, 0], [0, 1], [0, 0]]), [1, 3, np.nan])
    with pytest.raises(CinemaError, match="3 weights for 2 cases"):
        mean([1.0, 2.0], weights=[1, 1, 1])
