"""What the parts of params.yaml ask of each other: names, precisions, sizes, calibration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from enginery import runtimes, sources
from enginery.project import ends, registry_settings
from enginery.project.engine_name import INT8
from enginery.project.model import Model, Sizes
from enginery.project.params import Spec
from enginery.project.target import BUILD_OPTIONS, OLDEST_COMPATIBLE, OWN_TOOLCHAIN, Target
from enginery.project.values import extent
from enginery.quantization.rules import RULES
from enginery.vision.preprocess import mistakes as mistakes_in
from enginery.vision.tasks import ULTRALYTICS_TASKS

_ON_OWN_GPU = ("output", "fp32_fallback", "gpu", "calibration")


def mistakes(spec: Spec) -> Iterator[str]:
    """What in params.yaml does not fit together, each with its key."""
    for kind, known in (("models", spec.models), ("targets", spec.targets)):
        for name in getattr(spec.matrix, kind):
            if name not in known:
                yield (
                    f"matrix.{kind}: {name!r}: not defined; {kind} has "
                    f"{', '.join(sorted(known)) or 'none'}"
                )
    yield from _matrix_mistakes(spec)
    for name, target in spec.targets.items():
        if target.toolchain and target.toolchain not in spec.toolchains:
            known_names = ", ".join(sorted(spec.toolchains)) or "none"
            yield (
                f"targets.{name}.toolchain: {target.toolchain!r}: not defined; toolchains has "
                f"{known_names}"
            )
        yield from _target_mistakes(name, target)
    yield from _int8_mistakes(spec)
    yield from ends.mistakes(spec)
    for name, model in spec.models.items():
        yield from _judging_mistakes(name, model)
        if Path(model.source).suffix not in sources.suffixes():
            expected = " or ".join(f"a {suffix}" for suffix in sources.suffixes())
            yield f"models.{name}.source: {model.source!r}: {expected} file is expected"
            continue
        yield from _source_mistakes(name, model)
    yield from _idle_keys(spec)
    yield from registry_settings.mistakes(spec.registry)
    if OWN_TOOLCHAIN in spec.toolchains:
        yield (
            f"toolchains.{OWN_TOOLCHAIN}: this is the name of Enginery's own interpreter; choose "
            "another"
        )


def _source_mistakes(name: str, model: Model) -> Iterator[str]:
    source = sources.find(model.source)
    if model.trusted and not source.runs_code:
        what = f"an {source.suffix} runs no code when it is read"
        yield f"models.{name}.trusted: true: {what}; leave this out"
    if model.architecture and not source.has_architectures:
        why = f"a {source.suffix} file holds its network"
        yield f"models.{name}.architecture: {model.architecture!r}: {why}; leave this out"
    if source.has_own_sizes and "opset" in model.model_fields_set:
        what = f"{model.source} has an opset of its own"
        yield f"models.{name}.opset: {model.opset}: {what}; leave this out"
    stride = source.stride(model.task)
    yield from _stride_mistakes(f"models.{name}", model, stride)
    for index, sizes in enumerate(model.profiles):
        yield from _stride_mistakes(f"models.{name}.profiles.{index}", sizes, stride)


def _judging_mistakes(name: str, model: Model) -> Iterator[str]:
    """How images become inputs and outputs are judged."""
    where, how = f"models.{name}", model.preprocess
    for key, why in mistakes_in(how) if how else ():
        yield f"{where}.preprocess.{key}: {getattr(how, key)!r}: {why}"
    by_ultralytics = model.task in ULTRALYTICS_TASKS and not model.metric
    if how and by_ultralytics and model.task != "classify" and how.mode != "letterbox":
        why = f"{model.task} is judged as Ultralytics does it, which letterboxes"
        yield f"{where}.preprocess.mode: {how.mode!r}: {why}: leave it out, or give a `metric`"
    if model.task == "tensors" and model.truth == "original":
        why = "`tensors` are always compared with the original's"
        yield f"{where}.truth: 'original': {why}; leave this out"
    if model.outputs and model.task != "tensors":
        yield f"{where}.outputs: only task `tensors` has tolerances for outputs; leave this out"


def _idle_keys(spec: Spec) -> Iterator[str]:
    """Keys that params.yaml gives and that do nothing beside the others."""
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
    for name in sorted(spec.models.keys() - set(spec.matrix.models)):
        yield f"models.{name}: nothing builds it: add it to matrix.models, or take it out"
    for kind, names in spec.matrix.model_dump().items():
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"matrix.{kind}: {name!r}: is there more than once"
    for name, model in spec.models.items():
        for kind in ("targets", "precisions"):
            names = getattr(model, kind)
            for double in sorted({each for each in names if names.count(each) > 1}):
                yield f"models.{name}.{kind}: {double!r}: is there more than once"
        for target in sorted(set(model.targets) - spec.targets.keys()):
            known = ", ".join(sorted(spec.targets)) or "none"
            yield f"models.{name}.targets: {target!r}: not defined; targets has {known}"
    pairs: dict[str, set[tuple[str, str]]] = {}  # by what DVC calls them
    for engine in spec.engines():
        joined = f"{engine.model}-{engine.target}"
        pairs.setdefault(joined, set()).add((engine.model, engine.target))
    for joined, same in pairs.items():
        if len(same) > 1:
            both = " and ".join(f"{one} for {target}" for one, target in sorted(same))
            yield f"matrix: {both} would both be called {joined}: rename a model or a target"


def _stride_mistakes(where: str, sizes: Model | Sizes, stride: int) -> Iterator[str]:
    for key in ("height", "width"):
        value = getattr(sizes, key)
        if value is not None and any(size % stride for size in extent(value)):
            yield f"{where}.{key}: {value!r}: YOLO needs multiples of its stride, {stride}"


def _target_mistakes(name: str, target: Target) -> Iterator[str]:
    if not runtimes.find(target.runtime).on_own_gpu:
        for key, value in target.chosen(*_ON_OWN_GPU, *BUILD_OPTIONS).items():
            yield f"targets.{name}.{key}: {value!r}: only runtime tensorrt has this; leave it out"
    if (
        target.hardware_compatible
        and target.compute_capability
        and float(target.compute_capability) < OLDEST_COMPATIBLE
    ):
        limit = f"such engines run from compute capability {OLDEST_COMPATIBLE} on"
        yield f"targets.{name}.hardware_compatible: true: {limit}; leave one of the two out"
    if target.strongly_typed and target.calibration == "native":
        yield (
            f"targets.{name}.calibration: 'native': a strongly typed network takes no calibrator; "
            "leave one of the two out"
        )


def _int8_mistakes(spec: Spec) -> Iterator[str]:
    quantized = {engine.model for engine in spec.engines() if engine.precision == INT8}
    for name in sorted(quantized - spec.int8.keys()):
        yield (
            f"int8.{name}: missing: its precisions (the matrix's, if it has none of its own) have "
            "int8, which needs calibration images"
        )
    for name in sorted(spec.int8.keys() - quantized):
        cure = (
            f"add int8 to matrix.precisions and {name} to matrix.models, or take this out "
            "(`int8: {}` is left)"
        )
        yield f"int8.{name}: nothing builds it: {cure}"
    native = [
        name
        for name in spec.used_targets()
        if name in spec.targets and spec.targets[name].calibration == "native"
    ]
    for name, settings in spec.int8.items():
        if native and Path(settings.calibration).suffix == ".cache":
            yield (
                f"int8.{name}.calibration: {settings.calibration!r}: target {native[0]} calibrates "
                "natively and needs a folder of images"
            )
        if settings.rule not in RULES:
            yield f"int8.{name}.rule: {settings.rule!r}: unknown; {', '.join(RULES)} are known"
        for pattern in settings.exclude:
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"int8.{name}.exclude: {pattern!r}: no regular expression: {error}"
