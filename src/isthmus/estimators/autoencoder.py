"""The `Autoencoder` estimator; all other autoencoders are variants of it with other defaults."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from isthmus.choices import LOSSES, Observed
from isthmus.choices.parameters import Parameters
from isthmus.choices.registry import Registry
from isthmus.choices.rules import Rule
from isthmus.data import Scaling
from isthmus.estimators import autoencoder_state, sampling
from isthmus.estimators.code_arithmetic import CodeArithmetic
from isthmus.estimators.comparing import Comparing
from isthmus.estimators.description import Described
from isthmus.estimators.fit_warnings import look_back, report_trouble
from isthmus.estimators.fitting import CHOICES, Prepared, begin_with, prepare, prepare_more
from isthmus.estimators.generative import Generative
from isthmus.estimators.inference import VERBS, corrupting, decode, whole
from isthmus.estimators.sample_weights import weigh
from isthmus.estimators.saved import Saved
from isthmus.estimators.targets import Target, output_names, output_scaling, take_pair, take_validation, target_of
from isthmus.estimators.torch_modules import InPyTorch
from isthmus.estimators.validation import Given, frame_like, take, take_labels
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json
from isthmus.seeds import seed_from
from isthmus.training import History, Objective, train
from isthmus.training.checkpoint import resume as resume_run
from isthmus.training.engines import EngineChoice
from isthmus.training.loop import optimizer_state
from isthmus.training.objective import count_parameters
from isthmus.training.processes import failing_together


@dataclass(eq=False, repr=False, kw_only=True)
class Autoencoder(  # type: ignore[misc]  # scikit-learn has no types
    Saved,
    Parameters,
    Described,
    Comparing,
    Generative,
    CodeArithmetic,
    InPyTorch,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Autoencoder: learns a low-dimensional code from which the input rows can be reconstructed.

    An encoder maps a row x to a code z, and a decoder maps z to a reconstruction x^. Both are trained to minimise a
    loss between x^ and x, or between x^ and a target of x where pairs are given: ``fit(X, target=…)``. Five choices
    define the model (network, code, corruption, penalty, loss); each is given as an object or by its short name.

    Parameters
    ----------
    code_size
        Number of latent dimensions, >= 1. Smaller values compress more and reconstruct less accurately.
    network
        Architecture of encoder and decoder: ``"dense"``, a tuple of hidden layer sizes such as ``(128, 64)``, a `Dense`
        object, or a pair of ``nn.Module``.
    code
        The latent representation: ``"plain"``, ``"gaussian"``, ``"top-k"``, the name of an activation, or an object.
        ``"auto"``: the code that the penalty requires, else the usual one of the class.
    corruption
        Damage to the input that the model learns to undo: None, a name, an object, or a list of these.
    penalty
        Cost on the codes, added to the loss: None, a name, an object, or a list of these.
    loss
        ``"auto"``: binary cross-entropy for data in [0, 1], else mean squared error.
    conditional
        Whether encoder and decoder also receive labels ``y``; all methods then need them. The code then represents the
        variation that the label does not explain.
    scaling
        ``"auto"``: byte images are divided by 255, and so are flat byte rows that fill 0 to 255 like pixels; data whose
        columns fill [0, 1] stay unscaled; all other data are standardised (the exact rule is in docs/scaling.md). Or
        ``"none"``, ``"pixels"``, ``"minmax"``, ``"standard"``, ``"global"``. Results are in the original units. A
        target has a scaling of its own, by the same rule.
    max_epochs, batch_size, learning_rate
        Numbers, or ``"auto"``: chosen from the number of rows and the network.
    schedule
        Learning rate schedule: ``"one-cycle"``, ``"cosine"``, ``"constant"``, ``"reduce-on-plateau"``.
    optimizer
        ``"adam"``, ``"adamw"``, ``"sgd"``, ``"rmsprop"``, or any class of ``torch.optim`` or its name.
    pretraining
        None, or ``"layer-wise"``: each layer is first trained to reconstruct its own input.
    validation_fraction
        Fraction of rows held out for validation after every epoch, in [0, 1); None: 0.1 with early stopping, else 0.
    early_stopping
        Stop after this many epochs (True: 10) without a better validation loss, and restore the best weights. With a
        decreasing schedule (``"one-cycle"``, ``"cosine"``) the learning rate is first decreased to its end within a
        quarter of the epochs so far, because a loss that stalls at a high rate often falls again at a lower one.
    min_delta
        Minimum decrease of the validation loss that counts as an improvement, >= 0, in units of the loss.
    callbacks
        Objects of `isthmus.Callback`, such as `isthmus.Checkpoint`.
    device
        ``"auto"`` uses CUDA if available, then Apple's MPS, then the CPU.
    precision
        Arithmetic of training: ``"float32"``, ``"tf32"`` or ``"bf16"``.
    warm_start
        Whether the next `fit` starts from the current weights. Everything else, including the scaling and the
        optimiser, is reset; the rows must have the same shape.
    random_state
        Seed or RandomState. The same seed on the same machine gives the same model, bit for bit.
    verbose
        0 is silent; 1 shows progress on stderr.

    Attributes
    ----------
    history_ : History
        Losses and times, one row per epoch.
    pretraining_history_ : list of History
        The same for each layer that was pretrained.
    feature_shape_ : tuple of int
        Shape of one row.
    n_features_in_ : int
        Number of values in a flat row.
    n_parameters_, n_epochs_ : int
        Number of weights; number of epochs trained.
    stop_reason_ : str
        Why training ended: ``"finished"``, ``"early stopping"``, ``"interrupted"``, ``"diverged"`` or
        ``"stopped by a callback"``.
    settled_ : dict
        The batch size, learning rate and maximum number of epochs that were used.
    unit_means_, unit_activity_ : array
        Mean of each code unit over a sample of training rows, and the fraction of rows where it is not zero, (code,).
    training_errors_ : array
        Quantiles, from 0 to 100 %, of the squared errors of a sample of training rows in scaled units, (101,).
    classes_ : array
        The labels of a conditional model.
    code_sample_ : array
        Codes of at most 2,000 training rows, from which `sample` draws if the model has no prior, (k, code).
    code_mixture_ : CodeMixture
        The distribution of codes that `fit_sampler`, or the first `sample`, fitted.
    noise_mean_, noise_factor_, whole_features_ : array
        What `sample` adds to decoded codes of a table: the mean error, (d,), a square root of the covariance that
        reconstructions lack, (d, d) or (d,), both in scaled units, and which features are whole numbers, (d,).
    feature_ranges_, feature_mean_, feature_scale_ : array
        Minimum and maximum, (2, d), mean, (d,), and standard deviation, (d,), of each feature at fit. Features that
        share a unit have a common standard deviation; constant features have 0.
    target_ : Target or None
        Of a model that was fitted with a target: the shape, dtype, scaling, statistics and names of its rows.
    objective_, scaling_, device_
        The trained network with its choices, the learned scaling, the device in use.
    engine_ : EngineChoice
        Which engine trained the model last, and why the quicker ones did not; files of 0.1.0 do not know it.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((100, 8))
    >>> model = Autoencoder(code_size=3, max_epochs=2, random_state=0).fit(X)
    >>> model.transform(X).shape, model.reconstruct(X).shape
    ((100, 3), (100, 8))
    """

    code_size: int = field(default=32, kw_only=False)
    network: Any = "dense"
    code: Any = "plain"
    corruption: Any = None
    penalty: Any = None
    loss: Any = "auto"
    conditional: bool = False
    scaling: str | None = "auto"
    max_epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    schedule: Any = "one-cycle"
    optimizer: Any = "adam"
    pretraining: Any = None
    validation_fraction: float | None = None
    early_stopping: bool | int = False
    min_delta: float = 0.0
    callbacks: Sequence[Any] = ()
    device: str = "auto"
    precision: str = "float32"
    warm_start: bool = False
    random_state: Any = None
    verbose: int | bool = 0

    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = CHOICES
    learned_arrays: ClassVar[tuple[str, ...]] = (
        *("training_errors_", "unit_means_", "unit_activity_", "probe_"),
        *("feature_ranges_", "feature_mean_", "feature_scale_"),
        *sampling.LEARNED,
    )
    """Learned attributes besides the weights that a class stores in its model file."""
    own_rules: ClassVar[Mapping[str, Rule]] = {}
    """Admissible values of parameters, if they differ from those of `Autoencoder`."""
    usual_code: ClassVar[str] = "plain"
    """The code for ``code="auto"``, if the penalty requires no other."""
    learned_in: ClassVar[str] = "objective_"
    in_file: ClassVar[frozenset[str]] = autoencoder_state.ATTRIBUTES

    # -- learning ------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        target: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        target_val: Any = None,
        resume: str | Path | None = None,
    ) -> Self:
        """Fit the model. Earlier results are discarded, except for the weights with ``warm_start=True``.

        Parameters
        ----------
        X
            (n, d), (n, h, w) or (n, h, w, c): an array, a frame, a CSR matrix, a tensor or a `Source`; n >= 2.
        y
            Labels, (n,), if ``conditional=True``. Otherwise one-dimensional labels are ignored, and arrays of two or
            more dimensions raise an error.
        sample_weight
            Weights of the rows, (n,), >= 0; None: equal weights. A weight of 2 equals a repeated row, also for the
            scaling and the held-out rows; a row of weight 0 is not used at all. Only proportions matter: an epoch
            draws as many rows as have a weight > 0, each in proportion to its weight, rounded up or down at random so
            that the mean is exact. Rows of `X_val` have equal weights.
        target
            What each row of X is to be turned into: an array, a frame, a tensor or a `Source` with as many rows, in the
            same order, of any shape, dtype and units; None: X itself. The network is given X, its output is compared
            with the target, and `reconstruct` answers in the shape, dtype and units of the target. Columns of a frame
            are the names of its answers. The corruption, if any, damages X.
        X_val, y_val, target_val
            Validation rows for every epoch, instead of a held-out fraction, with their labels and targets.
        resume
            A checkpoint written by `isthmus.Checkpoint` in a run with the same data and parameters; `max_epochs` may
            be larger.

        Raises
        ------
        ValueError, TypeError
            A parameter or the data are invalid; one error lists all invalid parameters.
        DivergenceError
            The loss became NaN or infinite during the first epoch.
        """
        with failing_together():
            given = weigh(self, take_pair(self, X, y, target, fitting=True, min_rows=2), sample_weight)
            held_out = take_validation(self, given, X_val, y_val, target_val)
            known = self.objective_.state_dict() if self.warm_start and hasattr(self, "objective_") else None
            prepared = prepare(self, given, held_out, resuming=resume is not None or known is not None)
            if known is not None:
                begin_with(prepared, known)
            if resume is not None:
                resume_run(prepared.run, resume)
        self._train(prepared)
        self._finish(prepared)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, target: Any = None) -> Self:
        """Continue training: one pass over these rows at a constant learning rate, with the scaling of the first call.

        Parameters
        ----------
        X
            Rows of the same shape as before; on the first call, as for `fit`.
        y
            Labels, if ``conditional=True``; the first call must contain every class.
        sample_weight
            Weights of these rows relative to each other, as for `fit`.
        target
            Their targets, as for `fit`; in all calls or in none.
        """
        first = not hasattr(self, "objective_")
        given = weigh(self, take_pair(self, X, y, target, fitting=first, min_rows=2), sample_weight, fitting=first)
        known_faults = () if first else getattr(self, "_faults", ())
        self._train(prepare_more(self, given, first=first), known_faults)
        return self

    def _train(self, prepared: Prepared, known_faults: Collection[str] = ()) -> None:
        train(prepared.run)
        self._take_over(prepared, known_faults)

    def _take_over(self, prepared: Prepared, known_faults: Collection[str] = ()) -> None:
        """Store the results of a run and warn about its problems; known faults are not reported again."""
        self._keep(prepared)
        report_trouble(prepared.run)
        learned, self._faults = look_back(prepared.run, output_scaling(self), known=known_faults)
        for name, array in learned.items():
            setattr(self, name, array)

    def _code_size_for(self, given: Given, scaling: Scaling) -> int:
        """Numbers in a code, for these rows."""
        return int(self.code_size)

    def _target_conflicts(self) -> list[str]:
        """Hook for subclasses: why they cannot be fitted with a target, one sentence each."""
        return []

    def _finish(self, prepared: Prepared) -> None:
        """Hook for subclasses, called after training."""

    def _keep(self, prepared: Prepared) -> None:
        run = prepared.run
        for name in ("code_mixture_", *sampling.LEARNED):  # of earlier weights
            self.__dict__.pop(name, None)
        self.objective_: Objective = prepared.objective
        self.scaling_: Scaling = prepared.scaling
        self.target_: Target | None = prepared.target
        for name, array in prepared.known.to_attributes().items():
            setattr(self, name, array)
        self.history_: History = run.history
        self.pretraining_history_ = list(prepared.pretraining)
        self.optimizer_state_ = optimizer_state(run)
        self.n_epochs_, self.stop_reason_ = run.epoch, run.stop_reason
        self.n_parameters_ = count_parameters(prepared.objective)
        self.device_ = str(run.device)
        self.engine_: EngineChoice = run.engine_choice
        self.settled_ = {name: getattr(run.settings, name) for name in ("batch_size", "learning_rate", "max_epochs")}

    # -- using ---------------------------------------------------------------------------------------------------
    # In all methods y contains the labels of the rows if ``conditional=True``, and is ignored otherwise.

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """``fit(X, y, **fit_params)``, then the codes of the same rows; a conditional model uses y in both steps."""
        return self.fit(X, y, **fit_params).transform(X, y)

    def transform(self, X: Any, y: Any = None) -> Any:
        """Encode rows: (n, *feature_shape) → (n, code_size), without randomness."""
        given = self._take(X, y)
        return given.codes(whole(self, given, VERBS["transform"]))

    def reconstruct(self, X: Any, y: Any = None) -> Any:
        """Reconstruct rows, in the type, shape and units of X; byte data give bytes.

        A model that was fitted with a target gives the target of each row: in its shape, dtype and units, in a frame
        with its columns if X is a frame and the target was one.
        """
        given = self._take(X, y)
        rows = whole(self, given, VERBS["reconstruct"])
        target = target_of(self)
        return given.like(rows) if target is None else given.converted(rows, target.names)

    def corrupt(self, X: Any, y: Any = None, *, random_state: Any = None) -> Any:
        """Apply the model's corruption to rows, as in training; the result has the type and units of X.

        Parameters
        ----------
        X
            Clean rows.
        y
            Their labels, for a conditional model.
        random_state
            Seed or RandomState of the damage.
        """
        given = self._take(X, y)
        seed = seed_from(random_state)
        return given.like(whole(self, given, corrupting(torch.Generator(self.device_).manual_seed(seed))))

    def inverse_transform(self, X: Any, y: Any = None) -> Any:
        """Decode codes to rows in the original units: (n, code_size) → (n, *feature_shape), or the target's shape.

        A tensor gives a tensor; a frame of codes gives a frame with the columns of `fit` and the index of the codes.
        """
        check_is_fitted(self, "objective_")
        codes, tensor = _as_codes(X, self.objective_.context.code_size, type(self).__name__)
        rows = decode(self, codes, self._conditions(y, len(codes)))
        return torch.from_numpy(rows).to(X.device) if tensor else frame_like(X, rows, output_names(self))

    def _take(self, X: Any, y: Any = None) -> Given:
        check_is_fitted(self, "objective_")
        return take(self, X, y)

    def _conditions(self, y: Any, n_rows: int) -> np.ndarray | None:
        """One-hot labels for the decoder, (n, classes); None for a model that is not conditional."""
        labels = take_labels(self, y, n_rows)
        return None if labels is None else np.eye(len(self.classes_), dtype=np.float32)[labels]

    # -- scikit-learn's protocol ---------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.objective_.context.code_size

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = LOSSES.gives(self.loss, Observed)
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # -- keeping -------------------------------------------------------------------------------------------------

    def _state_of(self, prepared: Prepared) -> State:
        """The state of the model at this point of a run, for a checkpoint; the estimator is not changed."""
        shadow = copy.copy(self)
        shadow._keep(prepared)  # noqa: SLF001  # of the same class
        return shadow._to_state()  # noqa: SLF001

    def _to_state(self) -> State:
        return autoencoder_state.to_state(self)

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        return autoencoder_state.run_state(self)

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        autoencoder_state.put_run_state(self, values, arrays)

    def _is_in_file(self, name: str, value: Any) -> bool:
        return name in self.learned_arrays or super()._is_in_file(name, value)

    def _learned_members(self) -> Iterable[Any]:
        return vars(self.objective_.choices).values() if hasattr(self, "objective_") else ()

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        return autoencoder_state.from_state(cls, state, network=network, device=device)


def _as_codes(Z: Any, code_size: int, name: str) -> tuple[np.ndarray, bool]:
    """Codes as a float array (n, code), and whether they came as a tensor."""
    tensor = isinstance(Z, torch.Tensor)
    codes = Z.detach().cpu().numpy() if tensor else check_array(Z, ensure_min_samples=0)
    if codes.ndim != 2 or codes.shape[1] != code_size:
        raise ValueError(
            f"Z has shape {codes.shape}, but {name} has codes of shape (n, {code_size}); pass codes of its transform."
        )
    single = codes if codes.dtype in (np.float32, np.float64) else codes.astype(np.float32)
    return single if single.flags.writeable else single.copy(), tensor  # torch warns about read-only memory
