"""A fleet's params.yaml on one of its machines: what is for others is left out, with the reason;
what is broken here still fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from enginery.actions.engine_session import open_engine
from enginery.errors import (
    ConfigError,
    EngineryError,
    ExcludedTargetError,
    TargetLostError,
    ToolchainError,
)
from enginery.gpu.inventory import Gpu
from enginery.project.load import load_spec
from enginery.project.paths import RECIPES, WORKPLACE
from enginery.registry.store import engines, find
from enginery.system.files import sha256, write_json
from enginery.toolchain.requests import ToolchainInfo
from enginery.toolchain.selection import Choice, Toolchains
from tests.conftest import ROOT, Checkout
from tests.registered import change_manifest
from tests.stages import fingerprinted
from tests.test_flow import ENGINE, build, counted, engines_table, refused, task_states
from tests.test_spec import write

MODEL = "yolov8n-shapes"
PRECISIONS = ("fp16", "fp32")
GONE = "/nowhere/bin/python"
WHY = f"toolchain interpreter {GONE} cannot be started: No such file or directory"
LEFT = {
    f"{step} {MODEL} {precision} for server"
    for step in ("build", "register")
    for precision in PRECISIONS
}
CARD = {"gpu": "Card", "compute_capability": "9.0"}
LISTED = Gpu(0, "GPU-1", "Card", "9.0", 81920, "580.1", "13.0", None, None)


def fleet(params: dict[str, Any], python: str = GONE) -> None:
    """Another machine's GPU beside a target that every machine builds."""
    params["matrix"].update(targets=["rtx-ada", "server"], precisions=[*PRECISIONS])
    params["int8"] = {}
    params["toolchains"] = {"trt10": {"python": python}}
    params["targets"]["server"] = {"runtime": "tensorrt", "toolchain": "trt10"}


@pytest.fixture
def machine(built: Checkout) -> Checkout:
    """One of the fleet's machines, on which nothing was built since the server joined."""
    built.change(fleet)
    return built


def test_each_machine_builds_what_it_can(machine: Checkout) -> None:
    result = machine.run("enginery", "build")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr.count("Elsewhere") == 2
    assert f"Elsewhere server: {WHY}\n" in result.stderr
    assert ", 4 Elsewhere" in result.stderr
    states = task_states(machine)
    assert counted(states, "Elsewhere") == LEFT
    assert counted(states, "Failed") == set()
    assert "timing trt10" not in states  # nothing is measured with it here
    listed = json.loads(machine.run("enginery", "list", "--json").stdout)
    assert {engine["precision"] for engine in listed if engine["target"] == "rtx-ada"} >= set(
        PRECISIONS
    )
    assert not [engine for engine in listed if engine["target"] == "server"]
    table = {
        row["engine"]: (row["state"], row["this run"])
        for row in engines_table(machine)
        if "this run" in row
    }
    assert {table[f"{MODEL}/server/{precision}"] for precision in PRECISIONS} == {
        ("elsewhere", "Elsewhere")
    }
    assert table[f"{MODEL}/rtx-ada/fp16"][0] == "candidate"

    states = build(machine)
    assert counted(states, "Cached") == states.keys() - {"fingerprint"} - LEFT
    status = machine.run("enginery", "status")
    assert (status.returncode, status.stdout) == (
        0,
        f"server: elsewhere: {WHY}\nall 12 steps are up to date\n",
    )


def test_a_target_that_is_named_must_be_for_this_machine(machine: Checkout) -> None:
    result = machine.run("enginery", "build", "--target", "server")
    assert result.returncode == 1
    assert (
        f"target server: {WHY}. Correct its path under toolchains in params.yaml, or make the environment"
        in result.stderr
    )
    assert counted(task_states(machine), "Failed") == {"fingerprint"}
    repro = machine.run("dvc", "repro", "--keep-going")
    assert repro.returncode != 0
    assert (
        f"this machine cannot build every target: target server: {WHY}. `enginery build` leaves these out"
        in repro.stdout + repro.stderr
    )
    alone = machine.run("dvc", "repro", "--single-item", f"build@{MODEL}-rtx-ada-fp16")
    assert alone.returncode == 0, alone.stderr


def test_every_target_is_for_another_machine(machine: Checkout) -> None:
    machine.change(lambda params: params["matrix"].update(targets=["server"]))
    result = machine.run("enginery", "build")
    assert result.returncode == 0, result.stderr
    assert (
        "4 Elsewhere: every target is for another machine, and nothing is built on this one"
        in result.stderr
    )
    states = task_states(machine)
    assert counted(states, "Elsewhere") == LEFT
    assert f"validate {MODEL} fp16" in states
    again = machine.run("enginery", "status")
    assert (again.returncode, "all 8 steps are up to date" in again.stdout) == (0, True)


def pulled(folder: Path, **changes: str) -> None:
    """An engine of the server's, as `dvc pull` brings it."""
    shutil.copytree(folder / "rtx-ada/fp16", folder / "server/fp16")
    change_manifest(folder / "server/fp16", target="server", **changes)


def test_another_machines_engine_is_left_as_it_is(machine: Checkout) -> None:
    folder = machine.root / "artifacts/engines" / MODEL
    pulled(folder)
    before = {path.name: sha256(path) for path in (folder / "server/fp16").iterdir()}
    assert counted(build(machine), "Elsewhere") == LEFT
    assert {path.name: sha256(path) for path in (folder / "server/fp16").iterdir()} == before
    assert f"{MODEL}/server/fp16" in [
        engine.name for engine in engines(machine.root / "artifacts/engines")
    ]
    [row] = [row for row in engines_table(machine) if row["engine"] == f"{MODEL}/server/fp16"]
    assert (row["state"], row["this run"]) == ("candidate", "Elsewhere")


def test_what_is_left_out_is_not_blamed_for_what_fails_here(machine: Checkout) -> None:
    (machine.root / "data/demo/none.pt").write_bytes(b"no model")
    machine.change(lambda params: params["models"][MODEL].update(source="data/demo/none.pt"))
    refused(machine, "none.pt")
    assert counted(task_states(machine), "Elsewhere") == LEFT


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


def info(runtime: str = "tensorrt", *shown: dict[str, str], blind: bool = False) -> ToolchainInfo:
    return ToolchainInfo(
        runtime,
        "10.16.1",
        "3.11",
        "linux_x86_64",
        ("weak typing",),
        ("9.0",),
        shown,
        "" if shown else "none",
        blind,
    )


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


def test_what_is_lost_fails_and_the_others_go_on(machine: Checkout) -> None:
    write_json(machine.root / WORKPLACE, {"targets": {"server": {"asked": {"python": GONE}}}})
    why = f"target server: this machine could build it at its last run: {WHY}. Look at nvidia-smi and at its toolchain's path"
    refused(machine, why)
    states = task_states(machine)
    assert counted(states, "Failed") == {name for name in LEFT if name.startswith("build")}
    assert f"build {MODEL} fp16 for rtx-ada" in counted(states, "Cached")
    assert (
        f"server: lost: this machine could build it at its last run: {WHY}"
        in machine.run("enginery", "status").stdout
    )


@pytest.mark.parametrize(
    ("found", "listed", "error", "words"),
    [
        (info("tensorrt", blind=True), LISTED, ToolchainError, "Install NumPy and pycuda"),
        (info("tensorrt"), LISTED, ToolchainError, "though the driver lists Card"),
        (
            info("tensorrt"),
            None,
            ExcludedTargetError,
            "works on its GPU, and this machine shows it none",
        ),
        (
            info("tensorrt", {**CARD, "gpu": "Other"}),
            LISTED,
            ExcludedTargetError,
            "is for compute capability 9.0 on Card, and this machine shows",
        ),
    ],
)
def test_an_engine_that_cannot_run_here(
    machine: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    found: ToolchainInfo,
    listed: Gpu | None,
    error: type[EngineryError],
    words: str,
) -> None:
    """Whatever else is wrong with it: only its own machine can mend that."""
    monkeypatch.chdir(machine.root)
    monkeypatch.setattr(
        Toolchains, "choose", lambda self, name: Choice("this", Path(sys.executable), found, listed)
    )
    [engine] = [
        engine
        for engine in engines(machine.root / "artifacts/engines")
        if engine.name.endswith("rtx-ada/fp16")
    ]
    change_manifest(engine.folder, runtime="tensorrt", gpu="Card", compute_capability="9.0")
    other = find(engine.name)
    other.plan.write_bytes(b"damaged")
    with pytest.raises(error, match=words), open_engine(load_spec(), other):
        pass


def test_an_engine_that_params_yaml_does_not_know(machine: Checkout) -> None:
    shutil.move(machine.root / "artifacts/engines" / MODEL, machine.root / "artifacts/engines/gone")
    change_manifest(machine.root / "artifacts/engines/gone/rtx-ada/fp16", model="gone")
    result = machine.run("enginery", "validate", "gone/rtx-ada/fp16")
    assert (result.returncode, result.stderr) == (
        1,
        "error: gone/rtx-ada/fp16: its model is not in params.yaml. Add it again, or let `enginery prune` remove the engine\n",
    )


def test_validating_all_leaves_out_what_is_for_other_machines(machine: Checkout) -> None:
    folder = machine.root / "artifacts/engines" / MODEL
    pulled(folder, runtime="tensorrt")
    everything = machine.run("enginery", "validate")
    assert everything.returncode == 1
    assert (
        everything.stderr
        == f"elsewhere: {WHY}\nerror: every engine is for another machine. Run this on the machine with their GPU\n"
    )
    named = machine.run("enginery", "validate", "server/fp16")
    assert (named.returncode, named.stderr.startswith(f"error: target server: {WHY}")) == (1, True)


def test_git_has_the_reports_and_nothing_else_that_a_run_writes(fresh: Checkout) -> None:
    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command], cwd=fresh.root, check=True, text=True, capture_output=True
        ).stdout

    for name in (".gitignore", ".dvc/.gitignore"):
        shutil.copyfile(ROOT / name, fresh.root / name)
    (fresh.root / ".git/info/exclude").write_text("/.venv\n")  # a link in these checkouts
    fresh.change(fleet)
    git("add", "--all")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message=all")
    build(fresh)
    written = ["?? artifacts/matrix.yaml", "?? dvc.lock"]
    assert git("status", "--porcelain", "--untracked-files=all").splitlines() == written
    report = f"artifacts/reports/{MODEL}/rtx-ada/fp16.json"
    write_json(fresh.root / report, {"plan_sha256": sha256(fresh.root / ENGINE), "failures": []})
    assert git("status", "--porcelain", "--untracked-files=all").splitlines() == [
        written[0],
        f"?? {report}",
        written[1],
    ]
    git("add", "--all")
    assert counted(build(fresh), "Failed") == set()
    assert git("status", "--porcelain", "--untracked-files=all").splitlines() == [
        "A  artifacts/matrix.yaml",
        f"A  {report}",
        "A  dvc.lock",
    ]
