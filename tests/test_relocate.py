"""A checkout that is moved or copied works where it is then, with a real environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import ROOT

HEADERS = {
    "short": "#!{python}\n",
    # pip's, where the path is long or has a space
    "trampoline": "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n",
}
COMMAND = """\
# -*- coding: utf-8 -*-
import sys, enginery.cli.main
print(enginery.cli.main.__file__, sys.prefix, *sys.argv[1:], sep="\\n")
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with an environment of its own, set up as `make` does; its
    packages are borrowed.
    """
    root = tmp_path_factory.mktemp("first") / "a ü"
    for name in ("enginery", "flows", "tasks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copyfile(ROOT / name, root / name)
    venv.create(root / ".venv", symlinks=True)
    packages = root / ".venv" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    old = "/".join(("", "no", "where", ".venv", "bin", "python3.11"))
    for name, header in HEADERS.items():
        command = root / ".venv/bin" / name
        command.write_text(header.format(python=old) + COMMAND)
        command.chmod(0o755)
    (root / ".venv/bin/other").write_text("#!/usr/bin/env python3\n")
    subprocess.run(
        [root / ".venv/bin/python", "-m", "enginery.system.relocate"], cwd=root, check=True
    )
    (root / ".venv/.ready").touch()
    return root


def said(command: Path, *arguments: str) -> list[str]:
    return subprocess.run(
        [command, *arguments], check=True, capture_output=True, text=True, cwd="/"
    ).stdout.splitlines()


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_commands_run_the_code_that_they_lie_with(checkout: Path, tmp_path: Path, how: str) -> None:
    place = tmp_path / "b ß" / ("deep" * 40)  # longer than the kernel takes in a first line
    shutil.copytree(checkout, place, symlinks=True)
    if how == "moved":
        shutil.move(place, tmp_path / "c")
        place = tmp_path / "c"
    for name in HEADERS:
        file, prefix, *arguments = said(place / ".venv/bin" / name, "x y", "'")
        assert (Path(file), Path(prefix), arguments) == (
            place / "enginery/cli/main.py",
            place / ".venv",
            ["x y", "'"],
        )
    (tmp_path / "linked").symlink_to(place / ".venv/bin/short")
    assert said(tmp_path / "linked")[0] == str(place / "enginery/cli/main.py")
    assert os.access(place / ".venv/bin/short", os.X_OK)
    assert (place / ".venv/bin/other").read_text() == "#!/usr/bin/env python3\n"
    plan = subprocess.run(
        ["make", "-n", "engines", "test", "check"],
        cwd=place,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "pip install" not in plan
    assert set(re.findall(r"\.venv/bin/\S+", plan)) == {".venv/bin/python"}


def test_an_environment_elsewhere_is_left_as_it_is(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "enginery", tmp_path / "enginery", ignore=shutil.ignore_patterns("__pycache__")
    )
    before = sorted(Path(sysconfig.get_path("purelib")).glob("*.pth"))
    subprocess.run([sys.executable, "-m", "enginery.system.relocate"], cwd=tmp_path, check=True)
    assert sorted(Path(sysconfig.get_path("purelib")).glob("*.pth")) == before


def test_an_activated_environment_is_the_one_that_was_moved(checkout: Path, tmp_path: Path) -> None:
    place = tmp_path / "moved there"
    shutil.copytree(checkout, place, symlinks=True)
    for shell in ("sh", "bash"):
        command = [shell, "-c", ". .venv/bin/activate && command -v python"]
        found = subprocess.run(command, cwd=place, check=True, capture_output=True, text=True)
        assert found.stdout.strip() == f"{place}/.venv/bin/python"
