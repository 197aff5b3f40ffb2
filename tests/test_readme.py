"""Every command that the README shows is one that exists, and those that take seconds are run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from enginery.cli.main import main
from tests.conftest import Checkout

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"(?:^    |`)(?:\S+=\S+ )?(enginery [a-z][^`\n]*)", re.MULTILINE)
COMMANDS = sorted(set(COMMAND.findall(README)))
GUIDES = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
LOOK = (
    "list",
    "report",
    "gpus",
    "show",
    "verify",
    "status",
    "build",
    "calibration",
    "sensitivity",
    "toolchain list",
)


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if command.removeprefix("enginery ").startswith(LOOK)],
)
def test_commands_that_look_run(built: Checkout, command: str) -> None:
    result = built.run(*shlex.split(command))
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout


@pytest.mark.parametrize("command", [*COMMANDS, *sorted(set(COMMAND.findall(GUIDES)))])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = shlex.split(command)[1:]
    assert main([*arguments, "--help"]) == 0, "a guide shows it with these very options"
    assert "Usage: enginery" in capsys.readouterr().out


def test_make_targets_and_links_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([\w-]+)", README):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\(([\w/.-]+)\)", README):
        assert (ROOT / link).exists() or (ROOT / f"{link}.md").exists()
