"""Imports point one way: flows -> tasks -> enginery; each foreign system is reached in one room."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("enginery", "tasks", "flows")


def imported(folder: str) -> Iterator[tuple[str, str, bool]]:
    """Each file below a folder with the first word of each module that it imports, wherever in it,
    and whether the import stands at the top of the file, outside of `if TYPE_CHECKING`.
    """
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                yield path.relative_to(ROOT).as_posix(), name.split(".")[0], node in tree.body


def rooms(module: str, folders: tuple[str, ...] = OURS) -> set[str]:
    """The folders whose files import a module."""
    return {
        path.rpartition("/")[0]
        for folder in folders
        for path, name, _ in imported(folder)
        if name == module
    }


@pytest.mark.parametrize(
    ("folder", "above"),
    [("enginery", {"tasks", "flows"}), ("tasks", {"flows", "prefect"})],
)
def test_nothing_imports_what_is_above_it(folder: str, above: set[str]) -> None:
    assert [f"{path}: {name}" for path, name, _ in imported(folder) if name in above] == []


def test_the_library_runs_prefect_in_one_room_and_commands_load_it_when_they_need_it() -> None:
    assert rooms("prefect", ("enginery",)) <= {"enginery/orchestration", "enginery/cli"}
    at_the_top = {path for path, name, top in imported("enginery/cli") if top and name == "prefect"}
    assert at_the_top == set()


def test_dvc_is_reached_through_one_package_and_tensorrt_by_the_child_alone() -> None:
    assert rooms("dvc") == {"enginery/pipeline"}
    assert rooms("tensorrt") | rooms("tensorrt_rtx") == set()
    assert rooms("pycuda") == {"enginery/toolchain/child"}


def test_a_declaration_loads_nothing_that_only_its_function_works_with() -> None:
    """`status` and `dvc repro` read all declarations, and work with none."""
    names = [path.stem for path in sorted((ROOT / "tasks").glob("[a-z]*.py"))]
    heavy = ("cv2", "numpy", "onnx", "onnxruntime", "torch")
    modules = ", ".join(f"tasks.{name}" for name in names)
    program = f"import sys, {modules}\nprint(set({heavy}) & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout == "set()\n", ran.stderr
