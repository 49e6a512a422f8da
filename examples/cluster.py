# %% [markdown]
# # Cluster rows
# Groups of similar rows, without labels.

# %% data
import numpy as np

from isthmus import Autoencoder, cluster_codes, datasets, matched_accuracy
from isthmus.plots import plot_rows, save

digits = datasets.load_digits()
X, y = digits.X.reshape(-1, 8, 8), digits.y

# %% job
model = Autoencoder(16, max_epochs=20, random_state=0).fit(X[:1500])
clusters = cluster_codes(model, X[:1500], n_clusters=10, method="codes", random_state=0)  # "umap" finds better groups
new = clusters.predict(X[1500:])  # the cluster of each new row

print("rows in each cluster:", np.bincount(clusters.labels))
print(f"if each cluster stood for one digit, {matched_accuracy(y[:1500], clusters.labels):.1%} would be right")

# %% picture
shown = [X[:1500][clusters.labels == group][:12] for group in range(10)]
save(plot_rows(np.concatenate(shown), columns=12, names=[f"cluster {group}" for group in range(10)]), "cluster.png")
