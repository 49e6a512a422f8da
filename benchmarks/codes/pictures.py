"""The pictures of docs/codes.md: ``python -m benchmarks.codes.pictures docs/pictures``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from isthmus import Autoencoder, VariationalAutoencoder, choose, datasets, latent_plane, map_codes
from isthmus.plots import plot_code_map, plot_rows, save
from isthmus.plots.style import show_row
from isthmus.report.choosing import plot_code_sizes

DOTS = 90


def main(folder: Path) -> None:
    """Draw all pictures into a folder."""
    digits = datasets.load_digits()
    X, y = digits.X.astype(np.float32), digits.y
    model = Autoencoder(16, max_epochs=60, random_state=0).fit(X)
    found = map_codes(model, X, "opentsne", random_state=0)
    figure = Figure(figsize=(12.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_code_map(found.points, y, density=True, ax=left)
    plot_code_map(found.points, images=X, ax=right)
    save(figure, folder / "codes-map.png", dots_per_inch=DOTS)
    model.fit_sampler(X, y)
    samples = np.concatenate([model.sample(20, digit, random_state=0) for digit in range(10)])
    save(plot_rows(samples, columns=20, image_shape=(8, 8)), folder / "codes-samples.png", dots_per_inch=60)
    drawn = VariationalAutoencoder(2, max_epochs=120, random_state=0).fit(X)
    pairs = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    between = np.concatenate([model.interpolate(X[a], X[b], 12) for a, b in pairs])
    plane = latent_plane(drawn, n=12).reshape(-1, 64)
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(1, 1)), dtype=object)
    for part, rows, columns in ((left, between, 12), (right, plane, 12)):
        grid = part.subplots(-(-len(rows) // columns), columns, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        for ax, row in zip(grid.ravel(), rows, strict=True):
            show_row(ax, row, (8, 8), 0.0, float(X.max()))
    save(figure, folder / "codes-between.png", dots_per_inch=DOTS)
    chosen = choose(X, "5 min", n_trials=0, random_state=0)
    save(plot_code_sizes(chosen), folder / "codes-sizes.png", dots_per_inch=DOTS)
    print(chosen.reason)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
