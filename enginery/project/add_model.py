"""`enginery add-model`: one more model in a project's params.yaml, its data with DVC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from enginery.pipeline.tracking import is_tracked, track
from enginery.project.adding import ModelRequest, add_model
from enginery.project.draft import Draft
from enginery.project.engine_name import INT8
from enginery.project.init import params_files
from enginery.project.load import load_spec
from enginery.project.models import further_params, new_targets
from enginery.project.params import PARAMS_FILE, Spec
from enginery.project.template import IGNORE, PARAMS


@dataclass(frozen=True)
class AddedToProject:
    """What was added, what to tell about it, and what to commit."""

    name: str
    notes: tuple[str, ...]
    names: tuple[str, ...]


def add_to_project(
    root: Path, request: ModelRequest, targets: Sequence[str] = (), precisions: Sequence[str] = ()
) -> AddedToProject:
    """Add a model to the project at `root`: with `targets` or `precisions`, for these alone.

    Raises:
        EngineryError: the model cannot be added; then nothing was written.
    """
    root = root.resolve()
    spec = load_spec(root / PARAMS_FILE)
    draft = Draft()
    asked = precisions or spec.matrix.precisions
    int8 = INT8 in asked and (True if precisions else None)
    added = add_model(draft, root, request, int8, lambda name: is_tracked(root, name))
    if added.model.calibration is None:
        precisions = [name for name in asked if name != INT8]
    unknown = new_targets(name for name in targets if name not in spec.targets)
    named = tuple(name.partition("=")[0] for name in targets)
    model = replace(added.model, targets=named, precisions=_own(precisions, spec))
    before = (root / PARAMS).read_text(encoding="utf-8")
    changed = params_files(further_params(before, model, unknown))
    draft.files |= changed
    draft.replaced = frozenset(changed)
    draft.check(root)
    draft.write(root, track, last=PARAMS)
    tracked = {f"{name}.dvc" for name in draft.tracked}
    ignores = {str(Path(name).with_name(IGNORE)) for name in draft.tracked}
    return AddedToProject(model.name, added.notes, (*draft.files, *sorted(tracked | ignores)))


def _own(precisions: Sequence[str], spec: Spec) -> tuple[str, ...]:
    """A model's precisions, if they are not the matrix's."""
    return () if set(precisions) == set(spec.matrix.precisions) else tuple(precisions)
