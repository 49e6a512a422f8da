# %% [markdown]
# # Make rows of a table
# A made table with the distributions and relations of the real one.

# %% data
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from isthmus import TableSampler
from isthmus.plots import save

draw = np.random.default_rng(0)
size = draw.normal(170, 10, 800).round()
sport = np.where(draw.random(800) < 0.4, "swims", np.where(size > 175, "jumps", "runs"))
table = pd.DataFrame({"size": size, "weight": (0.9 * size - 85 + draw.normal(0, 7, 800)).round(1), "sport": sport})

# %% job
sampler = TableSampler(max_epochs=20, random_state=0).fit(table)
made = sampler.sample(800, random_state=0)
tall = sampler.sample(5, given={"sport": "jumps"}, random_state=0)

for name, rows in {"real": table, "made": made}.items():
    shares = rows["sport"].value_counts(normalize=True).round(2).to_dict()
    print(f"{name}: correlation of the numbers {rows['size'].corr(rows['weight']):.2f}, {dict(sorted(shares.items()))}")
print(tall.to_string(index=False))

# %% picture
figure = Figure(figsize=(7, 3.2), layout="constrained")
for ax, name, rows in zip(
    figure.subplots(1, 2, sharex=True, sharey=True), ("real", "made"), (table, made), strict=True
):
    for sport, colour in {"jumps": "#0f6b8f", "runs": "#e07a3f", "swims": "#4a9d5b"}.items():
        part = rows[rows["sport"] == sport]
        ax.scatter(part["size"], part["weight"], s=6, color=colour, label=sport)
    ax.set(title=name, xlabel="size", ylabel="weight")
ax.legend(frameon=False, markerscale=2)
save(figure, "made_rows.png")
