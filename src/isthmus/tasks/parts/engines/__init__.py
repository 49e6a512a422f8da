"""Who runs the work on the parts: one file for each, found by its short name.

An engine hands parts to processes and hands their outcomes back. What it does about lost workers is its own matter.
"""

from isthmus.tasks.parts.engines import dask_futures, ray_data, this_process
from isthmus.tasks.parts.engines.seam import PART_ENGINES, PartEngine

__all__ = ["PART_ENGINES", "PartEngine", "dask_futures", "ray_data", "this_process"]
