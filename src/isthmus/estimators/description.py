"""What a fitted model can say of itself: its layers, a summary, the output of one layer, its parameters as data."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from isthmus.estimators import params_json
from isthmus.estimators.fitting import CHOICES, resolve_choices
from isthmus.estimators.layer_table import Layer, LayerOutput, Summary, list_layers, summarise_layers
from isthmus.estimators.targets import target_of


class Described:
    """The methods of `Autoencoder` that describe it; they change nothing and look at no rows."""

    def layers(self: Any) -> list[Layer]:
        """The layer table: part, kind, output shape, activation and number of parameters of each layer."""
        check_is_fitted(self, "objective_")
        return list_layers(self.objective_)

    def summary(self: Any) -> Summary:
        """The layer table with totals and the path of shapes; printed, or displayed by a notebook.

        Examples
        --------
        >>> import numpy as np
        >>> from isthmus import Autoencoder
        >>> X = np.random.default_rng(0).random((50, 6))
        >>> Autoencoder(2, network=(5,), max_epochs=1, random_state=0).fit(X).summary()
        Autoencoder: 6 → 5 → 2 → 5 → 6
        part     layer  output  activation  parameters
        encoder  Dense  5       gelu        35
        encoder  Dense  2       –           12
        code     Plain  2       –           0
        decoder  Dense  5       gelu        15
        decoder  Dense  6       sigmoid     36
        98 parameters
        Trained by the general engine (compiled: a run of 4 steps gains less than compiling takes).
        """
        check_is_fitted(self, "objective_")
        return summarise_layers(type(self).__name__, self.objective_, engine=str(getattr(self, "engine_", "")))

    def output_of(self: Any, layer: int | str) -> LayerOutput:
        """A transformer that returns the output of one layer with ``transform(X)``.

        Parameters
        ----------
        layer
            Index of a row of `layers`, from 0 (negative indices count from the end), or ``"code"``.

        Examples
        --------
        >>> import numpy as np
        >>> from isthmus import Autoencoder
        >>> X = np.random.default_rng(0).random((50, 6))
        >>> model = Autoencoder(2, network=(5,), max_epochs=1, random_state=0).fit(X)
        >>> model.output_of(0).transform(X).shape
        (50, 5)
        """
        parts = [row.part for row in self.layers()]
        place = parts.index("code") if layer == "code" else layer
        if not isinstance(place, int) or not -len(parts) <= place < len(parts):
            raise ValueError(f"layer={layer!r} must be 'code' or a row of layers(), -{len(parts)} to {len(parts) - 1}.")
        return LayerOutput(self, place)

    def describe(self: Any) -> dict[str, Any]:
        """All parameters as plain data; choices as their class and parameters, resolved where the model is fitted.

        Of a fitted model also ``"engine"``: which engine trained it last, and why the quicker ones did not; and
        ``"target"``, if it was fitted with one: the shape, dtype and scaling of a row.
        """
        params = self.get_params(deep=False)
        made, _ = resolve_choices(self)
        fitted = self.objective_.choices if hasattr(self, "objective_") else None
        for name in CHOICES:
            member = getattr(fitted, name, None) or made.get(name)
            params[name] = params[name] if member is None else member
        params |= getattr(self, "settled_", {})
        plain: dict[str, Any] = params_json.encode(params)
        target = target_of(self)
        plain |= {} if target is None else {"target": str(target)}
        return plain | ({"engine": str(self.engine_)} if hasattr(self, "engine_") else {})
