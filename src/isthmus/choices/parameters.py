"""Parameter handling of estimators and choices: hints for other libraries' names, and nested names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from isthmus.choices.spelling import unknown

_MEANT = {
    "code_size": "latent_dim latent_size latent_dims n_latent z_dim encoding_dim embedding_dim embedding_size code_dim "
    "bottleneck bottleneck_size n_components n_factors",
    "max_epochs": "epochs epoch n_epochs num_epochs nb_epoch epoch_num max_iter n_iter",
    "network=(128, 64)": "hidden_layer_sizes hidden_sizes hidden_dims hidden_dim hidden_units hidden_layers layers "
    "hidden_neurons hidden_neuron_list encoder_layers intermediate_dim",
    "network=Dense(activation='relu')": "activation activations hidden_activation hidden_activation_name",
    "network=Convolutional(…)": "filters kernel_size n_filters channels",
    "learning_rate": "lr learning_rate_init eta step_size",
    "batch_size": "batchsize batch minibatch_size",
    "random_state": "seed random_seed rng",
    "early_stopping": "patience n_iter_no_change",
    "validation_fraction": "validation_split val_split val_fraction validation_size",
    "corruption": "noise noise_factor noise_level noise_scale dropout dropout_rate",
    "penalty": "sparsity regularizer activity_regularizer l1 l2 l1_reg l2_reg weight_decay",
    "code=Gaussian(beta=…)": "beta kl_weight capacity",
    "threshold": "contamination",
    "loss": "criterion loss_fn loss_function",
    "optimizer": "optim optimizer_name solver",
    "scaling": "normalize standardize preprocessing scaler",
    "device": "gpu cuda use_gpu",
    "encoder": "autoencoder model base_estimator estimator",
}
_HINTS = {name: right for right, names in _MEANT.items() for name in names.split()}
"""Parameter names of Keras, scikit-learn, skorch and PyOD, with the name used here."""

_FIT_HINTS = {
    name: right
    for right, names in {
        "X_val": "validation_data eval_set val_data valid_data validation_set X_valid X_validation x_val test_data",
        "sample_weight": "sample_weights weights weight",
        "target": "targets y_clean clean x_clean",
        "resume": "checkpoint resume_from initial_epoch",
    }.items()
    for name in names.split()
}
"""Arguments of other libraries' `fit`, with the argument of `fit` here."""

_VERBS = {
    "encode": ("transform",),
    "decode": ("inverse_transform",),
    "predict": ("reconstruct", "transform"),
    "forward": ("reconstruct",),
    "evaluate": ("score",),
    "generate": ("sample",),
    "impute": ("transform",),
    "score_sample": ("score_samples",),
    "reconstruction_loss": ("reconstruction_error",),
    "train": ("fit",),
    "compile": ("fit",),
}
"""Method names of other libraries, with the names used here; the first one that the class has is suggested."""


def hint_for(name: str, known: Iterable[str]) -> str | None:
    """The name used here for another library's parameter, if it is among the known ones; else None.

    >>> hint_for("epochs", ["code_size", "max_epochs"]), hint_for("epochs", ["code_size"])
    ('max_epochs', None)
    """
    right = _HINTS.get(name.casefold())
    return right if right is not None and right.partition("=")[0] in known else None


def unknown_parameter(owner: type, name: str, known: Iterable[str]) -> str:
    """The error text for an unknown parameter.

    >>> unknown_parameter(int, "epochs", ["max_epochs"])
    "Unknown parameter of int 'epochs'; use max_epochs. Known: max_epochs."
    """
    known = list(known)
    hint = hint_for(name, known)
    if hint is None:
        return unknown(f"parameter of {owner.__name__}", name, known)
    return f"Unknown parameter of {owner.__name__} {name!r}; use {hint}. Known: {', '.join(known)}."


def unknown_fit_keyword(owner: str, name: str, parameters: Iterable[str], arguments: Iterable[str]) -> str:
    """The error text for an unknown keyword of `fit`, with the parameter of the constructor that is meant.

    >>> unknown_fit_keyword("Imputer", "epochs", ["max_epochs"], ["X"])
    "Imputer.fit() got an unexpected keyword argument 'epochs'; pass it to the constructor: Imputer(max_epochs=…). \
fit takes X."
    """
    known, arguments = list(parameters), list(arguments)
    meant = name if name in known else hint_for(name, known)
    if meant is not None:
        advice = f"; pass it to the constructor: {owner}({meant if '=' in meant else meant + '=…'})"
    else:
        right = _FIT_HINTS.get(name)
        advice = f"; use {right}" if right in arguments else ""
    return f"{owner}.fit() got an unexpected keyword argument {name!r}{advice}. fit takes {', '.join(arguments)}."


def _explaining(fit: Callable[..., Any]) -> Callable[..., Any]:
    """`fit`, with an error for unknown keywords that names the right one.

    A wrapper instead of ``**unknown`` in every `fit`: signatures stay true for readers, editors and scikit-learn.
    """
    parameters = inspect.signature(fit).parameters
    arguments = [name for name in parameters if name != "self"]
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())

    @functools.wraps(fit)
    def explained(self: Any, *args: Any, **named: Any) -> Any:
        wrong = next((name for name in named if name not in arguments), None)
        if wrong is not None and not takes_all:
            raise TypeError(unknown_fit_keyword(type(self).__name__, wrong, self._get_param_names(), arguments))
        return fit(self, *args, **named)

    return explained


class Parameters:
    """Mixin of every estimator and choice; it precedes scikit-learn's ``BaseEstimator`` in the bases.

    An unknown keyword of the constructor or of `fit` raises a `TypeError` that suggests the right name. Nested names
    such as ``corruption__scale`` set a parameter of a choice, also if the choice was given by name.
    """

    choice_registries: ClassVar[Mapping[str, Any]] = {}
    """The registry of each parameter that holds a choice."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let `fit`, where a class defines it, explain unknown keywords."""
        super().__init_subclass__(**kwargs)
        if "fit" in vars(cls):
            cls.fit = _explaining(vars(cls)["fit"])  # type: ignore[attr-defined]  # not every class has it

    def __new__(cls, *_: Any, **named: Any) -> Self:
        """Reject unknown keywords; Python's own error would have no hint."""
        wrong = [name for name in named if name not in cls._get_param_names()]  # type: ignore[attr-defined]
        if wrong:
            hints = {name: hint_for(name, cls._get_param_names()) for name in wrong}  # type: ignore[attr-defined]
            texts = [f"{name!r}" + (f" (use {hint})" if hint else "") for name, hint in hints.items()]
            plural = "an unexpected keyword argument" if len(wrong) == 1 else "unexpected keyword arguments"
            known = ", ".join(cls._get_param_names())  # type: ignore[attr-defined]
            raise TypeError(f"{cls.__name__}() got {plural} {', '.join(texts)}. Known: {known or 'none'}.")
        return super().__new__(cls)

    if not TYPE_CHECKING:  # with __getattr__ in sight, type checkers accept every attribute

        def __getattr__(self, name: str) -> Any:
            """Suggest the name used here for a method name of another library."""
            right = next((verb for verb in _VERBS.get(name, ()) if hasattr(type(self), verb)), None)
            if right is not None and not hasattr(type(self), name):
                raise AttributeError(f"{type(self).__name__} has no {name!r}; use {right!r}.", name=name, obj=self)
            return object.__getattribute__(self, name)  # raises Python's usual AttributeError

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``corruption__scale=0.3`` sets a parameter of a choice, also of one given by name.

        The results of a fitted model do not change until it is fitted again.
        """
        for key in list(params):
            name, _, inner = key.partition("__")
            _refuse_unknown(self, name)
            if inner:
                params[name] = self._member_to_set(name, params.get(name, getattr(self, name)))
                _refuse_unknown(params[name], inner.partition("__")[0])
        super().set_params(**params)  # type: ignore[misc]  # scikit-learn has no types
        return self

    def _member_to_set(self, name: str, value: Any) -> Any:
        """The choice whose parameter is about to be set; a name is converted to its member."""
        if hasattr(value, "set_params"):
            return value
        registry = self.choice_registries.get(name)
        if registry is None or value is None or (is_auto(value) and "auto" not in registry.members):
            such = "" if registry is None else f"; choose a member first, such as {name}={registry.names()[0]!r}"
            raise ValueError(f"{name}={value!r} has no parameters to set{such}.")
        return registry.resolve(value)


def is_auto(value: Any) -> bool:
    """Whether a parameter has the value ``"auto"``."""
    return isinstance(value, str) and value == "auto"


def _refuse_unknown(owner: Any, name: str) -> None:
    known = list(owner.get_params(deep=False))
    if name not in known:
        raise ValueError(unknown_parameter(type(owner), name, known))
