"""params.yaml as frozen types.

`load_spec` reports every mistake at once: its key, its value and what is allowed.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from enginery.errors import ConfigError
from enginery.quantization.rules import RULES
from enginery.vision.tasks import Task, metric_of

BUILD_OPTIONS = (
    "strongly_typed",
    "tf32",
    "sparsity",
    "version_compatible",
    "hardware_compatible",
    "refittable",
    "dla_core",
)
OLDEST_COMPATIBLE = 8.0  # hardware-compatible plans run from this compute capability (Ampere) on
PARAMS_FILE = Path("params.yaml")
_MOST_NODES = 100_000  # of params.yaml; nobody writes so many
# The own interpreter as a toolchain: its name, its path. No recipe holds the path.
THIS, THIS_INTERPRETER = "this", Path(sys.executable)

NAME = r"^[a-z0-9][a-z0-9_-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[int, Field(ge=1, le=100_000_000)]  # three years: no timer overflows
Share = Annotated[float, Field(ge=0, le=1)]
Extent = (
    Positive | Annotated[tuple[Positive, Positive, Positive], Field(description="[min, opt, max]")]
)
Precision = Literal["fp32", "fp16", "int8"]
StepName = Literal[
    "fingerprint",
    "demo-data",
    "export",
    "images",
    "simplify",
    "calibration-images",
    "calibrate",
    "quantize",
    "validate",
    "build",
    "register",
    "timing",
]
Algorithm = Literal["mse", "entropy", "percentile", "minmax"]
Runtime = Literal["tensorrt_rtx", "tensorrt"]
SIZES = ("batch", "height", "width")
Capability = Literal[
    "7.0", "7.2", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1"
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


def extent(value: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """(min, opt, max) of a size."""
    return value if isinstance(value, tuple) else (value, value, value)


class Sizes(_Frozen):
    """The sizes of a further optimization profile; what is left out is as in the model."""

    batch: Extent | None = None
    height: Extent | None = None
    width: Extent | None = None


class Model(_Frozen):
    """Weights or an ONNX file, and the shapes it runs at; `profiles` are optimization profiles
    beside the one of its own sizes.

    `sha256` is the digest that the source must have. Only `trusted` weights may run code when they
    are loaded.
    """

    source: str
    sha256: Digest | None = None
    trusted: bool = False
    task: Task = "detect"
    batch: Extent = 1
    height: Extent = 640
    width: Extent = 640
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    input: str | None = None
    profiles: tuple[Sizes, ...] = ()
    validation: str

    @property
    def is_onnx(self) -> bool:
        """Whether the source is a graph already: no export chooses its opset and its shapes."""
        return Path(self.source).suffix == ".onnx"

    @property
    def dynamic(self) -> bool:
        """Whether any size has a range, or differs from profile to profile."""
        return (
            len({tuple(shape) for profile in self.all_profiles() for shape in profile.values()}) > 1
        )

    @model_validator(mode="after")
    def _ordered(self) -> Model:
        for where, sizes in (
            ("", self),
            *((f"profiles.{index}.", sizes) for index, sizes in enumerate(self.profiles)),
        ):
            for key in SIZES:
                low, opt, high = extent(getattr(sizes, key) or getattr(self, key))
                if not low <= opt <= high:
                    raise ValueError(
                        f"{where}{key}: min <= opt <= max must hold, not {[low, opt, high]}"
                    )
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at opt."""
        return extent(self.height)[1], extent(self.width)[1]

    def profile(self, sizes: Sizes = Sizes()) -> dict[str, list[int]]:  # noqa: B008  frozen
        """The input's shape (batch, 3, height, width) at min, opt and max, of the model's own
        profile or a further one.
        """
        batch, height, width = (extent(getattr(sizes, key) or getattr(self, key)) for key in SIZES)
        return {
            which: [batch[index], 3, height[index], width[index]]
            for index, which in enumerate(("min", "opt", "max"))
        }

    def all_profiles(self) -> list[dict[str, list[int]]]:
        """The model's own profile, then the further ones."""
        return [self.profile(), *map(self.profile, self.profiles)]


class Int8(_Frozen):
    """How a model is quantized: `calibration` is a folder of images or a TensorRT .cache; `rule`
    and `exclude` keep nodes in float.
    """

    calibration: str
    algorithm: Algorithm = "mse"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    minimum_images: Positive = 300
    rule: str = "none"
    exclude: tuple[str, ...] = ()


def _gpu(value: Any) -> Any:
    if (type(value) is int and value >= 0) or (
        isinstance(value, str) and re.fullmatch(r"GPU-[0-9a-f-]+", value)
    ):
        return value
    raise ValueError("an index, as nvidia-smi counts, or a UUID (GPU-...) is expected")


class Target(_Frozen):
    """What an engine is for, and how it is built. `version` is as much of TensorRT's version as
    matters; `gpu` is an index or UUID.

    `compute_capability` is what TensorRT-RTX builds for; `tensorrt` builds for its GPU, which must
    then have it.

    The options from `gpu` on are for runtime `tensorrt`.
    """

    runtime: Runtime
    version: Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")] | None = None
    compute_capability: Capability | None = None
    toolchain: Name | None = None
    workspace_mib: Positive | None = None
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    tactic_sources: tuple[str, ...] | None = None
    time_limit_s: Seconds = 1800
    gpu: Annotated[int | str, BeforeValidator(_gpu)] | None = None
    calibration: Literal["portable", "native"] = "portable"
    strongly_typed: bool = False
    tf32: bool = False
    sparsity: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    refittable: bool = False
    dla_core: Annotated[int, Field(ge=0)] | None = None

    def chosen(self, *names: str) -> dict[str, Any]:
        """Those of the named options that are not at their defaults."""
        return self.model_dump(include=set(names), exclude_defaults=True)


class Toolchain(_Frozen):
    """An interpreter with one TensorRT in it."""

    python: str


class Matrix(_Frozen):
    """What is built."""

    models: Annotated[tuple[Name, ...], Field(min_length=1)]
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)]


class Rms(_Frozen):
    """How far raw outputs may be from the original's (RMS), relative to them, at each precision."""

    fp32: Share = 0.001
    fp16: Share = 0.02
    int8: Share = 0.05


class Tolerance(_Frozen):
    """How far a graph may be from the FP32 original; `top1_drop` is for models that classify."""

    map50_95_drop: Share = 0.01
    top1_drop: Share = 0.01
    rms_relative: Rms = Rms()

    def of(self, task: str, precision: str) -> dict[str, float]:
        """What the gate allows a model of a task at a precision."""
        drop = f"{metric_of(task).key}_drop"
        return {drop: getattr(self, drop), "rms_relative": getattr(self.rms_relative, precision)}


class Demo(_Frozen):
    """How many images the demo draws."""

    validation_images: Positive
    calibration_images: Positive


_HOUR = 3600
# These two run every image through a network on a CPU; a build waits for its turn on the GPU, and
# its own limit is its target's.
_TIME_LIMITS_S: Mapping[str, int] = {
    "calibrate": 12 * _HOUR,
    "validate": 12 * _HOUR,
    "build": 12 * _HOUR,
}


class Spec(_Frozen):
    """All of params.yaml; `time_limit_s` is of single steps."""

    matrix: Matrix
    models: dict[Name, Model]
    int8: dict[Name, Int8]
    targets: dict[Name, Target]
    toolchains: dict[Name, Toolchain]
    validation: Tolerance = Tolerance()
    demo: Demo | None = None
    time_limit_s: dict[StepName, Seconds] = {}

    def time_limit(self, step: str) -> int:
        """After how many seconds a step is stopped: it hangs.

        No recipe holds this: it shapes nothing.
        """
        chosen: Mapping[Any, int] = self.time_limit_s
        return chosen.get(step, _TIME_LIMITS_S.get(step, _HOUR))


def load_spec(path: Path = PARAMS_FILE) -> Spec:
    """Read and check params.yaml.

    Raises:
        ConfigError: the file is missing, is no YAML, or has mistakes: all of them, each with its key.
    """
    raw = _read(path)
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(
            str(path),
            [*dict.fromkeys(map(_sentence, error.errors())), *_further(raw, error.errors())],
        ) from None
    mistakes = list(_references(spec))
    if mistakes:
        raise ConfigError(str(path), mistakes)
    return spec


def _read(path: Path) -> Mapping[str, Any]:
    if path.exists() and not path.is_file():
        raise ConfigError(
            str(path), [f"{path.name} is no plain file: a pipe, a device or a folder is not read"]
        )
    try:
        raw = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            str(path), ["no such file here; run this in the folder that holds it"]
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            str(path), [f"not readable as YAML: {' '.join(str(error).split())}"]
        ) from None
    except RecursionError:
        raise ConfigError(str(path), ["not readable as YAML: it is nested too deeply"]) from None
    if not isinstance(raw, dict):
        raise ConfigError(str(path), [f"a mapping is expected, not {type(raw).__name__}"])
    return raw


def _parse(text: str) -> Any:
    """The value of a YAML text whose aliases do not multiply: a few lines of them can stand for
    more than any memory holds.

    Raises:
        YAMLError: it is no YAML, or its aliases lead to themselves or to too much.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _expanded(root, {}) > _MOST_NODES:
            raise yaml.YAMLError(
                f"its aliases (*name) stand for more than {_MOST_NODES:,} values; write them out"
            )
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes a node stands for, with every alias in it written out; `known` are those
    counted already.
    """
    if id(node) not in known:
        known[id(node)] = _MOST_NODES  # what an alias of itself would find
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        else:
            inner = node.value if isinstance(node, yaml.SequenceNode) else []
        known[id(node)] = 1 + sum(_expanded(part, known) for part in inner)
    return known[id(node)]


def _further(raw: Mapping[str, Any], errors: Iterable[Any]) -> Iterator[str]:
    """What else is wrong, where the rest makes sense without the values that these errors name."""
    rest = copy.deepcopy(dict(raw))
    for error in errors:
        *parents, last = (part for part in error["loc"] if not _is_marker(part))
        try:
            place = reduce(lambda value, part: value[part], parents, rest)
        except LookupError:
            continue  # left out for an error before
        if error["type"] != "extra_forbidden" and not _is_value(place, last, error):
            return  # what refers to it would be wrong without it
        place.pop(last, None)
    with suppress(ValidationError):
        yield from _references(Spec.model_validate(rest))


def _is_value(place: Any, key: Any, error: Any) -> bool:
    """Whether an error is about a single value of a mapping, which may be left out."""
    whole = "[key]" in error["loc"] or error["type"] in ("missing", "model_type", "dict_type")
    return isinstance(place, dict) and not whole and not isinstance(place.get(key), dict)


def _sentence(error: Any) -> str:
    # Union members and pydantic's own markers are no keys of the file.
    keys = [str(part) for part in error["loc"] if not _is_marker(part)]
    where = ".".join(keys) or "(top level)"
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    message = error["msg"].removeprefix("Value error, ")
    value = "" if isinstance(error["input"], dict) else f" {error['input']!r}:"
    return f"{where}:{value} {message[0].lower()}{message[1:]}"


def _is_marker(part: int | str) -> bool:
    prefixes = ("constrained", "function", "tuple[", "literal[")
    return isinstance(part, str) and (part.startswith(prefixes) or part in ("[key]", "int"))


def _references(spec: Spec) -> Iterator[str]:
    for kind, known in (("models", spec.models), ("targets", spec.targets)):
        for name in getattr(spec.matrix, kind):
            if name not in known:
                yield f"matrix.{kind}: {name!r}: not defined; {kind} has {', '.join(sorted(known)) or 'none'}"
    yield from _matrix_mistakes(spec)
    for name, target in spec.targets.items():
        if target.toolchain and target.toolchain not in spec.toolchains:
            known_names = ", ".join(sorted(spec.toolchains)) or "none"
            yield f"targets.{name}.toolchain: {target.toolchain!r}: not defined; toolchains has {known_names}"
        yield from _target_mistakes(name, target)
    yield from _int8_mistakes(spec)
    for name, model in spec.models.items():
        if Path(model.source).suffix not in (".pt", ".onnx"):
            yield f"models.{name}.source: {model.source!r}: a .pt or an .onnx file is expected"
        if Path(model.source).suffix == ".onnx" and model.trusted:
            yield f"models.{name}.trusted: true: an .onnx runs no code when it is read; leave this out"
        if Path(model.source).suffix == ".pt" and model.task != "classify":
            yield from _stride_mistakes(f"models.{name}", model)
            for index, sizes in enumerate(model.profiles):
                yield from _stride_mistakes(f"models.{name}.profiles.{index}", sizes)
    yield from _idle_keys(spec)
    if THIS in spec.toolchains:
        yield f"toolchains.{THIS}: this is the name of Enginery's own interpreter; choose another"


def _idle_keys(spec: Spec) -> Iterator[str]:
    """Keys that params.yaml gives and that do nothing beside the others."""
    for name, model in spec.models.items():
        if model.is_onnx and "opset" in model.model_fields_set:
            yield f"models.{name}.opset: {model.opset}: {model.source} has an opset of its own; leave this out"
    for name, settings in spec.int8.items():
        cache = Path(settings.calibration).suffix == ".cache"
        idle: tuple[str, ...] = ("algorithm", "percentile", "minimum_images") if cache else ()
        why = f"{settings.calibration} has its ranges already"
        if not cache and settings.algorithm != "percentile":
            idle, why = ("percentile",), f"algorithm {settings.algorithm} has none"
        for key in idle:
            if key in settings.model_fields_set:
                yield f"int8.{name}.{key}: {getattr(settings, key)!r}: {why}; leave this out"


def _matrix_mistakes(spec: Spec) -> Iterator[str]:
    for name in sorted(
        spec.models.keys() - set(spec.matrix.models)
    ):  # dvc.yaml has a stage for each
        yield f"models.{name}: nothing builds it: add it to matrix.models, or take it out"
    for kind, names in spec.matrix.model_dump().items():
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"matrix.{kind}: {name!r}: is there more than once"
    pairs: dict[str, set[tuple[str, str]]] = {}  # by what DVC calls them
    for model in spec.matrix.models:
        for target in spec.matrix.targets:
            pairs.setdefault(f"{model}-{target}", set()).add((model, target))
    for joined, same in pairs.items():
        if len(same) > 1:
            both = " and ".join(f"{model} for {target}" for model, target in sorted(same))
            yield f"matrix: {both} would both be called {joined}: rename a model or a target"


def _stride_mistakes(where: str, sizes: Model | Sizes) -> Iterator[str]:
    for key in ("height", "width"):
        value = getattr(sizes, key)
        if value is not None and any(size % 32 for size in extent(value)):
            yield f"{where}.{key}: {value!r}: YOLO needs multiples of its stride, 32"


def _target_mistakes(name: str, target: Target) -> Iterator[str]:
    if target.runtime != "tensorrt":
        for key, value in target.chosen("gpu", "calibration", *BUILD_OPTIONS).items():
            yield f"targets.{name}.{key}: {value!r}: only runtime tensorrt has this; leave it out"
    if (
        target.hardware_compatible
        and target.compute_capability
        and float(target.compute_capability) < OLDEST_COMPATIBLE
    ):
        limit = f"such engines run from compute capability {OLDEST_COMPATIBLE} on"
        yield f"targets.{name}.hardware_compatible: true: {limit}; leave one of the two out"
    if target.strongly_typed and target.calibration == "native":
        yield f"targets.{name}.calibration: 'native': a strongly typed network takes no calibrator; leave one of the two out"


def _int8_mistakes(spec: Spec) -> Iterator[str]:
    wanted = set(spec.matrix.models) if "int8" in spec.matrix.precisions else set()
    for name in sorted(wanted - spec.int8.keys()):
        yield f"int8.{name}: missing: matrix.precisions has int8, so every model of the matrix needs its calibration images"
    for name in sorted(spec.int8.keys() - wanted):
        cure = f"add int8 to matrix.precisions and {name} to matrix.models, or take this out (`int8: {{}}` is left)"
        yield f"int8.{name}: nothing builds it: {cure}"
    native = [
        name
        for name in spec.matrix.targets
        if name in spec.targets and spec.targets[name].calibration == "native"
    ]
    for name, settings in spec.int8.items():
        if native and Path(settings.calibration).suffix == ".cache":
            yield f"int8.{name}.calibration: {settings.calibration!r}: target {native[0]} calibrates natively and needs a folder of images"
        if settings.rule not in RULES:
            yield f"int8.{name}.rule: {settings.rule!r}: unknown; {', '.join(RULES)} are known"
        for pattern in settings.exclude:
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"int8.{name}.exclude: {pattern!r}: no regular expression: {error}"
