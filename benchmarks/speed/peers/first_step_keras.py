"""A process that imports Keras and trains one step on S6's layers."""

import keras
import numpy as np

X = np.random.default_rng(0).random((256, 784), np.float32)
widths = (128, 64, 32, 64, 128)
hidden = [keras.layers.Dense(width, activation="relu") for width in widths]
model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(784, activation="sigmoid")])
model.compile("adam", "binary_crossentropy")
model.fit(X, X, epochs=1, batch_size=256, verbose=0)
