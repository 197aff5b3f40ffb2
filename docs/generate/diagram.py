"""dvc.yaml as a picture: its stages from left to right, with what each needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import networkx  # type: ignore[import-untyped]
import yaml

_BOX, _GAP, _ROW = (116, 34), 26, 54  # pixels
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#16324f;text-anchor:middle}"
    "rect{fill:#e8f1fb;stroke:#2f6fab;rx:6}.input rect{fill:#fff4dd;stroke:#b5791b}"
    "path{fill:none;stroke:#6b88a6;stroke-width:1.5}"
)


@dataclass(frozen=True)
class Place:
    """A box's left upper corner in pixels."""

    x: float
    y: float


def picture(path: Path) -> str:
    """An SVG of a dvc.yaml; stages that neither need nor make what others do are left out."""
    graph = needs(yaml.safe_load(path.read_text(encoding="utf-8"))["stages"])
    places = dict(_places(graph))
    width = max(place.x for place in places.values()) + _BOX[0] + 2
    height = max(place.y for place in places.values()) + _BOX[1] + 2
    lines = [_edge(places[need], places[stage]) for need, stage in sorted(graph.edges)]
    boxes = [_box(name, place, "stage" not in graph.nodes[name]) for name, place in places.items()]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
    title = "<title>The stages of dvc.yaml and what each needs</title>"
    return "\n".join([f"{head}>", title, f"<style>{_STYLE}</style>", *lines, *boxes, "</svg>\n"])


def needs(stages: Mapping[str, Any]) -> Any:
    """The stages and their inputs as a graph; an edge that others imply is left out."""
    bodies = {name: stage.get("do", stage) for name, stage in stages.items()}
    outs = {name: [_path(out) for out in body.get("outs", ())] for name, body in bodies.items()}
    graph = networkx.DiGraph()
    for name, body in bodies.items():
        for dependency in body.get("deps", ()):
            for need in _makers(dependency, name, outs):
                graph.add_edge(need, name)
    for name in graph.nodes & bodies.keys():
        graph.nodes[name]["stage"] = True
    reduced = networkx.transitive_reduction(graph)
    reduced.add_nodes_from(graph.nodes(data=True))
    return reduced


def _makers(dependency: str, name: str, outs: Mapping[str, list[str]]) -> Iterator[str]:
    """The stages that make a dependency; of `${item.source}`, the input that it names."""
    if given := re.fullmatch(r"\$\{item\.(\w+)\}", dependency):
        yield given.group(1)
    for other, paths in outs.items():
        if other not in (name, "fingerprint") and any(_makes(out, dependency) for out in paths):
            yield other


def _makes(out: str, dependency: str) -> bool:
    """Whether a path is an output, or lies in it; what is filled in fits anything."""
    made, needed = (re.sub(r"\$\{[^}]*\}", "*", path).split("/") for path in (out, dependency))
    whole = len(made) == len(needed)
    pairs = zip(made, needed, strict=False)
    return len(made) <= len(needed) and all(
        one in (other, "*") or (whole and other == "*") for one, other in pairs
    )


def _path(out: str | Mapping[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))


def _places(graph: Any) -> Iterator[tuple[str, Place]]:
    """Each box in the column after those it needs; the columns centred."""
    columns = [sorted(column) for column in networkx.topological_generations(graph)]
    tallest = max(map(len, columns))
    for number, column in enumerate(columns):
        top = 1 + (tallest - len(column)) * _ROW / 2
        for row, name in enumerate(column):
            yield name, Place(1 + number * (_BOX[0] + _GAP), top + row * _ROW)


def _edge(start: Place, end: Place) -> str:
    x, y = start.x + _BOX[0], start.y + _BOX[1] / 2
    to_x, to_y = end.x, end.y + _BOX[1] / 2
    middle = (x + to_x) / 2
    return f'<path d="M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"/>'


def _box(name: str, place: Place, is_input: bool) -> str:
    x, y = place.x + _BOX[0] / 2, place.y + _BOX[1] / 2 + 4
    kind = "input" if is_input else "stage"
    rect = f'<rect x="{place.x:g}" y="{place.y:g}" width="{_BOX[0]}" height="{_BOX[1]}"/>'
    return f'<g class="{kind}">{rect}<text x="{x:g}" y="{y:g}">{escape(name)}</text></g>'
