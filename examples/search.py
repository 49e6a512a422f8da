# %% [markdown]
# # Search similar rows
# An index of codes answers with the rows most like an example, and finds near-duplicates.

# %% data
import numpy as np

import isthmus
from isthmus import Autoencoder, SearchIndex, datasets
from isthmus.plots import plot_rows, save

digits = datasets.load_digits()
X, y = digits.X.reshape(-1, 8, 8), digits.y
stored, queries = X[:1500], X[1500:]

# %% job
model = Autoencoder(16, max_epochs=20, random_state=0).fit(stored)
index = SearchIndex(model, metric="cosine").add(stored)
found = index.query(queries, 9)  # names and distances, (297, 9); rows are named by their number

same = y[found.names.astype(int)] == y[1500:, None]
print(f"{same.mean():.0%} of the rows found show the digit of the query")

index.add(stored[:3] * 0.98, names=[9000, 9001, 9002])
print("near-duplicates:", [list(group) for group in index.near_duplicates(0.1)][:3])
index.save("digits.isthmus")
assert len(isthmus.load("digits.isthmus").names) == 1503

# %% picture
answers = stored[found.names[:5].astype(int)]  # (5, 9, 8, 8)
grid = np.concatenate([queries[:5, None], answers], axis=1).reshape(-1, 8, 8)
save(plot_rows(grid, columns=10, names=[f"query {i} → found" for i in range(5)]), "search.png")
