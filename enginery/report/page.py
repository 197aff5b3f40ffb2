"""An engine as a page: what it is, from what, how it was checked, how fast it is, what made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from enginery import runtimes
from enginery.evaluation.engine_report import EngineReport, Times
from enginery.evaluation.reports import ReportRecord, ToleranceRecord
from enginery.registry.built import BuildParameters, BuildRecord
from enginery.registry.manifest import Manifest, QuantizeRecord
from enginery.registry.records import Recipe
from enginery.registry.store import MANIFEST, PLAN, Engine
from enginery.report.tables import Listed
from enginery.system.files import read_json

_SHOWN_MESSAGES = 8
_SHOWN_LAYERS = 5
_SHOWN_CLASSES = 10
# Of a build's parameters, what the page says in words.
_TOLD = (
    "runtime",
    "runtime_version",
    "platform",
    "compute_capability",
    "gpu",
    "profile",
    "profiles",
    "pixels",
    "nms",
)
_ULTRALYTICS = "Ultralytics prepares them for its task"
Section = tuple[str, list[str]]


def sections(listed: Listed) -> list[Section]:
    """Headings with their lines; a damaged engine has only its reason."""
    engine = listed.engine
    why = ("Why", [line for line in (listed.standing.reason, listed.standing.cure) if line])
    if not engine:
        return [why]
    report = engine.gpu_check.report
    pages = [
        why,
        ("What", list(_what(engine))),
        ("From", list(_origin(engine.manifest))),
        ("Checked", list(_checks(engine, listed.standing.reason))),
        ("Speed", list(_speed(report)) if report else []),
        ("Made by", list(_makers(engine.manifest, listed.seconds))),
        ("Messages", list(_messages(engine.manifest.steps.build.messages))),
    ]
    return [(title, lines) for title, lines in pages if lines]


def as_json(listed: Listed) -> dict[str, Any]:
    """The whole manifest with the plan's path and how the engine stands."""
    entry = listed.entry
    summary = {
        "path": (entry.folder / PLAN).as_posix(),
        "state": listed.standing.state,
        "reason": listed.standing.reason,
    }
    return {**summary, **read_json(entry.folder / MANIFEST)} if listed.engine else summary


def _what(engine: Engine) -> Iterator[str]:
    manifest = engine.manifest
    runtime = f"{runtimes.find(manifest.runtime).title} {manifest.runtime_version}"
    capability = manifest.compute_capability
    generation = f"compute capability {capability}" if capability else "any GPU it supports"
    where = ", ".join(filter(None, (manifest.gpu, generation, manifest.platform)))
    yield f"{runtime} plan in {manifest.precision} for {where}"
    for profile in manifest.built.profiles or filter(None, (manifest.built.profile,)):
        yield f"input {profile.text}"
    yield f"images as {manifest.judging.preprocess or _ULTRALYTICS}"
    yield from _ends(manifest.built)
    yield from _precisions(manifest.steps.build)
    yield f"{manifest.plan.bytes / 1e6:.1f} MB, {engine.plan}"
    yield f"sha256 {manifest.plan.sha256}"


def _ends(built: BuildParameters) -> Iterator[str]:
    """What the engine does beside its model."""
    if built.takes_pixels:
        yield "takes uint8 pixels, channels last; their normalization is in it"
    nms = built.detections
    if nms:
        limits = f"confidence {nms.confidence:g}, iou {nms.iou:g}"
        yield f"gives {nms.detections} detections at most: NMS is in it, {limits}"


def _precisions(built: BuildRecord) -> Iterator[str]:
    """What TensorRT chose."""
    for what, shares in (built.precisions.to_json() if built.precisions else {}).items():
        parts = ", ".join(f"{share:.1%} {name}" for name, share in shares.items())
        yield f"{what}: {parts}"
    if built.fp32_fallback:
        some = ", ".join(built.fp32_fallback[:_SHOWN_LAYERS])
        yield f"{len(built.fp32_fallback)} layers fell back to fp32: {some}"


def _origin(manifest: Manifest) -> Iterator[str]:
    export = manifest.steps.export
    names = [export.names[index] for index in sorted(export.names, key=int)]
    others = f" and {len(names) - _SHOWN_CLASSES} more" if len(names) > _SHOWN_CLASSES else ""
    yield export.recipe.parameters.source
    yield f"sha256 {export.source_sha256}"
    yield f"{export.task}, {len(names)} classes: {', '.join(names[:_SHOWN_CLASSES])}{others}"
    native = manifest.steps.build.native_cache is not None
    yield from _ranges(manifest.steps.quantize, native)


def _ranges(quantize: QuantizeRecord, native: bool) -> Iterator[str]:
    calibration = quantize.calibration
    if not calibration:
        return
    if calibration.own_quantization:
        yield "INT8 by the Q/DQ nodes that the model brings"
        return
    source = calibration.recipe.parameters
    method = source.counting.algorithm if source.counting else "ranges taken from there"
    if native:
        method = "TensorRT's own calibration"
    images = f", {calibration.images} images" if calibration.images else ""
    yield f"calibrated with {source.calibration}{images}: {method}"
    yield f"layers in int8: {len(quantize.quantized)}, kept in fp16: {len(quantize.excluded)}"


def _checks(engine: Engine, told: str) -> Iterator[str]:
    validation, check = engine.manifest.steps.validation, engine.gpu_check
    source = validation.recipe.parameters.validation
    yield f"its graph on the CPU, with {validation.images} images of {source}:"
    yield from _numbers(validation.report, engine.manifest.tolerance)
    if engine.manifest.steps.build.native_cache is not None:
        yield "  (with Enginery's ranges; what TensorRT's own cost, only `enginery validate` tells)"
    if check.report:
        yield f"the engine itself on {check.report.gpu.gpu} ({check.report.gpu.uuid}):"
        yield from _numbers(check.report.report, engine.manifest.tolerance)
    else:
        yield "the engine itself: not validated on its GPU"
        if check.reason and check.reason != told:
            yield f"  {check.reason}"


def _numbers(report: ReportRecord, tolerance: ToleranceRecord) -> Iterator[str]:
    title, before, after = report.title, report.reference.value, report.candidate.value
    drop = tolerance.drop(report.metric)
    yield f"  {title} {after:.4f}, FP32 original {before:.4f} (a drop of {drop:g} is allowed)"
    rms, allowed = report.closeness.rms_relative, tolerance.rms_relative
    yield f"  RMS difference of outputs {rms:.2g} ({allowed:g} is allowed), no NaN or Inf"


def _speed(report: EngineReport) -> Iterator[str]:
    timing = report.timing
    yield f"on {report.gpu.gpu}, a batch of {report.points[0].shape[0]}: {_percentiles(timing.gpu)}"
    yield f"with transfers: {_percentiles(timing.with_transfers)}"
    if timing.cuda_graph:
        yield f"as a CUDA graph: {_percentiles(timing.cuda_graph)}"
    yield f"{timing.images_per_second:.0f} images a second"


def _percentiles(times: Times) -> str:
    return f"p50 {times.p50:.2f} ms, p90 {times.p90:.2f} ms, p99 {times.p99:.2f} ms"


def _makers(manifest: Manifest, seconds: float | None) -> Iterator[str]:
    steps = manifest.steps
    calibrate = [steps.quantize.calibration.recipe] if steps.quantize.calibration else []
    recipes: list[Recipe[Any]] = [
        steps.export.recipe,
        steps.simplify.recipe,
        *calibrate,
        steps.quantize.recipe,
        steps.validation.recipe,
    ]
    for recipe in recipes:
        tools = ", ".join(f"{tool} {version}" for tool, version in recipe.tools.items())
        yield f"{recipe.step} {recipe.version}: {tools or 'no tools'}"
    built = steps.build
    how = f"{runtimes.find(manifest.runtime).title} {manifest.runtime_version}"
    if built.refitted_from:
        how = f"refitted from {built.refitted_from[:12]}"
    took = "" if seconds is None else f", {seconds:.1f} s"
    yield f"build {built.recipe.version}: {how}{_options(manifest.built)}{took}"


def _options(built: BuildParameters) -> str:
    options = [item for item in built.to_json().items() if item[0] not in _TOLD]
    return "".join(f", {key} {value}" for key, value in options if value is not None)


def _messages(messages: tuple[str, ...]) -> Iterator[str]:
    """Each message once, the most frequent first, with how often TensorRT wrote it."""
    counted = Counter(message.strip() for message in messages).most_common()
    for message, count in counted[:_SHOWN_MESSAGES]:
        yield f"{count} x {message}" if count > 1 else message
    if len(counted) > _SHOWN_MESSAGES:
        yield f"and {len(counted) - _SHOWN_MESSAGES} others; `--json` has all"
