"""Where every step reads and writes: the one place that knows paths."""

from __future__ import annotations

from pathlib import Path

ARTIFACTS = Path("artifacts")
RECIPES = ARTIFACTS / "recipes"
ENGINES = ARTIFACTS / "engines"
LOGS = ARTIFACTS / "logs"
BUILDS = ARTIFACTS / "build"
TIMING = ARTIFACTS / "timing"
REPORTS = ARTIFACTS / "reports"
METRICS = ARTIFACTS / "metrics"
WORKPLACE = ARTIFACTS / "workplace.json"
MATRIX = ARTIFACTS / "matrix.yaml"
DVC_FILE = Path("dvc.yaml")
# Where a step writes the recipe that it was made by, and what came of it.
RECORDS = {
    "export": "artifacts/models/{model}/export/record.json",
    "simplify": "artifacts/models/{model}/simplify/record.json",
    "calibrate": "artifacts/models/{model}/calibration/record.json",
    "quantize": "artifacts/models/{model}/{precision}/graph/record.json",
    "validate": "artifacts/models/{model}/{precision}/validation.json",
    "build": "artifacts/build/{model}/{target}/{precision}/record.json",
    "register": "artifacts/engines/{model}/{target}/{precision}/manifest.json",
}
CACHE, HISTOGRAMS = "calibration.cache", "histograms.npz"  # in a model's calibration folder


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


def engine_metrics(model: str, target: str, precision: str) -> Path:
    """An engine's numbers, for `dvc metrics diff`."""
    return METRICS / model / target / f"{precision}.json"


def timing_folder(toolchain: str, version: str, gpu: str) -> Path:
    """What a toolchain's TensorRT measured of its kernels on a GPU: each build merges all its
    .timing files.
    """
    return TIMING / toolchain / f"{version}-{gpu.replace(' ', '-')}"


def kept_timing(folder: Path, digest: str) -> Path:
    """The timing cache that an engine was built with, beside those that builds go on writing."""
    return folder / "kept" / f"{digest}.timing"
