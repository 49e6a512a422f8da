"""Engines: who takes the steps of a run. The loop knows `choose_engine` and the `Engine` it gives, and nothing else.

================  ====================================================================================================
`CompiledEngine`  dense models on the CPU whose members have formulas, in single precision, by Adam or AdamW
`GeneralEngine`   any objective on any device by autograd, recorded as graphs on CUDA; it refuses nothing
================  ====================================================================================================
"""

from isthmus.training.engines.choosing import ENGINES, choose_engine
from isthmus.training.engines.seam import Engine, EngineChoice, Job, StepChunk

__all__ = ["ENGINES", "Engine", "EngineChoice", "Job", "StepChunk", "choose_engine"]
