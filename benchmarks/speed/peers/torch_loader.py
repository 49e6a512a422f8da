"""PyTorch as the tutorials have it: a DataLoader over a TensorDataset, nn.Sequential, Adam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from protocol import Workload, serve
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def prepare(workload: Workload, X: np.ndarray):  # type: ignore[no-untyped-def]
    layers: list[nn.Module] = []
    for inner, out in pairwise(workload.sizes):
        layers += [nn.Linear(inner, out), nn.ReLU()]
    layers[-1] = nn.Sigmoid()
    model = nn.Sequential(*layers)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=workload.batch_size, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_of = nn.BCELoss() if workload.loss == "bce" else nn.MSELoss()

    def epoch() -> None:
        total = 0.0
        for (x,) in loader:
            given = (x + workload.noise * torch.randn_like(x)).clamp(0, 1) if workload.noise else x
            optimizer.zero_grad()
            loss = loss_of(model(given), x)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)

    @torch.no_grad()
    def encode(rows: np.ndarray) -> None:
        encoder = model[: len(layers) // 2]
        np.concatenate([encoder(part).numpy() for part in torch.from_numpy(rows).split(1024)])

    return epoch, encode


serve(prepare)
