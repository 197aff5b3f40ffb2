"""What made an engine, as a picture for the report: files, steps, digests, from left to right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import PurePath
from typing import Any

from enginery import runtimes
from enginery.registry.manifest import CalibrationRecord, Manifest
from enginery.registry.records import Recipe
from enginery.report.document import Html

_COLUMN, _ROW, _WIDTH, _HEIGHT = 158, 74, 132, 56  # units
_LONGEST, _DIGEST = 19, 12  # letters of a line, of a digest


@dataclass(frozen=True)
class Box:
    """A file or a step: its column and row, its lines, and the names of what goes into it."""

    name: str
    column: int
    row: int
    lines: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether a person gave it, or gets it."""
        return not self.needs or self.name == "engine"


def provenance(manifest: Manifest) -> Html:
    """The picture, with its content in words for those who do not see it."""
    boxes = {box.name: box for box in _boxes(manifest)}
    width = max(box.column for box in boxes.values()) * _COLUMN + _WIDTH + 2
    height = max(box.row for box in boxes.values()) * _ROW + _HEIGHT + 2
    edges = "".join(_edge(boxes[need], box) for box in boxes.values() for need in box.needs)
    where = f"What went into {manifest.name}"  # each of a page's regions has its own name
    label = "; ".join(_words(box) for box in boxes.values())
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(where)}">'
        f'<svg class="made" role="img" width="{width}" height="{height}" '
        f'aria-label="{escape(label)}">{edges}{"".join(map(_drawn, boxes.values()))}</svg></div>'
    )


def _boxes(manifest: Manifest) -> Iterator[Box]:
    steps = manifest.steps
    export, quantize, build = steps.export, steps.quantize, steps.build
    source = PurePath(export.recipe.parameters.source).name
    yield Box("weights", 0, 0, (source, _short(export.source_sha256)))
    yield Box("export", 1, 0, (_version(export.recipe), _tool(export.recipe)), ("weights",))
    yield Box("simplify", 2, 0, (_version(steps.simplify.recipe),), ("export",))
    calibrated = quantize.calibration
    if calibrated:
        yield from _calibration(calibrated)
    given = ("simplify", "calibrate") if calibrated else ("simplify",)
    graph = (_precision(manifest), _short(quantize.sha256))
    yield Box("quantize", 3, 0, graph, given)
    title = runtimes.find(manifest.runtime).title
    yield Box("build", 4, 0, (title, manifest.runtime_version), ("quantize",))
    images = (f"{steps.validation.images} files", _short(steps.validation.images_sha256))
    row = 2 if calibrated else 1
    yield Box("validation images", 0, row, images)
    report = steps.validation.report
    measured = (
        f"{report.title} {report.candidate.value:.4f}",
        f"FP32 {report.reference.value:.4f}",
    )
    yield Box("validate", 4, row, measured, ("validation images", "export", "quantize"))
    engine = (f"{manifest.plan.bytes / 1e6:.1f} MB", _short(build.plan_sha256))
    yield Box("engine", 5, 0, engine, ("build", "validate"))


def _calibration(record: CalibrationRecord) -> Iterator[Box]:
    if record.own_quantization:
        yield Box("calibrate", 2, 1, ("the model's own", "Q/DQ nodes"), ("simplify",))
        return
    source = record.recipe.parameters.calibration
    given = f"{record.images} files" if record.images else PurePath(source).name
    yield Box("calibration", 0, 1, (given, _short(record.images_sha256)))
    cache = _short(record.cache_sha256) if record.cache_sha256 else ""
    yield Box("calibrate", 2, 1, (_version(record.recipe), cache), ("simplify", "calibration"))


def _edge(start: Box, end: Box) -> str:
    """From a box's right side or, downwards, its lower one, to the left or, upwards, lower one."""
    right, left = start.column * _COLUMN + _WIDTH + 1, end.column * _COLUMN + 1
    from_y, to_y = (each.row * _ROW + _HEIGHT / 2 for each in (start, end))
    if start.row == end.row:
        return f'<path d="M{right} {from_y:g}H{left}"/>'
    if start.row < end.row:
        x, below = right - _WIDTH / 4, start.row * _ROW + _HEIGHT
        if start.column == end.column:
            return f'<path d="M{x:g} {below}V{end.row * _ROW}"/>'
        return f'<path d="M{x:g} {below}V{to_y - 12:g}Q{x:g} {to_y:g} {x + 12:g} {to_y:g}H{left}"/>'
    x, below = left + _WIDTH / 4, end.row * _ROW + _HEIGHT
    return (
        f'<path d="M{right} {from_y:g}H{x - 12:g}Q{x:g} {from_y:g} {x:g} {from_y - 12:g}V{below}"/>'
    )


def _drawn(box: Box) -> str:
    x, y = box.column * _COLUMN + 1, box.row * _ROW + 1
    lines = "".join(
        f'<text x="{x + 8}" y="{y + 32 + 15 * number}">{escape(_cut(line))}</text>'
        for number, line in enumerate(filter(None, box.lines))
    )
    kind = ' class="file"' if box.is_file else ""
    return (
        f'<g{kind}><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{x + 8}" y="{y + 16}">{escape(box.name)}</text>{lines}</g>'
    )


def _words(box: Box) -> str:
    lines = ", ".join(filter(None, box.lines))
    made = f" from {' and '.join(box.needs)}" if box.needs else ""
    return f"{box.name} ({lines}){made}"


def _precision(manifest: Manifest) -> str:
    """Of INT8, in how many layers of those that could have it."""
    quantize = manifest.steps.quantize
    quantized, every = len(quantize.quantized), len(quantize.quantized) + len(quantize.excluded)
    return f"{manifest.precision} in {quantized} of {every}" if every else manifest.precision


def _version(recipe: Recipe[Any]) -> str:
    return f"version {recipe.version}"


def _tool(recipe: Recipe[Any]) -> str:
    return next((f"{tool} {version}" for tool, version in recipe.tools.items()), "")


def _short(digest: str) -> str:
    return digest[:_DIGEST]


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
