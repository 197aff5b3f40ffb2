"""Calibration: seconds and peak memory of ours and of the peers, each in a process of its own, one
after the other.

    .venv/bin/python -m benchmarks.calibration.run --peers PEERS/bin/python [--images 512]

PEERS: see benchmarks/peers.py. Run `enginery build` first: the demo's simplified graph is what all
calibrate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from enginery.demo.dataset import write_dataset
from enginery.sources.export import ExportSettings, export

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "artifacts/models/yolov8n-shapes/simplify/model.onnx"
GROWTH = (64, 128, 256, 512, 1024)
FIRST_SEED = 500_001


def measure(
    python: Path, method: str, model: Path, folder: Path, count: int
) -> tuple[float, float]:
    """Seconds and MiB."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            str(python),
            str(ROOT / "benchmarks/peers.py"),
            method,
            str(model),
            str(folder),
            str(count),
            f"{out}/q.onnx",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, cwd=out
        )
    found = [line for line in result.stdout.splitlines() if line.startswith("RESULT")]
    if not found:
        raise SystemExit(f"{method} failed: {result.stderr[-800:]}")
    _, seconds, memory = found[0].split()
    return float(seconds), float(memory)


def larger(name: str, folder: Path) -> Path:
    """A larger YOLOv8 with random weights: time and memory do not depend on them."""
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    YOLO(f"{name}.yaml").save(folder / f"{name}.pt")
    export(
        folder / f"{name}.pt",
        ExportSettings("detect", (640, 640), 1, False, 17),
        folder / f"{name}.onnx",
    )
    return folder / f"{name}.onnx"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", type=Path, required=True, help="the interpreter of the environment with ModelOpt"
    )
    parser.add_argument("--images", type=int, default=512)
    args = parser.parse_args()
    this = Path(sys.executable)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_dataset(folder, range(FIRST_SEED, FIRST_SEED + max(GROWTH)))
        print(f"| yolov8n, {args.images} images at 640x640 | seconds | peak MiB |\n|---|---:|---:|")
        for method in (
            "forward",
            "enginery mse",
            "enginery entropy",
            "onnxruntime MinMax",
            "onnxruntime Percentile",
        ):
            _row(method, *measure(this, method, NANO, folder, args.images))
        for method in ("modelopt max", "modelopt entropy"):
            _row(method, *measure(args.peers, method, NANO, folder, args.images))
        print("\n| enginery mse | seconds | bare forward passes | peak MiB |\n|---|---:|---:|---:|")
        for count in GROWTH:
            _pair(f"yolov8n, {count} images", NANO, folder, count)
        for name in ("yolov8s", "yolov8m"):
            _pair(f"{name}, {GROWTH[0]} images", larger(name, folder), folder, GROWTH[0])


def _row(name: str, seconds: float, memory: float) -> None:
    print(f"| {name} | {seconds:.1f} | {memory:.0f} |", flush=True)


def _pair(name: str, model: Path, folder: Path, count: int) -> None:
    this = Path(sys.executable)
    bare, _ = measure(this, "forward", model, folder, count)
    seconds, memory = measure(this, "enginery mse", model, folder, count)
    print(f"| {name} | {seconds:.1f} | {bare:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
