"""The command itself: its overview, its mistakes, its exit codes, what it imports, and what the
shell completes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import pytest

from enginery.cli.build import Selection
from enginery.cli.completion import (
    complete_engine,
    complete_model,
    complete_precision,
    complete_target,
)
from enginery.cli.main import SECTIONS, main
from enginery.errors import EngineryError
from enginery.project.loading import load_flow
from tests.registered import register

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for names in SECTIONS.values() for name in names]
MODULES = {path.stem for path in (ROOT / "enginery/cli").glob("*.py")}
Captured = pytest.CaptureFixture[str]


def test_every_module_is_a_command_of_the_overview() -> None:
    commands = {name.replace("-", "_") for name in NAMES}
    assert MODULES - {"__init__", "main", "completion"} == commands


def test_the_overview_has_every_command_with_its_summary(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(title in overview for title in SECTIONS)
    for name in NAMES:
        [line] = [line for line in overview.splitlines() if line.startswith(f"  {name} ")]
        assert line.removeprefix(f"  {name}").strip()
    assert "..." not in overview.partition("Build engines")[2]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_in_whole_sentences(name: str, capsys: Captured) -> None:
    assert main([name, "-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: enginery {name} ")
    assert lines[2].startswith("  ") and lines[2].strip()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["build", "--nothing"], "No such option: --nothing"),
        (["build", "--jobs", "0"], "--jobs"),
        (["build", "--jobs", "many"], "--jobs"),
        (["show"], "Missing argument 'ENGINE'"),
        (["server", "--port", "65536"], "--port"),
        (["predict", "m"], "Missing argument 'IMAGE...'"),
        (["toolchain", "nothing"], "No such command 'nothing'"),
    ],
)
def test_what_is_not_understood_ends_with_2(
    arguments: list[str], words: str, capsys: Captured
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert (said.out, words in said.err) == ("", True), said.err


def test_without_a_command_the_help_is_shown_and_the_exit_code_is_2(capsys: Captured) -> None:
    assert (main([]), main(["toolchain"])) == (2, 2)
    said = capsys.readouterr()
    assert "Build engines" in said.out + said.err


def test_the_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("enginery ")


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        (EngineryError("it is bad", "Mend it"), 1, "error: it is bad. Mend it\n"),
        (KeyboardInterrupt(), 130, "interrupted; the next run goes on from here\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "error: x: Permission denied. "),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    ended: BaseException, code: int, said: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise ended

    monkeypatch.setattr("enginery.registry.store.find_entry", fail)
    assert main(["show", "it"]) == code
    assert capsys.readouterr().err.startswith(said)


HEAVY = {"numpy", "onnx", "onnxruntime", "torch", "rich", "pydantic", "yaml", "prefect", "dvc"}


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["--version"], ["list"]])
def test_a_quick_command_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from enginery.cli.main import main; code = main(sys.argv[1:]); "
        f"print(sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert result.stderr == "[]\n"


def test_the_command_that_goes_on_names_what_was_asked_for() -> None:
    assert Selection().command == "enginery build"
    several = Selection(("a", "b"), ("t",), ("fp16",), 2)
    assert several.command == (
        "enginery build --model a --model b --target t --precision fp16 --jobs 2"
    )


def test_the_shell_completes_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (complete_engine(""), complete_model(""), complete_target("")) == ([], [], [])
    register("yolo/ada/fp16")
    register("yolo/ada/int8")
    Path("artifacts/engines/yolo/ada/.fp32.part").mkdir()
    Path("params.yaml").write_text("models: {yolo: {}, own: {}}\ntargets: {ada: {}}\n")
    assert complete_engine("yolo/") == ["yolo/ada/fp16", "yolo/ada/int8"]
    assert (complete_model(""), complete_model("y")) == (["own", "yolo"], ["yolo"])
    assert complete_target("") == ["ada"]
    assert complete_precision("fp") == ["fp16", "fp32"]
    for damaged in ("[", "models: 1", "- a"):
        Path("params.yaml").write_text(damaged)
        assert complete_model("") == []


def test_the_shell_asks_the_command(tmp_path: Path) -> None:
    asked = {"COMP_WORDS": "enginery export", "COMP_CWORD": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "enginery"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            **asked,
            "PYTHONPATH": str(ROOT),
            "_ENGINERY_COMPLETE": "complete_bash",
        },
        check=True,
    )
    assert result.stdout.split() == ["export"]


def test_a_project_is_loaded_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "flows"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(EngineryError, match=r"is no project: it has no flows/build\.py"):
        load_flow()
    flow = Path("flows/build.py")
    flow.parent.mkdir()
    (flow.parent / "__init__.py").touch()
    flow.write_text("")
    with pytest.raises(EngineryError, match=r"flows/build\.py has no flow called build_engines"):
        load_flow()
    flow.write_text("def build_engines(): return 1\n")
    monkeypatch.delitem(sys.modules, "flows.build")
    invalidate_caches()
    assert load_flow()() == 1
    assert sys.path[0] == str(tmp_path)
    for name in ("flows.build", "flows"):
        sys.modules.pop(name)
