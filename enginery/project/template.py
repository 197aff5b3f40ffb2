"""The files of a new project: this repository's own, as the wheel carries them.

The wheel's build (setup.py) runs this file by itself, so it imports nothing but the standard
library. In a checkout the repository's root is the template; there is no second copy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKED = Path(__file__).parent / "template"  # in an installed wheel only
PARAMS, IGNORE = "params.yaml", ".gitignore"
PATTERNS = (
    PARAMS,
    "params.schema.json",
    "dvc.yaml",
    "prefect.yaml",
    IGNORE,
    ".dvcignore",
    ".dvc/.gitignore",
    ".dvc/config",
    "flows/*.py",
    "tasks/*.py",
    "data/demo/*.pt",
)
DVC_FILES = (".dvc/", ".dvcignore")  # a team that has DVC keeps its own
_TEAMS_OWN = (PARAMS, IGNORE, *DVC_FILES, "data/")  # no later version replaces them
_DEMO_FILES = ("data/demo/", "tasks/demo_data.py")
_DEMO_STAGE = "demo-data"


def template_root() -> Path:
    """Where the template's files are: in the installed package, or at the checkout's root."""
    return PACKED if PACKED.is_dir() else Path(__file__).resolve().parents[2]


def template_files(root: Path) -> Iterator[str]:
    """The names of the template's files below `root`, with / between their parts."""
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            yield path.relative_to(root).as_posix()


def project_files(demo: bool) -> Mapping[str, bytes]:
    """What `enginery init` writes, by name; without the demo, nothing in them names it.

    params.yaml is still this repository's: the team's models take the demo's place in it
    (`project/models.py`).
    """
    root = template_root()
    files = {name: (root / name).read_bytes() for name in template_files(root)}
    return files if demo else dict(_without_demo(files))


def digest(content: bytes) -> str:
    """The digest by which a file's content is known."""
    return hashlib.sha256(content).hexdigest()


def upgraded_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """The digests of those files that `enginery upgrade` brings up to date."""
    names = [name for name in sorted(files) if not name.startswith(_TEAMS_OWN)]
    return {name: digest(files[name]) for name in names}


def with_lines(path: Path, wanted: bytes) -> bytes:
    """A team's file with those of our lines at its end that it does not have."""
    content = path.read_bytes() if path.is_file() else b""
    if not content:
        return wanted
    new = [line for line in wanted.splitlines() if line not in content.splitlines()]
    joint = b"" if content.endswith(b"\n") else b"\n"
    return content + (joint if new else b"") + b"".join(line + b"\n" for line in new)


def _without_demo(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for name, content in files.items():
        if name.startswith(_DEMO_FILES):
            continue
        if name == "dvc.yaml":
            content = _without_stage(content.decode("utf-8"), _DEMO_STAGE).encode("utf-8")
        if name == IGNORE:
            lines = content.decode("utf-8").splitlines(keepends=True)
            content = "".join(line for line in lines if "/demo/" not in line).encode("utf-8")
        yield name, content


def _without_stage(text: str, stage: str) -> str:
    """dvc.yaml without one stage, the comments right above it and the empty line below it."""
    block = rf"(?:^  #[^\n]*\n)*^  {re.escape(stage)}:[^\n]*\n(?:^(?:   [^\n]*)?\n)*"
    return re.sub(block, "", text, count=1, flags=re.MULTILINE)
