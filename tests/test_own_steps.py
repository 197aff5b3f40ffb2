"""What a team adds to its project: a step of its own, a stage without any Python, and stages that
run side by side until somebody interrupts them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.trouble.processes import working_in
from enginery.system.files import read_json
from tests.conftest import Checkout
from tests.test_flow import build, task_states

MODEL = "yolov8n-shapes"
WEIGHTS = f"artifacts/own/{MODEL}/weights.pt"
ENGINE = f"artifacts/engines/{MODEL}/rtx-ada/fp32"
PRUNE = '''
"""prune: a step of this team's own."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from enginery.pipeline.step import Job, step
from enginery.system.files import write_json


@dataclass(frozen=True)
class Parameters:
    share: float
    source: str
    careful: bool = False


def parameters(project, stage) -> Parameters:
    return Parameters(0.5, "data/demo/yolov8n-shapes.pt")


@step(
    "prune",
    version=3,
    of=("model",),
    tools=("numpy",),
    parameters=parameters,
    record="artifacts/own/{model}/record.json",
)
def prune(job: Job[Parameters]) -> None:
    """Take nothing away."""
    folder = Path("artifacts/own") / job.stage.model
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(job.parameters.source, folder / "weights.pt")
    write_json(folder / "record.json", job.record(removed=0))


if __name__ == "__main__":
    prune.main()
'''
STAGE = {
    "desc": "prune the weights",
    "meta": {"step": "prune", "model": MODEL},
    "cmd": f"python -m tasks.prune {MODEL}",
    "deps": [f"data/demo/{MODEL}.pt", f"artifacts/recipes/prune/{MODEL}.json"],
    "outs": [f"artifacts/own/{MODEL}"],
}
NOTIFY = {"cmd": "echo 'it is ready' > told.txt", "deps": [ENGINE], "outs": ["told.txt"]}
# Two stages that wait for each other; what each has seen is its output.
MEET = (
    "touch {own}.here; n=0; until [ -e {other}.here ] || [ $n -ge $TURNS ]; do n=$((n+1)); "
    "sleep 0.1; done; if [ -e {other}.here ]; then echo met > {own}.txt; else echo alone > {own}.txt; fi"
)


def add_stage(checkout: Checkout, name: str, stage: dict[str, Any]) -> None:
    path = checkout.root / "dvc.yaml"
    content = yaml.safe_load(path.read_text())
    content["stages"][name] = stage
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def one_engine(params: dict[str, Any]) -> None:
    """In FP32 for one target: it is built in seconds."""
    params["matrix"].update(targets=["rtx-ada"], precisions=["fp32"])
    params["int8"] = {}


def failures_table(checkout: Checkout) -> list[dict[str, Any]]:
    """The newest table of failures in the Prefect UI."""
    newest = {"artifacts": {"key": {"any_": ["failures"]}}, "sort": "CREATED_DESC", "limit": 1}
    with httpx.Client(base_url=checkout.server) as client:
        found = client.post("/artifacts/filter", json=newest).json()
    rows: list[dict[str, Any]] = json.loads(found[0]["data"])
    return rows


def test_a_step_is_one_module_and_one_stage_and_a_stage_needs_no_python(built: Checkout) -> None:
    built.change(one_engine)
    built.change(lambda params: params["models"][MODEL].update(source=WEIGHTS))
    (built.root / "tasks/prune.py").write_text(PRUNE)
    add_stage(built, "prune", STAGE)
    add_stage(built, "notify", NOTIFY)
    status = built.run("enginery", "status").stdout
    assert "prune the weights: never made here\n" in status
    assert "\nnotify: " in status

    states = build(built)
    assert (states["prune the weights"], states["notify"]) == ("Completed", "Completed")
    assert (built.root / "told.txt").read_text() == "it is ready\n"
    manifest = read_json(built.root / ENGINE / "manifest.json")
    made_by = manifest["steps"]["prune"]
    assert made_by["removed"] == 0
    assert made_by["recipe"]["step"] == "prune"
    assert made_by["recipe"]["version"] == 3
    assert made_by["recipe"]["parameters"] == {"share": 0.5, "source": f"data/demo/{MODEL}.pt"}
    assert list(made_by["recipe"]["tools"]) == ["numpy"]
    assert "steps are up to date" in built.run("enginery", "status").stdout
    verified = built.run("enginery", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr

    text = PRUNE.replace("Parameters(0.5", "Parameters(0.25").replace("version=3", "version=4")
    (built.root / "tasks/prune.py").write_text(text)
    status = built.run("enginery", "status").stdout
    assert "prune the weights: share 0.5 -> 0.25, version 3 -> 4\n" in status
    repro = built.run("dvc", "repro")
    assert repro.returncode == 0, repro.stderr
    manifest = read_json(built.root / ENGINE / "manifest.json")
    assert manifest["steps"]["prune"]["recipe"]["parameters"]["share"] == 0.25

    add_stage(built, "notify", {**NOTIFY, "cmd": "echo the mail server is away >&2; exit 3"})
    add_stage(
        built, "after", {"cmd": "true", "deps": ["told.txt"], "outs": [{"x": {"cache": False}}]}
    )
    result = built.run("enginery", "build")
    assert result.returncode == 1
    assert "the mail server is away" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    states = task_states(built)
    assert (states["notify"], states["after"]) == ("Failed", "Skipped")
    assert states["prune the weights"] == "Cached"
    rows = {row["step"]: row for row in failures_table(built)}
    assert rows.keys() == {"notify", "after"}
    assert "the mail server is away" in rows["notify"]["why"]
    assert (rows["after"]["state"], "notify" in rows["after"]["why"]) == ("Skipped", True)


def test_stages_run_side_by_side_and_an_interrupt_ends_them_all(built: Checkout) -> None:
    for own, other in (("one", "two"), ("two", "one")):
        command = MEET.format(own=own, other=other)
        add_stage(built, own, {"cmd": command, "outs": [{f"{own}.txt": {"cache": False}}]})

    def met(jobs: int, turns: int) -> list[str]:
        for path in (*built.root.glob("*.here"), *built.root.glob("*.txt")):
            path.unlink()
        result = built.run("enginery", "build", "--jobs", str(jobs), TURNS=str(turns))
        assert result.returncode == 0, result.stdout + result.stderr
        return sorted((built.root / f"{name}.txt").read_text().strip() for name in ("one", "two"))

    assert met(1, 10) == ["alone", "met"]  # the second finds the first's sign
    assert met(2, 1200) == ["met", "met"]

    add_stage(built, "two", {"cmd": "sleep 1000 & sleep 1000", "outs": ["two.txt"]})
    (built.root / "two.here").unlink()
    (built.root / "one.txt").unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", "enginery", "build", "--jobs", "2"],
        cwd=built.root,
        env=built.environment(TURNS="100000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: is_sleeping(built.root) and (built.root / "one.here").exists())
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert process.returncode == 130, said
    assert "Traceback" not in said
    wait_until(lambda: not working_in(built.root))
    assert build(built, "--model", MODEL)  # nothing is locked, nothing is lost


def is_sleeping(folder: Path) -> bool:
    """Whether the second stage is at work."""
    return any("sleep 1000" in " ".join(found.cmdline()) for found in working_in(folder))


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
