# %% [markdown]
# # Classify with few labels
# An encoder learns from all rows without labels; a classifier on top needs few labels.

# %% data
import numpy as np
from sklearn.linear_model import LogisticRegression

from isthmus import DenoisingAutoencoder, EncoderClassifier, datasets

digits = datasets.load_digits()
X, y = digits.X.reshape(-1, 64), digits.y
test, test_y = X[1200:], y[1200:]

# %% job
encoder = DenoisingAutoencoder(32, max_epochs=40, random_state=0).fit(X[:1200])  # no labels

print("labels   logistic regression   EncoderClassifier   with the rows without a label")
for n in (50, 100, 300):
    known = np.where(np.arange(1200) < n, y[:1200], -1)  # -1: no label
    classifier = EncoderClassifier(encoder, max_epochs=40, random_state=0).fit(X[:n], y[:n])
    semi = EncoderClassifier(encoder, max_epochs=40, random_state=0).fit(X[:1200], known)
    plain = LogisticRegression(max_iter=2000).fit(X[:n], y[:n])
    scores = [each.score(test, test_y) for each in (plain, classifier, semi)]
    print(f"{n:6} {scores[0]:18.1%} {scores[1]:18.1%} {scores[2]:19.1%}")
