"""The table of a GPU run: mAP is computed here, from the detections that benchmarks.gpu.run brought
back.

    .venv/bin/python -m benchmarks.gpu.report FOLDER_OR_FILE...

A folder is the OUT of benchmarks.gpu.run, a file that of benchmarks.gpu.onnxruntime_cuda or
benchmarks.gpu.pytorch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.demo.scenes import CLASSES
from enginery.evaluation.runners import GraphRunner, RecordedRunner
from enginery.evaluation.validation import GraphReport, compare
from enginery.vision.tasks import TaskMetadata

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "artifacts/models/yolov8n-shapes/export/model.onnx"
DATA = ROOT / "data/demo/validation"
TIMES = ("mean", "min", "max", "p50", "p99")


def recorded(path: Path) -> NDArray[np.float32]:
    """An engine's outputs; anchors below the score threshold are zero, as validation drops them."""
    with np.load(path) as kept:
        outputs = np.zeros(tuple(kept["shape"]), np.float32)
        outputs[kept["image"], :, kept["anchor"]] = kept["values"]
    return outputs


def compared(path: Path) -> GraphReport:
    """An engine's detections against the FP32 graph on the CPU."""
    reference = GraphRunner(MODEL, (640, 640))
    head = TaskMetadata("detect", dict(enumerate(CLASSES)))
    return compare(
        reference,
        RecordedRunner([recorded(path)], reference.size),
        DATA,
        head,
        lambda done, total: None,
    )


def accuracy(folder: Path, facts: dict[str, Any]) -> tuple[str, str]:
    """mAP50-95 and the points that it lost; random weights have none."""
    path = folder / f"{facts['model']}-b{facts['batch']}-{facts['name']}.npz"
    if not path.is_file():
        return "-", "-"
    found = compared(path)
    return (
        f"{found.candidate.value:.4f}",
        f"{(found.reference.value - found.candidate.value) * 100:+.2f}",
    )


def row(folder: Path, facts: dict[str, Any]) -> str:
    """A line of the table."""
    name = f"{facts['model']} {facts['name']}, batch {facts['batch']}"
    if "error" in facts:
        return f"| {name} | {facts['error']} |"
    timing = facts["timing"]
    graph = timing["cuda_graph"] or {"p50": float("nan")}
    times = (timing["gpu"][key] for key in TIMES)
    numbers = [f"{value:.3f}" for value in (*times, timing["with_transfers"]["p50"], graph["p50"])]
    refit = f"{facts['refit_wall_s']:.1f}" if "refit_wall_s" in facts else "-"
    built = [
        f"{facts['plan_bytes'] / 1e6:.1f}",
        f"{facts['seconds']:.1f}",
        f"{facts['wall_s'] - facts['seconds']:.1f}",
        refit,
    ]
    return f"| {' | '.join([name, *numbers, *accuracy(folder, facts), *built])} |"


def times_only(_: Path, facts: dict[str, Any]) -> str:
    """A line of another runtime."""
    name = f"{facts['model']} {facts['name']}, batch {facts['batch']}"
    numbers = [facts["error"]] if "error" in facts else [f"{facts[key]:.3f}" for key in TIMES]
    return f"| {' | '.join([name, *numbers])} |"


def main() -> None:
    """Print."""
    titles = [
        "engine",
        "mean ms",
        "min",
        "max",
        "p50",
        "p99",
        "p50 with transfers",
        "p50 CUDA graph",
        "mAP50-95",
        "points lost",
        "MB",
        "build s",
        "ours on top s",
        "refit s",
    ]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for path in map(Path, sys.argv[1:]):
        file, line = (path / "figures.json", row) if path.is_dir() else (path, times_only)
        for facts in json.loads(file.read_text()):
            print(line(path, facts), flush=True)


if __name__ == "__main__":
    main()
