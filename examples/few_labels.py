# %% [markdown]
# # Classify with few labels
# An encoder learns from all rows without labels; a classifier on top needs few labels.

# %% data
from sklearn.linear_model import LogisticRegression

from isthmus import DenoisingAutoencoder, EncoderClassifier, datasets

digits = datasets.load_digits()
X, y = digits.X.reshape(-1, 64), digits.y
test, test_y = X[1200:], y[1200:]

# %% job
encoder = DenoisingAutoencoder(32, max_epochs=40, random_state=0).fit(X[:1200])  # no labels

print("labels   logistic regression   EncoderClassifier")
for n in (50, 100, 300):
    classifier = EncoderClassifier(encoder, max_epochs=40, random_state=0).fit(X[:n], y[:n])
    plain = LogisticRegression(max_iter=2000).fit(X[:n], y[:n])
    print(f"{n:6} {plain.score(test, test_y):18.1%} {classifier.score(test, test_y):18.1%}")
