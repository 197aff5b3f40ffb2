"""What `input` and `output` of a target ask of its other keys, and of the models built for it."""

from __future__ import annotations

from collections.abc import Iterator

from enginery.project.model import Model
from enginery.project.params import Spec
from enginery.project.target import Target


def mistakes(spec: Spec) -> Iterator[str]:
    """What does not fit together, each with its key."""
    for name, target in spec.targets.items():
        yield from _target_mistakes(f"targets.{name}", target)
    for model, called in dict.fromkeys((each.model, each.target) for each in spec.engines()):
        if called in spec.targets:
            yield from _model_mistakes(spec.models[model], model, spec.targets[called], called)


def _target_mistakes(where: str, target: Target) -> Iterator[str]:
    if target.nms and target.output != "detections":
        yield f"{where}.nms: only `output: detections` has it; leave it out"
    if target.input == "uint8" and target.calibration == "native":
        why = "TensorRT would calibrate with floats, and the engine takes uint8"
        yield f"{where}.calibration: 'native': {why}; leave one of the two out"
    if target.output == "detections" and target.refittable:
        why = "an engine with NMS in it is not refitted here"
        yield f"{where}.refittable: true: {why}; leave one of the two out"


def _model_mistakes(model: Model, name: str, target: Target, called: str) -> Iterator[str]:
    if target.input == "uint8":
        for why in _without_pixels(model):
            yield f"targets.{called}.input: 'uint8': {why}, as {name}: give it another target"
    if target.output == "detections" and model.metric:
        why = f"the metric of {name} reads the model's own outputs"
        yield f"targets.{called}.output: 'detections': {why}: give it another target"
    if target.output == "detections" and model.task != "detect":
        why = f"{name} is of task {model.task}, and only `detect` has NMS in its engine"
        yield f"targets.{called}.output: 'detections': {why}: give it another target"


def _without_pixels(model: Model) -> Iterator[str]:
    how = model.preprocess
    if not model.takes_images:
        yield "no input takes images"
    elif how and how.dtype == "uint8":
        yield "the graph itself takes uint8"
    elif how and how.layout == "nhwc":
        yield "the graph's layout is nhwc"
