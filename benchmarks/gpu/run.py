"""On a machine with a GPU: build the demo in every precision, run every validation image, time it. Needs NumPy and OpenCV only.

    python3 -m benchmarks.gpu.run --toolchain PYTHON --input FOLDER --out OUT --batch 8

FOLDER is what benchmarks.gpu.prepare wrote. OUT gets figures.json and the detections above the score threshold of each engine, which
benchmarks.gpu.report turns into the table with mAP. Plans and timing caches are kept in the folder of --work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from enginery.errors import EngineryError
from enginery.evaluation.images import list_images, preprocess, read_image
from enginery.toolchain.client import BuildRequest, MeasureRequest, build, measure, probe

ROOT = Path(__file__).resolve().parents[2]
CONFIDENCE = 0.001  # below it, validation drops a detection
BUILD_LIMIT_S = 560
TACTICS = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")  # the toolchain used here has no cuBLAS and no cuDNN


def quiet(event: Mapping[str, Any]) -> None:
    """Show errors only."""
    if event["event"] == "log" and event["severity"] == "error":
        print("    ", event["message"][:200], flush=True)


def images(folder: Path, out: Path) -> Path:
    """A data set's images as one .npy (n, 3, 640, 640)."""
    if not out.exists():
        np.save(out, np.stack([preprocess(read_image(path), 640, 640, "detect") for path in list_images(folder, "detect")]))
    return out


def detections(output: np.ndarray[Any, Any], path: Path) -> None:
    """Keep an output's anchors above the threshold: image, anchor, values."""
    image, anchor = np.nonzero(output[:, 4:].max(axis=1) > CONFIDENCE)
    values = output[image, :, anchor]
    np.savez_compressed(path, image=image.astype(np.int32), anchor=anchor.astype(np.int32), values=values, shape=output.shape)


def clocks() -> str:
    """GPU, driver, SM and memory clocks, temperature, power, just after a measurement."""
    query = "name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw"
    found = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


class Bench:
    """One toolchain, one batch size."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.work = args.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.onnx = args.input / f"batch{args.batch}.onnx"
        self.layers = tuple(json.loads((args.input / "float_layers.json").read_text()))
        self.figures: list[dict[str, Any]] = []

    def engine(self, name: str, precision: str, timing: str, **fields: Any) -> None:
        """Build, run, time; what fails is written down and the next goes on."""
        plan = self.work / f"{name}-b{self.args.batch}.plan"
        request = BuildRequest(
            "tensorrt", self.onnx, plan, "yolov8n-shapes", precision=precision, optimization_level=self.args.level,
            timing_cache=self.work / f"{timing}.timing", tactic_sources=TACTICS, **fields,
        )
        began = time.monotonic()
        try:
            built = build(self.args.toolchain, request, quiet, BUILD_LIMIT_S)
            wall = time.monotonic() - began
            facts: dict[str, Any] = {"name": name, "batch": self.args.batch, "build_wall_s": wall, **asdict(built)}
            facts["messages"] = len(built.messages)
            facts |= self.measured(name, plan, built.plan_sha256)
        except EngineryError as error:
            facts = {"name": name, "batch": self.args.batch, "error": str(error)[:600]}
        self.figures.append(facts)
        print(json.dumps(facts), flush=True)
        (self.args.out / f"figures-b{self.args.batch}.json").write_text(json.dumps(self.figures, indent=1))

    def measured(self, name: str, plan: Path, digest: str) -> dict[str, Any]:
        """Run and time."""
        outputs = self.work / f"{name}-outputs"
        outputs.mkdir(exist_ok=True)
        found = images(ROOT / "data/demo/validation", self.work / "validation.npy")
        result = measure(self.args.toolchain, MeasureRequest("tensorrt", plan, digest, found, outputs, self.args.batch), quiet, 200)
        result["clocks"] = clocks()
        detections(np.load(outputs / f"{result['outputs'][0]}.npy"), self.args.out / f"{name}-b{self.args.batch}.npz")
        return result


def main() -> None:
    """Build and measure all that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toolchain", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/gpu-bench"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("engines", nargs="*", default=["fp32", "fp16", "fp16-warm", "int8-portable", "int8-native"])
    args = parser.parse_args()
    print(json.dumps(asdict(probe(args.toolchain, "tensorrt"))), flush=True)
    bench = Bench(args)
    calibration = images(ROOT / "data/demo/calibration", bench.work / "calibration.npy")
    portable = args.input / "portable.cache"
    kinds: dict[str, dict[str, Any]] = {
        "fp32": {"precision": "fp32", "timing": "fp32"},
        "fp16": {"precision": "fp16", "timing": "fp16"},
        "fp16-warm": {"precision": "fp16", "timing": "fp16"},
        "int8-portable": {"precision": "int8", "timing": "int8", "cache": portable, "float_layers": bench.layers},
        "int8-all": {"precision": "int8", "timing": "int8", "cache": portable},
        "int8-native": {
            "precision": "int8", "timing": "int8", "cache": args.out / "native.cache", "float_layers": bench.layers,
            "native_images": calibration,
        },
    }
    for name in args.engines:
        bench.engine(name, **kinds[name])


if __name__ == "__main__":
    main()
