# %% [markdown]
# # Recommend items
# A log of users and items is enough; new users need a history, not a new fit.

# %% data
import numpy as np
import pandas as pd

from isthmus import Recommender, evaluate_recommender, leave_out

shelves = {
    "crime": ["Heat", "Casino", "Ronin", "Fargo", "Snatch", "Se7en", "Memento"],
    "comedy": ["Emma", "Clueless", "Amélie", "Sabrina", "Juno", "Big", "Tootsie"],
    "space": ["Alien", "Solaris", "Gravity", "Moon", "Contact", "Sunshine", "Dune"],
}
films = np.array([film for shelf in shelves.values() for film in shelf])
draw = np.random.default_rng(0)
rows = []
for user in range(600):
    taste = np.repeat(np.where(np.arange(3) == user % 3, 0.88, 0.06), 7) / 7  # one shelf is the favourite
    rows += [(user, film) for film in draw.choice(films, 6, replace=False, p=taste / taste.sum())]
log = pd.DataFrame(rows, columns=["user", "item"])

# %% job
parts = leave_out(log, 0.2, random_state=0)
model = Recommender(code_size=8, network=(32,), max_epochs=30, random_state=0).fit(parts.given)

print("to a user of the log:", model.recommend(0, 3).items)
print("to a new user:       ", model.recommend(history=["Alien", "Moon"], n=3).items)
print("similar to Heat:     ", model.similar_items("Heat", 3).items)

found = evaluate_recommender(model, parts, ["recall@5", "ndcg@5"])
print({name: round(value, 2) for name, value in found.to_dict().items()})
