"""A saved model on a folder of Parquet files, one after the other or by an engine that has workers: Ray, Dask."""

from isthmus.tasks.parts.engines import PART_ENGINES, PartEngine
from isthmus.tasks.parts.listing import names_parts
from isthmus.tasks.parts.mapping import MappedParts, map_parts

__all__ = ["PART_ENGINES", "MappedParts", "PartEngine", "map_parts", "names_parts"]
