"""Imports point one way: flows -> tasks -> enginery."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENTRY = ROOT / "enginery/__main__.py"  # python -m enginery is the command, which is above


def imported(folder: str) -> Iterator[tuple[Path, str]]:
    """Each file below a folder with the first word of each module that it imports, wherever in it."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            yield from ((path, name.split(".")[0]) for name in names)


@pytest.mark.parametrize(
    ("folder", "above"),
    [("enginery", {"tasks", "flows", "prefect"}), ("tasks", {"flows", "prefect"})],
)
def test_nothing_imports_what_is_above_it(folder: str, above: set[str]) -> None:
    assert [
        f"{path}: {name}" for path, name in imported(folder) if name in above and path != ENTRY
    ] == []


def test_dvc_is_reached_through_one_package_and_tensorrt_by_the_child_alone() -> None:
    found = {
        (name, path.relative_to(ROOT).as_posix())
        for folder in ("enginery", "tasks", "flows")
        for path, name in imported(folder)
    }
    assert {path.rsplit("/", 1)[0] for name, path in found if name == "dvc"} == {
        "enginery/pipeline"
    }
    assert {path for name, path in found if name in ("tensorrt", "tensorrt_rtx")} == set()
    assert {path.rsplit("/", 1)[0] for name, path in found if name == "pycuda"} == {
        "enginery/toolchain/child"
    }
