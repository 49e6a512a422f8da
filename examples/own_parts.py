# %% [markdown]
# # Your own network and your own loss
# Any two modules of PyTorch are a network; a loss is one formula.

# %% data
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from isthmus import Autoencoder, datasets
from isthmus.choices import LOSSES, Loss
from isthmus.choices.formulas import softplus

images = datasets.load_digits().X.reshape(-1, 8, 8)
train, test = images[:1500], images[1500:]

# %% job
encoder = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 8))
decoder = nn.Sequential(nn.Linear(8, 128), nn.ReLU(), nn.Linear(128, 64))


@LOSSES.register("log-cosh")
@dataclass(eq=False, repr=False)
class LogCosh(Loss):
    """The log of the error's hyperbolic cosine, but for a constant: a smooth absolute value."""

    unit: ClassVar[str] = "scaled units per feature"

    def link(self, output):
        return output  # the reconstruction is the decoder's output as it is

    def formula(self, output, target):
        return (output - target) + softplus((output - target) * -2.0)


for name, settings in {
    "usual": {},
    "own network": {"network": (encoder, decoder)},
    "own loss": {"loss": "log-cosh"},
}.items():
    model = Autoencoder(8, max_epochs=10, random_state=0, **settings).fit(train)
    print(f"{name:12} {model.score(test):.1%} of the variance of new digits")
