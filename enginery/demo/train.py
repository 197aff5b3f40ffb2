"""Reproduce the demo's weights: YOLOv8n on 320-pixel scenes, then without its optimizer state, in
half precision.

    .venv/bin/python -m enginery.demo.train --work /tmp/training --out data/demo/yolov8n-shapes.pt

About 35 minutes on two cores. Seeds 1,000,000 and up: no training scene is a calibration or
validation scene.
"""

from __future__ import annotations

import argparse
import os
import shutil
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("YOLO_AUTOINSTALL", "false")

from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils.torch_utils import strip_optimizer

from enginery.demo.dataset import write_dataset
from enginery.demo.scenes import CLASSES
from enginery.system.files import atomic_write

FIRST_SEED = 1_000_000


class Trainer(DetectionTrainer):  # type: ignore[misc]
    """Ultralytics' detection trainer without its validation, which the pipeline's own validate step
    does.
    """

    def get_validator(self) -> SimpleNamespace:
        """What the trainer reads of a validator."""
        self.loss_names = "box_loss", "cls_loss", "dfl_loss"
        return SimpleNamespace(metrics=SimpleNamespace(keys=[]))

    def validate(self) -> tuple[dict[str, float], float]:
        """The fitness only decides which epoch is kept as best: the last one is."""
        return {}, float(self.epoch)

    def final_eval(self) -> None:
        """Nothing: see the class."""

    def plot_training_labels(self) -> None:
        """Nothing: no pictures are wanted."""


def write_reproducible(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint without its dates, paths and durations: two trainings with the same result
    are the same bytes.
    """
    import torch

    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    for key in ("date", "git", "train_results", "train_metrics"):
        content.pop(key, None)
    for arguments in (content["train_args"], content["model"].args):
        for key in ("data", "project", "save_dir"):
            arguments.pop(key, None)
    buffer = BytesIO()  # a file's own name would be written into it
    torch.save(content, buffer)
    with atomic_write(out) as partial:
        partial.write_bytes(buffer.getvalue())


def main() -> None:
    """Draw the training scenes, train, write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for scenes and checkpoints"
    )
    parser.add_argument("--out", type=Path, required=True, help="where the weights go")
    parser.add_argument("--images", type=int, default=2400)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    write_dataset(args.work / "train", range(FIRST_SEED, FIRST_SEED + args.images), args.size)
    data = args.work / "data.yaml"
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    data.write_text(
        f"path: {args.work.resolve()}\ntrain: train/images\nval: train/images\nnames:\n{names}"
    )
    settings: dict[str, Any] = {
        "model": "yolov8n.yaml",
        "data": str(data),
        "imgsz": args.size,
        "epochs": args.epochs,
        "batch": 16,
        "device": "cpu",
        "workers": 0,
        "seed": 0,
        "deterministic": True,
        "optimizer": "AdamW",
        "lr0": 0.002,
        "warmup_epochs": 1.0,
        "mosaic": 0.0,
        "scale": 0.2,
        "translate": 0.05,
        "hsv_h": 0.0,
        "val": False,
        "plots": False,
        "amp": False,
        "cos_lr": True,
        "nbs": 16,
        "project": str(args.work),
        "name": "run",
        "exist_ok": True,
        "weight_decay": 0.0005,
    }
    Trainer(overrides=settings).train()
    stripped = args.work / "stripped.pt"
    shutil.copyfile(args.work / "run" / "weights" / "last.pt", stripped)
    strip_optimizer(stripped)
    write_reproducible(stripped, args.out)
    print(f"wrote {args.out}, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
