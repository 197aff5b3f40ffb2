"""How git is run for a registry: the private repository's settings, what the environment must not
say, and what git answers.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

REMOTE = "registry"
PREFIX = "enginery-registry-"
NOTHING_SAID = "it said nothing"
_SETTLED_S = 3600


@dataclass(frozen=True)
class Remote:
    """Where a registry's repository is; `config` is that of the user's checkout, whose credentials
    count here too.
    """

    url: str
    push_url: str
    config: Path | None = None


def sweep() -> None:
    """Remove what processes left behind that were killed outright, an hour ago or earlier."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with suppress(OSError):
            old = time.time() - folder.stat().st_mtime > _SETTLED_S
            if old and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(folder)


def settings(remote: Remote) -> str:
    """The private repository's settings: the checkout's, and what must be otherwise here."""
    include = f"[include]\n\tpath = {_quoted(str(remote.config))}\n" if remote.config else ""
    return (
        f"{include}[core]\n\trepositoryformatversion = 1\n\tbare = true\n"
        "\thooksPath = /dev/null\n"
        f"[extensions]\n\tpartialClone = {REMOTE}\n"
        f'[remote "{REMOTE}"]\n\turl = {_quoted(remote.url)}\n'
        f"\tpushurl = {_quoted(remote.push_url)}\n\tpromisor = true\n"
        # Else the server takes what lies below a commit for known.
        "[fetch]\n\tnegotiationAlgorithm = noop\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
        "[tag]\n\tgpgSign = false\n[gpg]\n\tformat = ssh\n"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_of_a_repository(variable: str) -> bool:
    """Whether a variable leads git to another repository, as those that hooks are given."""
    return variable in (
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GITPREFIX",
    )


def what_it_said(output: bytes) -> str:
    """The lines of an error in one, without git's advice."""
    lines = output.decode("utf-8", errors="replace").splitlines()
    kept = [line.strip() for line in lines if not line.startswith(("hint:", "To ", "Done"))]
    said = "; ".join(dict.fromkeys(line.removeprefix("fatal: ") for line in kept if line))
    return said[:400] or NOTHING_SAID
