"""Recipes: all that shapes a stage's output and is no file it reads.

A recipe is a small JSON file that the stage depends on: the step's parameters, its tools' versions
and its own. So a new tool or a changed parameter makes exactly the stages stale that it shapes; a
comment in params.yaml, another checkout path or a new docstring makes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from enginery.errors import EngineryError
from enginery.pipeline.project import Project
from enginery.pipeline.step import Step
from enginery.project.paths import RECIPES
from enginery.project.stage import Stage
from enginery.system.files import make_way, write_json

# Packages that bring the same module.
_OTHER_NAMES = {
    "onnxruntime": ("onnxruntime-gpu",),
    "opencv-python": ("opencv-python-headless", "opencv-contrib-python"),
}


def recipe(step: Step[Any], project: Project, stage: Stage) -> dict[str, Any]:
    """The recipe of a stage.

    Raises:
        EngineryError: a package that it needs is not installed.
    """
    return {
        "step": step.name,
        "version": step.version,
        "tools": {tool: _version(tool) for tool in step.tools(project, stage)},
        "parameters": step.parameters(project, stage),
    }


def write_recipes(recipes: Mapping[Stage, Mapping[str, Any]], stages: Iterable[Stage]) -> None:
    """Write recipes, leave equal ones alone, and remove those that no stage has."""
    for stage, content in recipes.items():
        make_way(stage.recipe)
        write_json(stage.recipe, content)
    known = {stage.recipe for stage in stages}
    for path in sorted(RECIPES.rglob("*.json")):
        if path not in known:
            make_way(path)
            path.unlink(missing_ok=True)


def _version(tool: str) -> str:
    for package in (tool, *_OTHER_NAMES.get(tool, ())):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    cure = "Install what a build machine needs: pip install 'enginery[build]'"
    raise EngineryError(f"the package {tool} is not installed here", cure)
