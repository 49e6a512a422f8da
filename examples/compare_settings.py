# %% [markdown]
# # Compare settings, in scikit-learn's way
# Models work in pipelines and searches; many small ones are trained together.

# %% data
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from isthmus import Autoencoder, DenoisingAutoencoder, datasets, fit_many
from isthmus.plots import save

digits = datasets.load_digits()
X, y = digits.X.reshape(-1, 64), digits.y
train, test = X[:800], X[800:]

# %% job
pipeline = make_pipeline(DenoisingAutoencoder(32, max_epochs=20, random_state=0), LogisticRegression(max_iter=2000))
print(f"codes, then logistic regression: {pipeline.fit(train, y[:800]).score(test, y[800:]):.1%} right")

grid = {"learning_rate": [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016], "random_state": [0, 1]}
models = fit_many(Autoencoder(16, max_epochs=10), train, grid)  # twelve models at once
scores = {(model.learning_rate, model.random_state): model.score(test) for model in models}
best = max(scores, key=scores.get)
print(f"best learning rate: {best[0]:g}, with {scores[best]:.1%} of the variance of new digits")

# %% picture
figure = Figure(figsize=(5, 3), layout="constrained")
ax = figure.subplots()
for seed in (0, 1):
    ax.plot(
        grid["learning_rate"], [scores[rate, seed] for rate in grid["learning_rate"]], marker="o", label=f"seed {seed}"
    )
ax.set(xscale="log", xlabel="learning rate", ylabel="variance explained on new digits")
ax.legend(frameon=False)
save(figure, "compare_settings.png")
