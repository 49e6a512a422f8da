"""A process that imports isthmus and trains one step on S6's layers."""

import numpy as np

from isthmus import Autoencoder, MaxSteps

X = np.random.default_rng(0).random((256, 784), np.float32)
Autoencoder(32, network=(128, 64), max_epochs=1, batch_size=256, callbacks=[MaxSteps(1)], random_state=0).fit(X)
