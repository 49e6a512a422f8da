"""pythae: its VAE with an encoder and a decoder of the workload's sizes, trained by its Trainer."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from protocol import Job, Workload, requests, told
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn


class Encoder(BaseEncoder):
    """One hidden layer, then mean and log-variance."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        wide, hidden = workload.sizes[:2]
        self.layers = nn.Sequential(nn.Linear(wide, hidden), nn.ReLU())
        self.mean, self.log_var = (nn.Linear(hidden, workload.code_size) for _ in range(2))

    def forward(self, x: torch.Tensor) -> ModelOutput:
        h = self.layers(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    """The mirror image, with a sigmoid at the end."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        code, hidden, wide = workload.sizes[2:]
        self.layers = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, wide), nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z))


class WhenAsked(TrainingCallback):
    """Lets each epoch wait until the harness asks for one."""

    def __init__(self) -> None:
        self.requests = requests()

    def on_epoch_begin(self, training_config: Any, **_: Any) -> None:
        next(self.requests)


def train(job: Job, folder: str) -> None:
    workload, rows = job.workload, torch.from_numpy(job.rows)
    config = VAEConfig(input_dim=(rows.shape[1],), latent_dim=workload.code_size, reconstruction_loss="bce")
    settings = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=100_000,
        learning_rate=1e-3,
        per_device_train_batch_size=workload.batch_size,
        no_cuda=True,
    )
    BaseTrainer(
        model=VAE(config, encoder=Encoder(workload), decoder=Decoder(workload)),
        train_dataset=BaseDataset(rows, torch.zeros(len(rows))),
        training_config=settings,
        callbacks=[WhenAsked()],
    ).train()


with tempfile.TemporaryDirectory() as scratch:
    train(told(), scratch)
