"""A small model of each task with random weights that see something, and a data set labelled with what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from enginery.demo.scenes import scene
from enginery.vision import import_torchvision, silence

SIDE = 96
NAMES = {0: "ant", 1: "bee", 2: "cat"}
KEYPOINTS = (5, 3)
FAMILY = {"detect": "yolov8n", "segment": "yolov8n-seg", "pose": "yolov8n-pose", "obb": "yolov8n-obb", "classify": "yolov8n-cls"}
IMAGES = range(6)


def write_model(task: str, path: Path) -> Path:
    """An Ultralytics checkpoint whose class scores differ from image to image, as untrained ones never do."""
    import torch
    from ultralytics import YOLO
    from ultralytics.nn import tasks

    torch.manual_seed(1)
    import_torchvision()
    with silence():
        model = YOLO(f"{FAMILY[task]}.yaml")
        kinds = {"segment": tasks.SegmentationModel, "obb": tasks.OBBModel, "classify": tasks.ClassificationModel}
        given = {"data_kpt_shape": list(KEYPOINTS)} if task == "pose" else {}
        kind = tasks.PoseModel if task == "pose" else kinds.get(task, tasks.DetectionModel)
        model.model = kind(model.cfg, nc=len(NAMES), verbose=False, **given)
        model.model.names, model.model.task = dict(NAMES), task
        _wake(model.model, task)
        model.save(str(path))
    return path


def _wake(network: Any, task: str) -> None:
    import torch

    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    pictures = np.stack([scene(seed, SIDE)[0] for seed in IMAGES]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        network.train()(torch.from_numpy(pictures.astype(np.float32) / 255))
        if task != "classify":
            _make_sure(network.model[-1])
    network.eval()


def _make_sure(head: Any) -> None:
    """Scores that reach 0.5, and boxes of a few strides."""
    import torch

    for scores, distances in zip(head.cv3, head.cv2, strict=True):
        scores[-1].bias.fill_(-2.0)
        scores[-1].weight.mul_(4.0)
        distances[-1].bias.copy_(torch.arange(16).mul(-0.8).repeat(4))


def write_data(task: str, weights: Path, folder: Path) -> Path:
    """Scenes of several shapes, labelled with the surest things that the model sees in them, a little moved."""
    from ultralytics import YOLO

    random = np.random.default_rng(0)
    with silence():
        model = YOLO(str(weights))
    for seed in IMAGES:
        image = scene(seed, 120)[0][: 120 - 12 * (seed % 3)]
        with silence():
            [found] = model.predict(image, imgsz=SIDE, rect=False, conf=0.05, iou=0.4, verbose=False)
        if task == "classify":
            target = folder / NAMES[(found.probs.top1 + (seed == 1)) % 3]
        else:
            target = folder / "images"
            labels = folder / "labels"
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{seed}.txt").write_text("".join(f"{line}\n" for line in _lines(task, found, random)))
        target.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / f"{seed}.png"), image)
    return folder


def _lines(task: str, found: Any, random: np.random.Generator) -> list[str]:
    boxes = found.obb if task == "obb" else found.boxes
    shapes = {
        "detect": lambda: found.boxes.xywhn.numpy(), "segment": lambda: found.masks.xyn, "obb": lambda: found.obb.xyxyxyxyn.numpy(),
        "pose": lambda: np.concatenate([found.boxes.xywhn.numpy(), _seen(found.keypoints.xyn.numpy())], axis=1),
    }[task]()
    lines = []
    for label, shape in zip(boxes.cls.int().tolist(), shapes, strict=True):
        moved = np.reshape(shape, -1) + random.normal(0, 0.004)
        if len(moved) > 3 and moved.min() >= 0 and (moved.max() <= 1 or task == "pose"):
            lines.append(f"{label} {' '.join(f'{value:.5f}' for value in np.minimum(moved, 1))}")
    return lines[:5]


def _seen(places: np.ndarray) -> np.ndarray:
    return np.concatenate([places, np.ones_like(places[..., :1])], axis=2).reshape(len(places), -1)
