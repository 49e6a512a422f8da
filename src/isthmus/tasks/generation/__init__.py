"""New rows of tables, and rows along the codes of a model."""

from isthmus.tasks.generation.latent_rows import latent_plane, traversals
from isthmus.tasks.generation.table_sampler import TableSampler

__all__ = ["TableSampler", "latent_plane", "traversals"]
