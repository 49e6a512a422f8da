"""The tutorial's recommender (S11, S36): its figures, its table of similarities, and the films next to Liar Liar.

``python -m benchmarks.recommend.tutorial``
"""

from __future__ import annotations

import numpy as np

from benchmarks.recommend.logs import film_titles, ratings
from benchmarks.systems.harness import fit_on, published
from benchmarks.systems.tutorials import LIAR_LIAR, movielens_2016
from isthmus import MeanSquaredError, Recommender, nearest

THEIRS = (1391, 104, 1760, 1608, 3033, 1407, 1461, 1020)
"""The published films similar to Liar Liar, with cosines of 0.830 to 0.807."""


def as_published(seed: int = 0) -> tuple[float, list[tuple[str, float]]]:
    """Films as rows, users as columns, 668-512-256-128: the validation loss and the ten films nearest to Liar Liar."""
    rows, films, titles = movielens_2016()
    order = np.random.default_rng(seed).permutation(rows.shape[0])
    model = published(
        (512, 256), 128, epochs=29, batch_size=256, loss=MeanSquaredError(activation=None), scaling="none"
    )
    held_out, learn = order[: len(order) // 5], order[len(order) // 5 :]
    measured = fit_on(model.set_params(random_state=seed), rows[learn], X_val=rows[held_out])
    codes = model.transform(rows)
    place = int(np.flatnonzero(films == LIAR_LIAR)[0])
    found, cosines = nearest(codes, codes[[place]], 11)
    kept = found[0] != place
    names = [titles[film] for film in films[found[0][kept]]]
    return measured.val_loss, list(zip(names, cosines[0][kept].tolist(), strict=True))[:10]


def by_recommender(seed: int = 0) -> list[tuple[str, float]]:
    """The same list from a `Recommender`, fitted to positive ratings."""
    titles = film_titles()
    model = Recommender(random_state=seed).fit(ratings("ml-2016"), titles=titles)
    return [(titles[film], cosine) for film, cosine in model.similar_items(model.find("liar liar"), 10)]


def main() -> None:
    titles = film_titles()
    loss, old = as_published()
    new = by_recommender()
    theirs = [titles[film] for film in THEIRS] + ["", ""]
    print(f"validation loss {loss:.4f} (published 0.0920, wanted at most 0.0950)\n")
    print("| the text | its system here | cosine | Recommender | cosine |\n|---|---|---|---|---|")
    for text, (film, cosine), (ours, near) in zip(theirs, old, new, strict=True):
        print(f"| {text} | {film} | {cosine:.3f} | {ours} | {near:.3f} |")


if __name__ == "__main__":
    main()
