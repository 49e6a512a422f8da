"""Models as ONNX graphs, which run where there is no Python."""

from isthmus.export.graph_inputs import onnx_inputs
from isthmus.export.writing import export_onnx

__all__ = ["export_onnx", "onnx_inputs"]
