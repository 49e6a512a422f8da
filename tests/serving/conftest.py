"""Small fitted models, one of each kind that is served."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.serving.common import IMAGES, LOG, MIXED, NUMBERS, SERIES

from isthmus import (
    AnomalyDetector,
    Autoencoder,
    ConvolutionalAutoencoder,
    EncoderClassifier,
    EncoderRegressor,
    FalseAlarmRate,
    Imputer,
    Recommender,
    SignalDetector,
)


@pytest.fixture(scope="session")
def autoencoder() -> Autoencoder:
    return Autoencoder(2, max_epochs=2, random_state=0).fit(NUMBERS)


@pytest.fixture(scope="session")
def nameless() -> Autoencoder:
    return Autoencoder(2, max_epochs=2, random_state=0).fit(NUMBERS.to_numpy())


@pytest.fixture(scope="session")
def of_images() -> ConvolutionalAutoencoder:
    return ConvolutionalAutoencoder(2, max_epochs=1, random_state=0).fit(IMAGES)


@pytest.fixture(scope="session")
def detector() -> AnomalyDetector:
    return AnomalyDetector(FalseAlarmRate(0.1), max_steps=20, random_state=0).fit(MIXED)


@pytest.fixture(scope="session")
def of_numbers() -> AnomalyDetector:
    return AnomalyDetector(max_steps=20, random_state=0).fit(NUMBERS)


@pytest.fixture(scope="session")
def of_series() -> SignalDetector:
    inner = AnomalyDetector(max_steps=10, calibration_fraction=0.25, random_state=0)
    return SignalDetector(16, detector=inner).fit(SERIES)


@pytest.fixture(scope="session")
def classifier(autoencoder: Autoencoder) -> EncoderClassifier:
    labels = np.where(NUMBERS["a"] > 0, "high", "low")
    return EncoderClassifier(autoencoder, max_epochs=2, random_state=0).fit(NUMBERS, labels)


@pytest.fixture(scope="session")
def regressor(autoencoder: Autoencoder) -> EncoderRegressor:
    return EncoderRegressor(autoencoder, max_epochs=2, random_state=0).fit(NUMBERS, NUMBERS[["a", "b"]].to_numpy())


@pytest.fixture(scope="session")
def imputer() -> Imputer:
    holes = MIXED.copy()
    holes.loc[holes.index[::7], "amount"] = np.nan
    return Imputer(max_epochs=1, n_members=2, random_state=0).fit(holes)


@pytest.fixture(scope="session")
def recommender() -> Recommender:
    titles = pd.DataFrame({"item": range(12), "title": [f"Film {place}" for place in range(12)]})
    return Recommender(max_epochs=2, random_state=0).fit(LOG, titles=titles)
