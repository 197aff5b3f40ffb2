"""What `make docs` makes from the code: params.schema.json, the references, the diagram.

`python -m docs.generate` writes them; a test compares them with what it would write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generate import command, diagram, manifest, params, python_api

ROOT = Path(__file__).resolve().parents[2]
MADE: Mapping[str, Callable[[], str]] = {
    "params.schema.json": params.schema_text,
    "docs/reference/params.md": params.page,
    "docs/reference/command.md": command.page,
    "docs/reference/python.md": python_api.page,
    "docs/reference/manifest.md": manifest.page,
    "docs/pipeline.svg": lambda: diagram.picture(ROOT / "dvc.yaml"),
}


def outdated() -> list[str]:
    """The files that are not what the code says."""
    return [name for name, make in MADE.items() if _content(ROOT / name) != make()]


def write() -> None:
    """Write them all."""
    for name, make in MADE.items():
        (ROOT / name).write_text(make(), encoding="utf-8")


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
