# %% [markdown]
# # Read a CSV with categories, dates and holes
# The types of the columns are learned from all cells.

# %% data
from pathlib import Path

import numpy as np
import pandas as pd

from isthmus import AnomalyDetector, Imputer

draw = np.random.default_rng(0)
when = pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 365, 800), unit="D")
product = draw.choice(["tea", "coffee", "cocoa"], 800)
price = pd.Series({"tea": 3.0, "coffee": 5.0, "cocoa": 4.0})[product].to_numpy() * draw.normal(1, 0.05, 800)
sales = pd.DataFrame({"day": when.strftime("%d.%m.%Y"), "product": product, "price": price.round(2)})
sales["price"] = sales["price"].map("{:.2f} €".format).mask(draw.random(800) < 0.1, "n/a")
sales.to_csv("sales.csv", index=False)

# %% job
print(Path("sales.csv").read_text()[:90])

filled = Imputer(max_epochs=5, random_state=0).fit_transform("sales.csv")  # an Arrow table
print(filled.slice(0, 3).to_pandas().to_string(index=False))

detector = AnomalyDetector(max_steps=200, random_state=0).fit("sales.csv")
odd = pd.DataFrame({"day": ["01.03.2024"], "product": ["tea"], "price": [30.0]})
print(detector.explain(odd)[0])
