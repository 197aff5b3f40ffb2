"""The guide: its commands exist and run, its links and anchors lead somewhere, nothing in it is
asked of another host, and each message of the troubleshooting page is one that Enginery says.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from enginery.cli.main import main
from tests.conftest import Checkout
from tests.test_readme import COMMANDS as README_COMMANDS
from tests.test_readme import LOOK

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
# A command stands in a block of its own, fenced or indented; a variable may come before it.
LINE = re.compile(r"^ *(?:[A-Z_]+=\S+ )?(enginery [a-z].*)$", re.MULTILINE)
BLOCK = re.compile(r"```sh\n(.*?)```|((?:^    .*\n)+)", re.DOTALL | re.MULTILINE)
# What the pages call a reader's own model, targets and files: there is none in the demo.
READERS_OWN = ("plates", "second", "server", "trt10", "trt11", "--restore", "--json", "--open")


def commands(page: Path) -> list[str]:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [line for fenced, indented in blocks for line in LINE.findall(fenced or indented)]


COMMANDS = sorted({command for page in PAGES for command in commands(page)})
TRIED = [
    command
    for command in COMMANDS
    if command.removeprefix("enginery ").startswith(LOOK)
    and not any(word in command for word in READERS_OWN)
    and command not in README_COMMANDS
]


def test_commands_that_look_run(built: Checkout) -> None:
    for command in TRIED:
        result = built.run(*shlex.split(command))
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        assert result.stdout, command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*shlex.split(command)[1:], "--help"]) == 0
    assert "Usage: enginery" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" not in link, f"{page.name} leads to another host: {link}"
        target = page.parent / link if link else page
        assert target.is_file(), f"{page.name}: {link}"
        if anchor:
            assert anchor[1:] in anchors(target), f"{page.name}: {link}{anchor}"


def test_every_page_is_in_the_contents_and_asks_nothing_of_another_host() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/.-]+\.md", text))
    files = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert named <= files
    assert {page.name for page in PAGES} - named == set()
    assert yaml.safe_load(text)["theme"]["font"] is False
    assert "http" not in text


def test_each_message_of_the_troubleshooting_page_is_said_by_enginery() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    for message in re.findall(r"^## (.+)$", text, re.MULTILINE):
        for part in message.split("…"):
            assert any(part.strip(" ,") in said for said in texts()), message


def test_what_yaml_shows_is_yaml_of_known_keys() -> None:
    from enginery.project.schema import KEYS

    for page in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for section, entries in yaml.safe_load(block).items():
                kind = {"models": "Model", "int8": "Int8", "targets": "Target"}.get(section)
                for entry in entries.values() if kind else ():
                    assert entry.keys() <= KEYS[kind].keys(), page.name


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles)
    return {re.sub(r"[-\s]+", "-", title) for title in plain}


@functools.cache
def texts() -> frozenset[str]:
    """Every piece of text in the library's and the steps' source, and words that follow a name."""
    pieces = set()
    for folder in ("enginery", "tasks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    pieces.add(node.value)
    return frozenset(pieces)
