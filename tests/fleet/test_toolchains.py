"""What a toolchain tells of this machine, and toolchains that are broken or have lost their GPU."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import (
    ConfigError,
    EngineryError,
    ExcludedTargetError,
    TargetLostError,
    ToolchainError,
)
from enginery.gpu.inventory import Gpu
from enginery.project.paths import RECIPES, WORKPLACE
from enginery.toolchain.requests import ToolchainInfo
from enginery.toolchain.selection import Choice, Toolchains
from tests.conftest import ROOT, Checkout
from tests.fleet.common import CARD, LISTED, MODEL, PRECISIONS, fleet, info
from tests.stages import fingerprinted
from tests.test_flow import ENGINE, counted, refused, task_states
from tests.test_spec import write


def test_a_broken_toolchain_fails_its_own_targets(built: Checkout) -> None:
    built.change(lambda params: fleet(params, sys.executable))
    built.change(lambda params: params["targets"]["rtx-ada"].update(optimization_level=1))
    said = refused(built, "cannot import tensorrt")
    states = task_states(built)
    assert counted(states, "Failed") == {
        f"build {MODEL} {precision} for server" for precision in PRECISIONS
    }
    assert counted(states, "Skipped") == {
        f"register {MODEL} {precision} for server" for precision in PRECISIONS
    }
    assert counted(states, "Completed") >= {
        f"build {MODEL} {precision} for rtx-ada" for precision in PRECISIONS
    }
    assert ended_in(
        said,
        "cannot import tensorrt",
        "2 steps need it: they were skipped",
        "Next      `enginery build`",
        "2 Failed",
    )
    status = built.run("enginery", "status")
    assert status.returncode == 1
    assert status.stdout.startswith("server: broken: target server: ")
    assert "all 13 steps are up to date" in status.stdout

    named = built.run("enginery", "build", "--target", "server")
    assert named.returncode == 1
    states = task_states(built)
    assert counted(states, "Failed") == {"fingerprint"}
    assert counted(states, "Skipped") == states.keys() - {"fingerprint"}
    assert "timing trt10" in states
    assert ended_in(
        named.stderr,
        "cannot import tensorrt",
        "Next      `enginery build --target server`",
        "1 Failed",
    )

    (built.root / ENGINE).unlink()
    repro = built.run("dvc", "repro", "--keep-going")
    assert repro.returncode != 0
    assert "target server: " in repro.stdout
    assert (built.root / ENGINE).is_file()  # the other target's was restored
    assert f"build@{MODEL}-server-fp16" in repro.stdout + repro.stderr


def ended_in(said: str, *words: str) -> bool:
    """Whether the words stand in the last lines, in this order."""
    end = said[said.rindex("\nFailed    ") :]
    places = [end.find(word) for word in words]
    return -1 not in places and places == sorted(places)


def in_a_checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the stages of this one, and nothing else."""
    monkeypatch.chdir(folder)
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")


@pytest.mark.parametrize(
    ("target", "found", "listed", "error", "words"),
    [
        (
            {},
            info("tensorrt"),
            None,
            ExcludedTargetError,
            "works on its GPU, and this machine shows it none",
        ),
        ({}, info("tensorrt", blind=True), None, ToolchainError, "Install NumPy and pycuda"),
        ({}, info("tensorrt"), LISTED, ToolchainError, "though the driver lists Card"),
        (
            {"compute_capability": "8.6"},
            info("tensorrt", CARD),
            LISTED,
            ExcludedTargetError,
            "capability 8.6, and the GPU here, Card, has 9.0",
        ),
        ({"compute_capability": "9.0"}, info("tensorrt", CARD), LISTED, None, ""),
        (
            {"runtime": "tensorrt_rtx", "compute_capability": "8.6"},
            info("tensorrt_rtx"),
            None,
            ToolchainError,
            "cannot build for compute",
        ),
        ({"strongly_typed": True}, info("tensorrt"), None, EngineryError, "no strong typing"),
    ],
)
def test_what_a_toolchain_tells_of_this_machine(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: dict[str, Any],
    found: ToolchainInfo,
    listed: Gpu | None,
    error: type[EngineryError] | None,
    words: str,
) -> None:
    """No such machine is here: the toolchain's answers are stood in for."""
    in_a_checkout(tmp_path, monkeypatch)
    write(tmp_path, targets__mine={"runtime": "tensorrt", **target}, matrix__targets=["mine"])
    monkeypatch.setattr(
        Toolchains, "choose", lambda self, name: Choice("this", Path(sys.executable), found, listed)
    )
    if error is ExcludedTargetError:
        left = fingerprinted()
        assert words in left["mine"].what
        assert not list(RECIPES.glob("build/*"))
        assert list(RECIPES.glob("validate/*"))
    elif error is ToolchainError:
        excluded = fingerprinted()
        assert [type(reason) for reason in excluded.values()] == [ToolchainError]
        assert words in str(excluded["mine"])
        assert not list(RECIPES.glob("build/*"))
        assert list(RECIPES.glob("validate/*"))
    elif error:
        with pytest.raises(error, match=words):
            fingerprinted()
    else:
        assert fingerprinted() == {}
        assert list(RECIPES.glob("build/*"))


def test_mistakes_are_said_though_another_target_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_checkout(tmp_path, monkeypatch)
    mine, other = (
        {"runtime": "tensorrt", **more} for more in ({"strongly_typed": True, "dla_core": 0}, {})
    )
    write(tmp_path, targets__mine=mine, targets__other=other, matrix__targets=["other", "mine"])

    def choose(self: Toolchains, name: str) -> Choice:
        if name == "other":
            raise ToolchainError("broken")
        return Choice("this", Path(sys.executable), info("tensorrt", CARD), LISTED)

    monkeypatch.setattr(Toolchains, "choose", choose)
    with pytest.raises(ConfigError, match="2 mistakes"):
        fingerprinted()
    assert not RECIPES.exists()


def test_a_machine_that_loses_its_gpu_is_not_taken_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_checkout(tmp_path, monkeypatch)
    write(tmp_path, targets__mine={"runtime": "tensorrt"}, matrix__targets=["mine"])
    sees = [info("tensorrt", CARD)]
    monkeypatch.setattr(
        Toolchains,
        "choose",
        lambda self, name: Choice("this", Path(sys.executable), sees[-1], None),
    )
    assert fingerprinted() == {}
    sees.append(info("tensorrt"))
    for targets in (
        None,
        [],
        None,
    ):  # the next run remembers, too, and one that asks about others forgets nothing
        found = fingerprinted(targets)
        assert [type(error) for error in found.values()] == (
            [TargetLostError] if targets is None else []
        )
    assert "target mine: this machine could build it at its last run: " in str(found["mine"])
    assert "shows it none (none). Look at nvidia-smi" in str(found["mine"])
    write(
        tmp_path, targets__mine={"runtime": "tensorrt", "gpu": "GPU-2"}, matrix__targets=["mine"]
    )  # it is for another one now
    assert [type(error) for error in fingerprinted().values()] == [ExcludedTargetError]
    write(tmp_path, targets__mine={"runtime": "tensorrt"}, matrix__targets=["mine"])
    for damaged in ("[]", '{"targets": {"mine": "?"}}', '{"targets": 1}', "{"):
        WORKPLACE.write_text(damaged)
        assert [type(error) for error in fingerprinted().values()] == [ExcludedTargetError]
