"""Results and heads of every task: those of Ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginery.demo.scenes import CLASSES, scene
from enginery.evaluation.runners import GraphRunner
from enginery.graphs.inspect import read_graph
from enginery.quantization.placement import place
from enginery.quantization.rules import RULES
from enginery.sources.export import export
from enginery.sources.ultralytics_compat import silence
from enginery.vision.images import preprocess
from enginery.vision.results import describe, draw, to_results
from enginery.vision.tasks import ULTRALYTICS_TASKS as TASKS
from enginery.vision.tasks import TaskMetadata
from tests.tasks.common import DEMO, head, settings
from tests.tiny import SIDE


@pytest.mark.parametrize("task", TASKS)
def test_results_are_those_of_ultralytics(folder: Path, task: str) -> None:
    """The same image through the graph and through YOLO("model.pt").predict."""
    from ultralytics import YOLO

    image = scene(3, 150)[0][:110]
    demo = task == "detect"
    confidence, what = (
        (0.25, TaskMetadata(task, dict(enumerate(CLASSES)))) if demo else (0.02, head(task))
    )
    onnx = folder / f"{task}.onnx"
    if demo:
        export(DEMO, settings(task), onnx := folder / "demo.onnx")
    tensor = preprocess(image, SIDE, SIDE, task)
    [ours] = to_results(
        what,
        GraphRunner(onnx, (SIDE, SIDE)).run(tensor),
        tensor[None],
        [image],
        [Path("a.png")],
        confidence,
        0.7,
    )
    with silence():
        [expected] = YOLO(DEMO if demo else folder / f"{task}.pt").predict(
            image, imgsz=SIDE, rect=False, conf=confidence, verbose=False
        )
    assert describe(ours) == expected.verbose().rstrip(", ")
    found, wanted = parts(ours), parts(expected)
    assert found.keys() == wanted.keys()
    order = in_order_of(wanted["corners"], found["corners"]) if "corners" in wanted else slice(None)
    for name, values in wanted.items():
        assert np.abs(found[name][order] - values).max() < (
            0.002 if name in ("scores", "area") else 0.5
        ), name
    picture = draw(ours)
    assert picture.shape == image.shape
    assert (picture != image).any()


def in_order_of(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Where each of the wanted boxes is among those found: equal scores may change places."""
    distance = (
        np.abs(wanted[:, None] - found[None]).reshape(len(wanted), len(found), -1).max(axis=2)
    )
    assert sorted(distance.argmin(axis=1)) == list(range(len(wanted)))
    return distance.argmin(axis=1)


def parts(result: Any) -> dict[str, np.ndarray]:
    """What a result holds: pixels, except for the scores."""
    if result.probs is not None:
        return {"scores": result.probs.data.numpy()}
    boxes = result.obb if result.obb is not None else result.boxes
    assert len(boxes)
    found = {
        "corners": (boxes.xyxyxyxy if result.obb is not None else boxes.xyxy).numpy(),
        "scores": boxes.conf.numpy(),
    }
    if result.masks is not None:
        found["area"] = result.masks.data.numpy().mean(axis=(1, 2))
    if result.keypoints is not None:
        found["keypoints"] = result.keypoints.xy.numpy()
    return found


def test_a_batch_of_results_is_one_an_image(folder: Path) -> None:
    images = [scene(seed, 96)[0] for seed in (1, 2)]
    batch = np.stack([preprocess(image, SIDE, SIDE, "segment") for image in images])
    runner = GraphRunner(folder / "segment.onnx", (SIDE, SIDE))
    outputs = [np.concatenate(rows) for rows in zip(*map(runner.run, batch), strict=True)]
    both = to_results(
        head("segment"), outputs, batch, images, [Path("1.png"), Path("2.png")], 0.05, 0.7
    )
    alone = to_results(
        head("segment"),
        [output[1:] for output in outputs],
        batch[1:],
        images[1:],
        [Path("2.png")],
        0.05,
        0.7,
    )
    assert np.array_equal(both[1].boxes.data.numpy(), alone[0].boxes.data.numpy())
    assert [Path(found.path).name for found in both] == ["1.png", "2.png"]
    nothing = to_results(head("segment"), outputs, batch, images, [Path("1.png")] * 2, 1.0, 0.7)
    assert describe(nothing[0]) == "(no detections)"


@pytest.mark.parametrize(
    ("task", "kept"), [("detect", 7), ("segment", 11), ("pose", 10), ("obb", 10), ("classify", 1)]
)
def test_the_rule_for_heads_finds_the_last_layers_of_every_task(
    folder: Path, task: str, kept: int
) -> None:
    assert (
        len(place(read_graph(folder / f"{task}.onnx").graph, RULES["yolo-head-2"]).excluded) == kept
    )
