# %% [markdown]
# # Draw a map
# Each digit becomes a point of the plane; similar digits lie together.

# %% data
from isthmus import Autoencoder, datasets, map_codes, map_figures
from isthmus.plots import plot_code_map, save

digits = datasets.load_digits()
X, y = digits.X[:1000].reshape(-1, 64), digits.y[:1000]

# %% job
model = Autoencoder(16, max_epochs=20, random_state=0).fit(X)
found = map_codes(model, X, random_state=0)  # by openTSNE if it is installed; or "umap", "pca"
new_points = found.place(digits.X[1000:1010].reshape(-1, 64))  # new rows, without a new fit

figures = map_figures(found.points, X, y)
print(f"trustworthiness {figures.trustworthiness:.3f}, continuity {figures.continuity:.3f} (1 is perfect)")
print(f"the five nearest points on the map tell {figures.neighbour_accuracy:.1%} of the digits")

# %% picture
save(plot_code_map(found.points, y), "map.png")
