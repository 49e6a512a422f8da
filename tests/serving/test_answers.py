"""Answers of the server are those of the library, for each route and format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.serving.common import ARROW, IMAGES, MIXED, NUMBERS, SERIES, Client, as_arrow, as_json, of_arrow

import isthmus
from isthmus import (
    AnomalyDetector,
    Autoencoder,
    ConvolutionalAutoencoder,
    EncoderClassifier,
    EncoderRegressor,
    Imputer,
    Recommender,
    SignalDetector,
)

AS_ARROW = {"headers": {"content-type": ARROW}}
FORMS: dict[str, Callable[[pd.DataFrame], tuple[Any, dict[str, Any]]]] = {
    "records": lambda frame: ({"records": as_json(frame)}, {}),
    "columns": lambda frame: ({"columns": {name: frame[name].tolist() for name in frame}}, {}),
    "arrow": lambda frame: (as_arrow(frame), {"headers": {"content-type": ARROW, "accept": "application/json"}}),
}


@pytest.mark.parametrize("form", FORMS)
def test_codes_reconstructions_and_scores_are_those_of_the_library(autoencoder: Autoencoder, form: str) -> None:
    client, rows = Client(autoencoder), NUMBERS.head(7)
    body, more = FORMS[form](rows[["c", "a", "b"]])  # in another order
    codes = client.columns("/encode", body, **more)
    assert [*codes] == autoencoder.get_feature_names_out().tolist()
    np.testing.assert_array_equal(np.column_stack([*codes.values()]), autoencoder.transform(rows))
    restored = client.columns("/reconstruct", body, **more)
    pd.testing.assert_frame_equal(pd.DataFrame(restored), autoencoder.reconstruct(rows))
    scores = client.columns("/score", body, **more)
    np.testing.assert_array_equal(scores["score"], autoencoder.score_samples(rows))
    np.testing.assert_array_equal(scores["reconstruction_error"], autoencoder.reconstruction_error(rows))


def test_arrow_answers_keep_the_type_of_single_precision(autoencoder: Autoencoder) -> None:
    rows = NUMBERS.head(5).astype(np.float32)
    reply = Client(autoencoder).post("/encode", as_arrow(rows), **AS_ARROW)
    assert reply.headers["content-type"] == ARROW
    found = of_arrow(reply.content)
    assert set(found.dtypes) == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found, autoencoder.transform(rows))


def test_rows_without_names_are_doubles_in_the_order_of_the_columns(nameless: Autoencoder) -> None:
    rows = NUMBERS.head(4).to_numpy()
    client = Client(nameless)
    codes = client.columns("/encode", {"rows": rows.tolist()})
    np.testing.assert_array_equal(np.column_stack([*codes.values()]), nameless.transform(rows))
    assert [*client.columns("/reconstruct", {"rows": [[1, 2, 3]]})] == ["reconstruct0", "reconstruct1", "reconstruct2"]


def test_rows_without_names_for_a_model_with_names_are_answered_with_a_warning(autoencoder: Autoencoder) -> None:
    reply = Client(autoencoder).post("/encode", {"rows": NUMBERS.head(2).to_numpy().tolist()}).json()
    assert reply["warnings"] == ["X does not have valid feature names, but Autoencoder was fitted with feature names"]
    np.testing.assert_array_equal(reply["columns"]["autoencoder0"], autoencoder.transform(NUMBERS.head(2))[:, 0])


def test_images_are_nested_rows_or_flat_ones(of_images: ConvolutionalAutoencoder) -> None:
    images = IMAGES[:3].astype(np.float64)
    client, wanted = Client(of_images), of_images.reconstruct(images).reshape(3, -1)
    for rows in (images, images.reshape(3, -1)):
        found = client.columns("/reconstruct", {"rows": rows.tolist()})
        np.testing.assert_array_equal(np.column_stack([*found.values()]), wanted)


@pytest.mark.parametrize("form", FORMS)
def test_scores_of_a_detector_are_those_of_the_library(detector: AnomalyDetector, form: str) -> None:
    rows = MIXED.head(9).copy()
    rows.loc[3, "amount"] = 900.0
    body, more = FORMS[form](rows)
    found = Client(detector).columns("/score", body, **more)
    np.testing.assert_array_equal(found["anomaly_score"], -detector.score_samples(rows))
    np.testing.assert_array_equal(found["anomaly"], detector.predict(rows) == -1)
    np.testing.assert_array_equal(found["p_value"], detector.p_values(rows))
    assert found["anomaly"][3] is True


def test_a_detector_that_is_not_calibrated_has_no_p_values(of_numbers: AnomalyDetector) -> None:
    found = Client(of_numbers).columns("/score", {"records": as_json(NUMBERS.head(2))})
    assert [*found] == ["anomaly_score", "anomaly"]
    np.testing.assert_array_equal(found["anomaly_score"], -of_numbers.score_samples(NUMBERS.head(2)))


def test_missing_cells_are_null(detector: AnomalyDetector) -> None:
    rows = MIXED.head(3).copy()
    rows.loc[1, "amount"] = np.nan
    rows.loc[2, "country"] = None
    found = Client(detector).columns("/score", {"records": as_json(rows)})
    np.testing.assert_array_equal(found["anomaly_score"], -detector.score_samples(rows))


def test_explanations_name_the_columns_that_count(detector: AnomalyDetector) -> None:
    rows = MIXED.head(2).assign(amount=[900.0, 50.0])
    client, wanted = Client(detector), detector.explain(rows, n_columns=2)
    found = client.columns("/explain?n_columns=2", {"records": as_json(rows)})
    assert found["explanation"] == [str(each) for each in wanted]
    assert found["reasons"] == [[vars(reason) for reason in each.reasons] for each in wanted]
    assert found["reasons"][0][0]["column"] == "amount"
    frame = of_arrow(client.post("/explain?n_columns=2", as_arrow(rows), **AS_ARROW).content)
    assert [[dict(each) for each in reasons] for reasons in frame["reasons"]] == found["reasons"]


def test_scores_of_a_series_are_null_where_a_value_is_missing(of_series: SignalDetector) -> None:
    series = SERIES[:60].copy()
    series[20] = np.nan
    client = Client(of_series)
    body = {"rows": [[None if np.isnan(value) else value] for value in series[:, 0]]}
    found = client.columns("/score", body)
    wanted = of_series.scores(series)
    assert np.isnan(wanted).any()
    np.testing.assert_array_equal(np.array(found["anomaly_score"], np.float64), wanted)
    np.testing.assert_array_equal(found["p_value"], of_series.p_values(series))
    np.testing.assert_array_equal(found["anomaly"], of_series.predict(series) == -1)
    arrow = of_arrow(client.post("/score", body, headers={"accept": ARROW}).content)
    np.testing.assert_array_equal(arrow["anomaly_score"], wanted)  # Arrow has NaN


def test_labels_and_their_probabilities_are_those_of_the_classifier(classifier: EncoderClassifier) -> None:
    rows = NUMBERS.head(6)
    found = Client(classifier).columns("/predict", {"records": as_json(rows)})
    assert found["predict"] == classifier.predict(rows).tolist()
    wanted = classifier.predict_proba(rows)
    np.testing.assert_array_equal(np.column_stack([found["predict_proba_high"], found["predict_proba_low"]]), wanted)


def test_predictions_are_those_of_the_regressor(regressor: EncoderRegressor) -> None:
    found = Client(regressor).columns("/predict", {"records": as_json(NUMBERS.head(6))})
    np.testing.assert_array_equal(np.column_stack([*found.values()]), regressor.predict(NUMBERS.head(6)))


def test_missing_cells_are_filled_as_by_the_imputer(imputer: Imputer) -> None:
    rows = MIXED.head(5).copy()
    rows.loc[1, "amount"] = np.nan
    rows.loc[3, "country"] = None
    wanted = imputer.transform(rows)
    for body, more in (({"records": as_json(rows)}, {}), FORMS["arrow"](rows)):
        found = pd.DataFrame(Client(imputer).columns("/impute", body, **more))
        assert found.to_dict("list") == wanted.to_dict("list")


def test_dates_of_arrow_are_texts_in_json(imputer: Imputer) -> None:
    rows = MIXED.head(3).assign(day=pd.to_datetime(MIXED["day"].head(3)))
    rows.loc[1, "day"] = pd.NaT
    body, more = FORMS["arrow"](rows)
    days = Client(imputer).columns("/impute", body, **more)["day"]
    assert [pd.Timestamp(day) for day in days] == imputer.transform(rows)["day"].tolist()


def test_items_are_those_of_the_recommender(recommender: Recommender) -> None:
    client = Client(recommender)
    histories: list[Any] = [[1, "Film 3"], {"5": 1.0}, []]
    found = client.columns("/recommend", {"histories": histories, "n": 3, "exclude": [7]})
    wanted = recommender.recommend_batch(histories=histories, n=3, exclude=[7])
    assert found["items"] == [each.items.tolist() for each in wanted]
    assert found["scores"] == [each.scores.tolist() for each in wanted]
    assert found["titles"] == [[f"Film {item}" for item in items] for items in found["items"]]
    assert found["by_popularity"] == [False, False, True]
    of_users = client.columns("/recommend", {"users": [3, "4"], "n": 2})
    assert of_users["items"] == [each.items.tolist() for each in recommender.recommend_batch([3, "4"], 2)]
    ignored = client.columns("/recommend", {"histories": [[1, 99]], "unknown": "ignore"})
    assert ignored["n_unknown"] == [1]
    frame = of_arrow(client.post("/recommend", {"users": [3]}, headers={"accept": ARROW}).content)
    assert frame["items"][0].tolist() == recommender.recommend(3).items.tolist()


def test_rows_in_other_units_are_answered_with_the_warning_of_the_library(autoencoder: Autoencoder) -> None:
    reply = Client(autoencoder).post("/score", {"records": as_json(NUMBERS.head(2) * 1e4)})
    assert reply.status_code == 200
    assert "2 of 2 checked rows of X lie far outside the range" in reply.json()["warnings"][0]
    arrow = Client(autoencoder).post("/score", as_arrow(NUMBERS.head(2) * 1e4), **AS_ARROW)
    told = pa.ipc.open_stream(arrow.content).schema.metadata[b"isthmus.warnings"]
    assert json.loads(told) == reply.json()["warnings"]


def test_pairs_have_no_score_as_it_needs_targets() -> None:
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(NUMBERS, target=NUMBERS[["a"]])
    client = Client(model)
    assert [*client.app.state.isthmus.routes] == ["encode", "reconstruct"]
    found = client.columns("/reconstruct", {"records": as_json(NUMBERS.head(2))})
    np.testing.assert_array_equal(found["a"], model.reconstruct(NUMBERS.head(2))["a"])


# -- other paths -------------------------------------------------------------------------------------------------------


def test_a_model_file_is_loaded(autoencoder: Autoencoder, tmp_path: Path) -> None:
    path = autoencoder.save(tmp_path / "model.safetensors")
    for given in (path, str(path)):
        codes = Client(given).columns("/encode", {"records": as_json(NUMBERS.head(1))})
        assert codes["autoencoder0"][0] == autoencoder.transform(NUMBERS.head(1))[0, 0]


def test_facts_name_the_model_its_columns_and_its_settings(detector: AnomalyDetector, autoencoder: Autoencoder) -> None:
    facts = Client(detector).get("/").json()
    assert facts["model"] == "AnomalyDetector"
    assert facts["columns"] == [*MIXED]
    assert [*facts["routes"]] == ["/score", "/explain"]
    assert facts["settings"]["max_steps"] == 20
    assert facts["limits"]["max_rows"] == 100_000
    assert Client(autoencoder).get("/").json()["settings"] == json.loads(json.dumps(autoencoder.describe()))


def test_health_and_metrics_are_there(autoencoder: Autoencoder) -> None:
    client = Client(autoencoder)
    assert client.get("/health").json() == {"status": "ok"}
    client.post("/score", {"records": as_json(NUMBERS.head(3))})
    client.post("/score", b"no")
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'isthmus_requests_total{route="score",status="200"} 1.0' in text
    assert 'isthmus_requests_total{route="score",status="400"} 1.0' in text
    assert 'isthmus_requests_total{route="other",status="404"} 1.0' in text
    assert "isthmus_call_rows_sum 3.0" in text
    assert 'isthmus_request_seconds_count{route="score"} 2.0' in text
    assert "isthmus_requests_in_flight 0.0" in text


def test_the_page_and_the_description_list_the_routes_and_load_nothing_else(detector: AnomalyDetector) -> None:
    client = Client(detector)
    page = client.get("/docs").text
    for words in ("POST /score", "POST /explain", "n_columns", "GET /metrics"):
        assert words in page
    assert "src=" not in page
    assert "http://" not in page.replace("http://isthmus", "")
    assert "https://" not in page
    described = client.get("/openapi.json").json()["paths"]
    assert {"/score", "/explain", "/health", "/metrics", "/"} == {*described}
    assert ARROW in described["/score"]["post"]["requestBody"]["content"]
    assert {"200", "400", "413", "415", "422", "503", "504"} <= described["/score"]["post"]["responses"].keys()


def test_a_model_that_cannot_be_served_is_refused() -> None:
    with pytest.raises(
        TypeError, match="A Restorer cannot be served; a fitted model of these kinds can: Autoencoder, "
    ):
        isthmus.serving.app(isthmus.Restorer())
    conditional = isthmus.VariationalAutoencoder(2, conditional=True, max_epochs=1, random_state=0)
    conditional.fit(NUMBERS, np.arange(len(NUMBERS)) % 2)
    with pytest.raises(TypeError, match="A conditional model needs a label for each row and cannot be served"):
        isthmus.serving.app(conditional)


def test_a_model_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="not fitted"):
        isthmus.serving.app(Autoencoder())


def test_wrong_limits_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)max_rows=0 .*seconds=-1"):
        isthmus.serving.Limits(max_rows=0, seconds=-1)
