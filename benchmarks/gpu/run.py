"""On a machine with a GPU: build a model in every precision and as the peers set it up, then run
and time all engines, one after another.

    python3 -m benchmarks.gpu.run build --toolchain PYTHON --input FOLDER --work WORK --out OUT \
        --model NAME --engines ...
    python3 -m benchmarks.gpu.run measure --toolchain PYTHON --work WORK --out OUT

FOLDER is what benchmarks.gpu.prepare wrote; WORK keeps plans, timing caches and a .json for each
build. OUT gets figures.json and, for each engine, the detections above the score threshold, which
benchmarks.gpu.report turns into the table with mAP. `build` times each engine once it is built, so
that a run that is cut off tells something; `measure` times all of them again, one right after
another.

Engines: fp32, tf32, fp16; fp16-warm, built again with its timing cache; int8 (Enginery's cache and
layers in fp16); int8-native (TensorRT's own calibration, the same layers); int8-plain (TensorRT's
own calibration, no layers named: what trtexec's --int8 --fp16 --calib sets); int8-ultralytics (its
layer constraints); fp16-refittable, then refitted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from enginery.errors import EngineryError
from enginery.gpu.inventory import Clocks, choose
from enginery.graphs.structure import save_weights
from enginery.report.layers import profile_layers
from enginery.toolchain import process
from enginery.toolchain.client import build, inspect, measure, probe, refit
from enginery.toolchain.requests import (
    WEIGHT_PREFIX,
    BuildRequest,
    InspectRequest,
    MeasureRequest,
    PointRequest,
    RefitRequest,
)
from enginery.vision.images import list_images, preprocess, read_image, save_batch

ROOT = Path(__file__).resolve().parents[2]
CONFIDENCE = 0.001  # below it, validation drops a detection
BUILD_LIMIT_S = 1500
SIDE = 640
TACTICS = (
    "EDGE_MASK_CONVOLUTIONS",
    "JIT_CONVOLUTIONS",
)  # the toolchain used here has no cuBLAS and no cuDNN
ULTRALYTICS = Path(__file__).with_name("ultralytics_child.py")


def quiet(event: Mapping[str, Any]) -> None:
    """Show errors only."""
    if event["event"] == "log" and event["severity"] == "error":
        print("    ", event["message"][:200], flush=True)


def images(name: str, work: Path) -> Path:
    """The demo's images as one .npy (n, 3, 640, 640)."""
    out = work / f"{name}.npy"
    if not out.exists():
        paths = list_images(ROOT / "data/demo" / name, "detect")
        save_batch(
            (preprocess(read_image(path), SIDE, SIDE, "detect") for path in paths),
            len(paths),
            (SIDE, SIDE),
            out,
        )
    return out


class Builds:
    """The builds of one model and batch size."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work = args, args.work
        self.key = f"{args.model}-b{args.batch}"
        self.onnx = args.input / f"{self.key}.onnx"
        self.layers = tuple(json.loads((args.input / f"{args.model}.json").read_text()))

    def kinds(self) -> dict[str, dict[str, Any]]:
        """What each engine is built with."""
        portable, native = (
            self.args.input / f"{self.args.model}.cache",
            self.work / f"{self.key}-native.cache",
        )
        int8 = {"precision": "int8"}
        return {
            "fp32": {},
            "tf32": {"tf32": True},
            "fp16": {"precision": "fp16"},
            "fp16-warm": {"precision": "fp16"},
            "int8": {**int8, "cache": portable, "fp16_layers": self.layers},
            "int8-native": {
                **int8,
                "cache": native,
                "fp16_layers": self.layers,
                "native_images": images("calibration", self.work),
            },
            "int8-plain": {**int8, "cache": native},
            "int8-ultralytics": {**int8, "cache": native},
            "fp16-refittable": {"precision": "fp16", "refittable": True},
        }

    def one(self, name: str) -> Path:
        """Build; what fails is written down and the next goes on. The .json that tells of it."""
        fields = self.kinds()[name]
        timing = self.work / f"{self.key}-{name.removesuffix('-warm').split('-')[0]}.timing"
        request = BuildRequest(
            "tensorrt",
            self.onnx,
            self.work / f"{self.key}-{name}.plan",
            self.args.model,
            optimization_level=self.args.level,
            timing_caches=(timing,) if timing.exists() else (),
            timing_cache=timing,
            tactic_sources=TACTICS,
            **fields,
        )
        program, process.PROGRAM = (
            process.PROGRAM,
            ULTRALYTICS if name == "int8-ultralytics" else process.PROGRAM,
        )
        began = time.monotonic()
        try:
            built = asdict(build(self.args.toolchain, request, quiet, BUILD_LIMIT_S))
            facts = {
                "wall_s": time.monotonic() - began,
                **built,
                "messages": len(built["messages"]),
            }
            if name == "fp16-refittable":
                facts |= self.refit(request, built)
        except EngineryError as error:
            facts = {"error": str(error)[:600]}
        process.PROGRAM = program
        facts |= {
            "model": self.args.model,
            "batch": self.args.batch,
            "name": name,
            "plan": f"{self.key}-{name}.plan",
        }
        file: Path = self.work / f"{self.key}-{name}.json"
        file.write_text(json.dumps(facts, indent=1))
        print(
            self.key,
            name,
            {key: facts.get(key) for key in ("seconds", "wall_s", "refit_wall_s", "error")},
            flush=True,
        )
        return file

    def refit(self, request: BuildRequest, built: Mapping[str, Any]) -> dict[str, Any]:
        """Put the same weights in again, as for new ones, and time it."""
        began = time.monotonic()
        save_weights(
            onnx.load(request.onnx),
            set(built["refittable_weights"]),
            self.work / "weights.npz",
            WEIGHT_PREFIX,
        )
        wanted = RefitRequest(
            "tensorrt",
            request.plan,
            built["plan_sha256"],
            weights=self.work / "weights.npz",
            out=request.plan.with_suffix(".refitted"),
        )
        result = refit(self.args.toolchain, wanted, quiet, BUILD_LIMIT_S)
        return {"refit_s": result.seconds, "refit_wall_s": time.monotonic() - began}


def measure_into(args: argparse.Namespace, file: Path) -> None:
    """Run and time the engine that a build's .json tells of; its figures take the place of earlier
    ones.
    """
    facts, out = json.loads(file.read_text()), args.out / "figures.json"
    if "error" not in facts:
        facts |= measured(args, facts)
    others = (
        [found for found in json.loads(out.read_text()) if found["plan"] != facts["plan"]]
        if out.exists()
        else []
    )
    out.write_text(json.dumps([*others, facts], indent=1))
    print(file.stem, facts.get("timing", {}).get("gpu"), flush=True)


def measured(args: argparse.Namespace, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Run the validation images, time, note the clocks."""
    outputs = args.work / "outputs"
    outputs.mkdir(exist_ok=True)
    clocks = Clocks(choose(None), quiet)
    point = PointRequest((facts["batch"], 3, SIDE, SIDE), images("validation", args.work), outputs)
    request = MeasureRequest(
        "tensorrt", args.work / facts["plan"], facts["plan_sha256"], points=(point,)
    )
    try:
        result = measure(args.toolchain, request, clocks.follow, BUILD_LIMIT_S)
        layers(args, facts, point.shape)
    except EngineryError as error:
        return {"error": str(error)[:600]}
    if not facts["model"].endswith("random"):
        detections(
            np.load(outputs / "0.npy"),
            args.out / f"{facts['model']}-b{facts['batch']}-{facts['name']}.npz",
        )
    return {
        "timing": result.points[0].timing,
        "clocks": clocks.seen,
        "gpu": asdict(clocks.gpu) if clocks.gpu else None,
    }


def layers(args: argparse.Namespace, facts: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Keep what TensorRT's inspector tells and what each layer takes."""
    request = InspectRequest(
        "tensorrt", args.work / facts["plan"], facts["plan_sha256"], shape=shape
    )
    found = inspect(args.toolchain, request, quiet, BUILD_LIMIT_S)
    name = f"{facts['model']}-b{facts['batch']}-{facts['name']}-layers.json"
    (args.out / name).write_text(
        json.dumps({**asdict(found), "summary": [asdict(layer) for layer in profile_layers(found)]})
    )


def detections(output: np.ndarray[Any, Any], path: Path) -> None:
    """Keep an output's anchors above the threshold: image, anchor, values."""
    image, anchor = np.nonzero(output[:, 4:].max(axis=1) > CONFIDENCE)
    values = output[image, :, anchor]
    np.savez_compressed(
        path,
        image=image.astype(np.int32),
        anchor=anchor.astype(np.int32),
        values=values,
        shape=output.shape,
    )


def main() -> None:
    """Build or measure all that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phase", choices=["build", "measure"])
    parser.add_argument("--toolchain", type=Path, required=True)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--work", type=Path, default=Path("/tmp/gpu-bench"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--engines", nargs="+", default=[])
    args = parser.parse_args()
    for folder in (args.work, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(asdict(probe(args.toolchain, "tensorrt"))), flush=True)
    if args.phase == "measure":
        for file in sorted(args.work.glob("*.json")):
            measure_into(args, file)
        return
    builds = Builds(args)
    for name in args.engines:
        measure_into(args, builds.one(name))


if __name__ == "__main__":
    main()
