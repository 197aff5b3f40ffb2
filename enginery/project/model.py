"""A model of params.yaml: its source, its inputs, and how it is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from enginery import sources
from enginery.errors import DataError
from enginery.project.values import (
    SIZES,
    WHICH,
    BatchExtent,
    Digest,
    Frozen,
    Name,
    Pattern,
    Positive,
    Precision,
    Share,
    SideExtent,
    extent,
)
from enginery.system.files import sha256
from enginery.vision import preprocess as preprocessing
from enginery.vision.preprocess import Preprocess
from enginery.vision.tasks import Judging, Task, Truth


class Sizes(Frozen):
    """The sizes of a further optimization profile; what is left out is as in the model."""

    batch: BatchExtent | None = None
    height: SideExtent | None = None
    width: SideExtent | None = None


ArrayShape = Annotated[tuple[Positive, ...], Field(min_length=1)]
ArrayExtent = ArrayShape | tuple[ArrayShape, ArrayShape, ArrayShape]


class OutputTolerance(Frozen):
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


class Model(Frozen):
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
    shapes: dict[str, ArrayExtent] = Field(default={})
    outputs: dict[str, OutputTolerance] = Field(default={})
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
