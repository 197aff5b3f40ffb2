"""A small model of each task with random weights that see something, and a data set labelled with
what it sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from enginery.demo.scenes import scene
from enginery.sources.ultralytics_compat import import_torchvision, silence

SIDE = 96
NAMES = {0: "ant", 1: "bee", 2: "cat"}
KEYPOINTS = (5, 3)
FAMILY = {
    "detect": "yolov8n",
    "segment": "yolov8n-seg",
    "pose": "yolov8n-pose",
    "obb": "yolov8n-obb",
    "classify": "yolov8n-cls",
}
IMAGES = range(6)


def write_model(task: str, path: Path, seed: int = 1) -> Path:
    """An Ultralytics checkpoint whose class scores differ from image to image, as untrained ones
    never do.
    """
    import torch
    from ultralytics import YOLO
    from ultralytics.nn import tasks

    torch.manual_seed(seed)
    import_torchvision()
    with silence():
        model = YOLO(f"{FAMILY[task]}.yaml")
        kinds = {
            "segment": tasks.SegmentationModel,
            "obb": tasks.OBBModel,
            "classify": tasks.ClassificationModel,
        }
        given = {"data_kpt_shape": list(KEYPOINTS)} if task == "pose" else {}
        kind = tasks.PoseModel if task == "pose" else kinds.get(task, tasks.DetectionModel)
        model.model = kind(model.cfg, nc=len(NAMES), verbose=False, **given)
        model.model.names, model.model.task = dict(NAMES), task
        _wake(model.model, task)
        model.save(str(path))
    return path


def _wake(network: Any, task: str) -> None:
    """Scale each last layer so that its outputs spread over real images as a trained one's do:
    scores up to 0.9, boxes of a few strides, masks that fill most of them."""
    import torch

    head = network.model[-1]
    branches = (
        {"cls": head.linear}
        if task == "classify"
        else {name: getattr(head, name, ()) for name in ("cv2", "cv3", "cv4")}
    )
    lasts = {
        name: [branch] if task == "classify" else [level[-1] for level in branch]
        for name, branch in branches.items()
    }
    seen: dict[Any, Any] = {}
    for layer in (layer for layers in lasts.values() for layer in layers):
        layer.register_forward_hook(lambda layer, given, found: seen.update({layer: found}))
    pictures = np.stack([scene(seed, SIDE)[0] for seed in IMAGES]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        given = torch.from_numpy(pictures.astype(np.float32) / 255)
        _normalize(network, given)
        network.eval()(given)
        means = {
            "cv2": torch.arange(16).mul(-0.8).repeat(4),
            "cv3": -2.0,
            "cv4": 1.0 if task == "segment" else 0.0,
            "cls": 0.0,
        }
        for name, layers in lasts.items():
            for layer in layers:
                _spread(layer, seen[layer], means[name])
                layer._forward_hooks.clear()


def _normalize(network: Any, given: Any) -> None:
    """Activations of about 1 in every layer.

    Their mean stays: without it, one pixel's noise would change the outputs by a fifth.
    """
    import torch

    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = 1.0
    network.train()(given)
    for layer in layers:
        layer.running_var.add_(layer.running_mean.square())
        layer.running_mean.zero_()


def _spread(layer: Any, found: Any, mean: Any) -> None:
    """A deviation of 1.5 around `mean` in every channel of what a layer gave, (images, channels,
    ...).
    """
    places = [axis for axis in range(found.ndim) if axis != 1]
    scale = 1.5 / found.std(dim=places)
    layer.bias.copy_((layer.bias - found.mean(dim=places)) * scale + mean)
    layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))


def write_data(task: str, weights: Path, folder: Path) -> Path:
    """Scenes of several shapes, labelled with the surest things that the model sees in them, a
    little moved.
    """
    from ultralytics import YOLO

    random = np.random.default_rng(0)
    with silence():
        model = YOLO(str(weights))
    for seed in IMAGES:
        image = scene(seed, 120)[0][: 120 - 12 * (seed % 3)]
        with silence():
            [found] = model.predict(
                image, imgsz=SIDE, rect=False, conf=0.05, iou=0.4, verbose=False
            )
        if task == "classify":
            target = folder / NAMES[(found.probs.top1 + (seed == 1)) % 3]
        else:
            target = folder / "images"
            labels = folder / "labels"
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{seed}.txt").write_text(
                "".join(f"{line}\n" for line in _lines(task, found, random))
            )
        target.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / f"{seed}.png"), image)
    return folder


def _lines(task: str, found: Any, random: np.random.Generator) -> list[str]:
    boxes = found.obb if task == "obb" else found.boxes
    shapes = {
        "detect": lambda: found.boxes.xywhn.numpy(),
        "segment": lambda: found.masks.xyn,
        "obb": lambda: found.obb.xyxyxyxyn.numpy(),
        "pose": lambda: np.concatenate(
            [found.boxes.xywhn.numpy(), _seen(found.keypoints.xyn.numpy())], axis=1
        ),
    }[task]()
    lines = []
    for label, shape in zip(boxes.cls.int().tolist(), shapes, strict=True):
        moved = np.reshape(shape, -1) + random.normal(0, 0.004)
        if (
            len(moved) > (5 if task == "segment" else 3)
            and moved.min() >= 0
            and (moved.max() <= 1 or task == "pose")
        ):
            lines.append(f"{label} {' '.join(f'{value:.5f}' for value in np.minimum(moved, 1))}")
    return lines[:5]


def _seen(places: np.ndarray) -> np.ndarray:
    return np.concatenate([places, np.ones_like(places[..., :1])], axis=2).reshape(len(places), -1)
