"""dvc.lock: the digests of what every stage wrote, in the work tree and as committed. Read here
without DVC.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError
from enginery.pipeline import yaml12

LOCK_FILE = Path("dvc.lock")
_FOLDER = ".dir"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Output:
    """A file or folder that a stage wrote, with DVC's digest of it."""

    path: str
    digest: str  # md5; of a folder: that of its list of files, with .dir at its end

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.digest.endswith(_FOLDER)


def recorded(root: Path = Path()) -> Mapping[str, tuple[Output, ...]]:
    """What the work tree's dvc.lock records, by stage; nothing where there is none.

    Raises:
        EngineryError: it cannot be read.
    """
    path = root / LOCK_FILE
    if not path.is_file():
        return {}
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        raise EngineryError(f"{path} is damaged: {error}", "`enginery build` repairs it") from None


def committed(root: Path = Path()) -> bytes | None:
    """The dvc.lock of the last commit; None without git, or where none was committed."""
    command = ["git", "show", f"HEAD:./{LOCK_FILE}"]
    try:
        shown = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return shown.stdout if shown.returncode == 0 else None


def parse(content: bytes) -> Mapping[str, tuple[Output, ...]]:
    """The outputs of every stage that a lock file names.

    Raises:
        ValueError: it is no lock file, or cut short.
    """
    value = yaml12.load(content)
    if not isinstance(value, dict) or not isinstance(value.get("stages"), dict):
        raise ValueError("it has no stages")
    return {str(name): outputs(stage) for name, stage in value["stages"].items()}


def outputs(stage: Any) -> tuple[Output, ...]:
    """The outputs in a stage's entry of dvc.lock or of DVC's run-cache; not those of DVC 2, whose
    digests are none of the bytes.

    Raises:
        ValueError: it has another shape.
    """
    try:
        entries = [entry for entry in stage.get("outs", ()) if entry.get("hash") == "md5"]
        return tuple(Output(str(entry["path"]), str(entry["md5"])) for entry in entries)
    except (AttributeError, KeyError, TypeError):
        raise ValueError("an entry of it has another shape") from None


def md5(path: Path) -> str:
    """Hex digest of a file's bytes, as DVC takes it."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def md5_of(path: Path) -> str:
    """The digest that DVC would record of a file or folder, from its bytes;
    empty if it is missing.
    """
    if path.is_dir():
        return folder_md5(folder_listing(path))
    return md5(path) if path.is_file() else ""


def folder_listing(folder: Path) -> bytes:
    """What DVC keeps of a folder: its files with their digests, sorted, as JSON."""
    files = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    return json.dumps(
        [{"md5": md5(files[name]), "relpath": name} for name in sorted(files)], sort_keys=True
    ).encode()


def folder_md5(listing: bytes) -> str:
    """The digest of a folder, from what DVC keeps of it."""
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + _FOLDER


def folder_entries(listing: bytes) -> Mapping[str, str]:
    """The digest of each file of a folder, by its path in it."""
    return {entry["relpath"]: entry["md5"] for entry in json.loads(listing)}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
