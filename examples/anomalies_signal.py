# %% [markdown]
# # Find anomalies in a time series
# A window slides over the series; odd stretches are reported with their times.

# %% data
import numpy as np
from matplotlib.figure import Figure

from isthmus import AnomalyDetector, FalseAlarmRate, SignalDetector
from isthmus.plots import save

draw = np.random.default_rng(0)
time = np.arange(4000)
normal = np.sin(time / 8) + 0.3 * np.sin(time / 3) + 0.05 * draw.normal(size=4000)
new = np.sin(time / 8) + 0.3 * np.sin(time / 3) + 0.05 * draw.normal(size=4000)
new[1500:1550] = new[1500]  # the sensor hangs
new[3000:3060] += np.linspace(0, 1.0, 60)  # and drifts

# %% job
judge = AnomalyDetector(FalseAlarmRate(0.01), max_steps=200, random_state=0)
detector = SignalDetector(window=50, detector=judge).fit(normal)

for stretch in detector.stretches(new):
    print(f"odd from {stretch.start} to {stretch.end}")
scores = -detector.score_samples(new)  # one for each time stamp

# %% picture
figure = Figure(figsize=(8, 3.4), layout="constrained")
above, below = figure.subplots(2, 1, sharex=True)
above.plot(time, new, linewidth=0.6, color="#0f6b8f")
below.plot(time, scores, linewidth=0.9, color="#7b8794")
below.axhline(detector.threshold_, color="#e07a3f", linewidth=1)
above.set(ylabel="signal")
below.set(ylabel="anomaly score", xlabel="time stamp")
save(figure, "anomalies_signal.png")
