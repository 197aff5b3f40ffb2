"""params.yaml as frozen types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    model_validator,
)

from enginery.project.engine_name import EngineName
from enginery.project.model import Model
from enginery.project.registry_settings import RegistrySettings
from enginery.project.target import Target, Toolchain
from enginery.project.values import Algorithm, Frozen, Name, Positive, Precision, Seconds, Share
from enginery.vision.tasks import metric_of

PARAMS_FILE = Path("params.yaml")


class Int8(Frozen):
    """How a model is quantized: `calibration` is a folder of images or a TensorRT .cache; `rule`
    and `exclude` keep nodes in float.
    """

    calibration: str
    algorithm: Algorithm = "mse"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    minimum_images: Positive = 300
    rule: str = "none"
    exclude: tuple[str, ...] = ()


class Matrix(Frozen):
    """What is built."""

    models: Annotated[tuple[Name, ...], Field(min_length=1)]
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]


class Rms(Frozen):
    """How far raw outputs may be from the original's (RMS), relative to them, at each precision."""

    fp32: Share = 0.001
    fp16: Share = 0.02
    int8: Share = 0.05


class Tolerance(Frozen):
    """How far a graph may be from the FP32 original; `top1_drop` is for models that classify,
    `miou_drop` for semantic segmentation, `cosine_drop` for `tensors`, `score_drop` for a team's
    own metric.
    """

    map50_95_drop: Share = 0.01
    top1_drop: Share = 0.01
    miou_drop: Share = 0.01
    cosine_drop: Share = 0.01
    score_drop: Annotated[float, Field(ge=0)] = 0.01
    rms_relative: Rms = Rms()

    def of(self, task: str, precision: str, own_metric: bool = False) -> dict[str, float]:
        """What the gate allows a model of a task at a precision."""
        drop = f"{metric_of(task, own_metric).key}_drop"
        return {drop: getattr(self, drop), "rms_relative": getattr(self.rms_relative, precision)}


class Demo(Frozen):
    """How many images the demo draws."""

    validation_images: Annotated[int, Field(ge=1, le=100_000)]
    calibration_images: Annotated[int, Field(ge=1, le=100_000)]


_DATA = ("models", "int8")  # the keys of params.yaml that name data sets
_HOUR = 3600
# These two run every image through a network on a CPU; a build waits for its turn on the GPU, and
# its own limit is its target's.
_TIME_LIMITS_S: Mapping[str, int] = {
    "calibrate": 12 * _HOUR,
    "validate": 12 * _HOUR,
    "build": 12 * _HOUR,
}


class Spec(Frozen):
    """All of params.yaml; `time_limit_s` is of single steps. A model's calibration images are, by
    default, the `train` images of its validation's data set.
    """

    matrix: Matrix
    models: dict[Name, Model]
    int8: dict[Name, Int8]
    targets: dict[Name, Target]
    toolchains: dict[Name, Toolchain]
    validation: Tolerance = Tolerance()
    demo: Demo | None = None
    time_limit_s: dict[Name, Seconds] = Field(default={})
    registry: RegistrySettings = RegistrySettings()

    @model_validator(mode="before")
    @classmethod
    def _calibrates_with_its_data_set(cls, raw: Any) -> Any:
        models, int8 = (raw.get(key) if isinstance(raw, dict) else None for key in _DATA)
        if not isinstance(models, dict) or not isinstance(int8, dict):
            return raw
        filled = {
            name: _with_default_calibration(settings, models.get(name))
            for name, settings in int8.items()
        }
        return {**raw, "int8": filled}

    def tolerance(self, name: str, precision: str) -> dict[str, Any]:
        """What the gate allows a model at a precision."""
        model = self.models[name]
        limits = self.validation.of(model.task, precision, own_metric=bool(model.metric))
        outputs = {
            output: limit.model_dump(exclude_none=True) for output, limit in model.outputs.items()
        }
        return {**limits, **({"outputs": outputs} if outputs else {})}

    def engines(self) -> list[EngineName]:
        """Every engine that is asked for: the matrix, or what a model says of itself."""
        return [
            EngineName(name, target, precision)
            for name in self.matrix.models
            if name in self.models
            for target in self.models[name].targets or self.matrix.targets
            for precision in self.models[name].precisions or self.matrix.precisions
        ]

    def used_targets(self) -> list[str]:
        """The targets of these engines, each once."""
        return list(dict.fromkeys(engine.target for engine in self.engines()))


def _with_default_calibration(settings: Any, model: Any) -> Any:
    """Raw settings of INT8, which may leave out where the images are, or be empty."""
    settings = {} if settings is None else settings
    given = isinstance(settings, dict) and "calibration" in settings
    if given or not isinstance(settings, dict) or not isinstance(model, dict):
        return settings
    return {"calibration": model["validation"], **settings} if "validation" in model else settings


def default_time_limit(step: str) -> int:
    """After how many seconds a step is stopped if params.yaml does not say: it hangs."""
    return _TIME_LIMITS_S.get(step, _HOUR)
