"""Where every step reads and writes, and what the steps are called: the one place that knows paths and stage names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from enginery.spec import Spec

ARTIFACTS = Path("artifacts")
RECIPES = ARTIFACTS / "recipes"
ENGINES = ARTIFACTS / "engines"
MACHINE = ARTIFACTS / "machine.json"
INT8 = "int8"
CACHE, HISTOGRAMS = "calibration.cache", "histograms.npz"  # in a model's calibration folder
CALIBRATION_STEPS = ("calibration-images", "calibrate")


@dataclass(frozen=True)
class Step:
    """One step for one model, target and precision (those that it has), or for a toolchain."""

    name: str
    model: str = ""
    target: str = ""
    precision: str = ""
    toolchain: str = ""

    @property
    def key(self) -> str:
        """The parts that tell this step from its siblings, as DVC joins them."""
        return "-".join(part for part in (self.model, self.target, self.precision, self.toolchain) if part)

    @property
    def address(self) -> str:
        """The DVC stage."""
        if self.name == "quantize" and self.precision == INT8:
            return f"quantize-int8@{self.model}"
        if self.name in CALIBRATION_STEPS:
            return f"{self.name}@{self.model}"
        return f"{self.name}@{self.key}" if self.key else self.name

    @property
    def title(self) -> str:
        """What a person reads: build yolov8n fp16 for rtx-ada."""
        precision = "" if self.name in CALIBRATION_STEPS else self.precision
        words = [self.name, self.model, precision, self.toolchain, f"for {self.target}" if self.target else ""]
        return " ".join(word for word in words if word)

    @property
    def recipe(self) -> Path:
        """Its parameters and tool versions, written by the fingerprint step."""
        return RECIPES / self.name / f"{self.key or 'recipe'}.json"


def model_folder(model: str, part: str) -> Path:
    """Where a model's graph lies: part is export, simplify, calibration or a precision."""
    return ARTIFACTS / "models" / model / part


def images_file(model: str) -> Path:
    """The list of a model's validation images with their digests."""
    return ARTIFACTS / "models" / model / "images.json"


def calibration_images_file(model: str) -> Path:
    """The list of a model's calibration images with their digests."""
    return ARTIFACTS / "models" / model / "calibration-images.json"


def kept_histograms(model: str) -> Path:
    """What a calibration has counted so far, for a run that goes on after it was stopped."""
    return ARTIFACTS / "models" / model / "calibration-so-far.npz"


def build_folder(model: str, target: str, precision: str) -> Path:
    """Where a plan is built."""
    return ARTIFACTS / "build" / model / target / precision


def engine_folder(model: str, target: str, precision: str) -> Path:
    """Where an engine is registered: its plan with its manifest beside it."""
    return ENGINES / model / target / precision


def engine_report(model: str, target: str, precision: str) -> Path:
    """How an engine did on its own GPU."""
    return ARTIFACTS / "reports" / model / target / f"{precision}.json"


def timing_folder(toolchain: str, version: str, gpu: str) -> Path:
    """What a toolchain's TensorRT measured of its kernels on a GPU: each build merges all its .timing files."""
    return ARTIFACTS / "timing" / toolchain / f"{version}-{gpu.replace(' ', '-')}"


# What a step reads is written by these.
NEEDS = {
    "demo-data": ("fingerprint",),
    "export": ("fingerprint",),
    "images": ("fingerprint", "demo-data"),
    "simplify": ("export", "demo-data"),
    "calibration-images": ("images", "demo-data"),
    "calibrate": ("simplify", "calibration-images"),
    "quantize": ("simplify", "calibrate"),
    "validate": ("export", "quantize", "images"),
    "build": ("quantize",),
    "register": ("build", "validate"),
    "timing": ("fingerprint",),
}


def needs(step: Step, other: Step) -> bool:
    """Whether `step` reads what `other` writes."""
    if other.name not in NEEDS.get(step.name, ()):
        return False
    precisions = {"", step.precision, *(["fp32"] if step.name == "build" else [])}  # a weakly typed TensorRT builds all from that graph
    return other.precision in precisions and all(getattr(other, kind) in ("", getattr(step, kind)) for kind in ("model", "target"))


def steps(spec: Spec) -> Iterator[Step]:
    """Every step of a specification, each after those it needs."""
    yield Step("fingerprint")
    if spec.demo:
        yield Step("demo-data")
    for model in spec.matrix.models:
        yield from (Step(name, model) for name in ("export", "images", "simplify"))
        yield from (Step("quantize", model, precision=precision) for precision in ("fp32", "fp16"))
        if model in spec.int8:
            yield from (Step(name, model, precision=INT8) for name in (*CALIBRATION_STEPS, "quantize"))
        yield from (Step("validate", model, precision=precision) for precision in spec.matrix.precisions)
    yield from (Step("timing", toolchain=name) for name in spec.toolchains)  # restores what the builds use and write
    for name in ("build", "register"):
        for model in spec.matrix.models:
            for target in spec.matrix.targets:
                for precision in spec.matrix.precisions:
                    yield Step(name, model, target, precision)
