"""ONNX graphs: export, simplification, precision, checks."""
