"""Explicit quantization: Q/DQ nodes where TensorRT wants them, what stays in float, and what each
layer's INT8 costs.
"""
