"""What a GPU run builds from, in one folder: a model's graphs, its calibration cache from Enginery,
the names of layers in fp16.

    python3 -m benchmarks.gpu.prepare NAME WEIGHTS OUT BATCH...

WEIGHTS is a .pt, or an architecture (yolov8m.yaml) with random weights, which is enough for times.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx

from enginery.calibration import cache
from enginery.calibration.collect import CalibrationJob, collect
from enginery.calibration.propagate import complete
from enginery.calibration.thresholds import thresholds_of
from enginery.graphs.simplify import simplify
from enginery.quantization.placement import place, tensors_to_calibrate
from enginery.quantization.rules import RULES
from enginery.sources.export import ExportSettings, export
from enginery.vision.images import list_images

ROOT = Path(__file__).resolve().parents[2]
SIDE = 640


def random_weights(architecture: str, out: Path) -> Path:
    """An untrained model of an architecture, the same each time."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    YOLO(architecture).save(out)
    return out


def main() -> None:
    """Write the folder."""
    name, weights, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    source = (
        random_weights(weights, out / "random.pt") if weights.endswith(".yaml") else ROOT / weights
    )
    for batch in map(int, sys.argv[4:]):
        export(
            source, ExportSettings("detect", (SIDE, SIDE), batch, False, 17), out / "exported.onnx"
        )
        simplify(out / "exported.onnx", out / f"{name}-b{batch}.onnx", [], 600)
    graph = out / f"{name}-b{sys.argv[4]}.onnx"
    model = onnx.load(graph)
    images = list_images(ROOT / "data/demo/calibration", "detect")
    work = CalibrationJob(
        model, tensors_to_calibrate(model.graph), list(images), (SIDE, SIDE), "detect", name
    )
    ranges = thresholds_of(
        collect(work, out / f"{name}.npz", lambda done, total: None), "mse", 99.99
    )
    cache.write(
        cache.from_thresholds(complete(model.graph, ranges)).headed_for("8.6.0"),
        out / f"{name}.cache",
    )
    (out / f"{name}.json").write_text(json.dumps(place(model.graph, RULES["yolo-head-1"]).excluded))
    print(f"{name}: {len(images)} images", flush=True)


if __name__ == "__main__":
    main()
