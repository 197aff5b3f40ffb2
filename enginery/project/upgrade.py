"""`enginery upgrade`: bring a project's own files to the installed version.

Files that the team left as they were written are replaced. Changed ones are kept, and shown as a
diff to the new version. Deleted ones stay deleted. params.yaml, data and DVC's configuration are
the team's.
"""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from enginery import __version__
from enginery.errors import ConfigError
from enginery.project.draft import write_bytes
from enginery.project.load import load_spec
from enginery.project.origin import ORIGIN, Origin, read_origin
from enginery.project.params import PARAMS_FILE
from enginery.project.template import (
    IGNORE,
    digest,
    project_files,
    upgraded_digests,
    with_lines,
)

Action = Literal["same", "add", "replace", "remove", "keep", "deleted"]
_WORDS: Mapping[Action, str] = {
    "add": "new",
    "replace": "brought up to date",
    "remove": "removed: this version has no such file",
    "keep": "kept: you changed it, and so does this version",
    "deleted": "stays deleted: you removed it",
}


@dataclass(frozen=True)
class Change:
    """What happens to one file; `diff` leads from a kept file to the new version's."""

    name: str
    action: Action
    diff: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {_WORDS[self.action]}"


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did, or would do."""

    before: str
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]


def decide(written: str | None, here: str | None, new: str | None) -> Action:
    """What happens to a file, from its digests: as it was written, as it is, in the new version."""
    if here == new or written == new != here is not None:
        return "same"  # it is the new one already, or only the team changed it
    if here is None:
        return "add" if written is None else "deleted"
    if here == written:
        return "replace" if new else "remove"
    return "keep"


def upgrade(root: Path, dry_run: bool = False) -> Upgrade:
    """Bring the project at `root` to the installed version.

    Raises:
        EngineryError: there is no project, or a newer version wrote it.
    """
    root = root.resolve()
    origin = read_origin(root)
    files = dict(project_files(demo=origin.demo))
    changes = tuple(_changes(root, origin, files))
    warnings = tuple(_warnings(root))
    if not dry_run:
        _apply(root, origin, files, changes)
    return Upgrade(origin.version, changes, warnings)


def _changes(root: Path, origin: Origin, files: Mapping[str, bytes]) -> Iterator[Change]:
    new = upgraded_digests(files)
    for name in sorted({*new, *origin.files}):
        content = _content(root / name)
        here = None if content is None else digest(content)
        action = decide(origin.files.get(name), here, new.get(name))
        if action == "same":
            continue
        diff = _diff(name, content or b"", files.get(name)) if action == "keep" else ""
        yield Change(name, action, diff)
    if with_lines(root / IGNORE, files[IGNORE]) != _content(root / IGNORE):
        yield Change(IGNORE, "replace")


def _apply(
    root: Path, origin: Origin, files: Mapping[str, bytes], changes: tuple[Change, ...]
) -> None:
    for change in changes:
        path = root / change.name
        if change.action in ("add", "replace"):
            content = files[change.name]
            write_bytes(path, with_lines(path, content) if change.name == IGNORE else content)
        elif change.action == "remove":
            path.unlink()
            with suppress(OSError):  # the folder holds more
                path.parent.rmdir()
    new = replace(origin, version=__version__, files=upgraded_digests(files))
    if new != origin:
        write_bytes(root / ORIGIN, new.content())


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _diff(name: str, here: bytes, new: bytes | None) -> str:
    old_lines = here.decode("utf-8", "replace").splitlines(keepends=True)
    new_lines = (new or b"").decode("utf-8", "replace").splitlines(keepends=True)
    names = (f"{name} (yours)", f"{name} (Enginery {__version__})")
    return "".join(difflib.unified_diff(old_lines, new_lines, *names))


def _warnings(root: Path) -> Iterator[str]:
    command = ["git", "status", "--porcelain", "--", "."]
    with suppress(FileNotFoundError):
        status = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if status.returncode == 0 and status.stdout:
            yield "git has changes here that are not committed: commit them, to see what is new"
    try:
        load_spec(root / PARAMS_FILE)
    except ConfigError as error:
        yield f"this version refuses {error}"
