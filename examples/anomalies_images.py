# %% [markdown]
# # Find anomalies in images
# The detector learned zeros to sevens; eights and nines are odd to it.

# %% data
import numpy as np
from sklearn.metrics import roc_auc_score

from isthmus import AnomalyDetector, datasets
from isthmus.plots import plot_rows, save

digits = datasets.load_digits()
X = digits.X.reshape(-1, 8, 8)  # images as they are, (n, h, w)
usual = digits.y < 8
train, test = X[usual][:1000], np.concatenate([X[usual][1000:], X[~usual]])
odd = np.arange(len(test)) >= usual.sum() - 1000

# %% job
detector = AnomalyDetector(trim=0, max_steps=300, random_state=0).fit(train)  # trim=0: no anomalies among the rows
scores = -detector.score_samples(test)  # higher is odder
oddest = np.argsort(-scores)

print(f"AUROC of eights and nines among {len(test)} images: {roc_auc_score(odd, scores):.2f}")
print(f"of the 50 oddest images {odd[oddest[:50]].sum()} are eights or nines")

# %% picture
shown = np.concatenate([test[oddest[:12]], test[oddest[-12:]]])
save(plot_rows(shown, columns=12, names=("oddest", "most usual")), "anomalies_images.png")
