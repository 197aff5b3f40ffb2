"""Samples for the report: each picture twice, with what the FP32 original and what the graph finds.

The picture is embedded once; outlines and names are drawn over it as vectors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from itertools import cycle
from pathlib import Path

from enginery.errors import DamagedFileError
from enginery.evaluation.samples import Detection, Point, Sample, SampleFile, samples_file
from enginery.project.engine_name import INT8
from enginery.project.paths import ARTIFACTS
from enginery.registry.records import read_record
from enginery.report.document import Html, fold, paragraph, text

_COLOURS = ("#ffd166", "#4cc9f0", "#f28482", "#95d5b2", "#cdb4db", "#ffb703", "#a0c4ff", "#e9ff70")
_SIDE = 320  # units of a drawing's longer side, however large its picture is
Colours = Mapping[str, str]  # by class
_LETTER, _LINE = 6.7, 14  # units of a name's letter and line
_NAMED = 12  # objects of a picture whose names are drawn; the others are outlines only
_OPEN = 4  # as many graphs are shown open
_NOTE = (
    "The validation images on which the graph's outputs differ most from the FP32 original's, as "
    "the network sees them. The graph ran on the CPU."
)


def samples_of_graphs() -> Html:
    """The samples of each validated graph but FP32's own; empty where there are none."""
    graphs = list(_graphs())
    folds = (
        fold(
            f"{model} {precision}: FP32 beside {precision.upper()}",
            _figures(f"{model}-{precision}", precision, samples),
            is_open=len(graphs) <= _OPEN,
        )
        for model, precision, samples in graphs
    )
    return Html(f"{paragraph(_NOTE, 'muted')}{''.join(folds)}") if graphs else Html()


def _graphs() -> Iterator[tuple[str, str, Sequence[Sample]]]:
    """Of each model INT8 first: there is more to see."""
    files = ARTIFACTS.glob(f"models/*/*/{samples_file(Path()).name}")
    for file in sorted(files, key=lambda file: (file.parts[-3], file.parts[-2] != INT8)):
        model, precision = file.parts[-3:-1]
        if precision != "fp32":
            with suppress(DamagedFileError):  # `enginery build` makes it again
                if samples := read_record(file, SampleFile).samples:
                    yield model, precision, samples


def _figures(place: str, precision: str, samples: Sequence[Sample]) -> Html:
    body, colours = "", _colours(samples)
    for number, sample in enumerate(samples):
        anchor = escape(f"picture-{place}-{number}")
        width, height = _size(sample)
        embedded = (
            f'<image id="{anchor}" width="{width}" height="{height}" '
            f'href="data:image/jpeg;base64,{escape(sample.jpeg)}"/>'
        )
        again = f'<use href="#{anchor}"/>'
        body += (
            f"<h3>{text(sample.image)}</h3><div class='pair'>"
            f"{_figure('FP32', sample, embedded, sample.original, colours)}"
            f"{_figure(precision.upper(), sample, again, sample.candidate, colours)}</div>"
        )
    return Html(body)


def _figure(
    who: str, sample: Sample, picture: str, found: Sequence[Detection], colours: Colours
) -> str:
    width, height = _size(sample)
    label = escape(f"{who} on {sample.image}: {_words(found)}")
    drawn = "".join(_drawn(found, sample, colours))
    return (
        f'<figure><svg class="sample" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width} {height}">{picture}{drawn}</svg>'
        f"<figcaption><b>{text(who)}</b> {text(_words(found))}</figcaption></figure>"
    )


def _words(found: Sequence[Detection]) -> str:
    if len(found) == 1:
        return _name(found[0])
    counts = Counter(detection.name for detection in found)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"


def _name(detection: Detection) -> str:
    sure = "" if detection.confidence is None else f" {detection.confidence:.2f}"
    return f"{detection.name}{sure}"


def _drawn(found: Sequence[Detection], sample: Sample, colours: Colours) -> Iterator[str]:
    """Outlines first: no name may lie under one."""
    for detection in found:
        colour = colours[detection.name]
        if detection.outline:
            points = " ".join(f"{x:.0f},{y:.0f}" for x, y in _pixels(detection.outline, sample))
            yield f'<polygon points="{points}" stroke="{colour}"/>'
        for x, y in _pixels(detection.keypoints, sample):
            yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="2.5" fill="{colour}"/>'
    for detection in found[:_NAMED]:
        yield _label(detection, sample, colours[detection.name])


def _label(detection: Detection, sample: Sample, colour: str) -> str:
    name = _name(detection)
    corners = _pixels(detection.outline, sample) or [(0.0, 0.0)]
    width = len(name) * _LETTER + 4
    x = max(0.0, min(min(x for x, _ in corners), _size(sample)[0] - width))
    y = max(0.0, min(y for _, y in corners) - _LINE)
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_LINE}"/>'
        f'<text x="{x + 2:.0f}" y="{y + _LINE - 3.5:.1f}" fill="{colour}">'
        f"{text(name)}</text>"
    )


def _pixels(points: Sequence[Point], sample: Sample) -> list[tuple[float, float]]:
    width, height = _size(sample)
    return [(x * width, y * height) for x, y in points]


def _size(sample: Sample) -> tuple[int, int]:
    """Width and height of a drawing."""
    scale = _SIDE / max(sample.width, sample.height)
    return round(sample.width * scale), round(sample.height * scale)


def _colours(samples: Sequence[Sample]) -> Colours:
    """One for each class, the same in every picture of a graph."""
    names = {each.name for sample in samples for each in (*sample.original, *sample.candidate)}
    return dict(zip(sorted(names), cycle(_COLOURS), strict=False))
