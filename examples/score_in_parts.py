# %% [markdown]
# # Score a large table in parts
# A saved model becomes a function of one part of a table.

# %% data
import numpy as np
import pandas as pd

from isthmus import AnomalyDetector, Apply

draw = np.random.default_rng(0)
amount = draw.gamma(4.0, 10.0, 6000).round(2)
table = pd.DataFrame(
    {"id": np.arange(6000), "amount": amount, "fee": (0.02 * amount + draw.normal(0, 0.02, 6000)).round(2)}
)
table.to_csv("payments.csv", index=False)
AnomalyDetector(max_steps=200, random_state=0).fit(table[:2000].drop(columns="id")).save("detector.safetensors")

# %% job
score = Apply("detector.safetensors", "score_samples", keep=["id"])

parts = pd.read_csv("payments.csv", chunksize=1500)  # at most 1,500 rows in memory
scored = pd.concat(score(part) for part in parts)

print(scored.nsmallest(3, "score_samples").to_string(index=False))
whole = score(table)
print("the parts change nothing:", np.allclose(whole, scored, rtol=0, atol=1e-9))
