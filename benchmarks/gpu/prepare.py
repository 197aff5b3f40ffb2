"""What the GPU machine needs, in one folder: the demo's graphs at batch 1 and 8, its completed cache, the names of layers in fp16.

    .venv/bin/python -m benchmarks.gpu.prepare OUT

Run `enginery build` first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx

from enginery.calibration import cache
from enginery.calibration.complete import complete
from enginery.graphs.export import ExportSettings, export
from enginery.graphs.simplify import simplify
from enginery.quantization.placement import place
from enginery.quantization.rules import RULES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "artifacts/models/yolov8n-shapes"


def main() -> None:
    """Write the folder."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for batch in (1, 8):
        export(ROOT / "data/demo/yolov8n-shapes.pt", ExportSettings("detect", (640, 640), batch, False, 17), out / "exported.onnx")
        simplify(out / "exported.onnx", out / f"batch{batch}.onnx", [], 600)
    (out / "exported.onnx").unlink()
    graph = onnx.load(out / "batch1.onnx").graph
    ranges = cache.read(FOLDER / "calibration/calibration.cache").thresholds()
    found = cache.from_thresholds(complete(graph, ranges))
    cache.write(found.headed_for("8.6.0"), out / "portable.cache")
    (out / "float_layers.json").write_text(json.dumps(place(graph, RULES["yolo-head-1"]).excluded))


if __name__ == "__main__":
    main()
