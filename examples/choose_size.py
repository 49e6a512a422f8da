# %% [markdown]
# # Choose the code size
# A sweep over code sizes, beside PCA, and the elbow of the curve.

# %% data
from matplotlib.figure import Figure

from isthmus import Autoencoder, choose, datasets
from isthmus.plots import save

X = datasets.load_digits().X.reshape(-1, 64)[:500]

# %% job
base = Autoencoder(max_epochs=40)  # without it, as many epochs as the budget allows
found = choose(X, "10 min", estimator=base, code_sizes=[1, 2, 4, 8, 16, 32], n_trials=0, random_state=0)
print(found.reason)
model = found.estimator  # fitted with this size
print(found.curve.drop(columns="seconds").round(3).to_string(index=False))

# %% picture
figure = Figure(figsize=(6, 3.4), layout="constrained")
ax = figure.subplots()
ax.plot(found.curve["code_size"], found.curve["error"], marker="o", color="#0f6b8f", label="autoencoder")
ax.plot(found.curve["code_size"], found.curve["pca_error"], marker="o", color="#7b8794", label="PCA")
ax.axvline(found.code_size, color="#e07a3f", linewidth=1, label="chosen")
ax.set(xscale="log", xlabel="code size", ylabel="held-out error, standard deviations")
ax.set_xticks([1, 2, 4, 8, 16, 32], labels=["1", "2", "4", "8", "16", "32"])
ax.minorticks_off()
ax.legend(frameon=False)
save(figure, "choose_size.png")
