"""A graph without some of its weights: two graphs with the same digest differ in these weights
alone, so a plan can be refitted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from enginery.graphs.tensors import hold, place_of, values


def structure_digest(model: onnx.ModelProto, weights: Collection[str], more: str) -> str:
    """Hex digest of a graph without the values of the named initializers (their types and shapes
    count), and of `more`.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(
                onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            )
        elif place := place_of(tensor):
            hold(tensor, place.digest())  # where it lies does not count
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True))
    digest.update(more.encode())
    return digest.hexdigest()


def save_weights(model: onnx.ModelProto, names: Collection[str], out: Path, prefix: str) -> None:
    """The named initializers as an .npz, each under its name after `prefix`."""
    arrays: dict[str, Any] = {
        prefix + tensor.name: values(tensor)
        for tensor in model.graph.initializer
        if tensor.name in names
    }
    np.savez(out, **arrays)
