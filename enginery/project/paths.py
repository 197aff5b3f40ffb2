"""Where every step reads and writes, and what the steps are called: the one place that knows paths
and stage names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from enginery.project.params import Spec

ARTIFACTS = Path("artifacts")
RECIPES = ARTIFACTS / "recipes"
ENGINES = ARTIFACTS / "engines"
LOGS = ARTIFACTS / "logs"
BUILDS = ARTIFACTS / "build"
REPORTS = ARTIFACTS / "reports"
MACHINE = ARTIFACTS / "machine.json"
DVC_FILE = Path("dvc.yaml")
INT8 = "int8"
CACHE, HISTOGRAMS = "calibration.cache", "histograms.npz"  # in a model's calibration folder
_FLOATS, _DEMO = ("fp32", "fp16"), "demo-data"
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
        return "-".join(
            part for part in (self.model, self.target, self.precision, self.toolchain) if part
        )

    @property
    def address(self) -> str:
        """The DVC stage."""
        if self.name == "quantize" and self.precision == INT8:
            return f"quantize-int8@{self.model}"
        if self.name in CALIBRATION_STEPS:
            return f"{self.name}@{self.model}"
        return f"{self.name}@{self.key}" if self.key else self.name

    @property
    def stage(self) -> str:
        """What dvc.yaml calls its stage, whatever the model, target and precision."""
        return self.address.partition("@")[0]

    @property
    def title(self) -> str:
        """What a person reads: build yolov8n fp16 for rtx-ada."""
        precision = "" if self.name in CALIBRATION_STEPS else self.precision
        words = [
            self.name,
            self.model,
            precision,
            self.toolchain,
            f"for {self.target}" if self.target else "",
        ]
        return " ".join(word for word in words if word)

    @property
    def recipe(self) -> Path:
        """Its parameters and tool versions, written by the fingerprint step."""
        return RECIPES / self.name / f"{self.key or 'recipe'}.json"


def crash_log(address: str) -> Path:
    """Where the traceback of a stage goes that failed as nobody foresaw."""
    return LOGS / f"{address.replace('@', '-')}.txt"


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
    return BUILDS / model / target / precision


def engine_folder(model: str, target: str, precision: str) -> Path:
    """Where an engine is registered: its plan with its manifest beside it."""
    return ENGINES / model / target / precision


def engine_report(model: str, target: str, precision: str) -> Path:
    """How an engine did on its own GPU."""
    return REPORTS / model / target / f"{precision}.json"


def timing_folder(toolchain: str, version: str, gpu: str) -> Path:
    """What a toolchain's TensorRT measured of its kernels on a GPU: each build merges all its
    .timing files.
    """
    return ARTIFACTS / "timing" / toolchain / f"{version}-{gpu.replace(' ', '-')}"


def _is_needed(spec: Spec, precision: str) -> bool:
    """Whether a graph in float is: a weakly typed TensorRT builds every precision from the one in
    fp32.
    """
    return precision == "fp32" or precision in spec.matrix.precisions


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
    precisions = {
        "",
        step.precision,
        *(["fp32"] if step.name == "build" else []),
    }  # a weakly typed TensorRT builds all from that graph
    return other.precision in precisions and all(
        getattr(other, kind) in ("", getattr(step, kind)) for kind in ("model", "target")
    )


def idle_steps(spec: Spec) -> Iterator[Step]:
    """Stages that `dvc repro` runs though params.yaml has no use for them: DVC's matrix knows no
    conditions. They make no graph.
    """
    for model in spec.matrix.models:
        yield from (
            Step("quantize", model, precision=precision)
            for precision in _FLOATS
            if not _is_needed(spec, precision)
        )


def stage_mistakes(spec: Spec, path: Path = DVC_FILE) -> Iterator[str]:
    """Where dvc.yaml has not the stages that params.yaml asks for, or one that it gives no
    settings.
    """
    if not path.is_file():
        return  # DVC itself says so
    try:
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].keys()
    except (UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        yield f"{path} cannot be read as a list of stages ({' '.join(str(error).split())}): take it from git again"
        return
    for name in dict.fromkeys(step.stage for step in steps(spec)):
        if name == _DEMO and name not in stages:
            yield f"demo: {path} has no stage {name} for it: take this key out, too, or put the stage back"
        elif name not in stages:
            yield f"{path} has no stage {name}: put it back"
    if _DEMO in stages and not spec.demo:
        yield f"demo: missing: {path} has the stage {_DEMO}: take that out, too, or put this key back"


def steps(spec: Spec) -> Iterator[Step]:
    """Every step of a specification, each after those it needs."""
    yield Step("fingerprint")
    if spec.demo:
        yield Step(_DEMO)
    for model in spec.matrix.models:
        yield from (Step(name, model) for name in ("export", "images", "simplify"))
        yield from (
            Step("quantize", model, precision=precision)
            for precision in _FLOATS
            if _is_needed(spec, precision)
        )
        if model in spec.int8:
            yield from (
                Step(name, model, precision=INT8) for name in (*CALIBRATION_STEPS, "quantize")
            )
        yield from (
            Step("validate", model, precision=precision) for precision in spec.matrix.precisions
        )
    yield from (
        Step("timing", toolchain=name) for name in spec.toolchains
    )  # restores what the builds use and write
    for name in ("build", "register"):
        for model in spec.matrix.models:
            for target in spec.matrix.targets:
                for precision in spec.matrix.precisions:
                    yield Step(name, model, target, precision)
