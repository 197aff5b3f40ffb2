"""The other calibrators, side by side with ours: each is run in a process of its own, by `python -m
benchmarks.peers METHOD ...`.

ModelOpt needs an environment of its own, PEERS:
`python3.11 -m venv PEERS && PEERS/bin/pip install 'nvidia-modelopt[onnx]==0.47.0'
opencv-python-headless`
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from enginery.quantization.rules import RULES
from enginery.vision.images import list_images, preprocess, read_image

STRIDE = 8
HEAD = RULES["yolo-head-1"]  # the same layers stay in float everywhere


def prepared(path: Path) -> np.ndarray[Any, Any]:
    """An image as the graph's input, the same for all."""
    return preprocess(read_image(path), 640, 640, "detect")[None]


def excluded(model: Path) -> list[str]:
    """Nodes that stay in float."""
    import re

    import onnx

    return [
        node.name
        for node in onnx.load(model).graph.node
        if any(re.search(pattern, node.name) for pattern in HEAD)
    ]


def forward(model: Path, paths: list[Path], out: Path) -> float:
    """The bare forward passes: only the session's own time counts."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    seconds = 0.0
    for path in paths:
        feed = {"images": prepared(path)}
        began = time.monotonic()
        session.run(None, feed)
        seconds += time.monotonic() - began
    return seconds


def enginery(model: Path, paths: list[Path], out: Path, algorithm: str) -> float:
    """Ours: from images to a Q/DQ graph in float32, so that all are judged by
    the same arithmetic.
    """
    import onnx

    from enginery.calibration.collect import CalibrationJob, collect
    from enginery.calibration.thresholds import thresholds_of
    from enginery.quantization.placement import place, tensors_to_calibrate
    from enginery.quantization.qdq import insert

    began = time.monotonic()
    graph = onnx.load(model)
    with tempfile.TemporaryDirectory() as folder:
        work = CalibrationJob(
            graph, tensors_to_calibrate(graph.graph), paths, (640, 640), "detect", ""
        )
        histograms = collect(work, Path(folder) / "kept", lambda done, total: None)
    insert(graph, place(graph.graph, HEAD), thresholds_of(histograms, algorithm, 99.99))
    onnx.save(graph, out)
    return time.monotonic() - began


def onnxruntime_static(model: Path, paths: list[Path], out: Path, method: str) -> float:
    """ONNX Runtime's quantize_static: symmetric, per channel, convolutions only."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Path] = iter(paths)

        def __len__(self) -> int:
            return len(paths)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(paths[start_index:end_index])

        def get_next(self) -> dict[str, Any] | None:
            path = next(self._left, None)
            return None if path is None else {"images": prepared(path)}

    began = time.monotonic()
    quantize_static(
        str(model),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=excluded(model),
        calibrate_method=getattr(CalibrationMethod, method),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "CalibPercentile": 99.99,
            # without it, it keeps every activation of every image in memory
            "CalibStridedMinMax": STRIDE,
        },
    )
    return time.monotonic() - began


def modelopt(model: Path, paths: list[Path], out: Path, method: str) -> float:
    """ModelOpt's ONNX quantization, the rest of the graph in float32."""
    from modelopt.onnx.quantization import quantize

    began = time.monotonic()
    data = np.concatenate([prepared(path) for path in paths])
    quantize(
        str(model),
        quantize_mode="int8",
        calibration_data=data,
        calibration_method=method,
        calibration_eps=["cpu"],
        nodes_to_exclude=excluded(model),
        output_path=str(out),
        high_precision_dtype="fp32",
        log_level="ERROR",
    )
    return time.monotonic() - began


METHODS = {
    "forward": lambda *args: forward(*args),
    **{
        f"enginery {name}": lambda *args, name=name: enginery(*args, name)
        for name in ("mse", "entropy", "percentile", "minmax")
    },
    **{
        f"onnxruntime {name}": lambda *args, name=name: onnxruntime_static(*args, name)
        for name in ("MinMax", "Percentile")
    },
    **{
        f"modelopt {name}": lambda *args, name=name: modelopt(*args, name)
        for name in ("max", "entropy")
    },
}


def main() -> None:
    """Run one method; print its seconds and the peak memory of this process in MiB."""
    import resource

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    seconds = METHODS[args.method](
        args.model, list(list_images(args.folder, "detect")[: args.count]), args.out
    )
    print(f"RESULT {seconds:.2f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


if __name__ == "__main__":
    main()
