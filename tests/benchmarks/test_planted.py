"""Cells planted in one column of a mixed table are what the detector names first."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.anomaly.planted import DATES, broken, far, first_named, payments

from isthmus import AnomalyDetector

N_CASES = 60


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(kinds=DATES, random_state=0, max_steps=150).fit(payments(2000, np.random.default_rng(0)))


@pytest.mark.parametrize("column", ["amount", "items", "country", "currency", "ordered"])
def test_a_cell_far_from_all_others_of_its_column_is_named_first(detector: AnomalyDetector, column: str) -> None:
    draw = np.random.default_rng(1)
    table = payments(N_CASES, draw)
    named = first_named(detector, table, column, far(table, column, draw))
    assert np.mean(np.array(named) == column) >= 0.95


def test_of_two_columns_that_disagree_one_is_named_first(detector: AnomalyDetector) -> None:
    draw = np.random.default_rng(2)
    table = payments(N_CASES, draw)
    named = first_named(detector, table, "fee", broken(table, "fee", draw))
    assert np.mean(np.isin(named, ["fee", "amount"])) >= 0.95
