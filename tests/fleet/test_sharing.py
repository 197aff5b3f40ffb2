"""Several machines: a worker's clone follows the team's, and one machine at a time builds for a
target; a promotion waits for its approval.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from enginery.errors import EngineryError
from enginery.fleet.checkout import use_checkout
from enginery.system.checkout_lock import checkout_lock
from tests.conftest import ROOT
from tests.team import MODEL, Machine, Team, clone, git, identity, make_team

ADA = f"{MODEL}/rtx-ada/fp16"


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    for name, value in identity(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.path", [*sys.path])
    return make_team(tmp_path)


@pytest.fixture
def worker(team: Team, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = clone(team, "worker ü")
    monkeypatch.chdir(machine.root)
    return machine


def commit(machine: Machine, name: str, content: str) -> None:
    (machine.root / name).write_text(content)
    git(machine.root, "add", "--force", name)
    git(machine.root, "commit", "--quiet", "-m", name)
    git(machine.root, "push", "--quiet")


def test_a_clone_follows_and_keeps_its_own_lock(team: Team, worker: Machine) -> None:
    other = clone(team, "other")
    commit(other, "dvc.lock", "schema: '2.0'\n")
    assert use_checkout(str(worker.root)) == {"directory": str(worker.root)}
    assert (worker.root / "dvc.lock").read_text() == "schema: '2.0'\n"
    (worker.root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")  # it built something
    commit(other, "dvc.lock", "schema: '2.0'\n# the team's\n")
    commit(other, "new.txt", "new")
    with checkout_lock():  # a run is at work: nothing moves below it
        use_checkout(str(worker.root))
    assert not (worker.root / "new.txt").exists()
    use_checkout(str(worker.root))
    assert (worker.root / "new.txt").read_text() == "new"
    assert (worker.root / "dvc.lock").read_text() == "schema: '2.0'\nstages: {}\n"


def test_a_clone_brings_the_data_that_is_new(team: Team, worker: Machine) -> None:
    other = clone(team, "other")
    (other.root / "weights.bin").write_text("weights")
    for arguments in (["add", "weights.bin"], ["push"]):
        line = [sys.executable, "-m", "dvc", *arguments, "--quiet"]
        subprocess.run(line, cwd=other.root, check=True)
    commit(other, "weights.bin.dvc", (other.root / "weights.bin.dvc").read_text())
    use_checkout(str(worker.root))
    assert (worker.root / "weights.bin").read_text() == "weights"
    for path in sorted(team.remote.rglob("*"), reverse=True):
        path.chmod(0o700)
        path.rmdir() if path.is_dir() else path.unlink()
    commit(
        other,
        "weights.bin.dvc",
        "outs:\n- md5: 0123456789abcdef0123456789abcdef\n  size: 1\n  hash: md5\n  path: weights.bin\n",
    )
    with pytest.raises(EngineryError, match=r"the data of .* cannot be pulled: .*weights.bin"):
        use_checkout(str(worker.root))


def test_a_clone_with_changes_of_its_own_and_no_clone_are_one_line(
    team: Team, worker: Machine
) -> None:
    commit(clone(team, "other"), "params.yaml", "team: 1\n")
    (worker.root / "params.yaml").write_text("mine: 1\n")
    (worker.root / "dvc.lock").write_text("mine\n")
    with pytest.raises(EngineryError, match=r"git merge in .*params.yaml.*a worker's clone is its"):
        use_checkout(str(worker.root))
    assert (worker.root / "params.yaml").read_text() == "mine: 1\n"
    assert (worker.root / "dvc.lock").read_text() == "mine\n"
    with pytest.raises(EngineryError, match="ENGINERY_HOME is '', which is no folder"):
        use_checkout("")


def test_one_machine_at_a_time_builds_for_a_target(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from enginery.orchestration.sharing import target_turns

    monkeypatch.chdir(tmp_path)
    run: Any = SimpleNamespace(targets={"a", "b", "elsewhere"}, excluded={"elsewhere": None})
    free: Any = SimpleNamespace(targets={"elsewhere"}, excluded={"elsewhere": None})
    order: list[str] = []
    held = threading.Event()

    def second() -> None:
        held.wait()
        with temporary_settings({PREFECT_API_URL: server}), target_turns(run, share=True):
            order.append("second")

    waiting = threading.Thread(target=second)
    waiting.start()
    with temporary_settings({PREFECT_API_URL: server}):
        with target_turns(run, share=True):
            held.set()
            with target_turns(free, share=True), target_turns(run, share=False):
                order.append("others do not wait")
            time.sleep(2)
            order.append("first")
        waiting.join(60)
    assert order == ["others do not wait", "first", "second"]


PROMOTION = "from flows.promote import promote_engine; promote_engine({!r}, reason='faster')"


def started_promotion(worker: Machine, server: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """The flow in a process of its own, and its run as soon as it waits."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": server}
    line = [sys.executable, "-c", PROMOTION.format(ADA)]
    process = subprocess.Popen(
        line, cwd=worker.root, env=environment, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 90
    paused = {"state": {"type": {"any_": ["PAUSED"]}}}
    while time.monotonic() < end and process.poll() is None:
        runs = httpx.post(f"{server}/flow_runs/filter", json={"flow_runs": paused}).json()
        if runs:
            return process, runs[0]
        time.sleep(0.5)
    process.kill()
    raise AssertionError(process.communicate()[1])


def test_a_promotion_waits_for_its_approval(worker: Machine, server: str) -> None:
    worker.register(ADA, valid=True)
    worker.change(approval=True)
    publish = [sys.executable, "-m", "enginery", "publish"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    subprocess.run(publish, cwd=worker.root, env=environment, check=True)
    line = [sys.executable, "-m", "enginery", "promote", ADA]
    refused = subprocess.run(
        line, cwd=worker.root, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "params.yaml asks for an approval (registry.approval). Run the" in refused.stderr
    for approved, code in ((False, 1), (True, 0)):
        process, run = started_promotion(worker, server)
        answer = {"approved": approved, "by": "Ada", "why": "as it is"}
        url = f"{server}/flow_runs/{run['id']}/resume"
        httpx.post(url, json={"run_input": answer}).raise_for_status()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == code, said
    history = [*line[:3], "history", ADA]
    shown = subprocess.run(
        history, cwd=worker.root, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert shown.count("production") == 1
    assert "approved by Ada" in " ".join(shown.split())


VALIDATION = """
from flows.validate import validate_engines
state = validate_engines(share={}, return_state=True)
print(state.type.value, state.message)
"""


def test_engines_are_validated_as_tasks_and_what_fails_fails_the_run(
    worker: Machine, server: str
) -> None:
    def validated(share: bool) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": server}
        line = [sys.executable, "-c", VALIDATION.format(share)]
        ended = subprocess.run(
            line, cwd=worker.root, env=environment, capture_output=True, text=True, check=True
        )
        return ended.stdout.splitlines()[-1]

    worker.register(ADA)  # its GPU is on another machine
    assert validated(share=True) == "COMPLETED 0 engines passed"
    worker.register("gone/rtx-ada/fp16")
    assert validated(share=False).startswith("FAILED gone/rtx-ada/fp16: its model is not in")
