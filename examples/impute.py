# %% [markdown]
# # Fill missing cells of a table
# Each missing cell is predicted from the other cells of its row.

# %% data
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_wine

from isthmus import Imputer
from isthmus.plots import save

table = load_wine(as_frame=True).data[["alcohol", "flavanoids", "total_phenols", "color_intensity", "hue", "proline"]]
missing = np.random.default_rng(0).random(table.shape) < 0.15
holes = table.mask(missing)

# %% job
imputer = Imputer(random_state=0).fit(holes)
filled = imputer.transform(holes)  # a frame without missing cells; known cells stay as they are

error = (filled - table).where(missing)
usual = (holes.mean() - table).where(missing)
rmse = pd.DataFrame({"filled": (error**2).mean() ** 0.5, "mean of the column": (usual**2).mean() ** 0.5})
print("RMSE of the filled cells, in standard deviations of the column")
print(rmse.div(table.std(), axis=0).round(2).to_string())

# %% picture
figure = Figure(figsize=(6, 3), layout="constrained")
for ax, name in zip(figure.subplots(1, 2), ["flavanoids", "proline"], strict=True):
    known = table[name][missing[:, table.columns.get_loc(name)]]
    ax.scatter(known, filled.loc[known.index, name], s=14, color="#0f6b8f")
    ax.plot([known.min(), known.max()], [known.min(), known.max()], color="#7b8794", linewidth=1)
    ax.set(title=name, xlabel="true value", ylabel="filled value")
save(figure, "impute.png")
