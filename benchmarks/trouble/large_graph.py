"""A graph above 2 GB, through every step to its plans: seconds, memory and files of each.

    .venv/bin/python benchmarks/trouble/large_graph.py [--gigabytes 2.4] [--folder DIR]

The graph is a classifier with random weights, written as ONNX with its data beside it. It needs
about seven times its size on the disk. The steps are run as DVC runs them, each in a process of its
own, in a copy of this checkout.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import psutil
import yaml
from onnx import TensorProto, helper

from enginery.demo.scenes import scene

ROOT = Path(__file__).resolve().parents[2]
NAME, SIDE, CLASSES, IMAGES = "large", 64, 3, 6
FEATURES = 32 * (SIDE // 2) ** 2  # what the convolution gives to the first matrix
BYTES = 4
STEPS = [
    ("fingerprint",),
    ("export", NAME),
    ("images", NAME),
    ("simplify", NAME),
    ("quantize", NAME, "fp32"),
    ("quantize", NAME, "fp16"),
    ("validate", NAME, "fp32"),
    ("validate", NAME, "fp16"),
    ("build", NAME, "ada", "fp16"),
    ("register", NAME, "ada", "fp16"),
    ("build", NAME, "ada", "fp32"),
    ("register", NAME, "ada", "fp32"),
]


def write_source(folder: Path, gigabytes: float) -> Path:
    """A convolution and three matrix products; the two large ones share the bytes."""
    hidden = int(gigabytes * 1e9 / BYTES / 2 / FEATURES)
    shapes = {
        "c": (32, 3, 2, 2),
        "w0": (FEATURES, hidden),
        "w1": (hidden, FEATURES),
        "w2": (FEATURES, CLASSES),
    }
    random, tensors = np.random.default_rng(0), []
    with (folder / "large.onnx_data").open("wb") as file:
        for name, shape in shapes.items():
            start, rows = file.tell(), shape[0]
            deviation = np.float32((2 / (np.prod(shape[1:]) if name == "c" else rows)) ** 0.5)
            for row in range(0, rows, 256):
                values = random.standard_normal((min(256, rows - row), *shape[1:]), np.float32)
                file.write((values * deviation).tobytes())
            tensors.append(outside(name, shape, start, file.tell() - start))
    (folder / "large.onnx").write_bytes(graph(tensors).SerializeToString())
    return folder / "large.onnx"


def outside(name: str, shape: tuple[int, ...], offset: int, length: int) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", "large.onnx_data"), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def graph(tensors: list[TensorProto]) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES])
    nodes = [
        helper.make_node("Conv", ["images", "c"], ["a"], "conv", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Identity", ["b"], ["i"], "nothing"),
        helper.make_node("Flatten", ["i"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "w0"], ["g"], "first"),
        helper.make_node("Relu", ["g"], ["h"], "relu1"),
        helper.make_node("MatMul", ["h", "w1"], ["j"], "second"),
        helper.make_node("Relu", ["j"], ["k"], "relu2"),
        helper.make_node("MatMul", ["k", "w2"], ["l"], "third"),
        helper.make_node("Softmax", ["l"], ["scores"], "softmax"),
    ]
    body = helper.make_graph(nodes, "large", [image], [scores], tensors)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(
        key="names", value=str({number: f"class{number}" for number in range(CLASSES)})
    )
    model.metadata_props.add(key="task", value="classify")
    return model


def write_images(source: Path, folder: Path) -> None:
    """Scenes, each in the folder of the class that the graph sees in it."""
    import onnxruntime

    from enginery.vision.images import preprocess

    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
    for seed in range(IMAGES):
        image = scene(seed, SIDE)[0]
        [scores] = session.run(None, {"images": preprocess(image, SIDE, SIDE, "classify")[None]})
        cv2.imwrite(str(folder / f"class{int(scores.argmax())}" / f"{seed}.png"), image)
    for number in range(CLASSES):  # a class without images is refused
        if not any((folder / f"class{number}").iterdir()):
            cv2.imwrite(str(folder / f"class{number}" / "other.png"), scene(100 + number, SIDE)[0])


def write_checkout(folder: Path) -> None:
    for name in ("enginery", "tasks", "flows", "dvc.yaml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    model: dict[str, Any] = {
        "source": "large.onnx",
        "task": "classify",
        "height": SIDE,
        "width": SIDE,
        "validation": "images",
    }
    params = {
        "matrix": {"models": [NAME], "targets": ["ada"], "precisions": ["fp32", "fp16"]},
        "models": {NAME: model},
        "int8": {},
        "targets": {
            "ada": {"runtime": "tensorrt_rtx", "compute_capability": "8.9", "time_limit_s": 7200}
        },
        "toolchains": {},
        "validation": {"top1_drop": 0.0},
        "demo": {"validation_images": 1, "calibration_images": 1},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def run(step: tuple[str, ...], folder: Path) -> tuple[float, float, float]:
    """Seconds of a step, the MiB that its processes held at most, and the MiB with the files that
    they had mapped.
    """
    began, held, mapped = time.monotonic(), 0.0, 0.0
    command = [sys.executable, "-m", f"tasks.{step[0]}", *step[1:]]
    process = subprocess.Popen(
        command, cwd=folder, stdout=sys.stderr
    )  # the table alone goes to standard output
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.Error, OSError):
            memory = [resident(each.pid) for each in (watched, *watched.children(recursive=True))]
            held, mapped = (
                max(held, sum(own for own, _ in memory)),
                max(mapped, sum(map(sum, memory))),
            )
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{' '.join(step)} failed")
    return time.monotonic() - began, held, mapped


def resident(pid: int) -> tuple[float, float]:
    """The MiB in memory of a process: its own, and of files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    own, files = (int(fields.get(key, "0").split()[0]) / 1024 for key in ("RssAnon", "RssFile"))
    return own, files


def main() -> None:
    """Make the graph, run the steps, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.4)
    parser.add_argument(
        "--folder", type=Path, help="where to work (default: a temporary folder here)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder or ROOT) as temporary:
        folder = Path(temporary)
        write_checkout(folder)
        source = write_source(folder, args.gigabytes)
        write_images(source, folder / "images")
        print("| step | seconds | memory, MiB | with mapped files, MiB |\n|---|---|---|---|")
        for step in STEPS:
            seconds, held, mapped = run(step, folder)
            print(f"| {' '.join(step)} | {seconds:.1f} | {held:.0f} | {mapped:.0f} |", flush=True)
        print("\n| file | bytes |\n|---|---|")
        files = [folder / "large.onnx_data", *sorted((folder / "artifacts").rglob("model.*"))]
        for path in files:
            if path.suffix != ".json":
                print(f"| {path.relative_to(folder)} | {path.stat().st_size:,} |")


if __name__ == "__main__":
    main()
