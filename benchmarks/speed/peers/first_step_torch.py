"""A process that imports PyTorch and trains one step on S6's layers."""

from itertools import pairwise

import torch
from torch import nn

X = torch.rand(256, 784)
layers = [m for pair in pairwise((784, 128, 64, 32, 64, 128, 784)) for m in (nn.Linear(*pair), nn.ReLU())]
model = nn.Sequential(*layers[:-1], nn.Sigmoid())
optimizer = torch.optim.Adam(model.parameters())
nn.functional.binary_cross_entropy(model(X), X).backward()
optimizer.step()
