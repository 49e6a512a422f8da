"""Checks for common problems of a model: one function per problem, each with a measure and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA

from isthmus.choices import Gaussian, Plain, TopK
from isthmus.choices.codes import standard_divergence
from isthmus.diagnosis.evidence import CHUNK, FEWEST_ROWS, Evidence, spread
from isthmus.diagnosis.measures import code_statistics, psnr
from isthmus.estimators.defaults import learning_rate_for
from isthmus.estimators.kinds import require_autoencoder
from isthmus.estimators.targets import take_pair, target_of
from isthmus.estimators.units import share_far_outside
from isthmus.wording import counted

SMALLEST_VARIANCE = 1e-9
"""If the variance of scaled rows is below this, all rows are equal and fractions of the variance are undefined."""
COLLAPSED_NATS = 0.01
SATURATED = 1e-3
SMALLEST_RATIO = 0.15
"""Of singular values of codes of two units, standardised, below which they are a line: a correlation of 0.956."""
SMALLEST_SPREAD = 0.01
"""Deviation of a unit, as a share of the largest, below which it counts as dead and its correlations as noise."""
ENOUGH = 0.05
"""Share of the variance that a code on a line may leave and be right: data that lie on a line need no more."""
MANY_ABOVE = 0.1
"""Fraction of rows above the training errors' 99 % quantile from which a note is given; 1 % is expected."""
SMALLEST_WIDTH = 0.05
"""Rows are in other units if their relative standard deviation is below this; heavy tails give 0.3 by chance."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    name
        Name of the problem, such as ``"dead-units"``.
    found
        Whether the model has the problem.
    value
        The measure that decides.
    text
        Description of the result, with figures.
    remedy
        What to do; "" without a problem.
    notable
        Whether the result is unusual, although it is not a problem.
    """

    name: str
    found: bool
    value: float
    text: str
    remedy: str = ""
    notable: bool = False

    @property
    def verdict(self) -> str:
        """``"fault"``, ``"note"`` or ``"ok"``."""
        return "fault" if self.found else "note" if self.notable else "ok"


@dataclass(frozen=True)
class Diagnosis:
    """The results of all checks.

    Attributes
    ----------
    findings
        One result for each check that applies to the model.
    unlike_rows
        Indices in X of the rows that differ from the training data.
    """

    findings: tuple[Finding, ...]
    unlike_rows: tuple[int, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of the problems that were found."""
        return tuple(finding.name for finding in self.findings if finding.found)

    def by_weight(self) -> list[Finding]:
        """The findings, problems first."""
        return sorted(self.findings, key=lambda finding: not finding.found)

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"{name!r} was not checked; use one of {', '.join(f.name for f in self.findings)}.")

    def __str__(self) -> str:
        lines = [f"{len(self.faults)} of {len(self.findings)} checks found a fault."]
        for finding in self.by_weight():
            word = "FAULT" if finding.found else finding.verdict
            lines.append(f"{word:<5}  {finding.name}: {finding.text}")
            lines += [f"       Remedy: {finding.remedy}"] if finding.remedy else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as plain data."""
        found = [asdict(finding) for finding in self.findings]
        return {"faults": list(self.faults), "findings": found, "unlike_rows": list(self.unlike_rows)}


def diagnose(
    model: Any,
    X: Any,
    *,
    y: Any = None,
    target: Any = None,
    X_train: Any = None,
    target_train: Any = None,
    random_state: int = 0,
) -> Diagnosis:
    """Check a fitted autoencoder or restorer for common problems.

    Parameters
    ----------
    model
        A fitted `Autoencoder` of any kind, or a fitted `Restorer`, whose own checks `Restorer.diagnose` describes.
    X
        Rows, preferably held-out rows; at most 2,000 evenly spaced rows are used.
    y
        Their labels, for a conditional model; X_train must then be omitted.
    target
        For a model that was fitted with a target: the targets of X, one for each row. The checks for copying and
        against PCA are left out for such a model, because its answers are not to be its input.
    X_train, target_train
        Training rows, and their targets for pairs. They make the checks for over-fitting and against PCA more accurate;
        without them the history and X are used.
    random_state
        Seed of the noise in some checks.

    Raises
    ------
    ValueError
        There are fewer than 20 rows; or a model of pairs has no target, or X_train without target_train.

    Returns
    -------
    Diagnosis
        ``diagnosis.faults`` has the names of the problems; ``print(diagnosis)`` shows all results.

    Examples
    --------
    >>> import isthmus
    >>> X = isthmus.datasets.load_digits().X
    >>> model = isthmus.Autoencoder(16, max_epochs=30, random_state=0).fit(X[:1500])
    >>> isthmus.diagnose(model, X[1500:], X_train=X[:1500]).faults
    ()
    """
    if hasattr(model, "diagnose"):
        _refuse_training_rows(model, y, X_train, target_train)
        own: Diagnosis = model.diagnose(X, target=target, random_state=random_state)
        return own
    take_pair(require_autoencoder(model, "diagnose", compares=False), X, y, target)
    _refuse_half_pairs(model, X_train, target_train)
    n_rows = len(spread(X))
    if n_rows < FEWEST_ROWS:
        raise ValueError(
            f"X has {counted(n_rows, 'row')}, but a diagnosis needs at least {FEWEST_ROWS}; pass more rows."
        )
    evidence = Evidence(model, X, y, target=target, training=(X_train, target_train), seed=random_state)
    findings = tuple(finding for check in CHECKS for finding in [check(evidence)] if finding is not None)
    unlike = evidence.index[evidence.unlike_mask] if len(model.training_errors_) else np.empty(0, int)
    return Diagnosis(findings, tuple(map(int, unlike)))


def _refuse_training_rows(model: Any, y: Any, X_train: Any, target_train: Any) -> None:
    for name, given in (("y", y), ("X_train", X_train), ("target_train", target_train)):
        if given is not None:
            raise ValueError(f"{name} has no effect on the diagnosis of a {type(model).__name__}; leave it out.")


def _refuse_half_pairs(model: Any, X_train: Any, target_train: Any) -> None:
    if (X_train is None) != (target_train is None) and (target_of(model) is not None or target_train is not None):
        present, missing = ("target_train", "X_train") if X_train is None else ("X_train", "target_train")
        raise ValueError(f"diagnose got {present} without {missing}, but pairs are compared with pairs; pass both.")


def _dead_units(seen: Evidence) -> Finding | None:
    if isinstance(seen.objective.choices.code, Gaussian):
        return None
    dead, size = code_statistics(seen.codes).dead_units, seen.codes.shape[1]
    named = f": {', '.join(map(str, dead[:10]))}{', …' if len(dead) > 10 else ''}" if dead else ""
    text = f"{len(dead)} of {size} code units have the same value for every row{named}."
    remedy = "use a code without an activation (code='plain'), a lower learning rate, or a smaller code."
    return Finding("dead-units", bool(dead), len(dead), text, remedy if dead else "")


def _collapsed_posterior(seen: Evidence) -> Finding | None:
    if not isinstance(seen.objective.choices.code, Gaussian):
        return None
    with torch.inference_mode():
        parts = [seen.objective.posterior(part.to(seen.model.device_)) for part in seen.x.split(CHUNK)]
    nats = torch.cat([standard_divergence(*part) for part in parts]).mean(0)
    collapsed = int((nats < COLLAPSED_NATS).sum())
    found = collapsed > len(nats) / 2
    total = float(nats.sum())
    text = f"{collapsed} of {len(nats)} code units carry less than {COLLAPSED_NATS} nats ({total:.1f} in total)."
    remedy = (
        "use Gaussian(warm_up=0.3), free_bits=0.1 or a smaller beta; or a smaller code, if reconstructions are good."
    )
    return Finding("collapsed-posterior", found, collapsed, text, remedy if found else "")


def _unused_directions(seen: Evidence) -> Finding:
    effective, size = code_statistics(seen.codes).effective_dimension, seen.codes.shape[1]
    found = size >= 8 and effective < 0.1 * min(seen.codes.shape[1], seen.X.shape[1])
    text = f"The codes vary in about {effective:.1f} of {size} directions."
    remedy = "use a smaller code, or train longer; the code does not use all latent dimensions."
    return Finding("unused-directions", found, effective, text, remedy if found else "")


def _collapsed_code(seen: Evidence) -> Finding | None:
    deviation = seen.codes.std(axis=0)
    alive = np.flatnonzero(deviation > SMALLEST_SPREAD * deviation.max())
    if len(alive) < 2:
        return None
    standardised = (seen.codes[:, alive] - seen.codes[:, alive].mean(axis=0)) / deviation[alive]
    singular = np.linalg.svd(standardised, compute_uv=False)
    ratio = float(singular[1] / singular[0])
    correlations = np.triu(standardised.T @ standardised / len(standardised), 1)
    first, second = np.unravel_index(int(np.abs(correlations).argmax()), correlations.shape)
    line = ratio < SMALLEST_RATIO
    found, notable = line and seen.unexplained > ENOUGH, line
    text = (
        f"The second singular value of the code, its units at equal deviations, is {ratio:.3f} of the first; the "
        f"strongest correlation is {correlations[first, second]:+.3f}, of units {alive[first]} and {alive[second]}."
    )
    remedy = (
        "the code is nearly a line: use fewer or wider hidden layers, activation='gelu', pretraining='layer-wise' or "
        "another random_state; or code_size=1, which is enough for such a code."
    )
    return Finding("collapsed-code", found, ratio, text, remedy if found else "", notable)


def _copying(seen: Evidence) -> Finding | None:
    if seen.paired or seen.variance < SMALLEST_VARIANCE:
        return None
    noise, filled = seen.noise_unexplained, seen.filled_in
    found = noise < 0.45 or (seen.unexplained < 0.05 and filled < 0.05)
    text = (
        f"The model explains {1 - noise:.0%} of the variance of pure noise, and {1 - seen.unexplained:.0%} of that of "
        f"the data; for hidden entries its error is {filled:.0%} below that of the mean."
    )
    remedy = "use a smaller code, or corruption='masking', or penalty='l1' with code='relu'."
    return Finding("copying", found, noise, text, remedy if found else "")


def _over_fitting(seen: Evidence) -> Finding | None:
    if seen.train_error is not None:
        ratio = float(seen.errors.mean()) / max(seen.train_error, 1e-12)
        gap = seen.unexplained * (1 - 1 / max(ratio, 1e-12))  # as fractions of the variance
        found, notable = ratio > 3 or (ratio > 1.5 and gap > 0.1), ratio > 1.5
        text = f"The error is {ratio:.2f} times that of training rows; the difference is {gap:.1%} of the variance."
    elif "val_loss" in (seen.history.rows[-1] if len(seen.history) else {}):
        losses = seen.history["val_loss"]
        rise = float((losses[-1] - losses.min()) / max(losses[0] - losses.min(), 1e-12))
        ratio, found, notable = 1 + rise, rise > 0.05, False
        text = (
            f"The validation loss was lowest in epoch {losses.argmin() + 1}, then rose by {rise:.0%} of its decrease."
        )
    else:
        return None
    remedy = "use early_stopping=True, more rows, a corruption, optimizer='adamw', or a smaller network."
    return Finding("over-fitting", found, ratio, text, remedy if found else "", notable)


def _worse_than_pca(seen: Evidence) -> Finding | None:
    if seen.paired:
        return None
    learn, test = (seen.X[::2], seen.X[1::2]) if seen.train is None else (seen.train, seen.X)
    code = seen.objective.choices.code
    size = code.k if isinstance(code, TopK) else seen.codes.shape[1]  # the number of nonzero units
    if size >= min(learn.shape) or seen.variance < SMALLEST_VARIANCE or seen.objective.context.n_conditions:
        return None
    pca = PCA(size, random_state=0).fit(learn)
    given = seen.given[:, : seen.X.shape[1]].nan_to_num().double().numpy()
    given = given[1::2] if seen.train is None else given
    theirs = float(np.square(pca.inverse_transform(pca.transform(given)) - test).mean())
    ratio = float(seen.errors.mean()) / max(theirs, 1e-12)
    choices = seen.objective.choices
    held_back = choices.corruption is not None or choices.penalty is not None or type(choices.code) is not Plain
    found = ratio > (2.0 if held_back else 1.02)  # noise, penalties and priors increase the error by design
    text = f"The squared error is {ratio:.2f} times that of PCA with {size} components."
    remedy = "train longer, with a larger network or a smaller penalty; or use PCA, which is sufficient for such data."
    return Finding("worse-than-pca", found, ratio, text, remedy if found else "")


def _learning_rate_too_high(seen: Evidence) -> Finding | None:
    losses = seen.history["loss"] if len(seen.history) else np.empty(0)
    diverged = seen.model.stop_reason_ == "diverged"
    if len(losses) < 3 and not diverged:
        return None
    rises = float((np.diff(losses) > 0.02 * np.abs(losses[:-1])).mean()) if len(losses) > 1 else 1.0
    above = float(losses[-1] - losses.min()) / max(abs(float(losses.min())), 1e-12) if len(losses) else 1.0
    settled = seen.model.settled_
    # A rate far too high can also kill the network in the first steps; its loss is then constant and never rises.
    far_above = settled["learning_rate"] > 20 * learning_rate_for(settled["batch_size"])
    dead = seen.unexplained > 0.98 and (rises > 0 or far_above)
    found = diverged or rises > 0.2 or above > 0.1 or dead
    text = f"The training loss rose in {rises:.0%} of the epochs and ended {above:.0%} above its minimum."
    text = "Training diverged. " + text if diverged else text
    remedy = f"lower learning_rate, which was {seen.model.settled_['learning_rate']:g}, by a factor of three to ten."
    return Finding("learning-rate-too-high", found, rises, text, remedy if found else "")


def _stopped_too_early(seen: Evidence) -> Finding | None:
    losses = seen.history["loss"] if len(seen.history) else np.empty(0)
    if len(losses) < 2:
        return None
    before = losses[max(0, int(np.ceil(0.8 * len(losses))) - 1) if len(losses) > 2 else 0]
    late = float(before - losses[-1]) / max(abs(float(losses[-1])), 1e-12)
    cut = seen.model.stop_reason_ in ("interrupted", "stopped by a callback")
    found = cut or late > 0.1
    text = (
        f"The training loss fell by {late:.1%} in the last fifth of {len(losses)} epochs ({seen.model.stop_reason_})."
    )
    remedy = f"train longer than max_epochs={seen.model.settled_['max_epochs']}; the loss was still falling."
    return Finding("stopped-too-early", found, late, text, remedy if found else "")


def _saturated_output(seen: Evidence) -> Finding | None:
    ends = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}.get(_output_activation(seen) or "")
    if ends is None:
        return None
    width = ends[1] - ends[0]
    at_end = (seen.restored < ends[0] + SATURATED * width) | (seen.restored > ends[1] - SATURATED * width)
    stuck = float((at_end & (np.abs(seen.restored - seen.wanted) > 0.25 * width)).mean())
    text = f"{stuck:.1%} of the outputs are at a limit of their range and wrong."
    remedy = "scale the data to the range of the output (scaling='auto', loss='auto'), or lower the learning rate."
    return Finding("saturated-output", stuck > 0.01, stuck, text, remedy if stuck > 0.01 else "")


def _output_activation(seen: Evidence) -> str | None:
    return seen.objective.choices.loss.output_activation


def _unlike_training_data(seen: Evidence) -> Finding | None:
    quantiles = seen.model.training_errors_
    if not len(quantiles):
        return None
    above = float((seen.clean_errors > quantiles[-2]).mean())
    outside = float(seen.unlike_mask.mean())
    found = above > 0.4 or outside > 0.1
    text = (
        f"{above:.1%} of the rows have an error above the 99% quantile of the training rows; "
        f"{outside:.1%} have errors far outside the range of the training rows."
    )
    remedy = "fit on data of this kind; codes and reconstructions of such rows are unreliable."
    # The limit is high because a model that fits its training rows closely has larger errors on held-out rows: on the
    # digits demo 23.6 % of the held-out rows are above the 99 % quantile, at an error of 2.12 times that of training.
    return Finding("unlike-training-data", found, above, text, remedy if found else "", above > MANY_ABOVE)


def _damage_not_undone(seen: Evidence) -> Finding | None:
    given = seen.untouched
    if given is None or (seen.objective.choices.corruption is None and not seen.paired):
        return None
    peak = 1.0 if seen.objective.context.output.in_unit_interval else float(np.ptp(seen.wanted))
    before = psnr(float(np.square(given - seen.wanted).mean()), peak)
    after = psnr(float(seen.errors.mean()), peak)
    found = after <= before
    kind = "Input" if seen.paired else "Corrupted"
    text = f"{kind} rows have a PSNR of {before:.1f} dB, restored rows of {after:.1f} dB."
    remedy = "train longer, use a larger code, or use a corruption that matches the damage in your data."
    return Finding("damage-not-undone", found, after - before, text, remedy if found else "")


def _other_units(seen: Evidence) -> Finding | None:
    if getattr(seen.model, "feature_ranges_", None) is None:
        return None
    far = share_far_outside(seen.model.feature_ranges_, seen.raw)
    mean, scale = seen.model.feature_mean_, seen.model.feature_scale_
    varies = scale > 0
    width = float(np.sqrt(np.square(seen.raw.std(axis=0)[varies] / scale[varies]).mean())) if varies.any() else 1.0
    off_zero = varies & (np.abs(mean) > 0.2 * scale)  # identical rows near the mean have a small width too
    nearer = np.abs(seen.raw.mean(axis=0)[off_zero]) < 0.5 * np.abs(mean[off_zero])
    shrunk = 0.0 < width < SMALLEST_WIDTH and bool(nearer.mean() > 0.5 if off_zero.any() else True)
    found = far > 0.5 or shrunk
    text = f"{far:.0%} of the rows lie far outside the range at fit; their spread is {width:.3g} times that at fit."
    example = f", such as X * {1 / width:.3g}" if shrunk or width > 1 / SMALLEST_WIDTH else ""
    remedy = f"pass rows in the units of fit (model.feature_ranges_ has their ranges){example}; or fit on such rows."
    return Finding("other-units", found, width if shrunk else far, text, remedy if found else "")


def _nothing_learned(seen: Evidence) -> Finding | None:
    if seen.variance < SMALLEST_VARIANCE:
        return None
    found = seen.unexplained > 0.95
    text = f"The model explains {1 - seen.unexplained:.0%} of the variance."
    remedy = "train longer, use a lower learning rate, or check whether the features are related at all."
    return Finding("nothing-learned", found, seen.unexplained, text, remedy if found else "")


CHECKS: tuple[Callable[[Evidence], Finding | None], ...] = (
    _nothing_learned,
    _dead_units,
    _collapsed_posterior,
    _unused_directions,
    _collapsed_code,
    _copying,
    _over_fitting,
    _worse_than_pca,
    _learning_rate_too_high,
    _stopped_too_early,
    _saturated_output,
    _unlike_training_data,
    _damage_not_undone,
    _other_units,
)
