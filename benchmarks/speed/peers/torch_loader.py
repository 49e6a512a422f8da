"""PyTorch as its tutorials have it: a DataLoader over a TensorDataset, nn.Sequential, Adam, a loop."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from protocol import Job, Workload, notes, serve
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def chain(sizes: tuple[int, ...], last: nn.Module) -> list[nn.Module]:
    """Linear layers with ReLU after each but the last."""
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return [*layers[:-1], last]


class Model(nn.Module):
    """Encoder and decoder, and what the loss of this kind of model has besides the reconstruction."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.workload = workload
        half, sizes = workload.half, workload.sizes
        width = workload.code_size * (2 if workload.variational else 1)
        code = nn.Identity() if workload.variational else nn.Sigmoid() if workload.contraction else nn.ReLU()
        if workload.channels:
            down, up = convolutions(workload.channels)
            self.encoder = nn.Sequential(*down, *chain((workload.channels[-1] * 49, width), code))
            self.decoder = nn.Sequential(*chain((width, workload.channels[-1] * 49), nn.ReLU()), *up)
        else:
            self.encoder = nn.Sequential(*chain((*sizes[:half], width), code))
            self.decoder = nn.Sequential(*chain(sizes[half:], nn.Sigmoid()))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)[:, : self.workload.code_size]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        h = self.encoder(x)
        if self.workload.variational:
            mean, log_var = h.chunk(2, dim=1)
            divergence = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
            z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            return self.decoder(z), divergence / x.numel()
        if self.workload.contraction:
            norms = self.encoder[0].weight.pow(2).sum(dim=1)
            return self.decoder(h), self.workload.contraction * ((h * (1 - h)).pow(2) * norms).sum() / len(x)
        return self.decoder(h), 0.0


def convolutions(channels: tuple[int, ...]) -> tuple[list[nn.Module], list[nn.Module]]:
    """Strided 3×3 convolutions from 28×28 to 7×7, and transposed ones back."""
    down: list[nn.Module] = []
    up: list[nn.Module] = [nn.Unflatten(1, (channels[-1], 7, 7))]
    for inner, outer in pairwise((1, *channels)):
        down += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.ReLU()]
    for outer, inner in pairwise((*channels[::-1], 1)):
        up += [nn.ConvTranspose2d(outer, inner, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
    return [*down, nn.Flatten()], [*up[:-1], nn.Sigmoid()]


def glorot(layer: nn.Module) -> None:
    """Begin as the other peers do, so that losses can be compared."""
    if hasattr(layer, "weight"):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def prepare(job: Job) -> dict[str, Any]:
    workload, device = job.workload, job.workload.device
    rows = torch.from_numpy(job.rows.reshape(-1, 1, 28, 28) if workload.channels else job.rows)
    model = Model(workload).apply(glorot).to(device)
    on_card = {"pin_memory": True} if device == "cuda" else {}
    loader = DataLoader(TensorDataset(rows), batch_size=workload.batch_size, shuffle=True, **on_card)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_of = nn.BCELoss() if workload.loss == "bce" else nn.MSELoss()

    def epoch() -> None:
        total = 0.0
        for (batch,) in loader:
            x = batch.to(device)
            given = (x + workload.noise * torch.randn_like(x)).clamp(0, 1) if workload.noise else x
            optimizer.zero_grad()
            x_hat, more = model(given)
            loss = loss_of(x_hat, x) + more
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        notes["loss"] = total / len(rows)

    return {"epoch": epoch, **verbs_of(model, rows)}


def verbs_of(model: Model, rows: Tensor) -> dict[str, Any]:
    """Inference: a loader of larger batches, without gradients."""
    loader = DataLoader(TensorDataset(rows), batch_size=1000)

    @torch.no_grad()
    def every(work: Any) -> np.ndarray:
        model.eval()
        return torch.cat([work(x) for (x,) in loader]).numpy()

    return {
        "transform": lambda: every(model.encode),
        "reconstruct": lambda: every(lambda x: model(x)[0]),
        "reconstruction_error": lambda: every(lambda x: (model(x)[0] - x).pow(2).mean(dim=1)),
    }


if __name__ == "__main__":
    serve(prepare)
