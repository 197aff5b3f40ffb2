"""Builds on one GPU take turns, on two they run at once: the same engines for one and for both.

    python3 -m benchmarks.gpu.two_gpus TOOLCHAIN OUT [--tactics NAME...]

Each figure is `enginery build` of an FP32 and an FP16 engine a target, without timing caches.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.conftest import Checkout, copy_checkout, small

MODEL = "yolov8n-shapes"


def main() -> None:
    """Build what is common, then measure, and write OUT."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("toolchain", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tactics", nargs="+")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = copy_checkout(Path(temporary) / "checkout")
        _write_params(root, args.toolchain, args.tactics)
        checkout = Checkout(root, "")
        _run(checkout, "dvc", "repro", *(f"validate@{MODEL}-{name}" for name in ("fp32", "fp16")))
        figures = {}
        for name, targets in {"one": ["first"], "other": ["second"], "both": []}.items():
            shutil.rmtree(root / ".dvc/cache/runs", ignore_errors=True)
            for folder in ("build", "timing", "engines"):
                shutil.rmtree(root / "artifacts" / folder, ignore_errors=True)
            words = [word for target in targets for word in ("--target", target)]
            figures[name] = _run(checkout, "enginery", "build", "--jobs", "8", *words)
            print(name, figures[name], flush=True)
        figures["rate"] = round((figures["one"] + figures["other"]) / figures["both"], 2)
        args.out.write_text(json.dumps(figures) + "\n")
        print(figures)


def _write_params(root: Path, python: Path, tactics: list[str] | None) -> None:
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    small(params)
    target = {"runtime": "tensorrt", "toolchain": "trt", "optimization_level": 1}
    target |= {"tactic_sources": tactics} if tactics else {}
    params["toolchains"] = {"trt": {"python": str(python)}}
    params["targets"] = {"first": {**target, "gpu": 0}, "second": {**target, "gpu": 1}}
    params["matrix"].update(targets=["first", "second"], precisions=["fp32", "fp16"])
    params["int8"] = {}
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    Checkout(root, "").write_matrix()


def _run(checkout: Checkout, *command: str) -> float:
    """Seconds of a command that must succeed."""
    began = time.monotonic()
    line = [sys.executable, "-m", *command]
    environment = {**checkout.environment(), "PREFECT_API_URL": ""}
    ended = subprocess.run(
        line, cwd=checkout.root, env=environment, text=True, capture_output=True, check=False
    )
    if ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    return round(time.monotonic() - began, 1)


if __name__ == "__main__":
    main()
