"""Each machine builds what it can, and reports what is for other machines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from enginery.actions.engine_session import open_engine
from enginery.errors import EngineryError, ExcludedTargetError, ToolchainError
from enginery.gpu.inventory import Gpu
from enginery.project.load import load_spec
from enginery.project.paths import WORKPLACE
from enginery.registry.store import engines, find
from enginery.system.files import sha256, write_json
from enginery.toolchain.requests import ToolchainInfo
from enginery.toolchain.selection import Choice, Toolchains
from tests.conftest import ROOT, Checkout
from tests.fleet.common import CARD, GONE, LEFT, LISTED, MODEL, PRECISIONS, WHY, fleet, info
from tests.registered import change_manifest
from tests.test_flow import ENGINE, build, counted, engines_table, refused, task_states


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
