""".enginery.json: which version of Enginery wrote a project, and the digest of each file as it
wrote it. `enginery upgrade` tells by it which files the team has changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from enginery import __version__
from enginery.errors import DamagedFileError, EngineryError
from enginery.system.files import dumps, read_json

ORIGIN = ".enginery.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Origin:
    """What wrote a project: `files` has a digest for each name, `demo` says whether it has the
    demo.
    """

    version: str
    demo: bool
    files: Mapping[str, str]

    def content(self) -> bytes:
        """The file."""
        return dumps({"schema": _SCHEMA, **asdict(self)}).encode("utf-8")


def read_origin(root: Path) -> Origin:
    """What wrote the project at `root`.

    Raises:
        EngineryError: there is no project, or a newer version wrote it.
        DamagedFileError: the file is not whole.
    """
    path = root / ORIGIN
    try:
        content = read_json(path)
        origin = Origin(str(content["version"]), bool(content["demo"]), dict(content["files"]))
    except FileNotFoundError:
        cure = "Run this in a folder that `enginery init` made"
        raise EngineryError(f"{root.absolute()} has no {ORIGIN}", cure) from None
    except (ValueError, LookupError, TypeError):
        cure = "Take it from git again"
        raise DamagedFileError(path, "is no record of `enginery init`", cure) from None
    if _release(origin.version) > _release(__version__):
        what = f"Enginery {origin.version} wrote this project, and {__version__} is installed"
        raise EngineryError(what, f"Install it: pip install 'enginery=={origin.version}'")
    return origin


def check_version(root: Path) -> None:
    """Refuse a project that a newer version wrote; a checkout of this repository has no record.

    Raises:
        EngineryError: it is one.
    """
    if (root / ORIGIN).is_file():
        read_origin(root)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
