"""Time limits of steps, what steps know of their surroundings, and what shapes nothing."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from enginery.pipeline.workplace import read_workplace, save_workplace
from enginery.project.load import load_spec
from enginery.project.paths import WORKPLACE
from enginery.system.files import sha256, write_json
from tests.conftest import ROOT
from tests.steps.common import LOG, step
from tests.test_recipes import changed, edit


def limited(checkout: Path, seconds: int) -> None:
    write_json(checkout / WORKPLACE, {"time_limit_s": {"export": seconds}})


HANGS = """
import subprocess, re
sleeping = subprocess.Popen(["sleep", "300"], start_new_session=True)
open("pid", "w").write(str(sleeping.pid))
re.match("(a+)+$", "a" * 64 + "b")
"""  # it holds Python's lock: no thread, timer or signal handler of Python's runs


def test_a_step_that_hangs_is_ended_at_its_limit_with_all_it_started(checkout: Path) -> None:
    limited(checkout, 5)
    began = time.monotonic()
    ended = step(checkout, HANGS)
    assert 5 < time.monotonic() - began < 200  # `sleep` takes 300
    assert ended.returncode == -signal.SIGKILL
    what = f"export m was stopped at its time limit of 5 s; where it stood is in {LOG}"
    assert (
        ended.stderr
        == f"error: {what}. If it only needs longer, raise time_limit_s.export in params.yaml\n"
    )
    assert "in work" in (checkout / LOG).read_text()
    assert not is_running(int((checkout / "pid").read_text()))


def test_the_watchdog_ends_with_its_step_however_that_ends(checkout: Path) -> None:
    find = "import os\nfrom pathlib import Path\n[dog] = Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()\n"
    for last, code in (
        ("", 0),
        ("os.kill(os.getpid(), 9)", -9),
        ("os._exit(3)", 3),
        ("raise KeyboardInterrupt", 130),
    ):
        ended = step(checkout, f"{find}Path('pid').write_text(dog)\n{last}")
        assert ended.returncode == code, ended.stderr
        deadline = time.monotonic() + 60
        while is_running(int((checkout / "pid").read_text())) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_running(int((checkout / "pid").read_text()))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_step_and_what_it_starts_know_no_credentials(checkout: Path) -> None:
    work = "import os, subprocess\nprint(sorted(os.environ), flush=True)\nsubprocess.run(['env'])"
    said = step(
        checkout, work, AWS_SECRET_ACCESS_KEY="hidden", GITHUB_TOKEN="hidden", OMP_NUM_THREADS="3"
    ).stdout
    assert "OMP_NUM_THREADS=3\n" in said
    assert "'PATH'" in said
    assert not [word for word in ("hidden", "AWS_", "TOKEN") if word in said]


def test_time_limits_are_of_steps_and_shape_nothing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a step has such a name, dvc.yaml tells: tests/graph."""
    monkeypatch.chdir(checkout)
    spec = load_spec()
    names = ("export", "validate", "build", "calibrate", "own-step")
    defaults = [3600, 43_200, 43_200, 43_200, 3600]
    assert [read_workplace().time_limit(name) for name in names] == defaults
    shorter = edit(spec, "time_limit_s/validate", 60)
    save_workplace(shorter, {})
    assert [read_workplace().time_limit(name) for name in ("validate", "calibrate")] == [60, 43_200]
    assert changed(spec, shorter) == set()
    for name, value in (("validate", 0), ("validate", 10**12), ("No Name", 60)):
        with pytest.raises(ValueError, match="time_limit_s"):
            edit(spec, f"time_limit_s/{name}", value)


def test_the_right_digest_and_trust_shape_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    spec = load_spec()
    right = sha256(Path(spec.models["yolov8n-shapes"].source))
    known = edit(
        edit(spec, "models/yolov8n-shapes/sha256", right), "models/yolov8n-shapes/trusted", True
    )
    assert changed(spec, known) == set()
    wrong = edit(spec, "models/yolov8n-shapes/sha256", "0" * 64)
    assert changed(spec, wrong) == {"export/yolov8n-shapes.json"}  # which then runs, and refuses
