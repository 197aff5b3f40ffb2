"""Make an environment inside a checkout work wherever the folder is moved: `python -m
enginery.system.relocate`, after installing.

Installers write the environment's whole path into every command of it, and the checkout's into the
editable install.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

from enginery.system.files import atomic_write

PTH = "enginery-checkout.pth"
# A shell runs the second line: the interpreter beside the command. Python reads a string that says
# nothing.
_HEADER = b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""


def relocate(environment: Path, packages: Path, root: Path) -> None:
    """Let commands find the interpreter beside them, and that one the checkout above: a relative
    line in its path comes first.
    """
    own = re.escape(f"/{environment.name}/bin/python".encode())
    header = re.compile(rb"#!(?:/bin/sh\n'''exec' )?[^\n]*" + own + rb"[^\n]*\n(?:' '''\n)?")
    for command in sorted((environment / "bin").iterdir()):
        if (
            command.is_file()
            and not command.is_symlink()
            and (match := header.match(content := command.read_bytes()))
        ):
            with atomic_write(command) as partial:
                partial.write_bytes(_HEADER + content[match.end() :])
                shutil.copymode(command, partial)
    _relocate_activation(environment / "bin/activate")
    with atomic_write(packages / PTH) as partial:
        partial.write_text(os.path.relpath(root, packages) + "\n", encoding="utf-8")


def _relocate_activation(script: Path) -> None:
    """Let `. .venv/bin/activate` find the environment where the script lies; a shell that does not
    say where that is must stand in the checkout.
    """
    if not script.is_file():
        return
    place = f"${{BASH_SOURCE:-{script.parents[1].name}/bin/activate}}"
    line = f'VIRTUAL_ENV="$(cd "$(dirname -- "{place}")/.." && pwd)"'
    content = script.read_text(encoding="utf-8")
    with atomic_write(script) as partial:
        text = re.sub(r"^VIRTUAL_ENV=.*$", lambda _: line, content, count=1, flags=re.MULTILINE)
        partial.write_text(text, encoding="utf-8")
        shutil.copymode(script, partial)


if __name__ == "__main__":
    prefix, checkout = Path(sys.prefix).resolve(), Path(__file__).resolve().parents[2]
    if prefix.parent == checkout:  # an environment elsewhere does not move with the checkout
        relocate(prefix, Path(sysconfig.get_path("purelib")), checkout)
