"""Which toolchain and GPU a target gets, from answers that are written here: every reason in its
words.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enginery.errors import (
    ExcludedTargetError,
    GpuError,
    MissingInterpreterError,
    ToolchainError,
    VersionMismatchError,
)
from enginery.gpu.inventory import Gpu
from enginery.toolchain import selection as choice
from enginery.toolchain.requests import ToolchainInfo
from enginery.toolchain.selection import Choice, Toolchains

CARD = Gpu(1, "GPU-1", "Card", "8.6", 24000, "580", "12.8", 2000, 9000)
OWN = Path(sys.executable)
CURE = "Correct its path under toolchains in params.yaml, or make the environment"


def info(version: str, runtime: str = "tensorrt", **more: Any) -> ToolchainInfo:
    return ToolchainInfo(runtime, version, "3.11", "linux", (), (), **more)


class World:
    """Toolchains by name, what each answers, and the GPUs of the machine."""

    def __init__(self) -> None:
        self.answers: dict[Path, Any] = {}
        self.asked: list[Any] = []
        self.gpu: Any = CARD
        self.wanted: list[Any] = []

    def probe(self, python: Path, runtime: str, visible: str | None) -> ToolchainInfo:
        self.asked.append((python, runtime, visible))
        answer = self.answers.get(python, MissingInterpreterError(f"{python} is not there", CURE))
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def choose(self, *wanted: Any) -> Gpu | None:
        self.wanted.append(wanted)
        if isinstance(self.gpu, Exception):
            raise self.gpu
        return self.gpu  # type: ignore[no-any-return]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    monkeypatch.setattr(choice, "probe", found.probe)
    monkeypatch.setattr(choice.gpu, "choose", found.choose)
    return found


def toolchains(*named: str, **target: Any) -> Toolchains:
    """Of a specification with one target, `mine`, and toolchains at /NAME."""
    fields = {
        "runtime": "tensorrt",
        "gpu": None,
        "version": None,
        "toolchain": None,
        "compute_capability": None,
        **target,
    }
    spec = SimpleNamespace(
        targets={"mine": SimpleNamespace(**fields)},
        toolchains={name: SimpleNamespace(python=f"/{name}") for name in named},
    )
    return Toolchains(spec)  # type: ignore[arg-type]


def test_every_interpreter_by_name() -> None:
    assert toolchains("old", "new").known == {"this": OWN, "old": Path("/old"), "new": Path("/new")}


def test_the_first_that_fits_this_one_before_the_others(world: World) -> None:
    world.answers = {OWN: info("10.0"), Path("/a"): info("8.6.1"), Path("/b"): info("8.6.2")}
    assert toolchains("a", "b").choose("mine") == Choice("this", OWN, info("10.0"), CARD, "GPU-1")
    assert toolchains("a", "b", version="8.6").choose("mine") == Choice(
        "a", Path("/a"), info("8.6.1"), CARD, "GPU-1"
    )
    assert toolchains("a", "b", version="8.6.2").choose("mine").name == "b"
    assert toolchains("a", "b", toolchain="b").choose("mine").name == "b"
    world.asked.clear()
    toolchains("a", "b", toolchain="a").choose("mine")
    assert world.asked == [(Path("/a"), "tensorrt", "GPU-1")]


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("10.16.1.11", None, True),
        ("10.16.1.11", "", True),
        ("10.16.1.11", "10", True),
        ("10.16.1.11", "10.16", True),
        ("10.16.1.11", "1", False),
        ("10.16.1.11", "10.1", False),
        ("10.16", "10.16.1", False),
        ("8.6.1", "8.6.1", True),
    ],
)
def test_versions_fit_part_by_part(version: str, wanted: str | None, fits: bool) -> None:
    assert choice._fits(version, wanted) is fits


def test_the_gpu_that_a_target_names_is_the_only_one_seen(world: World) -> None:
    world.answers = {OWN: info("10.0")}
    toolchains(gpu=1, compute_capability="8.6").choose("mine")
    assert world.wanted == [(1, "8.6")]
    world.gpu = None  # the driver lists none, CUDA may know it still
    assert toolchains(gpu=1).choose("mine") == Choice("this", OWN, info("10.0"), None, "1")
    assert toolchains(gpu="GPU-9").choose("mine").visible == "GPU-9"
    assert toolchains().choose("mine") == Choice("this", OWN, info("10.0"), None, None)
    assert [visible for _, _, visible in world.asked] == ["GPU-1", "1", "GPU-9", None]


def test_tensorrt_rtx_needs_no_gpu(world: World) -> None:
    world.answers = {OWN: info("1.7", "tensorrt_rtx")}
    world.gpu = GpuError("none", "")
    assert toolchains(runtime="tensorrt_rtx").choose("mine") == Choice(
        "this", OWN, info("1.7", "tensorrt_rtx"), None, None
    )
    assert world.wanted == []


def test_each_is_asked_once(world: World) -> None:
    world.answers = {OWN: info("10.0"), Path("/a"): ToolchainError("broken", "c")}
    found = toolchains("a", version="8")
    for _ in range(3):
        with pytest.raises(ToolchainError):
            found.choose("mine")
    assert world.asked == [(OWN, "tensorrt", "GPU-1"), (Path("/a"), "tensorrt", "GPU-1")]


def test_a_gpu_that_is_not_here(world: World) -> None:
    world.gpu = GpuError("there is no GPU 5", "It has 0")
    with pytest.raises(ExcludedTargetError) as error:
        toolchains(gpu=5).choose("mine")
    assert str(error.value) == "target mine: there is no GPU 5. It has 0"


OTHER = "this has tensorrt 10.0, not 8.6"


@pytest.mark.parametrize(
    ("answers", "named", "target", "kind", "words"),
    [
        ({}, (), {"toolchain": "a"}, ExcludedTargetError, f"/a is not there. {CURE}"),
        (
            {OWN: info("10.0")},
            (),
            {"version": "8.6"},
            ToolchainError,
            f"{OTHER}. Add one that has it",
        ),
        (
            {Path("/a"): info("10.0")},
            (),
            {"version": "8.6", "toolchain": "a"},
            ToolchainError,
            "a has tensorrt 10.0, not 8.6. Add one that has it",
        ),
        (
            {OWN: info("10.0")},
            ("a",),
            {"version": "8.6"},
            ExcludedTargetError,
            f"no toolchain fits: {OTHER}; /a is not there. `enginery toolchain add` makes one",
        ),
        (
            {OWN: info("10.0"), Path("/b"): info("9.0")},
            ("a", "b"),
            {"version": "8.6"},
            ExcludedTargetError,
            f"no toolchain fits: {OTHER}; /a is not there; b has tensorrt 9.0, not 8.6. `enginery toolchain add` makes one",
        ),
        (
            {OWN: info("10.0"), Path("/b"): ToolchainError("/b is broken", "")},
            ("a", "b"),
            {"version": "8.6"},
            ToolchainError,
            f"no toolchain fits: {OTHER}; /a is not there; /b is broken. `enginery toolchain add` makes one",
        ),
        (
            {OWN: ToolchainError("own is broken", "")},
            ("a",),
            {},
            ExcludedTargetError,
            "no toolchain fits: own is broken; /a is not there. `enginery toolchain add` makes one",
        ),
        (
            {OWN: info("1.7", "tensorrt_rtx")},
            ("a",),
            {"version": "8.6", "runtime": "tensorrt_rtx"},
            ToolchainError,
            "no toolchain fits: this has tensorrt_rtx 1.7, not 8.6; /a is not there. `enginery toolchain add` makes one",
        ),
    ],
)
def test_why_none_is_used(
    world: World,
    answers: dict[Path, Any],
    named: tuple[str, ...],
    target: dict[str, Any],
    kind: type,
    words: str,
) -> None:
    world.answers = answers
    with pytest.raises(kind) as error:
        toolchains(*(named or ("a",) if "toolchain" in target else named), **target).choose("mine")
    assert type(error.value) is kind
    assert str(error.value) == f"target mine: {words}"


def test_which_reasons_mean_another_machine() -> None:
    gone, other, broken = (
        MissingInterpreterError("a"),
        VersionMismatchError("b"),
        ToolchainError("c"),
    )
    assert choice._may_be_elsewhere({"a": gone})
    assert choice._may_be_elsewhere({"a": gone, "b": other, "this": broken})
    assert not choice._may_be_elsewhere({"b": other})
    assert not choice._may_be_elsewhere({"a": gone, "c": broken})
    assert not choice._may_be_elsewhere({"this": gone})
    assert not choice._may_be_elsewhere({})


def test_toolchains_of_which_nothing_is_here(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    found = {
        name: SimpleNamespace(python=str(tmp_path / name)) for name in ("there", "link", "gone")
    }
    assert choice.absent(SimpleNamespace(toolchains=found)) == {"gone"}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("blind", "card", "kind", "words"),
    [
        (True, None, ToolchainError, ". Install NumPy and pycuda in the toolchain's environment"),
        (True, CARD, ToolchainError, ". Install NumPy and pycuda in the toolchain's environment"),
        (
            False,
            CARD,
            ToolchainError,
            ", though the driver lists Card. Is the driver too old for the toolchain's CUDA, or hidden by a container?",
        ),
        (False, None, ExcludedTargetError, ". Run this on the machine with the GPU"),
    ],
)
def test_a_toolchain_that_sees_no_gpu(
    blind: bool, card: Gpu | None, kind: type, words: str
) -> None:
    found = choice.no_gpu(
        "mine", Choice("a", OWN, info("10.0", no_gpu="no driver", blind=blind), card)
    )
    assert type(found) is kind
    assert (
        str(found)
        == f"target mine: tensorrt 10.0 works on its GPU, and this machine shows it none (no driver){words}"
    )
