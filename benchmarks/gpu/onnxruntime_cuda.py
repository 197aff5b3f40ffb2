"""ONNX Runtime's CUDA provider on the same GPU: a graph's FP32 and FP16 forward pass, timed as the
engines are.

    python3 -m benchmarks.gpu.onnxruntime_cuda OUT NAME=GRAPH...

GRAPH is a static float32 ONNX of benchmarks.gpu.prepare. Inputs and outputs stay on the GPU; TF32
is off; cuDNN searches exhaustively.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.gpu.pytorch import timed
from enginery.graphs.inspect import graph_info
from enginery.graphs.precision import write_fp16, write_fp32


def forward_of(graph: Path, image: torch.Tensor) -> Callable[[torch.Tensor], None]:
    """A graph's forward pass on the current CUDA stream, from and to the GPU's memory."""
    options = {
        "user_compute_stream": str(torch.cuda.current_stream().cuda_stream),
        "use_tf32": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }
    session = onnxruntime.InferenceSession(
        graph.as_posix(), providers=[("CUDAExecutionProvider", options)]
    )
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError("ONNX Runtime has no CUDA here")
    binding = session.io_binding()
    [given], [made] = session.get_inputs(), session.get_outputs()
    binding.bind_input(given.name, "cuda", 0, np.float32, tuple(image.shape), image.data_ptr())
    binding.bind_output(made.name, "cuda", 0)
    return lambda _: session.run_with_iobinding(binding)


def main() -> None:
    """Write OUT, a list of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("graphs", nargs="+")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with torch.cuda.stream(torch.cuda.Stream()), tempfile.TemporaryDirectory() as folder:
        for name, graph in (pair.split("=") for pair in args.graphs):
            for precision, convert in (("fp32", write_fp32), ("fp16", write_fp16)):
                typed = Path(folder) / "typed.onnx"
                try:
                    convert(Path(graph), typed)
                    shape = graph_info(typed).inputs[0].shape
                    image = torch.rand(shape, device="cuda")
                    times: dict[str, Any] = timed(forward_of(typed, image), image)
                except Exception as error:
                    shape, times = (), {"error": " ".join(str(error).split())[:300]}
                label = f"ONNX Runtime {onnxruntime.__version__} CUDA {precision}"
                rows.append(
                    {"model": name, "batch": shape[0] if shape else None, "name": label, **times}
                )
                print(rows[-1], flush=True)
                args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
