"""watch: what changed on a machine and what that makes stale; told once, and only on change."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from enginery.fleet.machine import EngineStatus, MachineReport, slug
from enginery.fleet.page import write_page
from enginery.fleet.table import machine_rows, unbuilt
from enginery.fleet.told import TOLD, news, read_told, save_told
from enginery.fleet.watch import other_drivers, status
from enginery.project.engine_name import EngineName
from enginery.system.files import write_json
from tests.conftest import Checkout
from tests.fleet.common import LISTED, MODEL
from tests.registered import register, report

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
NAME = f"{MODEL}/server/fp16"
REBUILD = EngineStatus(name=NAME, state="stale", action="rebuild", reasons=("runtime 1 -> 2",))


def reported(*engines: EngineStatus, **changes: Any) -> MachineReport:
    values: dict[str, Any] = {
        "machine": "box 1",
        "pool": "l4",
        "seen": NOW,
        "platform": "linux_x86_64",
        "gpus": ("NVIDIA L4 (8.9)",),
        "driver": "580.1",
        "runtimes": {"server": "tensorrt 10.16.1", "other": "tensorrt 10.16.1"},
        "engines": engines,
        "excluded": (),
        "faults": (),
        "notes": (),
        "last_build": None,
    }
    return MachineReport(**{**values, **changes})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    TOLD.parent.mkdir(parents=True)


@pytest.mark.parametrize("driver", [LISTED.driver, "590.2"])
def test_a_changed_driver_alone_revalidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = register(NAME)
    engine.report_path.parent.mkdir(parents=True)
    write_json(engine.report_path, report(engine))
    now = LISTED.__class__(**{**vars(LISTED), "driver": driver})
    reasons = other_drivers([engine, register(f"{MODEL}/server/fp32")], [now])
    if driver == LISTED.driver:
        assert reasons == {}
        return
    assert reasons == {EngineName(MODEL, "server", "fp16"): ("driver 580.1 -> 590.2",)}
    stands = status(engine.identity, engine, {"rebuild": {}, "revalidate": reasons})
    assert (stands.state, stands.action) == ("current", "revalidate")
    both = {"rebuild": {engine.identity: ("gpu A -> B",)}, "revalidate": reasons}
    assert status(engine.identity, engine, both).action == "rebuild"
    assert status(engine.identity, None, both).state == "missing"
    assert other_drivers([engine], []) == {}  # nothing is known of a driver that does not answer


@pytest.mark.usefixtures("place")
def test_work_is_told_on_change_and_again_less_and_less_often() -> None:
    assert news(reported(), read_told()) == []
    assert news(reported(REBUILD), read_told()) == ["rebuild"]
    save_told(reported(REBUILD))
    told_at = []
    for minutes in range(10, 4 * 24 * 60, 10):
        report = reported(REBUILD, seen=NOW + timedelta(minutes=minutes))
        if news(report, read_told()):
            told_at.append(minutes / 60)
        save_told(report)
    assert told_at == [1, 3, 7, 15, 31, 55, 79]
    last = NOW + timedelta(days=4)
    assert news(reported(REBUILD, seen=last), read_told(), again=True) == ["rebuild"]
    other = EngineStatus(name=NAME, state="stale", action="rebuild", reasons=("runtime 2 -> 3",))
    assert news(reported(other, seen=last), read_told()) == ["rebuild"]
    save_told(reported(seen=last))  # it was rebuilt
    assert news(reported(REBUILD, seen=last), read_told()) == ["rebuild"]
    TOLD.write_text("{")
    assert news(reported(REBUILD), read_told()) == ["rebuild"]


def test_the_table_and_the_page_name_silent_machines_and_what_nobody_builds(
    tmp_path: Path,
) -> None:
    nobody = f"{MODEL}/orin/fp16"
    first = reported(REBUILD, excluded=(nobody,))
    second = reported(machine="<b>", seen=NOW - timedelta(hours=4), faults=("target x: lost",))
    rows = machine_rows([first, second], NOW)
    assert rows[0] == {
        "machine": "box 1",
        "pool": "l4",
        "GPU": "NVIDIA L4 (8.9)",
        "TensorRT": "tensorrt 10.16.1",
        "current": "0",
        "stale": "1",
        "missing": "0",
        "last build": "-",
        "seen": "2026-01-02 12:00",
        "to do": "rebuild 1",
    }
    assert rows[1]["seen"] == "silent since 2026-01-02 08:00"
    assert rows[1]["to do"] == "target x: lost"
    assert unbuilt([first, second]) == [nobody]
    write_page([first, second], NOW, 3, tmp_path / "fleet.html")
    page = (tmp_path / "fleet.html").read_text()
    for words in (f"no machine builds {nobody}", "runtime 1 -&gt; 2", "silent since", "&lt;b&gt;"):
        assert words in page
    assert slug("Box 1.example.org") == "box-1-example-org"


def events(checkout: Checkout) -> list[dict[str, Any]]:
    """The fleet's events of a machine that is called as its checkout's folder."""
    resource = {"id": [f"enginery.machine.{slug(checkout.root.parent.name)}"]}
    answer = httpx.post(f"{checkout.server}/events/filter", json={"filter": {"resource": resource}})
    found: list[dict[str, Any]] = answer.raise_for_status().json()["events"]
    return found


def watch(checkout: Checkout, **variables: str) -> tuple[int, str, str]:
    name = {"ENGINERY_MACHINE": checkout.root.parent.name, "ENGINERY_POOL": "l4"}
    ended = checkout.run("enginery", "watch", "--once", **{**name, **variables})
    return ended.returncode, ended.stdout, ended.stderr


def test_a_change_is_told_once_and_no_server_is_needed(built: Checkout) -> None:
    code, said, _ = watch(built, PREFECT_API_URL="")
    assert (code, said.startswith("nothing to do for the 6 engines")) == (0, True)
    built.change(lambda params: params["targets"]["rtx-ada"].update(optimization_level=2))
    for _ in range(2):
        code, said, _ = watch(built, PREFECT_API_URL="")
        assert code == 3
    change = f"build {MODEL} fp16 for rtx-ada: optimization_level none -> 2"
    assert f"rebuild {MODEL}/rtx-ada/fp16: {change}\n" in said
    assert "rtx-ampere" not in said
    code, _, told = watch(built)
    assert (code, "told Prefect's server: rebuild" in told) == (3, True)
    code, _, told = watch(built)
    assert (code, "told" in told) == (3, False)
    [event] = events(built)
    assert event["event"] == "enginery.machine.rebuild"
    assert event["resource"]["enginery.pool"] == "l4"
    assert event["payload"]["engines"][f"{MODEL}/rtx-ada/fp16"] == [change]
    table = built.run("enginery", "fleet")
    assert table.returncode == 0, table.stderr
    assert "tensorrt_rtx 1.7" in table.stdout
    listed = json.loads(built.run("enginery", "fleet", "--json").stdout)
    [mine] = [each for each in listed if each["machine"] == built.root.parent.name]
    assert [each["state"] for each in mine["engines"]].count("stale") == 3
    silent = built.run("enginery", "fleet", "--silent-after", "0", "--page", "fleet.html")
    assert (silent.returncode, (built.root / "fleet.html").is_file()) == (1, True)
    assert f"silent: {built.root.parent.name}" in silent.stderr
    built.change(lambda params: params["targets"]["rtx-ada"].pop("optimization_level"))
    assert watch(built)[0] == 0


def test_a_fleet_without_a_server_is_one_line(built: Checkout) -> None:
    ended = built.run("enginery", "fleet", PREFECT_API_URL="")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: no Prefect server is named, and machines report to one.")
    code, said, told = watch(built, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert (code, said.startswith("nothing to do")) == (1, True)  # the machine is looked at first
    assert told.splitlines()[-1].startswith("error: Prefect's server at http://127.0.0.1:9/api ")


def test_a_server_with_a_password_says_what_to_set() -> None:
    from enginery.orchestration.fleet import _refused

    answer = httpx.Response(401, request=httpx.Request("GET", "http://server/api"))
    error = httpx.HTTPStatusError("401", request=answer.request, response=answer)
    assert "Set PREFECT_API_AUTH_STRING to" in str(_refused(error))
