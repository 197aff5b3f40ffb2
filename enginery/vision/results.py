"""Raw outputs as Ultralytics' own `Results`, which draw themselves: boxes, masks, keypoints,
oriented boxes or a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.sources.ultralytics_compat import import_torchvision, silence
from enginery.vision.score import tensors
from enginery.vision.tasks import TaskMetadata

_FONT = "DejaVuSans.ttf"  # comes with matplotlib; Ultralytics would download its own


def to_results(
    head: TaskMetadata,
    outputs: Sequence[NDArray[np.float32]],
    batch: NDArray[np.float32],
    images: Sequence[NDArray[np.uint8]],
    paths: Sequence[Path],
    confidence: float,
    iou: float,
) -> list[Any]:
    """What was found in each image, as an `ultralytics.engine.results.Results` in its own pixels.

    `outputs` are the graph's, in its order, each (n, ...), for `batch` (n, 3, height, width), which
    `preprocess` made of `images`, each (rows, columns, 3) BGR. `confidence` is the least to show,
    `iou` the overlap from which NMS takes two for one.

    Raises:
        ModelError: the outputs' shapes are not those of the task.
    """
    predictor = _predictor(head.task)
    predictor.args.conf, predictor.args.iou = confidence, iou
    final = head.end2end([output.shape for output in outputs])
    predictor.model = SimpleNamespace(
        names=dict(head.names), kpt_shape=list(head.kpt_shape or ()), end2end=final
    )
    # One by one: Ultralytics' NMS stops after a time, and keeps what it found in the first image
    # whatever it takes.
    return [
        _one(
            predictor,
            [output[row : row + 1] for output in outputs],
            batch[row : row + 1],
            image,
            path,
        )
        for row, (image, path) in enumerate(zip(images, paths, strict=True))
    ]


def draw(result: Any) -> NDArray[np.uint8]:
    """The image, (rows, columns, 3) BGR, with what was found in it."""
    return np.asarray(result.plot(font=_FONT), np.uint8)


def describe(result: Any) -> str:
    """What was found, in one line: `2 discs, 1 star`."""
    return str(result.verbose()).rstrip(", ")


def _one(
    predictor: Any,
    outputs: Sequence[NDArray[np.float32]],
    tensor: NDArray[np.float32],
    image: NDArray[np.uint8],
    path: Path,
) -> Any:
    predictor.batch = ([str(path)],)
    raw = tensors(outputs)
    [result] = predictor.postprocess(raw if len(raw) > 1 else raw[0], tensors([tensor])[0], [image])
    return result


@cache
def _predictor(task: str) -> Any:
    import_torchvision()
    from ultralytics.models.yolo import classify, detect, obb, pose, segment

    kinds = {
        "detect": detect.DetectionPredictor,
        "segment": segment.SegmentationPredictor,
        "pose": pose.PosePredictor,
        "obb": obb.OBBPredictor,
        "classify": classify.ClassificationPredictor,
    }
    with silence():
        return kinds[task](
            overrides={
                "task": task,
                "mode": "predict",
                "save": False,
                "verbose": False,
                "device": "cpu",
            }
        )
