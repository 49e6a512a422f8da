"""Reasons not to compile a job: it is impossible, or it does not pay."""

from __future__ import annotations

from torch import nn

from isthmus.choices.layers import IDENTITY
from isthmus.choices.penalties import Penalty
from isthmus.training.engines.compiled.dense_layers import followed, is_chain
from isthmus.training.engines.seam import Job
from isthmus.training.objective import Objective, count_parameters
from isthmus.training.onednn import is_watched
from isthmus.training.schedule import Adam, AdamW, Optimizer

WORTH = 0.4
"""Seconds that a run must be expected to gain; to write and to compile a program takes 0.3 to 0.6."""
GAINED_PER_STEP, GAINED_PER_OPERATION = 4e-4, 5e-12
"""Seconds that a step gains over autograd, and what it gains for each floating-point operation. Of processor time on a
busy core, where more is gained: 0.8 of 0.8 ms for a table of 16 columns, 1.2 of 1.8 for S1, 3.3 of 8.1 for S6."""
MOST_OPERATIONS = 1e10
"""Floating-point operations in a step from which libraries of matrix products, which pack what they multiply so that it
stays in the cache, are faster: 3000–2000–500 on batches of 256 take 1.2 s by one and 1.5 s compiled."""


def reason_against(job: Job) -> str | None:
    """Why a job cannot be compiled, the cheapest test first; None if it can."""
    if job.device.type != "cpu":
        return f"the model is on {job.device}, and only steps on the CPU are compiled"
    if not job.processes.alone:
        return (
            f"{job.processes.n} processes train together, and compiled steps keep no gradients that could be averaged"
        )
    if job.precision != "float32":
        return f"precision={job.precision!r}, and compiled steps compute in float32"
    return (
        _against_optimizer(job.optimizer)
        or _against_network(job.objective)
        or _against_members(job.objective)
        or _against_effort(job)
    )


def _against_optimizer(optimizer: Optimizer) -> str | None:
    name = type(optimizer).__name__
    if type(optimizer) not in {Adam, AdamW}:
        return f"the optimizer is {name}, and Adam and AdamW are compiled"
    return None if optimizer.clip_norm is None else "gradients are clipped (clip_norm)"


def _against_network(objective: Objective) -> str | None:
    if not objective.follows_choices:
        return f"{type(objective).__name__} is a custom objective"
    if objective.context.n_conditions:
        return "the model is conditional"
    if not (is_chain(objective.encoder) and is_chain(objective.decoder)):
        return "the network is not linear layers with a bias and an activation that has a formula, or none, behind each"
    parameters = list(objective.parameters())
    linears = [layer for layer in objective.modules() if isinstance(layer, nn.Linear)]
    if 2 * len(linears) != len(parameters):
        return "layers share weights, or the code has weights of its own"
    if not all(parameter.requires_grad for parameter in parameters):
        return "some weights are frozen"
    return "a layer has a hook, which needs the layer's own call" if is_watched(objective) else None


def _against_members(objective: Objective) -> str | None:
    choices, code = objective.choices, objective.choices.code
    formula = code.elementwise()
    ends = [followed(network)[-1][1] for network in (objective.encoder, objective.decoder)]
    if choices.loss.formulas(objective.context.output.n_features) is None:
        return f"the loss {type(choices.loss).__name__} has no formula of single numbers"
    if formula is None and code.drawn() is None:
        return f"the code {type(code).__name__} has no formula with these parameters"
    if ends[1] is not None or (ends[0] is not None and formula is not IDENTITY):
        return "the encoder or the decoder ends in an activation of its own"
    return None if choices.penalty is None else _against_penalty(choices.penalty, objective)


def _against_penalty(penalty: Penalty, objective: Objective) -> str | None:
    encoder, code = objective.encoder, objective.choices.code
    if penalty.needs_derivative(encoder, code) or penalty.terms(encoder, code) is None:
        return f"the penalty {type(penalty).__name__} has no formula for this network and code"
    # whether a weight of one column lies transposed cannot be seen from its strides
    return "a code of one number has a penalty" if objective.context.code_size == 1 else None


def _against_effort(job: Job) -> str | None:
    operations = 6.0 * job.n_rows * count_parameters(job.objective)
    if operations >= MOST_OPERATIONS:
        return "its products are so large that libraries of matrix products are faster"
    n_steps = job.n_runs * job.n_steps
    gained = n_steps * (GAINED_PER_STEP + GAINED_PER_OPERATION * operations)
    if gained <= WORTH:
        return f"a run of {n_steps:,} steps gains less than compiling takes"
    return None
