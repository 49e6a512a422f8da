"""Fit pythae's variational autoencoder and draw from its prior and from a Gaussian mixture on its codes.

pythae_samples.py GIVEN.npy MADE.npy LAYERS CODE_SIZE EPOCHS N SEED
"""

import sys
import tempfile
from itertools import pairwise

import numpy as np
import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.samplers import GaussianMixtureSampler, GaussianMixtureSamplerConfig, NormalSampler
from pythae.trainers import BaseTrainerConfig
from torch import nn


def layers(sizes: list[int]) -> nn.Sequential:
    return nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())))


class Encoder(BaseEncoder):
    """Mean and logarithm of the variance of codes."""

    def __init__(self, width: int, sizes: list[int], code_size: int) -> None:
        super().__init__()
        self.body, self.mean, self.log_variance = (
            layers([width, *sizes]), nn.Linear(sizes[-1], code_size), nn.Linear(sizes[-1], code_size),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> ModelOutput:
        h = self.body(x.flatten(1))
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):
    """Pixels in [0, 1] from codes."""

    def __init__(self, width: int, sizes: list[int], code_size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(layers([code_size, *sizes[::-1]]), nn.Linear(sizes[0], width), nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.body(z))


def main() -> None:
    given, made, named, *numbers = sys.argv[1:]
    code_size, epochs, n, seed = map(int, numbers)
    sizes = [int(size) for size in named.split(",")]
    torch.manual_seed(seed)
    X = np.load(given).astype(np.float32)
    width = X.shape[1]
    config = VAEConfig(input_dim=(width,), latent_dim=code_size, reconstruction_loss="bce")
    model = VAE(config, encoder=Encoder(width, sizes, code_size), decoder=Decoder(width, sizes, code_size))
    with tempfile.TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder, num_epochs=epochs, learning_rate=1e-3, seed=seed, no_cuda=True,
            per_device_train_batch_size=128, per_device_eval_batch_size=1000,
        )  # fmt: skip
        TrainingPipeline(model=model, training_config=training)(train_data=X)
    prior = NormalSampler(model=model).sample(num_samples=n, batch_size=1000)
    mixture = GaussianMixtureSampler(model=model, sampler_config=GaussianMixtureSamplerConfig(n_components=10))
    mixture.fit(train_data=torch.from_numpy(X[:20_000]))
    parts = [
        part.detach().cpu().numpy().reshape(n, -1) for part in (prior, mixture.sample(num_samples=n, batch_size=1000))
    ]
    np.save(made, np.stack(parts))


main()
