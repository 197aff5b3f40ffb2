"""export deepstream: an engine with the configuration with which DeepStream's nvinfer runs it.

    OUT/model.plan, config_infer.txt, labels.txt, calibration.cache (INT8)

nvinfer attaches the raw outputs to each frame (`network-type=100`, `output-tensor-meta=1`): its own
parsers want boxes that are final, and a YOLO's raw outputs are not. It never builds an engine of
its own from this: no `onnx-file` is named, so a plan that does not load is an error.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from enginery.calibration import cache
from enginery.errors import EngineryError
from enginery.project.paths import CACHE, model_folder
from enginery.registry.store import PLAN, Engine, check_whole
from enginery.system.files import atomic_folder, sha256

CONFIG, LABELS, CALIBRATION = "config_infer.txt", "labels.txt", "calibration.cache"
_RUNTIME = "tensorrt"  # which nvinfer loads
_MODES = {"fp32": 0, "int8": 1, "fp16": 2}
_ONE_255TH = "0.0039215697906911373"  # as a float32


def export_deepstream(engine: Engine, out: Path) -> Path:
    """Write the folder, whole or not at all; the configuration's path.

    Raises:
        EngineryError: nvinfer cannot feed it, or does not load engines of this kind.
        IntegrityError: the plan is damaged.
    """
    _check(engine)
    check_whole(engine)
    labels = engine.manifest.steps.export.names
    names = [labels[index] for index in sorted(labels, key=int)]
    with atomic_folder(out) as partial:
        shutil.copyfile(engine.plan, partial / PLAN)
        (partial / LABELS).write_text("\n".join([*names, ""]), encoding="utf-8")
        ranges = _ranges(engine)
        if ranges:
            cache.write(ranges.headed_for(engine.manifest.runtime_version), partial / CALIBRATION)
        text = _config(properties(engine, len(names), bool(ranges)))
        (partial / CONFIG).write_text(text, encoding="utf-8")
    return out / CONFIG


def properties(engine: Engine, classes: int, calibrated: bool) -> Mapping[str, str | int]:
    """The keys of nvinfer's group `property`."""
    batch, _, height, width = engine.built.image_profile.max
    return {
        "gpu-id": 0,
        "model-engine-file": PLAN,
        "labelfile-path": LABELS,
        **({"int8-calib-file": CALIBRATION} if calibrated else {}),
        "network-mode": _MODES[engine.precision],
        "network-type": 100,
        "output-tensor-meta": 1,
        "num-detected-classes": classes,
        "batch-size": batch,
        "infer-dims": f"3;{height};{width}",
        "net-scale-factor": _ONE_255TH,
        "model-color-format": 0,
        "maintain-aspect-ratio": 1,
        "symmetric-padding": 1,
        "gie-unique-id": 1,
    }


def _config(values: Mapping[str, str | int]) -> str:
    lines = [f"{key}={value}" for key, value in values.items()]
    return "\n".join(["[property]", *lines, ""])


def _check(engine: Engine) -> None:
    if engine.manifest.runtime != _RUNTIME:
        what = f"{engine.name} is of {engine.manifest.runtime}, which nvinfer does not load"
        raise EngineryError(what, f"Build it for a target of runtime {_RUNTIME}")
    if engine.manifest.steps.export.task == "classify":
        what = f"{engine.name} classifies the middle of an image, and nvinfer crops none"
        raise EngineryError(what, "Feed it with preprocessing of your own (nvdspreprocess)")
    if engine.manifest.judging.preprocess:
        what = f"{engine.name}: nvinfer would prepare images in another way than its `preprocess`"
        raise EngineryError(what, "Feed it with preprocessing of your own (nvdspreprocess)")
    if engine.built.takes_pixels:
        what = f"{engine.name} takes uint8, and nvinfer feeds floats"
        raise EngineryError(what, "Export the engine of a target without `input: uint8`")
    profile = engine.built.image_profile
    if profile.min[2:] != profile.max[2:]:
        what = f"{engine.name} has inputs of {profile.text}, and nvinfer feeds one size"
        raise EngineryError(what, "Build it with one height and one width")


def _ranges(engine: Engine) -> cache.Cache | None:
    """The ranges that made an INT8 engine, where its calibration still is here."""
    digest = engine.manifest.digests.get("calibration_cache")
    path = model_folder(engine.model, "calibration") / CACHE
    if digest is None or not path.is_file() or sha256(path) != digest:
        return None
    return cache.read(path)
