# %% [markdown]
# # Deep, tied and pretrained networks
# Sizes, activations, tied weights and layer-wise pretraining are settings of one network.

# %% data
from isthmus import Autoencoder, Dense, datasets
from isthmus.plots import plot_network, save

X = datasets.load_digits().X.reshape(-1, 64)
train, test = X[:1500], X[1500:]

# %% job
networks = {
    "linear": Autoencoder(8, network=()),
    "one hidden layer": Autoencoder(8, network=(128,)),
    "three hidden layers": Autoencoder(8, network=(128, 64, 32)),
    "tied weights": Autoencoder(8, network=Dense((128, 64, 32), tied=True)),
    "pretrained": Autoencoder(8, network=(128, 64, 32), pretraining="layer-wise"),
}
for name, model in networks.items():
    model.set_params(max_epochs=15, random_state=0).fit(train)
    weights = {*model.encoder_.parameters(), *model.decoder_.parameters()}
    size = sum(weight.numel() for weight in weights)
    print(f"{name:20} {size:7,} weights, {model.score(test):.1%} of the variance of new digits")

deep = networks["three hidden layers"]
middle = deep.output_of(1).transform(test)  # the output of its first layer, (297, 128)

# %% picture
save(plot_network(deep), "layers.png")
