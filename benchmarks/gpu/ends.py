"""What pixels in and detections out gain: float, uint8 and uint8 with NMS of one model, side by
side, and each engine built again with the timing cache that its first build left.

    python3 -m benchmarks.gpu.ends build --toolchain PYTHON --input FOLDER --work WORK --out OUT \
        --model NAME --precision fp16 [--gpu 0] [--timing FILE] [--again 3] [--level 2]
    python3 -m benchmarks.gpu.ends measure --toolchain PYTHON --work WORK --out OUT

FOLDER is what benchmarks.gpu.prepare wrote. `build` may run once for each precision at the same
time, on GPUs of their own. `measure` times all engines one after another, alone on the machine, and
writes the table. "before" and "after" are what the processor does for a batch: images into the
input, raw outputs into detections.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.calibration import cache
from enginery.demo.scenes import scene
from enginery.errors import EngineryError
from enginery.evaluation.rebuilt import compare_plans
from enginery.graphs.detections import OUTPUTS
from enginery.toolchain.client import build, inspect, measure, probe
from enginery.toolchain.precisions import shares
from enginery.toolchain.requests import BuildRequest, InspectRequest, MeasureRequest, PointRequest
from enginery.vision.detections import engine_rows, pair_rows, suppress
from enginery.vision.images import preprocess, to_pixels
from enginery.vision.nms import Nms
from tasks.ends import Scaling, own_ends

SIDE, BATCH, IMAGES = 640, 8, 32
LIMIT_S = 590
TACTICS = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")  # no cuBLAS and no cuDNN here
ENDS: Mapping[str, tuple[Scaling | None, Nms | None]] = {
    "float": (None, None),
    "uint8": (Scaling(), None),
    "uint8-detections": (Scaling(), Nms()),
}


def drop(event: Mapping[str, Any]) -> None:
    """Show errors only."""
    if event["event"] == "log" and event["severity"] == "error":
        print("    ", event["message"][:200], flush=True)


def request(args: argparse.Namespace, name: str, folder: Path) -> BuildRequest:
    """An engine with these ends, from the graph that all share."""
    pixels, nms = ENDS[name]
    onnx = args.input / f"{args.model}-b{BATCH}.onnx"
    ends = own_ends(onnx, None, pixels, nms, folder)
    int8: dict[str, Any] = {}
    if args.precision == "int8":
        ranges = folder / "ranges.cache"
        version = probe(args.toolchain, "tensorrt").version
        headed = cache.read(args.input / f"{args.model}.cache").headed_for(version)
        cache.write(headed.scaled(ends.ranges), ranges)
        layers = json.loads((args.input / f"{args.model}.json").read_text())
        int8 = {"cache": ranges, "fp16_layers": tuple(layers)}
    return BuildRequest(
        "tensorrt",
        ends.onnx,
        folder / "model.plan",
        args.model,
        gpu=args.gpu,
        optimization_level=args.level,
        tactic_sources=TACTICS,
        precision=args.precision,
        channels_last=ends.image if pixels else None,
        plugins=nms is not None,
        **int8,
    )


def build_all(args: argparse.Namespace) -> None:
    """Each engine, and each again."""
    known = args.work / f"{args.precision}.timing"
    if args.timing:
        shutil.copyfile(args.timing, known)
    for name in ENDS:
        folder = args.work / f"{args.precision}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        asked = request(args, name, folder)
        caches = (known,) if known.exists() else ()
        first = {**vars(asked), "timing_caches": caches, "timing_cache": folder / "own.timing"}
        built = build(args.toolchain, BuildRequest(**first), drop, LIMIT_S)
        shutil.copyfile(folder / "own.timing", known)
        again = [repeat(args, asked, folder, number) for number in range(args.again)]
        figures = {
            "precision": args.precision,
            "ends": name,
            "seconds": built.seconds,
            "plan_bytes": built.plan_bytes,
            "plan_sha256": built.plan_sha256,
            "precisions": shares(built.layers),
            "again": again,
        }
        (folder / "built.json").write_text(json.dumps(figures, indent=1))
        print(json.dumps(figures), flush=True)


def repeat(
    args: argparse.Namespace, asked: BuildRequest, folder: Path, number: int
) -> dict[str, Any]:
    """The same build, with a copy of the cache that the first one left."""
    plan, own = folder / f"again-{number}.plan", folder / "copy.timing"
    shutil.copyfile(folder / "own.timing", own)
    fields = {
        **vars(asked),
        "plan": plan,
        "timing_caches": (own,),
        "timing_cache": folder / "grown.timing",
    }
    built = build(args.toolchain, BuildRequest(**fields), drop, LIMIT_S)
    found = compare_plans(asked.plan, plan)
    kernels = [tactics(args, path) for path in (asked.plan, plan)]
    return {
        "seconds": round(built.seconds, 1),
        "sha256": built.plan_sha256[:12],
        "bytes": str(found),
        "same_kernels": kernels[0] == kernels[1],
    }


def tactics(args: argparse.Namespace, plan: Path) -> list[tuple[str, str]]:
    """The kernel of each layer."""
    from enginery.system.files import sha256

    shape = (BATCH, 3, SIDE, SIDE)
    asked = InspectRequest("tensorrt", plan, sha256(plan), args.gpu, plugins=True, shape=shape)
    layers = inspect(args.toolchain, asked, drop, LIMIT_S).layers
    return [
        (str(layer["Name"]), str(layer.get("TacticValue", "")))
        for layer in layers
        if isinstance(layer, Mapping)
    ]


def measure_all(args: argparse.Namespace) -> None:
    """The table."""
    images = [scene(seed)[0] for seed in range(1, IMAGES + 1)]
    rows: list[dict[str, Any]] = []
    raw: dict[str, NDArray[np.float32]] = {}
    for file in sorted(args.work.glob("*/built.json")):
        figures = json.loads(file.read_text())
        try:
            rows.append(figures | measured(args, file.parent, figures, images, raw))
        except EngineryError as error:
            rows.append(figures | {"error": str(error)})
    (args.out / "ends.json").write_text(json.dumps(rows, indent=1))
    print(table(rows), flush=True)


def measured(
    args: argparse.Namespace,
    folder: Path,
    figures: Mapping[str, Any],
    images: Sequence[NDArray[np.uint8]],
    raw: dict[str, NDArray[np.float32]],
) -> dict[str, Any]:
    """Times, and how far outputs are from those of the float engine of the same precision."""
    pixels, nms = ENDS[figures["ends"]]
    prepare = to_pixels if pixels else preprocess
    given = np.stack([prepare(image, SIDE, SIDE, "detect") for image in images])
    np.save(folder / "images.npy", given)
    shape = (BATCH, 3, SIDE, SIDE)
    point = PointRequest(shape, folder / "images.npy", folder)
    asked = MeasureRequest(
        "tensorrt",
        folder / "model.plan",
        figures["plan_sha256"],
        args.gpu,
        plugins=nms is not None,
        points=(point,),
        runs=300,
    )
    result = measure(args.toolchain, asked, drop, LIMIT_S)
    names = result.points[0].outputs
    outputs = {name: np.load(folder / f"{index}.npy") for index, name in enumerate(names)}
    before = spent(lambda: [prepare(image, SIDE, SIDE, "detect") for image in images[:BATCH]])
    told: dict[str, Any] = {
        "timing": result.points[0].timing,
        "gpu": result.gpu,
        "before_ms": before,
    }
    if nms is None:
        [output] = outputs.values()
        raw.setdefault(figures["precision"], output)
        base = raw[figures["precision"]]
        told["after_ms"] = spent(lambda: [suppress(each[None], Nms()) for each in output[:BATCH]])
        told["distance"] = float(np.sqrt(((output - base) ** 2).mean() / (base**2).mean()))
        return told
    found = engine_rows({name: outputs[name] for name in OUTPUTS})
    told["after_ms"] = spent(lambda: engine_rows({k: v[:BATCH] for k, v in outputs.items()}))
    return told | agreement(raw[figures["precision"]], found, nms)


def agreement(raw: NDArray[np.float32], found: NDArray[np.float32], nms: Nms) -> dict[str, Any]:
    """The engine's detections beside those of Ultralytics' NMS on the float engine's output."""
    expected = [suppress(each[None], nms) for each in raw]
    pairs = [pair_rows(one, each[None]) for one, each in zip(expected, found, strict=True)]
    apart = [float(np.abs(a - b).max(initial=0)) for a, b in pairs]
    return {
        "detections": int((found[:, :, 4] > 0).sum()),
        "expected": int(sum((each[0, :, 4] > 0).sum() for each in expected)),
        "both": int(sum(pair[0].shape[1] for pair in pairs)),
        "pixels_apart": max(apart),
    }


def spent(work: Callable[[], Any]) -> float:
    """Milliseconds, the median of nine."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return float(np.median(times))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """For people; ratios are to the float engine of the same precision."""
    titles = ["engine", "GPU p50 ms", "ratio", "with transfers", "ratio", "CUDA graph", "ratio"]
    titles += ["before ms", "after ms", "against float", "build s", "again"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    base = {row["precision"]: row for row in rows if row["ends"] == "float" and "timing" in row}
    for row in rows:
        name = f"{row['precision']} {row['ends']}"
        if "error" in row:
            lines.append(f"| {name} | {row['error']} |")
            continue
        cells = [name]
        for kind in ("gpu", "with_transfers", "cuda_graph"):
            own, other = (each["timing"][kind]["p50"] for each in (row, base[row["precision"]]))
            cells += [f"{own:.3f}", f"{own / other:.3f}"]
        cells += [f"{row['before_ms']:.1f}", f"{row['after_ms']:.1f}"]
        told = f"rms {row['distance']:.4f}" if "distance" in row else ""
        if "both" in row:
            told = f"{row['both']} of {row['expected']} detections, {row['detections']} found, "
            told += f"{row['pixels_apart']:.2f} px apart at most"
        again = "; ".join(each["bytes"] for each in row["again"]) or "-"
        if row["again"] and all(each["same_kernels"] for each in row["again"]):
            again += ", the same kernels"
        cells += [told, f"{row['seconds']:.0f}", again]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Build, or measure what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phase", choices=["build", "measure"])
    for name in ("toolchain", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--timing", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--gpu")
    parser.add_argument("--again", type=int, default=3)
    parser.add_argument("--level", type=int, default=2)
    args = parser.parse_args()
    for folder in (args.work, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(asdict(probe(args.toolchain, "tensorrt"))), flush=True)
    (build_all if args.phase == "build" else measure_all)(args)


if __name__ == "__main__":
    main()
