"""The demo's data set: the same pixels every time, and boxes that fit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from enginery.demo.scenes import CLASSES, scene
from enginery.demo.train import FIRST_SEED as TRAINING
from enginery.project.load import load_spec
from tasks.demo_data import FIRST_SEED


def test_a_scene_is_the_same_in_every_process() -> None:
    image, _ = scene(7, 128)
    assert (
        hashlib.sha256(image.tobytes()).hexdigest()
        == "c83cf6a3b805364f9945dafcc608abc1e4216a0df97ee398af7a4a47ac26ceac"
    )
    assert not np.array_equal(image, scene(8, 128)[0])


def test_boxes_lie_inside_and_every_class_appears() -> None:
    seen = set()
    for seed in range(20):
        image, boxes = scene(seed, 320)
        assert image.shape == (320, 320, 3)
        for box in boxes:
            x1, y1, x2, y2 = box.xyxy
            assert 0 <= x1 < x2 <= 320
            assert 0 <= y1 < y2 <= 320
            seen.add(box.label)
    assert seen == set(range(len(CLASSES)))


def test_validation_and_calibration_share_no_scene() -> None:
    first = FIRST_SEED["calibration"] - FIRST_SEED["validation"]
    demo = load_spec(Path(__file__).resolve().parents[1] / "params.yaml").demo
    assert demo is not None
    assert demo.validation_images <= first
    assert FIRST_SEED["calibration"] + demo.calibration_images <= TRAINING
