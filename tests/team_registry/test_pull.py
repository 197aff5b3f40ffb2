"""Engines pulled by the host that serves them: the best that fits, checked before it is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import enginery
from enginery.cli.main import main
from enginery.errors import NothingFitsError
from enginery.registry.host import Card, Host, InstalledRuntime
from enginery.system.extras import MODULES
from enginery.system.files import sha256
from tests.conftest import Checkout
from tests.team import CARD, MODEL, Machine, Team, git, identity
from tests.team_registry.common import Captured, refused, said
from tests.test_wheel import CORE

PLATFORM = "linux_x86_64"
TENSORRT = "tensorrt==10.16.1.11"
ADA, AMPERE, BLACKWELL = (f"{MODEL}/rtx-{kind}" for kind in ("ada", "ampere", "blackwell"))
HERE = ("--gpu", "Card", "--compute-capability", "9.0", "--runtime", TENSORRT)
HOST = Host(PLATFORM, (Card("9.0", "Card"),), (InstalledRuntime("tensorrt", "10.16.1.11"),))


def pull(*options: str) -> tuple[str, ...]:
    return ("pull", MODEL, *HERE, *options)


@pytest.fixture
def served(team: Team, machine: Machine, capsys: Captured) -> str:
    """An engine in production; its digest."""
    digest = machine.register(f"{ADA}/fp16", "one", valid=True)
    said(capsys, "publish")
    said(capsys, "promote", f"{ADA}/fp16")
    return digest


def test_the_engine_in_production_is_pulled_and_a_newer_one_takes_its_place(
    machine: Machine, served: str, capsys: Captured
) -> None:
    out = Path("engines") / MODEL
    told = said(capsys, *pull("--then", 'echo "$ENGINERY_ENGINE" >> told'))
    assert told == f"{out}/rtx-ada-fp16-v1: {ADA}/fp16 v1 (validated) is new\n"
    assert sha256(out / "current/model.plan") == served
    assert "was here already" in said(capsys, *pull("--then", "echo never >> told"))

    newer = machine.register(f"{ADA}/fp16", "two", valid=True)
    said(capsys, "publish")
    assert "was here already" in said(capsys, *pull())  # nobody promoted it
    said(capsys, "promote", f"{ADA}/fp16")
    with (out / "current/model.plan").open("rb") as read:
        failed = refused(capsys, *pull("--then", "exit 3"))
        assert "--then ended with 3: exit 3. " in failed
        assert sha256(out / "current/model.plan") == served  # the service did not take the other
        said(capsys, *pull("--then", 'echo "$ENGINERY_ENGINE" >> told'))
        assert read.read() == f"{ADA}/fp16 one ".encode() * 50
    assert sha256(out / "current/model.plan") == newer
    folders = [str(machine.root / out / f"rtx-ada-fp16-v{number}") for number in (1, 2)]
    assert Path("told").read_text().splitlines() == folders
    said(capsys, "rollback", f"{ADA}/fp16")
    pulled = enginery.pull(MODEL, host=HOST)
    assert (pulled.published.version, sha256(pulled.plan), pulled.changed) == (1, served, True)
    machine.register(f"{ADA}/fp16", "three", valid=True)
    said(capsys, "publish")
    said(capsys, *pull("--state", "validated"))
    told_late = pull("--state", "validated", "--then", "touch late")  # as if killed before
    assert "was here already" in said(capsys, *told_late) and Path("late").exists()
    assert sorted(path.name for path in out.glob("*-v*")) == ["rtx-ada-fp16-v1", "rtx-ada-fp16-v3"]


def test_exact_comes_before_compatible_and_nothing_that_does_not_fit(
    machine: Machine, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    machine.register(f"{ADA}/fp16", valid=True)
    machine.register(f"{ADA}/fp32", runtime_version="10.3.0.30", version_compatible=True)
    machine.register(f"{AMPERE}/fp16", hardware_compatible=True, **CARD)
    machine.register(f"{AMPERE}/int8", platform="linux_aarch64", gpu="Orin")
    machine.register(f"{BLACKWELL}/fp16", runtime="tensorrt_rtx", runtime_version="1.7.1.116")
    said(capsys, "publish")
    explained = said(capsys, *pull("--state", "candidate", "--explain"))
    lines = [line.strip() for line in explained.splitlines()]
    rows = [line.split("  ") for line in lines if line.startswith("rtx-")]
    assert [(row[0], row[-1].strip()) for row in rows] == [
        ("rtx-ada/fp16 v1", "exact"),
        ("rtx-ada/fp32 v1", "exact, version compatible"),
        ("rtx-ampere/fp16 v1", "hardware compatible"),
        ("rtx-blackwell/fp16 v1", "it needs tensorrt_rtx 1.7.1.116"),
        ("rtx-ampere/int8 v1", "it is for linux_aarch64; it is for Orin (9.0)"),
    ]
    assert f"would take {ADA}/fp16 v1" in explained and not Path("engines").exists()
    other = ("--gpu", "Other", "--compute-capability", "8.9", "--runtime", TENSORRT)
    taken = said(capsys, "pull", MODEL, *other, "--state", "candidate")
    assert f"{AMPERE}/fp16 v1" in taken

    code = main(["pull", MODEL, *HERE])
    told = capsys.readouterr()
    assert code == 1 and told.out.count("not in production") == 3
    assert told.err.startswith(f"error: no engine of {MODEL} in production runs on this host (Card")
    assert f"these would: {ADA}/fp16 v1 (validated)" in told.err
    turing = Host(PLATFORM, (Card("7.5", "T4"),), (InstalledRuntime("tensorrt", "10"),))
    with pytest.raises(NothingFitsError, match=r"give params\.yaml a target for this GPU"):
        enginery.pull(MODEL, state="candidate", host=turing)
    assert "alone does not say" in refused(capsys, "pull", MODEL, "--gpu", "T4")
    assert "is not understood" in refused(capsys, "pull", MODEL, "--runtime", "tensorrt")
    assert "has no engine of other" in refused(capsys, "pull", "other", *HERE[:-1], TENSORRT)


@pytest.mark.usefixtures("served")
def test_what_somebody_changed_by_hand_is_not_used(
    team: Team, machine: Machine, capsys: Captured
) -> None:
    [object_] = [path for path in team.remote.rglob("*") if path.is_file()]
    kept = object_.read_bytes()
    object_.chmod(0o644)
    object_.write_bytes(kept[:-1] + b"x")
    assert "a byte changed. It is not used" in refused(capsys, *pull())
    object_.unlink()
    assert "has not the plan" in refused(capsys, *pull())
    object_.write_bytes(kept)
    index = edited(team, f"{MODEL}/index.json", '"precision": "fp16"', '"precision": "../x"')
    assert "index.json is not whole: engines.0.precision" in refused(capsys, *pull())
    team.git("update-ref", "refs/heads/engines", index)
    index = edited(team, f"{MODEL}/index.json", '"reference": "', '"reference": "--')
    assert "as the files of an engine. Somebody changed it by hand" in refused(capsys, *pull())
    team.git("update-ref", "refs/heads/engines", index)
    index = edited(team, f"{MODEL}/index.json", '"schema": 1', '"schema": 2')
    assert "was written by a newer Enginery. Upgrade" in refused(capsys, *pull())
    team.git("update-ref", "refs/heads/engines", index)
    index = edited(team, ".dvc/config", "remote = shared", "remote = other")
    assert "is new" in said(capsys, *pull())  # the machine has its own
    shutil.rmtree("engines")
    (machine.root / ".dvc/config").rename("config")
    assert "the registry's .dvc/config names no DVC remote" in refused(capsys, *pull())
    Path("config").rename(machine.root / ".dvc/config")
    team.git("update-ref", "refs/heads/engines", index)
    index = edited(team, f"{MODEL}/index.json", '"gpu": "Card"', '"gpu": null')
    assert "its files are not what the registry lists (gpu)" in refused(capsys, *pull())
    team.git("update-ref", "refs/heads/engines", index)
    assert not (Path("engines") / MODEL / "current").exists()
    assert "is new" in said(capsys, *pull())
    plan = Path("engines") / MODEL / "current/model.plan"
    plan.write_bytes(b"damaged")
    said(capsys, *pull())
    assert plan.read_bytes() == kept


def edited(team: Team, path: str, old: str, new: str) -> str:
    """Change a file on the branch by hand; the commit before."""
    before = team.git("rev-parse", "engines").strip()
    work = team.folder / "by hand"
    git(team.folder, "clone", "--quiet", "--branch", "engines", str(team.origin), str(work))
    text = (work / path).read_text()
    assert old in text
    (work / path).write_text(text.replace(old, new))
    git(work, "commit", "--quiet", "--all", "-m", "By hand")
    git(work, "push", "--quiet", "origin", "engines")
    shutil.rmtree(work)
    return before


@pytest.mark.usefixtures("served")
def test_two_pulls_at_once_both_end_well(capsys: Captured) -> None:
    folders: list[Path] = []
    runs = [
        threading.Thread(target=lambda: folders.append(enginery.pull(MODEL, host=HOST).folder))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert folders == [Path("engines") / MODEL / "rtx-ada-fp16-v1"] * 2


def test_a_registry_that_is_not_there(
    team: Team, machine: Machine, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.register(f"{ADA}/fp16")
    nowhere = refused(capsys, *pull("--registry", str(team.folder / "nowhere.git")))
    assert "nowhere.git cannot be read: " in nowhere and "Try `git ls-remote" in nowhere
    hook = team.origin / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'only on Mondays' >&2\nexit 1\n")
    hook.chmod(0o755)
    assert "does not take the change: " in (said_ := refused(capsys, "publish"))
    assert "only on Mondays" in said_
    hook.unlink()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    assert "git does not know you. git config --global" in refused(capsys, "publish")
    monkeypatch.chdir(team.folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(team.folder.parent))
    assert "no registry is named" in refused(capsys, *pull())
    shutil.rmtree(machine.root / ".dvc")


@pytest.mark.usefixtures("served")
def test_a_git_server_without_partial_fetches_will_do(team: Team, capsys: Captured) -> None:
    team.git("config", "uploadpack.allowFilter", "false")
    assert "is new" in said(capsys, *pull())
    assert "v1 serves" in said(capsys, "promote", MODEL, "--stage", "canary")


FULL = """
import resource, sys
from enginery.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))  # as a full disk: no file grows more
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_leaves_what_serves(team: Team, machine: Machine, capsys: Captured) -> None:
    for content in ("one", "x" * 20_000):
        machine.register(f"{ADA}/fp16", content, valid=True)
        said(capsys, "publish")
    said(capsys, "promote", f"{ADA}/fp16", "--version", "1")
    said(capsys, *pull())
    said(capsys, "promote", f"{ADA}/fp16")
    line = [sys.executable, "-c", FULL, *pull()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(line, env=environment, capture_output=True, text=True)
    out = Path("engines") / MODEL
    assert (ended.returncode, ended.stderr) == (
        1,
        f"error: no room to write {out}/rtx-ada-fp16-v2. Free some space, then run again\n",
    )
    assert sorted(path.name for path in out.iterdir()) == [".lock", "current", "rtx-ada-fp16-v1"]
    assert (out / "current/model.plan").is_file()


def test_a_serving_host_needs_only_dvc_and_git(team: Team, served: str, tmp_path: Path) -> None:
    script = tmp_path / "core.py"
    needless = {name for extra in ("build", "scheduler", "gpu", "rtx") for name in MODULES[extra]}
    script.write_text(CORE.format(extras=needless - {"google"}))
    line = [sys.executable, str(script), *pull("--registry", str(team.origin), "--out", "o")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    (tmp_path / "host").mkdir()
    ended = subprocess.run(
        line, cwd=tmp_path / "host", env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert sha256(tmp_path / "host/o/current/model.plan") == served


def test_engines_of_a_real_build_travel(built: Checkout, tmp_path: Path) -> None:
    variables = {"GIT_CONFIG_GLOBAL": identity(tmp_path)["GIT_CONFIG_GLOBAL"]}
    git(tmp_path, "init", "--quiet", "--bare", "origin.git")
    git(built.root, "remote", "add", "origin", str(tmp_path / "origin.git"))
    remote = ("remote", "add", "--quiet", "--default", "shared", str(tmp_path / "remote"))
    assert built.run("dvc", *remote).returncode == 0
    published = built.run("enginery", "publish", **variables)
    assert "6 new published to" in published.stdout, published.stderr
    here = ("--compute-capability", "8.9", "--runtime", "tensorrt_rtx==1.7.1.116")
    line = ("pull", MODEL, "--precision", "int8", "--state", "candidate", *here)
    host = tmp_path / "host"
    host.mkdir()
    registry = ("--registry", str(tmp_path / "origin.git"), "--out", str(host))
    pulled = built.run("enginery", *line, *registry, **variables)
    assert pulled.returncode == 0, pulled.stderr
    engine = built.root / f"artifacts/engines/{ADA}/int8"
    for name in ("model.plan", "manifest.json"):
        assert sha256(host / "current" / name) == sha256(engine / name)
