"""The contract that every public estimator keeps: scikit-learn's common checks, and ours."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import KINDS, Autoencoder, Convolutional, LinearAutoencoder
from isthmus.exceptions import DataError

SETTINGS: dict[str, Any] = {"code_size": 4, "max_epochs": 3, "random_state": 0}
FLAT: dict[str, dict[str, Any]] = {"convolutional": {"network": Convolutional(dimensions=1)}}
"""What a kind has to be given for the flat digits of this page; flat rows may be images, so it asks."""


def make(kind: str, **more: Any) -> Autoencoder:
    return KINDS[kind](**(SETTINGS | FLAT.get(kind, {}) | more))


every_kind = pytest.mark.parametrize("kind", KINDS)


BATCHES = {
    f"check_sample_weight_equivalence_on_{kind}_data": "batches of weighted rows are other batches"
    for kind in ("dense", "sparse")
}
"""A row of weight 2 is taken twice an epoch on the mean, in other batches than two rows would be: training by batches
cannot be the same, as scikit-learn itself says of its SGDClassifier. `LinearAutoencoder` is finished in whole passes,
and keeps the checks. test_sample_weight.py has what a weight does."""


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [kind(**SETTINGS) for kind in KINDS.values()],
    expected_failed_checks=lambda model: {} if isinstance(model, LinearAutoencoder) else BATCHES,
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@every_kind
def test_save_and_load_give_equal_codes_to_the_last_bit(kind: str, digits: np.ndarray, tmp_path: Path) -> None:
    model = make(kind).fit(digits)
    model.save(tmp_path / "m.safetensors")
    loaded = isthmus.load(tmp_path / "m.safetensors")
    assert type(loaded) is type(model)
    assert np.array_equal(loaded.transform(digits), model.transform(digits))
    assert np.array_equal(loaded.reconstruct(digits), model.reconstruct(digits))
    assert loaded.get_params().keys() == model.get_params().keys()
    assert loaded.history_.rows == model.history_.rows
    assert loaded.describe()["network"] == model.describe()["network"]


@every_kind
def test_the_same_seed_gives_the_same_model_to_the_last_bit(kind: str, digits: np.ndarray) -> None:
    first, second = (make(kind).fit(digits).transform(digits) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, make(kind, random_state=1).fit(digits).transform(digits))


@every_kind
def test_fit_twice_starts_fresh(kind: str, digits: np.ndarray) -> None:
    model = make(kind).fit(digits[:100])
    assert np.array_equal(model.fit(digits).transform(digits), make(kind).fit(digits).transform(digits))


@every_kind
def test_training_makes_the_loss_fall(kind: str, digits: np.ndarray) -> None:
    history = make(kind, max_epochs=15).fit(digits).history_
    assert history["loss"][-1] < 0.7 * history["loss"][0]


@every_kind
def test_one_row_can_be_used_but_not_learned_from(kind: str, digits: np.ndarray) -> None:
    model = make(kind).fit(digits)
    assert model.transform(digits[:1]).shape == (1, 4)
    with pytest.raises(ValueError, match=r"1 sample.* minimum of 2"):
        make(kind).fit(digits[:1])


@every_kind
def test_one_feature_and_a_constant_feature_are_learned(kind: str) -> None:
    X = np.column_stack([np.arange(20.0), np.full(20, 7.0)])
    model = make(kind).fit(X[:, :1])
    assert np.isfinite(model.transform(X[:, :1])).all()
    assert np.isfinite(make(kind).fit(X).reconstruct(X)).all()


@every_kind
def test_nan_and_infinity_are_counted_and_located(kind: str, digits: np.ndarray) -> None:
    bad = digits.copy()
    bad[7, 3], bad[9, 1], bad[9, 2] = np.nan, np.inf, np.nan
    with pytest.raises(DataError, match=r"2 NaN and 1 infinite \(inf\) value, the first at row 7, column 3"):
        make(kind).fit(bad)
    with pytest.raises(DataError, match="the first at row 7, column 3"):
        make(kind).fit(digits).transform(bad)


@every_kind
def test_nothing_works_before_fit(kind: str, digits: np.ndarray, tmp_path: Path) -> None:
    model = make(kind)
    uses: list[Callable[[], object]] = [
        lambda: model.transform(digits),
        lambda: model.inverse_transform(digits[:, :4]),
        lambda: model.score(digits),
        model.layers,
        lambda: model.save(tmp_path / "m.safetensors"),
    ]
    for use in uses:
        with pytest.raises(NotFittedError):
            use()
    assert not list(tmp_path.iterdir())


@every_kind
def test_the_file_is_json_and_numbers_without_pickle(kind: str, digits: np.ndarray, tmp_path: Path) -> None:
    path = make(kind).fit(digits).save(tmp_path / "m.safetensors")
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    own = json.loads(header["__metadata__"]["isthmus"])
    assert own["kind"] == KINDS[kind].__name__
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} <= {"F32", "F64", "I64"}


@every_kind
def test_images_keep_shape_type_and_units(kind: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 5), dtype=np.uint8)
    model = make(kind).fit(images)
    restored = model.reconstruct(images)
    assert (restored.shape, restored.dtype) == (images.shape, np.uint8)
    assert model.transform(images).shape == (30, 4)
    assert model.inverse_transform(model.transform(images)).shape == images.shape
    assert model.reconstruction_error(images, per_feature=True).shape == images.shape
    flat = model.transform(images.reshape(30, 30))
    assert np.array_equal(flat, model.transform(images))
    with pytest.raises(ValueError, match=r"rows of shape \(5, 6\), but .* is expecting rows of shape \(6, 5\)"):
        model.transform(images.transpose(0, 2, 1))


@every_kind
def test_partial_fit_goes_on_and_starts_where_nothing_was(kind: str, digits: np.ndarray) -> None:
    model = make(kind).partial_fit(digits)
    assert model.n_epochs_ == 1
    before = model.score(digits)
    for _ in range(5):
        model.partial_fit(digits)
    assert model.n_epochs_ == len(model.history_) == 6
    assert list(model.history_["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert model.score(digits) > before


@every_kind
def test_pickle_and_clone_work(kind: str, digits: np.ndarray) -> None:
    model = make(kind).fit(digits)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).transform(digits), model.transform(digits))
    assert not hasattr(clone(model), "objective_")


@every_kind
def test_score_is_the_share_of_the_variance_restored_or_a_likelihood(kind: str, digits: np.ndarray) -> None:
    model = make(kind).fit(digits)
    errors, varies = np.square(model.reconstruct(digits) - digits), digits.std(axis=0) > 0
    share = 1 - errors[:, varies].sum() / (len(digits) * digits.var(axis=0).sum())  # one unit: digits fill [0, 1]
    assert model.restored_variance(digits) == pytest.approx(share, rel=1e-6)
    if hasattr(model, "posterior") and model.objective_.choices.loss.likelihood:
        each = model.log_likelihood(digits, n_importance_samples=16, random_state=0)
        assert model.score(digits) == pytest.approx(each.mean(), rel=1e-6)
    elif not hasattr(model, "posterior"):
        assert model.score(digits) == model.restored_variance(digits)
    per_feature = model.reconstruction_error(digits, per_feature=True)
    np.testing.assert_allclose(per_feature.mean(axis=1), model.reconstruction_error(digits), rtol=1e-9)
    np.testing.assert_allclose(per_feature, (model.reconstruct(digits) - digits) ** 2, rtol=1e-9)
