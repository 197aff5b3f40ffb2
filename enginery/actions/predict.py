"""predict: images through an engine on its GPU, drawn by Ultralytics, as `yolo predict` does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enginery.actions.engine_session import forward_progress, on_gpu, outputs_of, plan_of
from enginery.errors import DataError
from enginery.graphs.inspect import graph_info
from enginery.project.params import Spec
from enginery.project.paths import ARTIFACTS, model_folder
from enginery.registry.store import Engine
from enginery.registry.task_metadata import read_task_metadata
from enginery.system.files import replacing, scratch
from enginery.toolchain.client import measure
from enginery.toolchain.requests import MeasureRequest, PointRequest
from enginery.toolchain.selection import Choice
from enginery.vision.images import SUFFIXES, preprocess, read_image
from enginery.vision.results import describe, draw, to_results

AT_ONCE = 64  # images that are in memory together


@dataclass(frozen=True)
class PredictionRequest:
    """Images and folders, where the pictures go, the least confidence and NMS's overlap."""

    images: tuple[Path, ...]
    out: Path
    confidence: float
    iou: float


def predict(spec: Spec, engine: Engine, wanted: PredictionRequest) -> Iterator[str]:
    """Draw every image's result; a line for each: what was found, milliseconds, the picture's path.

    Raises:
        DataError: an image cannot be read. EngineryError: the engine cannot be run here.
    """
    names = picture_names(_files(wanted.images))
    paths = list(names)
    with on_gpu(spec, engine) as choice:
        for start in range(0, len(paths), AT_ONCE):
            yield from _predict(
                spec,
                engine,
                choice,
                wanted,
                {path: names[path] for path in paths[start : start + AT_ONCE]},
            )


def _files(images: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in images:
        found += (
            sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if path.is_dir()
            else [path]
        )
    if not found:
        raise DataError(f"{images[0]} holds no images", f"Name {', '.join(SUFFIXES)} files")
    return found


def picture_names(paths: list[Path]) -> dict[Path, str]:
    """What each picture is called: as its image, with a number where one before has the same name."""
    names: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        numbered = (f"{path.stem}-{number}" for number in count(2))
        names[next(name for name in chain([path.stem], numbered) if name not in names)] = path
    return {path: name for name, path in names.items()}


def _predict(
    spec: Spec, engine: Engine, choice: Choice, wanted: PredictionRequest, names: Mapping[Path, str]
) -> Iterator[str]:
    head, paths = read_task_metadata(engine.model), list(names)
    _, _, height, width = engine.built.profile.opt  # params.yaml may say another size by now
    images = [read_image(path) for path in paths]
    began = time.perf_counter()
    tensors = np.stack([preprocess(image, height, width, head.task) for image in images])
    before = (time.perf_counter() - began) * 1000 / len(paths)
    outputs, inference = _run(spec, engine, choice, tensors)

    def found_in(row: int) -> Any:
        one, batch = [output[row : row + 1] for output in outputs], tensors[row : row + 1]
        return to_results(
            head, one, batch, [images[row]], [paths[row]], wanted.confidence, wanted.iou
        )[0]

    found_in(0)  # the first call imports Ultralytics, which is no image's time
    for row, path in enumerate(paths):
        began = time.perf_counter()
        result = found_in(row)
        after = (time.perf_counter() - began) * 1000
        out = _write(draw(result), wanted.out / f"{names[path]}.png")
        times = (
            f"preprocess {before:.1f} ms, inference {inference:.1f} ms, postprocess {after:.1f} ms"
        )
        yield f"{path.name}: {describe(result) or 'nothing found'}; {times}; {out}"


def _run(
    spec: Spec, engine: Engine, choice: Choice, tensors: NDArray[np.float32]
) -> tuple[list[NDArray[np.float32]], float]:
    """The outputs in the graph's order, and milliseconds an image with its transfers."""
    names = [
        output.name
        for output in graph_info(model_folder(engine.model, "export") / "model.onnx").outputs
    ]
    with scratch(ARTIFACTS) as folder:
        np.save(folder / "images.npy", tensors)
        point = PointRequest(engine.built.profile.opt, folder / "images.npy", folder)
        request = MeasureRequest(**plan_of(engine, choice), points=(point,), runs=0)
        [found] = measure(
            choice.python, request, forward_progress, spec.targets[engine.target].time_limit_s
        )["points"]
        outputs = [
            np.array(output) for output in outputs_of(found, folder, names)
        ]  # the files go with the folder
    return outputs, sum(found["milliseconds"]) / len(tensors)


def _write(picture: NDArray[np.uint8], out: Path) -> Path:
    with replacing(out) as partial:
        partial.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return out
