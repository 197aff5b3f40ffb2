"""Which toolchain a target gets: the one it names, or the first whose version fits; if none, every
reason in one line.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import EngineryError, ExcludedTargetError, GpuError, ToolchainError
from enginery.gpu.inventory import choose, gpus
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.toolchain.selection import Choice, Toolchains
from tests.test_bindings import toolchain
from tests.test_spec import write

RTX: dict[str, Any] = {"runtime": "tensorrt_rtx", "compute_capability": "8.9"}
OWN: dict[str, Any] = {"runtime": "tensorrt"}
without_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's folder: the environment is where every checkout has it."""
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def eleven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the bindings of TensorRT 11.4, and this environment's TensorRT-RTX."""
    return toolchain(tmp_path_factory.mktemp("eleven"), "11.4.0.106")


def spec(folder: Path, target: dict[str, Any], **toolchains: Path | str) -> Spec:
    named = {name: {"python": str(path)} for name, path in toolchains.items()}
    return load_spec(write(folder, targets__mine=target, toolchains=named))


def chosen(folder: Path, target: dict[str, Any], **toolchains: Path | str) -> Choice:
    return Toolchains(spec(folder, target, **toolchains)).choose("mine")


def refusal(folder: Path, target: dict[str, Any], **toolchains: Path | str) -> EngineryError:
    with pytest.raises(EngineryError) as error:
        chosen(folder, target, **toolchains)
    assert "\n" not in str(error.value)
    return error.value


def test_the_named_toolchain_is_used_though_this_one_fits_too(here: Path, eleven: Path) -> None:
    assert chosen(here, RTX, other=eleven).name == "this"
    named = chosen(here, {**RTX, "toolchain": "other"}, other=eleven)
    assert (named.name, named.python, named.info.version) == ("other", eleven, "1.7.1.116")


@pytest.mark.parametrize("version", [None, "1", "1.7", "1.7.1", "1.7.1.116"])
def test_any_that_fits(here: Path, version: str | None) -> None:
    found = chosen(here, {**RTX, **({"version": version} if version else {})})
    assert (found.name, found.python, found.info.version) == (
        "this",
        Path(sys.executable),
        "1.7.1.116",
    )


@pytest.mark.parametrize("version", ["1.6", "1.7.1.1", "1.70", "1.7.1.116.0", "2"])
def test_a_version_is_compared_part_by_part(here: Path, version: str) -> None:
    error = refusal(here, {**RTX, "version": version})
    assert error.what == f"target mine: this has tensorrt_rtx 1.7.1.116, not {version}"
    assert "Add one" in error.cure


def test_those_that_do_not_fit_are_passed_over(here: Path, eleven: Path) -> None:
    found = chosen(
        here, {**OWN, "version": "11"}, gone=here / "nowhere" / "python", later=eleven, other=eleven
    )
    assert (found.name, found.info.runtime, found.info.version) == (
        "later",
        "tensorrt",
        "11.4.0.106",
    )


def test_nothing_fits_and_every_reason_is_given(here: Path, eleven: Path) -> None:
    error = refusal(here, {**OWN, "version": "8.6"}, gone=here / "nowhere" / "python", later=eleven)
    assert error.what.startswith("target mine: no toolchain fits: ")
    reasons = error.what.removeprefix("target mine: no toolchain fits: ").split("; ")
    assert len(reasons) == 3
    assert "cannot import tensorrt" in reasons[0]
    assert "nowhere/python cannot be started: No such file or directory" in reasons[1]
    assert reasons[2] == "later has tensorrt 11.4.0.106, not 8.6"
    assert "`enginery toolchain add`" in error.cure


def test_a_named_toolchain_without_an_interpreter(here: Path) -> None:
    error = refusal(here, {**RTX, "toolchain": "gone"}, gone="nowhere/python")
    assert (
        error.what
        == "target mine: toolchain interpreter nowhere/python cannot be started: No such file or directory"
    )
    assert "Correct its path under toolchains in params.yaml" in error.cure


def test_a_target_is_elsewhere_if_its_toolchain_is_not_here(here: Path) -> None:
    error = refusal(here, {**OWN, "toolchain": "gone"}, gone="nowhere/python")
    assert isinstance(error, ExcludedTargetError)
    assert (
        error.why
        == "toolchain interpreter nowhere/python cannot be started: No such file or directory"
    )
    assert str(error).startswith(f"target mine: {error.why}. Correct its path")
    assert not isinstance(
        refusal(here, {**RTX, "toolchain": "gone"}, gone="nowhere/python"), ExcludedTargetError
    )


@pytest.mark.parametrize(
    ("toolchains", "elsewhere"),
    [
        ({}, False),  # nobody named one
        ({"gone": "nowhere/python"}, True),
        ({"gone": "nowhere/python", "other": "eleven"}, True),
        ({"other": "eleven"}, False),  # no machine has one that fits
        (
            {"gone": "nowhere/python", "broken": ".venv/bin/python"},
            False,
        ),  # it may be the one that was meant
    ],
)
def test_any_that_fits_may_be_elsewhere(
    here: Path, eleven: Path, toolchains: dict[str, str], elsewhere: bool
) -> None:
    named = {name: eleven if path == "eleven" else path for name, path in toolchains.items()}
    assert (
        isinstance(refusal(here, {**OWN, "version": "8.6"}, **named), ExcludedTargetError)
        is elsewhere
    )


@pytest.mark.parametrize("content", ["#!/nowhere/sh\n", "", "#!/bin/sh\nexit 3\n"])
def test_a_toolchain_that_is_here_and_broken_is_an_error(here: Path, content: str) -> None:
    interpreter = here / "python"
    interpreter.write_text(content)
    interpreter.chmod(0o755)
    error = refusal(here, {**OWN, "toolchain": "broken"}, broken=interpreter)
    assert isinstance(error, ToolchainError)
    assert isinstance(
        refusal(here, {**OWN, "toolchain": "bare"}, bare=".venv/bin/python"), ToolchainError
    )  # no tensorrt in it
    (here / "link").symlink_to(
        "/nowhere/python3.9"
    )  # an environment whose Python was upgraded away
    assert isinstance(refusal(here, {**OWN, "toolchain": "old"}, old=here / "link"), ToolchainError)


def test_a_named_toolchain_of_another_version_is_not_replaced_by_one_that_fits(
    here: Path, eleven: Path
) -> None:
    error = refusal(here, {**OWN, "toolchain": "one", "version": "10"}, one=eleven)
    assert isinstance(error, ToolchainError)
    assert error.what == "target mine: one has tensorrt 11.4.0.106, not 10"


def test_each_is_probed_once(here: Path) -> None:
    interpreter = here / "python"
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    toolchains = Toolchains(spec(here, {**RTX, "toolchain": "one"}, one=interpreter))
    first = toolchains.choose("mine")
    interpreter.unlink()
    assert toolchains.choose("mine").info is first.info
    with pytest.raises(ToolchainError, match="cannot be started"):
        chosen(here, {**RTX, "toolchain": "one"}, one=interpreter)


def test_toolchains_answer_beside_other_work_and_a_hanging_one_ends_with_it(here: Path) -> None:
    first, hanging = here / "first", here / "hanging"
    first.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    hanging.write_text(f"#!/bin/sh\ntouch {here}/began\nexec sleep 1000\n")
    for path in (first, hanging):
        path.chmod(0o755)
    toolchains = Toolchains(spec(here, {**RTX, "toolchain": "one"}, one=first))
    with toolchains.answering(["mine"]):
        pass
    first.unlink()
    assert toolchains.choose("mine").info.runtime == "tensorrt_rtx"

    toolchains = Toolchains(spec(here, {**RTX, "toolchain": "one"}, one=hanging))
    with pytest.raises(KeyboardInterrupt), toolchains.answering(["mine"]):
        while not (here / "began").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt


@without_gpu
@pytest.mark.parametrize("wanted", [None, 0, 7, "GPU-0123abcd-0000-0000-0000-000000000000"])
def test_where_no_gpu_can_be_listed_none_is_chosen(
    here: Path, eleven: Path, wanted: int | str | None
) -> None:
    assert choose(wanted) is None
    found = chosen(
        here, {**OWN, "toolchain": "one", **({} if wanted is None else {"gpu": wanted})}, one=eleven
    )
    assert (found.gpu, found.visible, found.info.gpus) == (
        None,
        None if wanted is None else str(wanted),
        (),
    )
    assert "pycuda" in found.info.no_gpu


def test_tensorrt_rtx_asks_for_no_gpu(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has GPUs, and not the one that is visible."""

    def refuse(*wanted: Any) -> None:
        raise GpuError("there is no GPU 9 on this machine")

    monkeypatch.setattr("enginery.gpu.inventory.choose", refuse)
    assert chosen(here, RTX).visible is None
    with pytest.raises(ExcludedTargetError, match="target mine: there is no GPU 9"):
        chosen(here, OWN)
