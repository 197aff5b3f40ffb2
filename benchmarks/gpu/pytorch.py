"""PyTorch on the same GPU: a model's forward pass, eager and compiled, timed as the engines are.

    python3 -m benchmarks.gpu.pytorch OUT NAME=WEIGHTS... [--batch 1 8]

WEIGHTS is a .pt or an architecture. Milliseconds a batch by CUDA events, 200 runs after a second of
warm-up; TF32 is off.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO

RUNS, WARM_UP_S, SIDE = 200, 1.0, 640


def timed(forward: Any, image: torch.Tensor) -> dict[str, float]:
    """p50, p99, mean, min and max of a forward pass."""
    with torch.inference_mode():
        end = time.monotonic() + WARM_UP_S
        forward(image)
        while time.monotonic() < end:
            forward(image)
        torch.cuda.synchronize()
        milliseconds = torch.tensor([once(forward, image) for _ in range(RUNS)])
    p50, p99 = torch.quantile(milliseconds, torch.tensor([0.5, 0.99])).tolist()
    return {
        "p50": p50,
        "p99": p99,
        "mean": milliseconds.mean().item(),
        "min": milliseconds.min().item(),
        "max": milliseconds.max().item(),
    }


def once(forward: Any, image: torch.Tensor) -> float:
    """Milliseconds of one run."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    forward(image)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def main() -> None:
    """Write OUT, a list of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    rows = []
    for name, weights in (model.split("=") for model in args.models):
        for kind, dtype in (
            ("eager fp32", torch.float32),
            ("eager fp16", torch.float16),
            ("compile fp16", torch.float16),
        ):
            network = YOLO(weights).model.fuse().eval().cuda().to(dtype)
            forward = torch.compile(network) if kind.startswith("compile") else network
            for batch in args.batch:
                times: dict[str, Any]
                try:
                    times = timed(
                        forward, torch.rand(batch, 3, SIDE, SIDE, device="cuda", dtype=dtype)
                    )
                except Exception as error:
                    times = {"error": " ".join(str(error).split())[:300]}
                rows.append(
                    {
                        "model": name,
                        "batch": batch,
                        "name": f"PyTorch {torch.__version__} {kind}",
                        **times,
                    }
                )
                print(rows[-1], flush=True)
                args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
