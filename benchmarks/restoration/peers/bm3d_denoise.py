"""``python bm3d_denoise.py GIVEN.npz SIGMA MADE.npz``: denoise images with BM3D (Dabov et al. 2007)."""

import sys

import numpy as np
from bm3d import bm3d

given, sigma, made = sys.argv[1:]
with np.load(given) as images:
    np.savez(made, *[bm3d(images[name], float(sigma)) for name in images.files])
