"""The steps that list calibration images and validation images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import tasks.calibration_images
import tasks.images
from enginery.errors import DataError
from enginery.project.stage import Stage
from enginery.system.files import sha256, write_json
from tests.exact.steps.common import MODEL, pictures, read, write_recipe

LIST = Stage("calibration-images", MODEL)


def test_calibration_images_are_listed(said: list[Any]) -> None:
    paths = pictures("set/images", 1, 2, 3)
    write_json(Path(f"artifacts/models/{MODEL}/images.json"), {"images": {"a.png": "0"}})
    write_recipe(LIST, calibration="set", minimum_images=3, task="detect")
    tasks.calibration_images.list_calibration_images(LIST)
    listed = {"images": {path.name: sha256(path) for path in paths}}
    assert read(f"artifacts/models/{MODEL}/calibration-images.json") == listed
    assert said == [("3 calibration images, none of them a validation image", "info")]
    write_recipe(LIST, calibration="set", minimum_images=4, task="detect")
    with pytest.raises(DataError) as error:
        tasks.calibration_images.list_calibration_images(LIST)
    assert str(error.value) == (
        "set holds 3 images, int8.yolov8n-shapes.minimum_images asks for 4. "
        "Add images like those of production: with few, INT8's ranges are a guess"
    )


def test_a_validation_image_is_no_calibration_image() -> None:
    paths = pictures("set", 1, 2, 3)
    other = {"x.png": "0", "y.png": sha256(paths[1]), "z.png": sha256(paths[2])}
    write_json(Path(f"artifacts/models/{MODEL}/images.json"), {"images": other})
    write_recipe(LIST, calibration="set", minimum_images=1, task="detect")
    with pytest.raises(DataError) as error:
        tasks.calibration_images.list_calibration_images(LIST)
    assert str(error.value) == (
        "2 images of set are validation images too: 1.png is y.png. Calibrate with others, or the validation proves nothing"
    )


def test_a_cache_takes_the_place_of_images(said: list[Any]) -> None:
    Path("own.cache").write_text("ranges")
    write_recipe(LIST, calibration="own.cache", minimum_images=100, task="detect")
    tasks.calibration_images.list_calibration_images(LIST)
    digest = hashlib.sha256(b"ranges").hexdigest()
    assert read(f"artifacts/models/{MODEL}/calibration-images.json") == {
        "cache_sha256": digest,
        "images": {},
    }
    assert said == [("own.cache takes the place of calibration images", "info")]


def test_validation_images_are_listed_with_their_labels(said: list[Any]) -> None:
    step = Stage("images", MODEL)
    paths = pictures("set/images", 1, 2, size=(10, 10))
    Path("set/labels").mkdir()
    Path("set/labels/0.txt").write_text("0 0.5 0.5 1 1\n")
    write_recipe(step, validation="set", task="detect")
    tasks.images.list_validation_images(step)
    found = read(f"artifacts/models/{MODEL}/images.json")
    from enginery.system.files import sha256_tree

    assert found == {
        "images": {f"images/{path.name}": sha256(path) for path in paths},
        "tree_sha256": sha256_tree(Path("set")),
    }
    assert said == [("2 validation images", "info")]
    Path("set/labels/1.txt").write_text("0 7\n")
    with pytest.raises(DataError, match=r"1\.txt, line 1"):
        tasks.images.list_validation_images(step)
    Path("set/labels/1.txt").unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    with pytest.raises(DataError, match=r"1\.png cannot be read as an image"):
        tasks.images.list_validation_images(step)
    cv2.imwrite(str(paths[1]), np.zeros((10, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"1\.png has fewer than 10 pixels in height or width"):
        tasks.images.list_validation_images(step)
