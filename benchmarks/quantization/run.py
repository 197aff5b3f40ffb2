"""INT8's accuracy: ours and the peers', with the same layers in float, the same images and the same
arithmetic.

    .venv/bin/python -m benchmarks.quantization.run --peers PEERS/bin/python

PEERS: see benchmarks/peers.py. Run `enginery build` first. All are calibrated on the demo's
calibration images and judged on its validation images and on 160 scenes that nothing else uses.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers import METHODS
from enginery.demo.dataset import write_dataset
from enginery.demo.scenes import CLASSES
from enginery.evaluation.validation import validate_graph
from enginery.vision.tasks import TaskMetadata

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "artifacts/models/yolov8n-shapes/simplify/model.onnx"
DEMO = ROOT / "data/demo"
OTHERS = range(700_000, 700_160)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", type=Path, required=True, help="the interpreter of the environment with ModelOpt"
    )
    args = parser.parse_args()
    count = len(list((DEMO / "calibration/images").iterdir()))
    head = TaskMetadata("detect", dict(enumerate(CLASSES)))
    print(
        "| yolov8n-shapes, INT8 | mAP50-95 | points lost | RMS | on 160 others | points lost "
        "|\n|---|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_dataset(folder / "others", OTHERS)
        for method in [name for name in METHODS if name != "forward"]:
            python = args.peers if method.startswith("modelopt") else Path(sys.executable)
            out = folder / f"{method.replace(' ', '-')}.onnx"
            command = [
                str(python),
                str(ROOT / "benchmarks/peers.py"),
                method,
                str(MODEL),
                str(DEMO / "calibration"),
                str(count),
                str(out),
            ]
            subprocess.run(
                command,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=True,
                capture_output=True,
                cwd=folder,
            )
            cells = [method]
            for data in (DEMO / "validation", folder / "others"):
                report = validate_graph(MODEL, out, data, head, lambda done, total: None)
                after, before = report.candidate.value, report.reference.value
                cells += [f"{after:.4f}", f"{(before - after) * 100:+.2f}"]
                if len(cells) == 3:
                    cells.append(f"{report.closeness.rms_relative:.2%}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
