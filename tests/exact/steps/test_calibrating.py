"""The step that calibrates: which images, which algorithm, and when it goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import tasks.calibrate
from enginery.calibration import cache, collect, state, thresholds
from enginery.calibration.histogram import Histogram
from enginery.errors import DataError
from enginery.project.stage import Stage
from enginery.system.files import sha256, write_json
from tests.exact.steps.common import (
    FOLDER,
    MODEL,
    network,
    pictures,
    read,
    simplified,
    write_recipe,
)

CALIBRATE = Stage("calibrate", MODEL)


def calibration(images: list[Path], **changed: Any) -> dict[str, Any]:
    write_json(
        Path(f"artifacts/models/{MODEL}/calibration-images.json"),
        {"images": {path.name: sha256(path) for path in images}},
    )
    counting = {"algorithm": "minmax", "height": 4, "width": 4, "task": "detect", **changed}
    return write_recipe(CALIBRATE, calibration="images", counting=counting)


@pytest.mark.parametrize("batch", [1, 2, 16, "n"])
def test_ranges_are_those_of_the_images_whatever_the_batch(
    said: list[Any], batch: int | str
) -> None:
    """The brightest of three pictures decides; the network passes its image through."""
    graph, images = simplified(batch), pictures("images", 51, 204, 102)
    made = calibration(images)
    tasks.calibrate.calibrate(CALIBRATE)
    scales = cache.read(Path(FOLDER) / "calibration.cache")
    assert scales.version == 8600
    assert scales.thresholds() == pytest.approx({"images": 0.8, "r": 0.8}, rel=1e-6)
    histograms = state.finished(Path(FOLDER) / "histograms.npz")
    assert {name: int(found.counts.sum()) for name, found in histograms.items()} == {
        "images": 144,
        "r": 144,
    }
    listed = {"images": {path.name: sha256(path) for path in images}}
    digest = hashlib.sha256(
        (json.dumps(listed, indent=2, sort_keys=True) + "\n").encode()
    ).hexdigest()
    assert read(f"{FOLDER}/record.json") == {
        "recipe": made,
        "images": 3,
        "images_sha256": digest,
        "own_quantization": False,
        "graph_sha256": sha256(graph),
        "tensors": 2,
        "cache_sha256": sha256(Path(FOLDER) / "calibration.cache"),
    }
    assert said == [("minmax ranges of 2 tensors from 3 images", "info")]
    assert sorted(path.name for path in Path(FOLDER).iterdir()) == [
        "calibration.cache",
        "histograms.npz",
        "record.json",
    ]


def test_a_classifier_is_calibrated_on_what_it_is_fed() -> None:
    """The white middle of a wide black picture is cut out; to detect, the whole would be fitted,
    grey above and below.
    """
    simplified()
    Path("images").mkdir()
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 255
    cv2.imwrite("images/0.png", pixels)
    for task, white in (("classify", 48), ("detect", 0)):
        calibration([Path("images/0.png")], task=task)
        tasks.calibrate.calibrate(CALIBRATE)
        counts = state.finished(Path(FOLDER) / "histograms.npz")["images"].counts
        assert (int(counts[2048:].sum()) == 48) is bool(white)


def test_the_algorithm_and_its_percentile_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    simplified()
    asked: list[Any] = []

    def thresholds_of(
        histograms: Mapping[str, Histogram], algorithm: str, percent: Any
    ) -> dict[str, float]:
        asked.append((sorted(histograms), algorithm, percent))
        return {"images": 1.0, "r": 2.0}

    monkeypatch.setattr(thresholds, "thresholds_of", thresholds_of)
    calibration(pictures("images", 51), algorithm="percentile", percentile=99.5)
    tasks.calibrate.calibrate(CALIBRATE)
    assert asked == [(["images", "r"], "percentile", 99.5)]
    assert cache.read(Path(FOLDER) / "calibration.cache").scales == pytest.approx(
        {"images": 1 / 127, "r": 2 / 127}
    )


def test_a_calibration_goes_on_only_where_nothing_changed(
    said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    simplified()
    images = pictures("images", 51, 204)
    calibration(images)
    keys: list[str] = []
    original = collect.collect

    def noted(work: Any, kept: Path, progress: Any) -> Any:
        keys.append(work.key)
        assert kept == Path(f"artifacts/models/{MODEL}/calibration-so-far.npz")
        assert work.images == [Path("images/0.png"), Path("images/1.png")]
        assert (work.size, work.task) == ((4, 4), "detect")
        return original(work, kept, progress)

    monkeypatch.setattr(collect, "collect", noted)
    tasks.calibrate.calibrate(CALIBRATE)
    half = {name: Histogram() for name in ("images", "r")}
    for found in half.values():
        found.add(np.full(48, 0.9, np.float32))
    state.save(Path(f"artifacts/models/{MODEL}/calibration-so-far.npz"), keys[0], 1, half)
    tasks.calibrate.calibrate(CALIBRATE)
    assert ("goes on after 1 of 2 images, where the last run was stopped", "info") in said
    assert cache.read(Path(FOLDER) / "calibration.cache").thresholds()["images"] == pytest.approx(
        0.9, rel=1e-6
    )
    cv2.imwrite("images/1.png", np.full((4, 4, 3), 203, np.uint8))
    calibration(images)
    tasks.calibrate.calibrate(CALIBRATE)
    calibration(images, algorithm="mse")
    tasks.calibrate.calibrate(CALIBRATE)
    onnx.save(network(2), f"artifacts/models/{MODEL}/simplify/model.onnx")
    tasks.calibrate.calibrate(CALIBRATE)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_a_graph_with_its_own_pairs_is_not_calibrated() -> None:
    graph = simplified(own=True)
    made = calibration(pictures("images", 51))
    tasks.calibrate.calibrate(CALIBRATE)
    found = read(f"{FOLDER}/record.json")
    del found["images_sha256"]
    assert found == {
        "recipe": made,
        "images": 1,
        "own_quantization": True,
        "graph_sha256": sha256(graph),
    }
    assert [path.name for path in Path(FOLDER).iterdir()] == ["record.json"]


def test_an_imported_cache_needs_the_ranges_of_quantized_layers_only(said: list[Any]) -> None:
    simplified()
    cache.write(cache.Cache(101601, {"images": 0.5, "more": 2.0}), Path("own.cache"))
    write_json(
        Path(f"artifacts/models/{MODEL}/calibration-images.json"),
        {"images": {}, "cache_sha256": "x"},
    )
    write_recipe(CALIBRATE, calibration="own.cache", rule="yolo-head-2", exclude=[])
    tasks.calibrate.calibrate(CALIBRATE)
    assert cache.read(Path(FOLDER) / "calibration.cache") == cache.Cache(
        8600, {"images": 0.5, "more": 2.0}
    )
    assert read(f"{FOLDER}/record.json")["tensors"] == 1
    assert said == [("own.cache: ranges of 1 tensors, taken as they are", "info")]
    write_recipe(CALIBRATE, calibration="own.cache", rule="none", exclude=[])
    with pytest.raises(
        DataError, match=r"own\.cache has no range for 1 of the graph's 2 tensors, r first"
    ):
        tasks.calibrate.calibrate(CALIBRATE)
    write_recipe(CALIBRATE, calibration="own.cache", rule="none", exclude=["model.22"])
    tasks.calibrate.calibrate(CALIBRATE)
