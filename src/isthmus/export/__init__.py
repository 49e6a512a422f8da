"""Export of models as ONNX graphs, which run without Python."""

from isthmus.export.graph_inputs import onnx_inputs
from isthmus.export.writing import export_onnx

__all__ = ["export_onnx", "onnx_inputs"]
