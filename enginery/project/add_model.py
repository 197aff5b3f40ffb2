"""`enginery add-model`: one more model in a project's params.yaml, its data with DVC."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enginery.pipeline.tracking import is_tracked, track
from enginery.project.adding import ModelRequest, add_model
from enginery.project.draft import Draft
from enginery.project.init import check_params
from enginery.project.models import further_params
from enginery.project.load import load_spec
from enginery.project.params import PARAMS_FILE
from enginery.project.template import PARAMS


@dataclass(frozen=True)
class AddedToProject:
    """What was added, what to tell about it, and what to commit."""

    name: str
    notes: tuple[str, ...]
    names: tuple[str, ...]


def add_to_project(root: Path, request: ModelRequest) -> AddedToProject:
    """Add a model to the project at `root`.

    Raises:
        EngineryError: the model cannot be added; then nothing was written.
    """
    root = root.resolve()
    spec = load_spec(root / PARAMS_FILE)
    draft = Draft()
    int8 = "int8" in spec.matrix.precisions
    added = add_model(draft, root, request, int8, lambda name: is_tracked(root, name))
    before = (root / PARAMS).read_text(encoding="utf-8")
    params = further_params(before, added.model)
    check_params(params)
    draft.files, draft.replaced = {PARAMS: params.encode("utf-8")}, frozenset({PARAMS})
    draft.check(root)
    draft.write(root, track, last=PARAMS)
    tracked = {f"{name}.dvc" for name in draft.tracked}
    ignores = {str(Path(name).with_name(".gitignore")) for name in draft.tracked}
    return AddedToProject(added.model.name, added.notes, (PARAMS, *sorted(tracked | ignores)))
