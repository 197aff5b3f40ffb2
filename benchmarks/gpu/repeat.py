"""Whether a build can be repeated: the same engine built again and again with the timing cache that
its first build left, on the same GPU and on another of its kind.

    python3 -m benchmarks.gpu.repeat TOOLCHAIN GRAPH CACHE OUT [--gpus 0 1] [--runs 5] [--level 2]

GRAPH is a float32 ONNX with a static batch or, with --batch 1 4 8, an open one; CACHE is its
calibration cache. OUT gets a JSON line for each build.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from enginery.calibration import cache
from enginery.graphs.inspect import graph_info
from enginery.toolchain.client import build, probe
from enginery.toolchain.requests import BuildRequest

_SIDE = 640  # of a graph whose height and width are open


def main() -> None:
    """Build, compare, and write a line for each build."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("toolchain", "graph", "cache", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--gpus", nargs="+", default=["0"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs=3, help="min, opt and max of an open batch")
    parser.add_argument("--tactics", nargs="+")
    parser.add_argument("--precisions", nargs="+", default=["fp16", "int8"])
    args = parser.parse_args()
    first, *others = args.gpus
    version = probe(args.toolchain, "tensorrt", first).version
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ranges = folder / "ranges.cache"
        cache.write(cache.read(args.cache).headed_for(version), ranges)
        for precision in args.precisions:
            request = BuildRequest(
                "tensorrt",
                args.graph,
                folder / "model.plan",
                "repeat",
                gpu=first,
                profiles=_profiles(args.graph, args.batch),
                optimization_level=args.level,
                tactic_sources=tuple(args.tactics) if args.tactics else None,
                precision=precision,
                cache=ranges if precision == "int8" else None,
            )
            _repeat(args.toolchain, request, folder / precision, args, others)


def _profiles(
    graph: Path, batch: Sequence[int] | None
) -> tuple[dict[str, dict[str, list[int]]], ...]:
    if not batch:
        return ()
    [tensor] = graph_info(graph).inputs
    rest = [size if isinstance(size, int) else _SIDE for size in tensor.shape[1:]]
    names = ("min", "opt", "max")
    return ({tensor.name: {name: [size, *rest] for name, size in zip(names, batch, strict=True)}},)


def _repeat(
    python: Path,
    request: BuildRequest,
    folder: Path,
    args: argparse.Namespace,
    others: Sequence[str],
) -> None:
    folder.mkdir()
    kept = folder / "first.timing"
    _line(python, replace(request, timing_cache=kept), "first", args)
    for run in range(args.runs):
        _line(python, _with_cache(request, kept, folder), f"again {run + 1}", args)
    for gpu in others:
        _line(python, replace(_with_cache(request, kept, folder), gpu=gpu), "other GPU", args)
    _line(python, replace(request, timing_cache=folder / "second.timing"), "without", args)


def _with_cache(request: BuildRequest, kept: Path, folder: Path) -> BuildRequest:
    """The first build's cache, a copy: what a build adds is not for the next."""
    copied = Path(shutil.copyfile(kept, folder / "copy.timing"))
    return replace(request, timing_caches=(copied,), timing_cache=folder / "added.timing")


def _line(python: Path, request: BuildRequest, what: str, args: argparse.Namespace) -> None:
    result = build(python, request, lambda event: None, 590)
    line = {
        "what": what,
        "precision": request.precision,
        "dynamic": bool(request.profiles),
        "gpu": request.gpu,
        "plan_sha256": result.plan_sha256,
        "bytes": result.plan_bytes,
        "seconds": round(result.seconds, 1),
    }
    print(json.dumps(line), flush=True)
    with args.out.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
