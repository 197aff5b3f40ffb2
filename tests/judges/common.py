"""A project with one model, its images, and its steps run one after another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from enginery.demo.scenes import scene
from enginery.errors import ModelError
from enginery.pipeline.step import load_step
from enginery.project.paths import engine_folder
from enginery.project.stage import Stage
from enginery.registry.manifest import read_manifest
from enginery.registry.store import find
from enginery.sources.ultralytics_compat import import_torchvision
from tests.conftest import ROOT
from tests.stages import fingerprinted

SIDE = 64
THREE = {0: "a", 1: "b", 2: "c"}


def state(name: str, classes: int = 3, seed: int = 0) -> dict[str, Any]:
    """Random weights of a network of torchvision's, whose normalisation fits real images."""
    import torch

    torch.manual_seed(seed)
    known = {"weights_backbone": None} if "lraspp" in name else {}
    network = import_torchvision().models.get_model(
        name, weights=None, num_classes=classes, **known
    )
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    pictures = np.stack([scene(seed, SIDE)[0] for seed in range(8)]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        network.train()(torch.from_numpy(pictures.astype(np.float32) / 255 * 4 - 2))
    found: dict[str, Any] = network.state_dict()
    return found


def save(content: Any, path: Path) -> Path:
    import torch

    torch.save(content, path)
    return path


def draw(folder: Path, seeds: range) -> Path:
    folder.mkdir(parents=True)
    for seed in seeds:
        cv2.imwrite(str(folder / f"{seed}.png"), scene(seed, 96)[0])
    return folder


def project(folder: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]) -> None:
    """params.yaml for a model, with calibration images in calibration/."""
    monkeypatch.chdir(folder)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"] = {"tiny": model}
    params["int8"] = {"tiny": {"calibration": "calibration", "minimum_images": 4}}
    params["matrix"].update(models=["tiny"], targets=["rtx-ampere"])
    loose = {"fp32": 1e-4, "fp16": 0.05, "int8": 0.9}  # random weights make more of an error
    drops = dict.fromkeys(("top1_drop", "miou_drop", "cosine_drop", "score_drop"), 0.9)
    params["validation"] = {"rms_relative": loose, **drops}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    assert fingerprinted() == {}


def run_steps(precisions: tuple[str, ...] = ("fp16", "int8")) -> None:
    """From the source to registered engines of TensorRT-RTX."""
    for step in ("export", "images", "simplify", "calibration-images", "calibrate"):
        load_step(step)(Stage(step, "tiny"))
    load_step("quantize")(Stage("quantize", "tiny", precision="fp32"))
    for precision in precisions:
        for step in ("quantize", "validate"):
            load_step(step)(Stage(step, "tiny", precision=precision))
        for step in ("build", "register"):
            load_step(step)(Stage(step, "tiny", "rtx-ampere", precision))
        engine = find(precision)
        folder = engine_folder("tiny", "rtx-ampere", precision)
        assert read_manifest(folder / "manifest.json", engine.identity) == engine.manifest


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ModelError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def change_model(**changes: Any) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["models"]["tiny"].update(changes)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    fingerprinted()
