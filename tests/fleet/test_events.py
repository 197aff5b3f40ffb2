"""The real change on a real worker: TensorRT-RTX is upgraded, and the machine's own event starts the
rebuild in its pool. `make fleet-demo` does the same with three machines, S3 and PostgreSQL.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fleet.fleet import CHANGED, NEW, OLD, deploy, install, make_toolchain
from benchmarks.fleet.prefect_client import Api
from benchmarks.fleet.team import enginery, make_machine, make_origin
from tests.conftest import ROOT
from tests.team import identity

NAME = f"fusion/{CHANGED}/fp16"


def published(clone: Path) -> tuple[int, str]:
    """The newest version of an engine, and what built it."""
    [mine] = [
        each
        for each in json.loads(enginery(clone, "published", "--json"))
        if (each["target"], each["precision"]) == (CHANGED, "fp16")
    ]
    return mine["version"], mine["runtime_version"]


def test_a_changed_tensorrt_is_rebuilt_by_its_event(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**identity(tmp_path), "PYTHONPATH": str(ROOT), "PREFECT_API_URL": server}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    toolchain = make_toolchain(tmp_path / "toolchain")
    origin = make_origin(tmp_path, str(tmp_path / "remote"), toolchain)
    machine, api = make_machine(tmp_path, origin, CHANGED), Api(server)
    deploy(machine)
    machine.worker.start()
    try:
        for version, runtime in enumerate((OLD, NEW), 1):
            if version > 1:
                install(toolchain, runtime)
            watched = api.ended(api.start(f"watch/watch-{CHANGED}"))
            assert watched["message"] == "told: rebuild", machine.worker.log.read_text()
            builds = api.completed(f"build-{CHANGED}", version)
            assert len(builds) == version
            assert published(machine.clone) == (version, runtime)
        again = api.ended(api.start(f"watch/watch-{CHANGED}"))
        assert again["message"] == "nothing new to tell"
        assert len(api.runs(f"build-{CHANGED}")) == 2
        machines = json.loads(enginery(tmp_path, "fleet", "--json"))
        [mine] = [each for each in machines if each["machine"] == f"box-{CHANGED}"]
        assert mine["pool"] == CHANGED
        assert {engine["state"] for engine in mine["engines"]} == {"current"}
        assert len(mine["excluded"]) == 4
    finally:
        machine.worker.kill()
