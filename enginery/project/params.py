"""params.yaml as frozen types."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from enginery import runtimes, sources
from enginery.errors import DataError
from enginery.project.engine_name import NAME, EngineName
from enginery.project.registry_settings import RegistrySettings
from enginery.system.files import sha256
from enginery.vision import preprocess as preprocessing
from enginery.vision.preprocess import Preprocess
from enginery.vision.tasks import Judging, Task, Truth, metric_of

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
# The own interpreter as a toolchain: its name, its path. No recipe holds the path.
OWN_TOOLCHAIN, OWN_INTERPRETER = "this", Path(sys.executable)

Name = Annotated[str, StringConstraints(pattern=NAME)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[int, Field(ge=1, le=100_000_000)]  # three years: no timer overflows
Share = Annotated[float, Field(ge=0, le=1)]
# Beyond these no GPU holds even the images: one of 16,384 x 16,384 is 3 GB as a tensor.
Side = Annotated[int, Field(ge=1, le=16_384)]
Batch = Annotated[int, Field(ge=1, le=65_536)]
SideExtent = Side | Annotated[tuple[Side, Side, Side], Field(description="[min, opt, max]")]
BatchExtent = Batch | Annotated[tuple[Batch, Batch, Batch], Field(description="[min, opt, max]")]
Precision = Literal["fp32", "fp16", "int8"]
Algorithm = Literal["mse", "entropy", "percentile", "minmax"]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


def _runtime(name: str) -> str:
    if name not in runtimes.names():
        raise ValueError(f"{' or '.join(runtimes.names())} is expected")
    return name


Runtime = Annotated[str, AfterValidator(_runtime)]
SIZES, WHICH = ("batch", "height", "width"), ("min", "opt", "max")
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

    batch: BatchExtent | None = None
    height: SideExtent | None = None
    width: SideExtent | None = None


ArrayShape = Annotated[tuple[Positive, ...], Field(min_length=1)]
ArrayExtent = ArrayShape | tuple[ArrayShape, ArrayShape, ArrayShape]


class OutputTolerance(_Frozen):
    """How far one output may be from the original's: RMS relative to it, the largest difference,
    and the least cosine similarity.
    """

    rms: Share | None = None
    max: Annotated[float, Field(ge=0)] | None = None
    cosine: Share | None = None


def _three(shapes: ArrayExtent) -> tuple[tuple[int, ...], ...]:
    """An array's shapes at min, opt and max."""
    return shapes if isinstance(shapes[0], tuple) else (shapes,) * 3


def _metric_digest(place: str) -> str:
    """The digest of the file that a team's own metric is in."""
    file = Path(place.partition(":")[0])
    if not file.is_file():
        raise DataError(f"the metric {place}: {file} is not there", "Correct it in params.yaml")
    return sha256(file)


class Model(_Frozen):
    """Weights or an ONNX file, and the shapes it runs at; `profiles` are optimization profiles
    beside the one of its own sizes.

    `architecture` is the network that weights are of, where the file does not tell. `names` is a
    file with the names of its classes, where the source has none. `truth: original` is for images
    without labels: what the FP32 original finds in them counts as right. `metric` is
    a team's own: `metrics/mine.py:score`. `preprocess` is how images become inputs, if it is not
    Ultralytics' way; `input` names the input that takes them. `shapes` are those of further inputs
    with open sizes; `outputs` are tolerances for single outputs of `tensors`. `fp32_layers` are
    patterns of names of layers that FP16 cannot hold.

    `targets` and `precisions` take the place of the matrix's for this model. `sha256` is the digest
    that the source must have. Only `trusted` weights may run code when they
    are loaded.
    """

    source: str
    sha256: Digest | None = None
    trusted: bool = False
    task: Task = "detect"
    batch: BatchExtent = 1
    height: SideExtent = 640
    width: SideExtent = 640
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    input: str | None = None
    profiles: tuple[Sizes, ...] = ()
    validation: str
    architecture: str | None = None
    names: str | None = None
    truth: Truth = "labels"
    metric: Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:\w+$")] | None = None
    preprocess: Annotated[Preprocess | None, BeforeValidator(preprocessing.parse)] = None
    shapes: dict[str, ArrayExtent] = {}
    outputs: dict[str, OutputTolerance] = {}
    fp32_layers: tuple[Pattern, ...] = ()
    targets: tuple[Name, ...] = ()
    precisions: tuple[Precision, ...] = ()

    @property
    def has_labels(self) -> bool:
        """Whether its validation images have labels."""
        return self.truth == "labels"

    @property
    def takes_images(self) -> bool:
        """Whether an input takes images; of `tensors` only if its size or `preprocess` is said."""
        said = self.model_fields_set & {"height", "width", "preprocess", "input"}
        return self.task != "tensors" or bool(said)

    def judging(self) -> Judging | None:
        """How its outputs are judged; None: as Ultralytics does, against labels.

        Raises:
            DataError: the file of its own metric is not there.
        """
        digest = _metric_digest(self.metric) if self.metric else None
        own_input = self.preprocess or self.metric or self.task in ("semantic", "tensors")
        image = self.input if own_input else None
        judging = Judging(self.truth, self.preprocess, image, self.metric, digest)
        return None if judging == Judging() else judging

    @property
    def dynamic(self) -> bool:
        """Whether any size has a range, or differs from profile to profile."""
        return (
            len({tuple(shape) for profile in self.all_profiles() for shape in profile.values()}) > 1
        )

    @model_validator(mode="before")
    @classmethod
    def _prepares_images_as_its_source(cls, raw: Any) -> Any:
        """Some sources have a preset of their own."""
        source = raw.get("source") if isinstance(raw, dict) else None
        if not isinstance(source, str) or Path(source).suffix not in sources.suffixes():
            return raw
        usual = sources.find(source).preprocess
        return {"preprocess": usual, **raw} if usual else raw

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
        sizes_ = zip(
            *(extent(getattr(sizes, key) or getattr(self, key)) for key in SIZES), strict=True
        )
        how = self.preprocess or Preprocess()
        return {which: how.shape(*each) for which, each in zip(WHICH, sizes_, strict=True)}

    def array_profiles(self) -> dict[str, dict[str, list[int]]]:
        """The shapes at min, opt and max of inputs that are no images and have open sizes."""
        return {
            name: dict(zip(WHICH, map(list, _three(shapes)), strict=True))
            for name, shapes in self.shapes.items()
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
    workspace_mib: Annotated[int, Field(ge=1, le=1 << 20)] | None = None  # a terabyte
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
    dla_core: Annotated[int, Field(ge=0, le=15)] | None = None

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


class Demo(_Frozen):
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


class Spec(_Frozen):
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
    time_limit_s: dict[Name, Seconds] = {}
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
