# %% [markdown]
# # Deploy a model
# One file for Python, one ONNX graph for everything else, with scaling and threshold inside.

# %% data
import numpy as np
import onnxruntime
from sklearn.datasets import load_breast_cancer

from isthmus import AnomalyDetector, export_onnx, load, onnx_inputs

table = load_breast_cancer(as_frame=True).data.iloc[:, :10]
normal, new = table[:500], table[500:].copy()
new.iloc[3, 0] *= 10  # millimetres for centimetres

# %% job
detector = AnomalyDetector(max_steps=100, random_state=0).fit(normal)

detector.save("detector.safetensors")
same = load("detector.safetensors").score_samples(new)

export_onnx(detector, "detector.onnx")
session = onnxruntime.InferenceSession("detector.onnx")  # needs neither isthmus nor PyTorch
scores, labels = session.run(["score_samples", "predict"], onnx_inputs(detector, new))

print("the file gives the same scores:", np.array_equal(same, detector.score_samples(new)))
print(f"the graph's scores differ by at most {np.abs(scores - same).max():.1e}")
print(
    "rows flagged by the graph:",
    np.flatnonzero(labels == -1),
    "by the model:",
    np.flatnonzero(detector.predict(new) == -1),
)
