"""params.yaml as frozen types. `load_spec` reports every mistake at once: its key, its value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from enginery.errors import ConfigError
from enginery.evaluation.head import Task, metric_of
from enginery.quantization.rules import RULES

PARAMS_FILE = Path("params.yaml")
THIS_INTERPRETER = Path(".venv/bin/python")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Extent = Positive | Annotated[tuple[Positive, Positive, Positive], Field(description="[min, opt, max]")]
Precision = Literal["fp32", "fp16", "int8"]
Algorithm = Literal["mse", "entropy", "percentile", "minmax"]
Runtime = Literal["tensorrt_rtx", "tensorrt"]
Capability = Literal["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


def extent(value: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """(min, opt, max) of a size."""
    return value if isinstance(value, tuple) else (value, value, value)


class Model(_Frozen):
    """Weights or an ONNX file, and the shapes it runs at."""

    source: str
    task: Task = "detect"
    batch: Extent = 1
    height: Extent = 640
    width: Extent = 640
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    input: str | None = None
    validation: str

    @property
    def dynamic(self) -> bool:
        """Whether any size has a range."""
        return any(low != high for low, _, high in map(extent, (self.batch, self.height, self.width)))

    @model_validator(mode="after")
    def _ordered(self) -> Model:
        for key in ("batch", "height", "width"):
            low, opt, high = extent(getattr(self, key))
            if not low <= opt <= high:
                raise ValueError(f"{key}: min <= opt <= max must hold, not {[low, opt, high]}")
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at opt."""
        return extent(self.height)[1], extent(self.width)[1]

    def profile(self) -> dict[str, list[int]]:
        """The input's shape (batch, 3, height, width) at min, opt and max."""
        sizes = [extent(self.batch), (3, 3, 3), extent(self.height), extent(self.width)]
        return {which: [size[index] for size in sizes] for index, which in enumerate(("min", "opt", "max"))}


class Int8(_Frozen):
    """How a model is quantized: `calibration` is a folder of images or a TensorRT .cache; `rule` and `exclude` keep nodes in float."""

    calibration: str
    algorithm: Algorithm = "mse"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    minimum_images: Positive = 300
    rule: str = "none"
    exclude: tuple[str, ...] = ()


class Target(_Frozen):
    """What an engine is for."""

    runtime: Runtime
    compute_capability: Capability | None = None
    toolchain: Name | None = None
    workspace_mib: Positive | None = None
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    tactic_sources: tuple[str, ...] | None = None
    time_limit_s: Positive = 1800


class Toolchain(_Frozen):
    """An interpreter with one TensorRT in it."""

    python: str


class Matrix(_Frozen):
    """What is built."""

    models: Annotated[tuple[Name, ...], Field(min_length=1)]
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]


class Tolerance(_Frozen):
    """How far a graph may be from the FP32 original; `top1_drop` is for models that classify."""

    map50_95_drop: Share = 0.01
    top1_drop: Share = 0.01
    rms_relative: dict[Precision, Share] = {"fp32": 0.001, "fp16": 0.02, "int8": 0.05}

    def of(self, task: str, precision: str) -> dict[str, float]:
        """What the gate allows a model of a task at a precision."""
        drop = f"{metric_of(task).key}_drop"
        return {drop: getattr(self, drop), "rms_relative": self.rms_relative.get(precision, 1.0)}  # type: ignore[call-overload]


class Demo(_Frozen):
    """How many images the demo draws."""

    validation_images: Positive
    calibration_images: Positive


class Spec(_Frozen):
    """All of params.yaml."""

    matrix: Matrix
    models: dict[Name, Model]
    int8: dict[Name, Int8]
    targets: dict[Name, Target]
    toolchains: dict[Name, Toolchain] = {}
    validation: Tolerance = Tolerance()
    demo: Demo | None = None

    @property
    def weakly_typed(self) -> bool:
        """Whether a target takes precision from flags and a cache, not from the graph."""
        return any(self.targets[name].runtime == "tensorrt" for name in self.matrix.targets)

    def python_for(self, target: str) -> Path:
        """The interpreter of a target's toolchain."""
        name = self.targets[target].toolchain
        return Path(self.toolchains[name].python) if name else THIS_INTERPRETER


def load_spec(path: Path = PARAMS_FILE) -> Spec:
    """Read and check params.yaml.

    Raises:
        ConfigError: the file is missing, is no YAML, or has mistakes: all of them, each with its key.
    """
    raw = _read(path)
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(str(path), [*dict.fromkeys(map(_sentence, error.errors()))]) from None
    mistakes = list(_references(spec))
    if mistakes:
        raise ConfigError(str(path), mistakes)
    return spec


def _read(path: Path) -> Mapping[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file here; run this in the folder that holds it"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"not readable as YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(raw, dict):
        raise ConfigError(str(path), [f"a mapping is expected, not {type(raw).__name__}"])
    return raw


def _sentence(error: Any) -> str:
    # Union members and pydantic's own markers are no keys of the file.
    keys = [str(part) for part in error["loc"] if not _is_marker(part)]
    where = ".".join(keys) or "(top level)"
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    message = error["msg"].removeprefix("Value error, ")
    value = "" if isinstance(error["input"], dict) else f" {error['input']!r}"
    return f"{where}:{value}: {message[0].lower()}{message[1:]}"


def _is_marker(part: int | str) -> bool:
    prefixes = ("constrained", "function", "tuple[", "literal[")
    return isinstance(part, str) and (part.startswith(prefixes) or part in ("[key]", "int"))


def _references(spec: Spec) -> Iterator[str]:
    for kind, known in (("models", spec.models), ("targets", spec.targets)):
        for name in getattr(spec.matrix, kind):
            if name not in known:
                yield f"matrix.{kind}: {name!r}: not defined; {kind} has {', '.join(sorted(known)) or 'none'}"
    for name, target in spec.targets.items():
        if target.toolchain and target.toolchain not in spec.toolchains:
            known_names = ", ".join(sorted(spec.toolchains)) or "none"
            yield f"targets.{name}.toolchain: {target.toolchain!r}: not defined; toolchains has {known_names}"
        if target.runtime == "tensorrt" and target.compute_capability:
            yield f"targets.{name}.compute_capability: {target.compute_capability!r}: tensorrt builds for its own GPU; leave this out"
    yield from _int8_mistakes(spec)
    for name, model in spec.models.items():
        if Path(model.source).suffix not in (".pt", ".onnx"):
            yield f"models.{name}.source: {model.source!r}: a .pt or an .onnx file is expected"
        for key in ("height", "width"):
            strided = Path(model.source).suffix == ".pt" and model.task != "classify"
            if strided and any(size % 32 for size in extent(getattr(model, key))):
                yield f"models.{name}.{key}: {getattr(model, key)!r}: YOLO needs multiples of its stride, 32"


def _int8_mistakes(spec: Spec) -> Iterator[str]:
    wanted = set(spec.matrix.models) if "int8" in spec.matrix.precisions else set()
    for name in sorted(wanted - spec.int8.keys()):
        yield f"int8.{name}: missing: matrix.precisions has int8, so every model of the matrix needs its calibration images"
    for name in sorted(spec.int8.keys() - wanted):
        cure = f"add int8 to matrix.precisions and {name} to matrix.models, or take this out (`int8: {{}}` is left)"
        yield f"int8.{name}: nothing builds it: {cure}"
    for name, settings in spec.int8.items():
        if settings.rule not in RULES:
            yield f"int8.{name}.rule: {settings.rule!r}: unknown; {', '.join(RULES)} are known"
        for pattern in settings.exclude:
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"int8.{name}.exclude: {pattern!r}: no regular expression: {error}"
