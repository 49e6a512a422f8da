"""Pictures: every function draws numbers on matplotlib axes and leaves showing and saving to you.

>>> import numpy as np
>>> from isthmus.plots import plot_error_histogram
>>> plot_error_histogram(np.array([0.1, 0.2, 0.4])).get_ylabel()
'rows'
"""

from isthmus.plots.grids import plot_rows
from isthmus.plots.pictures import (
    compare_code_densities,
    plot_code_density,
    plot_code_map,
    plot_error_histogram,
    plot_network,
    plot_reconstructions,
    plot_training_curves,
    plot_worst,
)
from isthmus.plots.restorations import plot_restorations
from isthmus.plots.style import image_shape_of, save

__all__ = [
    "compare_code_densities",
    "image_shape_of",
    "plot_code_density",
    "plot_code_map",
    "plot_error_histogram",
    "plot_network",
    "plot_reconstructions",
    "plot_restorations",
    "plot_rows",
    "plot_training_curves",
    "plot_worst",
    "save",
]
