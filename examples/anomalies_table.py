# %% [markdown]
# # Find anomalies in a table
# Payments with two planted errors; the detector finds them and says why.

# %% data
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from isthmus import AnomalyDetector, FalseAlarmRate
from isthmus.plots import save

draw = np.random.default_rng(0)
country = draw.choice(["Chile", "Peru", "Spain"], 2000, p=[0.5, 0.3, 0.2])
hours = draw.gamma(4.0, 2.0, 2000).round(1)
rate = pd.Series({"Chile": 20.0, "Peru": 15.0, "Spain": 40.0})[country].to_numpy()
table = pd.DataFrame(
    {"country": country, "hours": hours, "amount": (hours * rate * draw.normal(1, 0.03, 2000)).round(2)}
)
normal, new = table[:1800], table[1800:].reset_index(drop=True)
new.loc[7, "amount"] *= 10  # a decimal point was lost
new.loc[90, "country"] = "Span"  # a word that was never seen

# %% job
detector = AnomalyDetector(FalseAlarmRate(0.01), max_steps=300, random_state=0).fit(normal)
flagged = np.flatnonzero(detector.predict(new) == -1)

for reason in detector.explain(new.iloc[flagged]):
    print(reason)
print(f"{len(flagged)} of {len(new)} rows flagged; 1 % of normal rows are expected to be")

# %% picture
figure = Figure(figsize=(6, 3.6), layout="constrained")
ax = figure.subplots()
for name, rows in new.groupby("country"):
    ax.scatter(rows["hours"], rows["amount"], s=10, label=name)
ax.scatter(
    new["hours"][flagged], new["amount"][flagged], s=90, facecolors="none", edgecolors="#1f2933", label="flagged"
)
ax.set(xlabel="hours", ylabel="amount")
ax.legend(frameon=False)
save(figure, "anomalies_table.png")
