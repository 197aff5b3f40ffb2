"""The report of a project: what failed, the engines, what the last run did and why, and what made
each engine. One HTML page, artifacts/report.html, that nothing else belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from enginery.errors import EngineryError
from enginery.project.paths import ARTIFACTS, CACHE, model_folder
from enginery.registry.store import Engine
from enginery.report.display import failures_of
from enginery.report.document import (
    Cell,
    Html,
    described,
    fold,
    marked,
    page,
    paragraph,
    table,
)
from enginery.report.kept_ranges import ranges_of
from enginery.report.last_run import LastRun
from enginery.report.page import sections
from enginery.report.provenance_page import provenance
from enginery.report.samples_page import samples_of_graphs
from enginery.report.sensitivity_page import sensitivity_of
from enginery.report.tables import Listed, engine_notes
from enginery.system.files import atomic_write
from enginery.vision.tasks import metric_in

REPORT = ARTIFACTS / "report.html"
Part = tuple[str, str, Html]  # anchor, heading, body
_COLOURS = {
    "validated": "good",
    "candidate": "",
    "damaged": "bad",
    "outdated": "warn",
    "retired": "warn",
    "Failed": "bad",
    "Skipped": "warn",
    "Completed": "good",
}


def write_report(engines: Sequence[Listed], run: LastRun | None, out: Path = REPORT) -> None:
    """Write the page, whole or not at all."""
    content = report(Path.cwd().name, engines, run)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as partial:
        partial.write_text(content, encoding="utf-8")


def report(project: str, engines: Sequence[Listed], run: LastRun | None) -> str:
    """The page as text."""
    parts = [part for part in _parts(engines, run) if part[2]]
    return page(f"Engines of {project}", parts, _intro(engines, run))


def _intro(engines: Sequence[Listed], run: LastRun | None) -> Html:
    states = [engine.standing.state for engine in engines]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [paragraph(f"{len(engines)} engines: {counts}" if engines else "No engine yet.")]
    if run:
        lines.append(paragraph(f"Last run: {run.ended}. Steps: {run.summary}", "muted"))
    return Html("".join(lines))


def _parts(engines: Sequence[Listed], run: LastRun | None) -> Iterator[Part]:
    if run:
        yield "failed", "What failed", _failed(run)
    yield "engines", "Engines", _engines(engines)
    if run:
        yield "done", "What changed, and why", _done(run)
    yield "classes", "Accuracy by class", Html("".join(_classes(engines)))
    yield "samples", "Samples", samples_of_graphs()
    yield "ranges", "INT8 ranges", Html("".join(_ranges(engines)))
    yield "sensitivity", "What INT8 costs, layer by layer", Html("".join(_sensitivity(engines)))
    yield "made", "What made each engine", Html("".join(map(_made, engines)))


def _failed(run: LastRun) -> Html:
    return Html(
        "".join(
            f'<div class="failed">{paragraph(", ".join(failure.titles), "bad")}'
            f"{paragraph(failure.reason)}{_skipped(failure.skipped)}</div>"
            for failure in failures_of(run.outcomes)
        )
    )


def _skipped(count: int) -> Html:
    return paragraph(f"{count} steps need it: they were skipped", "muted") if count else Html()


def _engines(engines: Sequence[Listed]) -> Html:
    caption = "Accuracy is the graph's beside FP32's on the CPU; p50 is the engine's on its own GPU"
    numbers = ("size", "build", "accuracy", "FP32", "lost", "p50")
    notes = "".join(paragraph(note) for note in engine_notes(engines))
    return Html(f"{table(caption, map(_engine, engines), numbers)}{notes}") if engines else Html()


def _engine(listed: Listed) -> dict[str, Cell]:
    state = listed.standing.state
    columns = ("for", "size", "build", "accuracy", "FP32", "lost", "p50")
    row: dict[str, Cell] = {"engine": listed.entry.name, **dict.fromkeys(columns, "-")}
    if listed.engine:
        row |= _numbers(listed.engine, listed.seconds)
    return {**row, "state": marked(state, _COLOURS[state])}


def _numbers(engine: Engine, seconds: float | None) -> dict[str, Cell]:
    manifest, gpu = engine.manifest, engine.gpu_check.report
    title, metric = manifest.steps.validation.report.title, metric_in(manifest.metrics)
    after, before = manifest.metrics[metric.key], manifest.metrics[f"reference_{metric.key}"]
    return {
        "for": ", ".join(filter(None, (manifest.gpu, manifest.compute_capability))) or "any",
        "size": f"{manifest.plan.bytes / 1e6:.1f} MB",
        "build": "-" if seconds is None else f"{seconds:.1f} s",
        "accuracy": f"{after:.4f} {title}",
        "FP32": f"{before:.4f}",
        "lost": _lost(before, after),
        "p50": f"{gpu.timing.gpu.p50:.2f} ms" if gpu else "-",
    }


def _done(run: LastRun) -> Html:
    steps = run.in_state("Completed", "Restored", "Failed", "Skipped")
    rows = [
        {
            "step": step.title,
            "ended": marked(step.state, _COLOURS.get(step.state, "")),
            "why": step.reason,
            "took": f"{step.seconds:.1f} s",
        }
        for step in steps
    ]
    cached = f"{len(run.in_state('Cached'))} steps were up to date"
    elsewhere = len(run.in_state("Elsewhere"))
    others = f"; {elsewhere} are for another machine" if elsewhere else ""
    note = paragraph(f"{cached}{others}.", "muted")
    return Html(f"{note}{table('Steps that did something', rows, ('took',)) if rows else ''}")


def _classes(engines: Sequence[Listed]) -> Iterator[Html]:
    """Each graph's classes once: every target's engine is built from the same graph."""
    graphs = {(e.entry.identity.model, e.entry.identity.precision): e.engine for e in engines}
    for (model, precision), engine in graphs.items():
        if engine and precision != "fp32":
            record = engine.manifest.steps.validation.report
            before, after = record.reference.per_class, record.candidate.per_class
            rows = [_class(name, before[name], after.get(name, 0.0)) for name in before]
            caption = f"{record.title} of {model} {precision} by class"
            body = table(caption, rows, ("FP32", precision, "accuracy", "lost"))
            yield fold(f"{model} {precision}: {len(rows)} classes", body) if rows else Html()


def _class(name: str, before: float, after: float) -> dict[str, Cell]:
    lost = _lost(before, after)
    return {"class": name, "FP32": f"{before:.4f}", "accuracy": f"{after:.4f}", "lost": lost}


def _lost(before: float, after: float) -> str:
    """The difference of the two numbers as they are shown."""
    return f"{round(before, 4) - round(after, 4) + 0.0:+.4f}"


def _ranges(engines: Sequence[Listed]) -> Iterator[Html]:
    for model in dict.fromkeys(engine.entry.identity.model for engine in engines):
        folder = model_folder(model, "calibration")
        if (folder / CACHE).is_file():
            with suppress(EngineryError, OSError, ValueError):  # `enginery build` makes it again
                yield fold(f"{model}: every tensor", ranges_of(model, folder))


def _sensitivity(engines: Sequence[Listed]) -> Iterator[Html]:
    for model in dict.fromkeys(engine.entry.identity.model for engine in engines):
        yield sensitivity_of(model)


def _made(listed: Listed) -> Html:
    drawn = provenance(listed.engine.manifest) if listed.engine else ""
    body = Html(f"{drawn}{described(sections(listed))}")
    return fold(f"{listed.entry.name}: {listed.standing.state}", body)
