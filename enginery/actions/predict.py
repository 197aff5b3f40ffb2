"""predict: images through an engine on its GPU, drawn by Ultralytics, as `yolo predict` does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enginery.actions.engine_session import EngineSession, open_engine, read_outputs
from enginery.errors import DataError, EngineryError
from enginery.graphs.detections import OUTPUTS
from enginery.graphs.inspect import graph_info
from enginery.project.params import Spec
from enginery.project.paths import ARTIFACTS, model_folder
from enginery.registry.built import BuildParameters
from enginery.registry.store import Engine
from enginery.registry.task_metadata import read_task_metadata
from enginery.system.files import atomic_write, scratch
from enginery.toolchain.requests import PointRequest
from enginery.vision.detections import engine_rows
from enginery.vision.folders import SUFFIXES
from enginery.vision.images import preprocess, read_image, to_pixels
from enginery.vision.results import describe, draw, to_results
from enginery.vision.tasks import ULTRALYTICS_TASKS

USUAL_CONFIDENCE = 0.25  # as Ultralytics'
AT_ONCE = 64  # images that are in memory together


@dataclass(frozen=True)
class PredictionRequest:
    """Images and folders, where the pictures go, the least confidence (None: the usual one, or the
    engine's own) and NMS's overlap.
    """

    images: tuple[Path, ...]
    out: Path
    confidence: float | None
    iou: float


@dataclass(frozen=True)
class Prediction:
    """What an engine sees in an image, in words and as a picture, and milliseconds."""

    image: Path
    text: str
    picture: Path
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float

    def __str__(self) -> str:
        times = (
            f"preprocess {self.preprocess_ms:.1f} ms, inference {self.inference_ms:.1f} ms, "
            f"postprocess {self.postprocess_ms:.1f} ms"
        )
        return f"{self.image.name}: {self.text}; {times}; {self.picture}"


def predict(spec: Spec, engine: Engine, request: PredictionRequest) -> Iterator[Prediction]:
    """Draw what an engine sees in every image.

    Raises:
        DataError: an image cannot be read.
        EngineryError: the engine cannot be run here.
    """
    names = picture_names(_files(request.images))
    paths = list(names)
    _check_task(engine)
    _check_limits(engine, request)
    with open_engine(spec, engine) as session:
        for start in range(0, len(paths), AT_ONCE):
            some = {path: names[path] for path in paths[start : start + AT_ONCE]}
            yield from _predict(session, request, some)


def _check_task(engine: Engine) -> None:
    """Refuse what Ultralytics cannot draw."""
    task = engine.manifest.steps.export.task
    if task not in ULTRALYTICS_TASKS:
        what = f"{engine.name}: outputs of task {task} are not drawn here"
        raise EngineryError(what, "Run the engine with your own code")


def _check_limits(engine: Engine, request: PredictionRequest) -> None:
    """What an engine's own NMS dropped, nothing brings back."""
    nms = engine.built.detections
    if nms and request.confidence is not None and request.confidence < nms.confidence:
        what = f"{engine.name} drops what is below {nms.confidence:g}: its NMS is built in"
        cure = f"Give --confidence {nms.confidence:g} or more, or build with a lower `nms`"
        raise EngineryError(f"--confidence {request.confidence:g}: {what}", cure)


def _confidence(built: BuildParameters, request: PredictionRequest) -> float:
    """The least to show: asked for, or the usual one unless the engine's own is higher."""
    if request.confidence is not None:
        return request.confidence
    return max(USUAL_CONFIDENCE, built.detections.confidence if built.detections else 0.0)


def picture_names(paths: Sequence[Path]) -> dict[Path, str]:
    """What each picture is called: as its image, with a number where another has that name."""
    names: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        numbered = (f"{path.stem}-{number}" for number in count(2))
        names[next(name for name in chain([path.stem], numbered) if name not in names)] = path
    return {path: name for name, path in names.items()}


def _files(images: Sequence[Path]) -> list[Path]:
    files = [file for path in images for file in _images_in(path)]
    if not files:
        raise DataError(f"{images[0]} holds no images", f"Name {', '.join(SUFFIXES)} files")
    return files


def _images_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)


def _predict(
    session: EngineSession, request: PredictionRequest, names: Mapping[Path, str]
) -> Iterator[Prediction]:
    manifest, paths = session.engine.manifest, list(names)
    head, how = read_task_metadata(manifest.model, manifest.judging), manifest.judging.preprocess
    opt = manifest.built.image_profile.opt  # params.yaml may have another by now
    height, width = how.size_of(opt) if how else opt[2:]
    images = [read_image(path) for path in paths]
    began = time.perf_counter()
    prepare = to_pixels if manifest.built.takes_pixels else preprocess
    tensors = np.stack([prepare(image, height, width, head.task, how) for image in images])
    preprocess_ms = _since(began) / len(paths)
    outputs, inference_ms = _run(session, tensors)

    def result_of(row: int) -> object:
        one, batch = [output[row : row + 1] for output in outputs], tensors[row : row + 1]
        limits = _confidence(manifest.built, request), request.iou
        return to_results(head, one, batch, [images[row]], [paths[row]], *limits)[0]

    result_of(0)  # untimed: the first call imports Ultralytics
    for row, path in enumerate(paths):
        began = time.perf_counter()
        result = result_of(row)
        postprocess_ms = _since(began)
        picture = _write(draw(result), request.out / f"{names[path]}.png")
        text = (describe(result) or "nothing found") + _limit(manifest.built, outputs, row)
        yield Prediction(path, text, picture, preprocess_ms, inference_ms, postprocess_ms)


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _limit(built: BuildParameters, outputs: Sequence[NDArray[np.float32]], row: int) -> str:
    """Where the engine's own NMS had no room for more."""
    nms = built.detections
    full = nms is not None and bool((outputs[0][row, :, 4] > 0).all())
    return f" ({nms.detections} detections, the most that the engine gives)" if nms and full else ""


def _run(session: EngineSession, tensors: NDArray[Any]) -> tuple[list[NDArray[np.float32]], float]:
    """The outputs in the graph's order, and milliseconds an image with its transfers."""
    engine = session.engine
    nms = engine.built.detections
    names = OUTPUTS if nms else _graph_outputs(engine)
    with scratch(ARTIFACTS) as folder:
        np.save(folder / "images.npy", tensors)
        point = PointRequest(engine.built.image_profile.opt, folder / "images.npy", folder)
        [result] = session.measure([point], runs=0).points
        # Read whole: the files go with the folder.
        outputs = [np.array(output) for output in read_outputs(result, folder, names)]
    if nms:
        outputs = [engine_rows(dict(zip(names, outputs, strict=True)))]
    return outputs, sum(result.milliseconds) / len(tensors)


def _graph_outputs(engine: Engine) -> list[str]:
    graph = graph_info(model_folder(engine.model, "export") / "model.onnx")
    return [output.name for output in graph.outputs]


def _write(picture: NDArray[np.uint8], out: Path) -> Path:
    with atomic_write(out) as partial:
        partial.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return out
