"""`enginery init`: a new project, in an empty folder or inside a team's repository.

All of it is collected and checked before the first file is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginery import __version__
from enginery.errors import ConfigError, EngineryError
from enginery.pipeline.matrix import matrix_text
from enginery.pipeline.tracking import is_tracked, track
from enginery.project.adding import ModelRequest, add_model
from enginery.project.draft import Draft
from enginery.project.load import load_spec
from enginery.project.models import NewTarget, first_params
from enginery.project.origin import ORIGIN, Origin
from enginery.project.params import PARAMS_FILE
from enginery.project.paths import MATRIX
from enginery.project.template import (
    DVC_FILES,
    IGNORE,
    PARAMS,
    project_files,
    upgraded_digests,
    with_lines,
)
from enginery.system.files import temporary_folder

_CONFIG = ".dvc/config"
ALL_PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class InitRequest:
    """What a new project is for: the demo, or a model with its targets; without `precisions`, all
    that its data set allows.
    """

    model: ModelRequest | None
    targets: Sequence[NewTarget] = ()
    precisions: Sequence[str] = ()


@dataclass(frozen=True)
class NewProject:
    """What was written, and what to tell about it."""

    root: Path
    to_commit: tuple[str, ...]
    notes: tuple[str, ...]
    in_git: bool


def init(folder: Path, request: InitRequest) -> NewProject:
    """Write a project into a folder.

    Raises:
        EngineryError: there is one already, a file is in the way, or something cannot be written;
            then nothing was.
    """
    root = check_place(folder)
    files = dict(project_files(demo=request.model is None))
    draft = Draft()
    notes = [*_use_model(draft, files, root, request), *_notes(root)]
    origin = Origin(__version__, request.model is None, upgraded_digests(files))
    _fit_into(files, root)
    files |= params_files(files[PARAMS].decode("utf-8"))
    draft.files |= {**files, ORIGIN: origin.content()}
    draft.replaced = frozenset({IGNORE})
    draft.check(root)
    draft.write(root, track, last=ORIGIN)
    to_commit = {name.partition("/")[0] for name in (*draft.files, *draft.tracked)}
    return NewProject(root, tuple(sorted(to_commit)), tuple(notes), bool(git_root(root)))


def check_place(folder: Path) -> Path:
    """The whole path of a folder that a project can be written into.

    Raises:
        EngineryError: it is a file, or holds a project.
    """
    root = folder.resolve()
    if (root / ORIGIN).exists():
        cure = "`enginery add-model` adds a model, `enginery upgrade` brings it up to date"
        raise EngineryError(f"{root} is a project of Enginery already", cure)
    if root.exists() and not root.is_dir():
        raise EngineryError(f"{root} is a file", "Give a folder")
    return root


def _use_model(
    draft: Draft, files: dict[str, bytes], root: Path, request: InitRequest
) -> tuple[str, ...]:
    """Let the team's model take the demo's place."""
    if request.model is None:
        return ()
    int8 = "int8" in request.precisions if request.precisions else None
    added = add_model(draft, root, request.model, int8, lambda name: is_tracked(root, name))
    precisions = request.precisions or ALL_PRECISIONS[: 3 if added.model.calibration else 2]
    template = files[PARAMS].decode("utf-8")
    params = first_params(template, added.model, request.targets, precisions)
    files[PARAMS] = params.encode("utf-8")
    return added.notes


def params_files(params: str) -> dict[str, bytes]:
    """params.yaml with what is written from it for DVC, before either is in its place.

    Raises:
        ConfigError: it has mistakes.
    """
    with temporary_folder() as folder:
        (folder / PARAMS_FILE).write_text(params, encoding="utf-8")
        try:
            spec = load_spec(folder / PARAMS_FILE)
        except ConfigError as error:
            raise ConfigError("the new params.yaml", error.mistakes) from None
    matrix = matrix_text(spec).encode("utf-8")
    return {PARAMS: params.encode("utf-8"), MATRIX.as_posix(): matrix}


def _fit_into(files: dict[str, bytes], root: Path) -> None:
    """Leave a team's DVC and .gitignore as they are; where there is no git, DVC must know."""
    for name in [name for name in files if name.startswith(DVC_FILES)]:
        if (root / name).exists():
            del files[name]
    if _CONFIG in files and git_root(root) is None:
        files[_CONFIG] += b"    no_scm = true\n"
    files[IGNORE] = with_lines(root / IGNORE, files[IGNORE])


def git_root(folder: Path) -> Path | None:
    """The git work tree that a folder is in."""
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)


def _notes(root: Path) -> Iterator[str]:
    above = next((each for each in root.parents if (each / ".dvc").is_dir()), None)
    if above and not (root / ".dvc").is_dir() and git_root(root):
        yield (
            f"DVC of {above} does not see this folder: the project has a cache and remotes of its "
            "own (`dvc remote add --default NAME URL`)"
        )
    if git_root(root) is None:
        yield (
            "there is no git here: DVC works without. After `git init`, run `dvc config --unset "
            "core.no_scm`"
        )
