"""Recipes: all that shapes a step's output and is no file it reads: parameters with their defaults,
tool versions, its VERSION.

A recipe is a small JSON file that its DVC stage depends on. So a new tool version or a changed
parameter makes exactly the steps stale that it shapes; a comment in params.yaml, another checkout
path or a new docstring makes none. Raise a step's number in VERSIONS when its output changes for
the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from enginery.calibration.cache import SUFFIX
from enginery.errors import EngineryError
from enginery.graphs.external import data_digests
from enginery.graphs.session import CPU, fastest_provider
from enginery.project.params import BUILD_OPTIONS, Model, Spec, extent
from enginery.project.paths import CALIBRATION_STEPS, INT8, RECIPES, Step, idle_steps, steps
from enginery.system.files import sha256, write_json

VERSIONS = {
    "demo-data": 1,
    "export": 2,
    "images": 1,
    "simplify": 1,
    "calibration-images": 1,
    "calibrate": 1,
    "quantize": 2,
    "validate": 3,
    "build": 4,
    "register": 2,
    "timing": 1,
}
TOOLS: Mapping[str, tuple[str, ...]] = {
    "demo-data": ("numpy", "opencv-python"),
    "export": ("ultralytics", "torch", "onnx"),
    "simplify": ("onnx", "onnxsim", "onnxruntime"),
    "calibrate": ("numpy", "onnx", "onnxruntime", "opencv-python"),
    "quantize": ("onnx", "onnxconverter-common"),
    "validate": ("ultralytics", "torch", "onnxruntime", "opencv-python"),
}
# Packages that bring the same module.
_OTHER_NAMES = {
    "onnxruntime": ("onnxruntime-gpu",),
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python"),
}
_ONNX_TOOLS = (
    "onnx",
)  # an export of the user's own ONNX; torch and Ultralytics have no part in it
Probe = Callable[[str], Mapping[str, Any]]


def recipes(spec: Spec, probe: Probe, targets: Collection[str]) -> dict[Path, dict[str, Any]]:
    """The recipe of every step, of these targets only where it has one; `probe` tells a target's
    runtime version and platform.
    """
    result = {}
    for step in steps(spec):
        if step.name != "fingerprint" and (not step.target or step.target in targets):
            result[step.recipe] = {
                "step": step.name,
                "version": VERSIONS[step.name],
                "tools": {tool: _version(tool) for tool in _tools(spec, step)},
                "parameters": _parameters(spec, step, probe),
            }
    for step in idle_steps(spec):
        result[step.recipe] = {
            "step": step.name,
            "version": VERSIONS[step.name],
            "tools": {},
            "parameters": {"needed": False},
        }
    return result


def write_recipes(found: Mapping[Path, Mapping[str, Any]], spec: Spec) -> None:
    """Write the recipes, leaving unchanged files alone and removing those no step has."""
    for path, recipe in found.items():
        write_json(path, recipe)
    known = {step.recipe for step in (*steps(spec), *idle_steps(spec))}
    for path in sorted(RECIPES.rglob("*.json")):
        if path not in known:
            path.unlink()


def _version(tool: str) -> str:
    for package in (tool, *_OTHER_NAMES.get(tool, ())):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    raise EngineryError(
        f"the package {tool} is not installed here",
        "Run `make engines`: it installs what is missing",
    )


def _tools(spec: Spec, step: Step) -> tuple[str, ...]:
    """The packages that shape a step's output; what classifies is fed by others than the rest."""
    if step.name == "export" and spec.models[step.model].is_onnx:
        return _ONNX_TOOLS
    cropped = step.name in ("calibrate", "validate") and spec.models[step.model].task == "classify"
    found = (
        *TOOLS.get(step.name, ()),
        *(("pillow", "torchvision", "ultralytics") if cropped else ()),
    )
    return tuple(dict.fromkeys(found))


def _parameters(spec: Spec, step: Step, probe: Probe) -> dict[str, Any]:
    if step.name == "demo-data":
        return spec.demo.model_dump()  # type: ignore[union-attr]  # without it there is no such step
    if step.name == "timing":
        return {"toolchain": step.toolchain}
    if step.name == "build":
        return _build_parameters(spec, step, probe)
    if step.name == "register":
        return spec.validation.of(spec.models[step.model].task, step.precision)
    model = spec.models[step.model]
    if step.name == "export":
        return _export_parameters(model)
    if step.precision == INT8 and step.name in (*CALIBRATION_STEPS, "quantize"):
        return _int8_parameters(spec, step)
    if step.name == "images":
        return {"validation": model.validation, "task": model.task}
    if step.name in ("simplify", "validate"):
        return {
            "validation": model.validation,
            "task": model.task,
            "height": model.size[0],
            "width": model.size[1],
        }
    return {}


def _export_parameters(model: Model) -> dict[str, Any]:
    # The right digest shapes nothing; a wrong one makes the export run, and refuse what nothing has
    # read by then.
    wrong = {"sha256": model.sha256} if _has_other_digest(model) else {}
    common = {"source": model.source, "task": model.task, **wrong}
    if model.is_onnx:
        data = (
            {} if wrong else data_digests(Path(model.source))
        )  # DVC knows the graph's own file alone
        return {**common, **({"data": data} if data else {})}
    return {
        **common,
        "opset": model.opset,
        "dynamic": model.dynamic,
        "batch": extent(model.batch)[1],
        "height": extent(model.height)[1],
        "width": extent(model.width)[1],
    }


def _has_other_digest(model: Model) -> bool:
    source = Path(model.source)
    return model.sha256 is not None and source.is_file() and sha256(source) != model.sha256


def _int8_parameters(spec: Spec, step: Step) -> dict[str, Any]:
    settings, model = spec.int8[step.model], spec.models[step.model]
    if step.name == "calibration-images":
        return {
            "calibration": settings.calibration,
            "minimum_images": settings.minimum_images,
            "task": model.task,
        }
    if step.name == "quantize":
        return {"rule": settings.rule, "exclude": settings.exclude}
    if Path(settings.calibration).suffix == SUFFIX:
        return {
            "calibration": settings.calibration,
            "rule": settings.rule,
            "exclude": settings.exclude,
        }
    percent = settings.percentile if settings.algorithm == "percentile" else None
    fitted = {
        "height": extent(model.height)[1],
        "width": extent(model.width)[1],
        "task": model.task,
    }
    provider = fastest_provider()
    return {
        "calibration": settings.calibration,
        "algorithm": settings.algorithm,
        "percentile": percent,
        **fitted,
        **({"provider": provider} if provider != CPU else {}),
    }


def _build_parameters(spec: Spec, step: Step, probe: Probe) -> dict[str, Any]:
    model, target = spec.models[step.model], spec.targets[step.target]
    return {
        "compute_capability": target.compute_capability,
        **probe(step.target),
        "input": model.input,
        "profile": model.profile(),
        **({"profiles": model.all_profiles()} if model.profiles else {}),
        "workspace_mib": target.workspace_mib,
        "optimization_level": target.optimization_level,
        **target.chosen("tactic_sources", *BUILD_OPTIONS),
        **(target.chosen("calibration") if step.precision == INT8 else {}),
    }
