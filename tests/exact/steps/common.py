"""A network of two convolutions, images of one colour, recipes, and a toolchain in use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from enginery.gpu.inventory import Gpu
from enginery.pipeline.workplace import ToolchainInUse
from enginery.project.stage import Stage
from enginery.system.files import write_json

MODEL = "yolov8n-shapes"


def write_recipe(step: Stage, **parameters: Any) -> dict[str, Any]:
    found = {"step": step.step, "version": 1, "tools": {}, "parameters": parameters}
    write_json(step.recipe, found)
    return found


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def pictures(folder: str, *values: int, size: tuple[int, int] = (4, 4)) -> list[Path]:
    """PNGs of one colour each."""
    paths = [Path(folder) / f"{number}.png" for number in range(len(values))]
    Path(folder).mkdir(parents=True)
    for path, value in zip(paths, values, strict=True):
        cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return paths


# A network of two convolutions whose last is a head's: `/model.22/cv2.0/cv2.0.2/Conv`

HEAD = "/model.22/cv2.0/cv2.0.2/Conv"


def network(batch: int | str = 1, own: bool = False) -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "w")
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], "/model.0/conv/Conv"),
        helper.make_node("Relu", ["c"], ["r"], "/model.0/act/Relu"),
        helper.make_node("Conv", ["r", "w"], ["output0"], HEAD),
    ]
    tensors = [weights]
    if own:
        tensors += [
            numpy_helper.from_array(np.array(0.5, np.float32), "s"),
            numpy_helper.from_array(np.array(0, np.int8), "z"),
        ]
        nodes[1:2] = [
            helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"]),
        ]
    shape = [batch, 3, 4, 4]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("images", "output0")
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def simplified(batch: int | str = 1, own: bool = False) -> Path:
    path = Path("artifacts/models") / MODEL / "simplify" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(network(batch, own), path)
    return path


FOLDER = f"artifacts/models/{MODEL}/calibration"


GPU = Gpu(0, "GPU-12345678-9", "Card", "8.6", 24000, "580", "12.8", 2000, 9000)
TOOLCHAIN = ToolchainInUse(
    name="mine",
    python=Path("/env/python"),
    gpu=GPU,
    visible="GPU-12345678-9",
    time_limit_s=1800,
)
