"""Environments of toolchains: found, made and removed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enginery.errors import MissingInterpreterError, ToolchainError
from enginery.toolchain import environments
from enginery.toolchain.requests import ToolchainInfo
from tests.exact.toolchain.common import PYTHON


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "A", "-a", "_a", "ä", "a b", "/a", "this", "a\n"]
)
def test_names_that_are_none(name: str) -> None:
    for use in (
        environments.interpreter,
        environments.remove,
        lambda name: environments.make(name, []),
    ):
        with pytest.raises(ToolchainError) as error:
            use(name)
        assert str(error.value) == (
            f"{name!r} is no name for a toolchain. Use small letters, digits, - and _, and not 'this'"
        )


def test_an_interpreter_lies_below_its_folder() -> None:
    assert environments.interpreter("trt-10_3") == Path(".toolchains/trt-10_3/bin/python")


INFO = ToolchainInfo("tensorrt_rtx", "1.7", "3.11", "linux", (), ())


def test_a_toolchain_is_whatever_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    answers: dict[str, Any] = {"tensorrt": ToolchainError("no tensorrt", "c"), "tensorrt_rtx": INFO}

    def probe(python: Path, runtime: str) -> ToolchainInfo:
        calls.append((python, runtime))
        if isinstance(answers[runtime], Exception):
            raise answers[runtime]
        return answers[runtime]  # type: ignore[no-any-return]

    monkeypatch.setattr(environments, "probe", probe)
    assert environments.identify(PYTHON) is INFO
    assert calls == [(PYTHON, "tensorrt"), (PYTHON, "tensorrt_rtx")]
    for second, said in (("no rtx", "no tensorrt; no rtx"), ("no tensorrt", "no tensorrt")):
        answers["tensorrt_rtx"] = ToolchainError(second, "c")
        with pytest.raises(ToolchainError) as error:
            environments.identify(PYTHON)
        assert str(error.value) == f"{said}. Install tensorrt or a tensorrt-rtx package there"
    answers["tensorrt"] = MissingInterpreterError("nothing there", "c")
    with pytest.raises(MissingInterpreterError, match="nothing there"):
        environments.identify(PYTHON)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """In a folder of its own; each command is recorded, and the environment
    appears with the first.
    """
    monkeypatch.chdir(tmp_path)
    calls: list[Any] = []

    def run(command: list[str], doing: str) -> None:
        calls.append((command, doing))
        (Path(".toolchains") / "mine").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environments, "_run", run)
    monkeypatch.setattr(environments, "identify", lambda python: calls.append(python) or INFO)
    yield calls


def test_an_environment_is_made(commands: list[Any]) -> None:
    assert environments.make("mine", ["tensorrt==10", "numpy"], "/usr/bin/python3") is INFO
    python = Path(".toolchains/mine/bin/python")
    pip = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "tensorrt==10",
        "numpy",
    ]
    assert commands == [
        (["/usr/bin/python3", "-m", "venv", ".toolchains/mine"], "make the environment"),
        (pip, "install tensorrt==10 numpy"),
        python,
    ]
    with pytest.raises(ToolchainError) as error:
        environments.make("mine", [])
    assert (
        str(error.value)
        == "there is a toolchain mine already. Remove it first: enginery toolchain remove mine"
    )
    assert len(commands) == 3
    environments.remove("mine")
    assert not Path(".toolchains/mine").exists()
    environments.make("mine", [])
    assert commands[3][0][0] == sys.executable


@pytest.mark.parametrize("error", [ToolchainError("no", ""), KeyboardInterrupt()])
def test_what_could_not_be_made_is_taken_away(
    commands: list[Any], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(python: Path) -> None:
        assert Path(".toolchains/mine").is_dir()
        raise error

    monkeypatch.setattr(environments, "identify", fail)
    with pytest.raises(type(error)):
        environments.make("mine", [])
    assert not Path(".toolchains/mine").exists()


def test_what_was_not_made_here_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cure = "others are only named in params.yaml"
    with pytest.raises(ToolchainError) as error:
        environments.remove("mine")
    assert str(error.value) == f"no toolchain mine was made here. Made here: none; {cure}"
    for name in ("b", "a"):
        (tmp_path / ".toolchains" / name).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".toolchains/link").symlink_to(tmp_path / "elsewhere")
    for name in ("mine", "link"):
        with pytest.raises(ToolchainError) as error:
            environments.remove(name)
        assert (
            str(error.value) == f"no toolchain {name} was made here. Made here: a, b, link; {cure}"
        )
    assert (tmp_path / "elsewhere").is_dir()


def finished(code: int, out: str = "", err: str = "") -> Any:
    return SimpleNamespace(returncode=code, stdout=out, stderr=err)


SPACE = "Correct its name or version, or free some space"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            finished(1, "out", "ERROR: a\nmore\nERROR: b\nERROR: a\n"),
            f"could not do it: ERROR: a ERROR: b. {SPACE}",
        ),
        (finished(1, "one\ntwo", ""), f"could not do it: two. {SPACE}"),
        (finished(1, "ERROR: x\ny", ""), f"could not do it: ERROR: x. {SPACE}"),
        (finished(1, "out", "odd\nlast"), f"could not do it: last. {SPACE}"),
        (finished(1), f"could not do it: it said nothing. {SPACE}"),
        (
            finished(2, "", "NewConnectionError\nERROR: none found"),
            "could not do it: ERROR: none found. Is the network there?",
        ),
        (finished(1, "", "ERROR" + "x" * 500), f"could not do it: ERROR{'x' * 395}. {SPACE}"),
    ],
)
def test_why_a_command_failed(monkeypatch: pytest.MonkeyPatch, result: Any, words: str) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        environments.subprocess,
        "run",
        lambda *given, **named: calls.append((given, named)) or result,
    )
    with pytest.raises(ToolchainError) as error:
        environments._run(["a", "b"], "do it")
    assert str(error.value) == words
    assert calls == [
        ((["a", "b"],), {"capture_output": True, "text": True, "errors": "replace", "check": False})
    ]


def test_commands_that_succeed_or_cannot_start(tmp_path: Path) -> None:
    environments._run(
        [sys.executable, "-c", "import sys; sys.stderr.write('ERROR: but well\\n')"], "do it"
    )
    with pytest.raises(ToolchainError) as error:
        environments._run([str(tmp_path / "none"), "-m"], "do it")
    assert str(error.value) == (
        f"could not do it: {tmp_path}/none: No such file or directory. Name an interpreter with --python"
    )
    environments._run(
        [sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'\\xff')"], "do it"
    )
