"""Answers of the server are those of the library, for each route and format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.serving.common import MIXED, NUMBERS, Client, as_json

from isthmus import AnomalyDetector, Autoencoder


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    return Autoencoder(2, max_epochs=2, random_state=0).fit(NUMBERS)


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(max_steps=20, calibration_fraction=0.25, random_state=0).fit(MIXED)


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "records": lambda frame: {"records": as_json(frame)},
    "columns": lambda frame: {"columns": {name: frame[name].tolist() for name in frame}},
}


@pytest.mark.parametrize("form", FORMS)
def test_codes_reconstructions_and_scores_are_those_of_the_library(autoencoder: Autoencoder, form: str) -> None:
    client, rows = Client(autoencoder), NUMBERS.head(7)
    body = FORMS[form](rows)
    codes = client.columns("/encode", body)
    assert [*codes] == autoencoder.get_feature_names_out().tolist()
    np.testing.assert_array_equal(np.column_stack([*codes.values()]), autoencoder.transform(rows))
    restored = client.columns("/reconstruct", body)
    pd.testing.assert_frame_equal(pd.DataFrame(restored), autoencoder.reconstruct(rows))
    scores = client.columns("/score", body)
    np.testing.assert_array_equal(scores["score"], autoencoder.score_samples(rows))
    np.testing.assert_array_equal(scores["reconstruction_error"], autoencoder.reconstruction_error(rows))


def test_scores_of_a_detector_are_those_of_the_library(detector: AnomalyDetector) -> None:
    rows = MIXED.head(9).copy()
    rows.loc[3, "amount"] = 900.0
    found = Client(detector).columns("/score", {"records": as_json(rows)})
    np.testing.assert_array_equal(found["anomaly_score"], -detector.score_samples(rows))
    np.testing.assert_array_equal(found["anomaly"], detector.predict(rows) == -1)
    np.testing.assert_array_equal(found["p_value"], detector.p_values(rows))
    assert found["anomaly"][3] is True
