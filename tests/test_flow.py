"""The main job with the real Prefect server, the real DVC and real TensorRT builds: up to date,
restored, rebuilt, failed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Checkout

ENGINE = Path("artifacts/engines/yolov8n-shapes/rtx-ada/fp16/model.plan")
BUILT = Path("artifacts/build/yolov8n-shapes/rtx-ada/fp16/model.plan")


def task_states(checkout: Checkout, run: str = "") -> dict[str, str]:
    """Name -> state of a flow run's tasks (of the newest run if none is named), as the Prefect UI
    shows them.
    """
    with httpx.Client(base_url=checkout.server) as client:
        if not run:
            ended = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}}
            runs = client.post("/flow_runs/filter", json=ended).json()
            run = max(runs, key=lambda found: found["start_time"] or "")["id"]
        wanted = {"flow_runs": {"id": {"any_": [run]}}}
        return {
            task["name"]: task["state"]["name"]
            for task in client.post("/task_runs/filter", json=wanted).json()
        }


def engines_table(checkout: Checkout) -> list[dict[str, Any]]:
    """The newest table of engines in the Prefect UI."""
    wanted = {"artifacts": {"key": {"any_": ["engines"]}}, "sort": "CREATED_DESC", "limit": 1}
    with httpx.Client(base_url=checkout.server) as client:
        rows: list[dict[str, Any]] = json.loads(
            client.post("/artifacts/filter", json=wanted).json()[0]["data"]
        )
    return rows


def build(checkout: Checkout, *options: str) -> dict[str, str]:
    result = checkout.run("enginery", "build", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    return task_states(checkout)


def refused(checkout: Checkout, words: str) -> str:
    """A run must fail with these words, without a traceback; all that it said on standard error."""
    result = checkout.run("enginery", "build")
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    return result.stderr


def counted(states: dict[str, str], state: str) -> set[str]:
    return {name for name, found in states.items() if found == state}


def test_engines_are_registered(built: Checkout) -> None:
    listed = json.loads(built.run("enginery", "list", "--json").stdout)
    pairs = [
        (target, precision)
        for target in ("rtx-ada", "rtx-ampere")
        for precision in ("fp16", "fp32", "int8")
    ]
    assert [(e["target"], e["precision"]) for e in listed] == pairs
    assert {e["state"] for e in listed} == {"candidate"}
    assert {e["runtime_version"] for e in listed} == {"1.7.1.116"}
    assert all((built.root / e["path"]).stat().st_size == e["bytes"] for e in listed)
    assert "mAP50-95" in built.run("enginery", "show", "rtx-ada/fp16").stdout
    shown = json.loads(built.run("enginery", "show", "rtx-ada/fp16", "--json").stdout)
    assert shown["steps"]["simplify"]["recipe"]["tools"]["onnxsim"] == "0.8.1"
    verified = built.run("enginery", "verify")
    assert (verified.returncode, verified.stdout) == (0, "6 engines, every digest as recorded\n")


def test_flow_and_dvc_repro_are_one_truth(built: Checkout) -> None:
    states = build(built)
    assert counted(states, "Cached") == states.keys() - {"fingerprint"}
    repro = built.run("dvc", "repro")
    assert repro.returncode == 0, repro.stderr
    assert "Running stage 'fingerprint'" in repro.stdout
    assert repro.stdout.count("Running stage") == 1
    assert built.run("enginery", "status").stdout == "all 24 steps are up to date\n"


def test_one_parameter_rebuilds_one_target_and_back_restores(built: Checkout) -> None:
    built.change(lambda params: params["targets"]["rtx-ada"].update(optimization_level=1))
    (built.root / BUILT).unlink()
    status = built.run("enginery", "status").stdout
    assert (
        f"build yolov8n-shapes fp16 for rtx-ada: optimization_level none -> 1, output {BUILT} deleted"
        in status
    )
    states = build(built)
    builds = {
        f"build yolov8n-shapes {precision} for rtx-ada" for precision in ("fp16", "fp32", "int8")
    }
    assert {name for name in counted(states, "Completed") if name.startswith("build")} == builds
    built.change(lambda params: params["targets"]["rtx-ada"].pop("optimization_level"))
    assert counted(build(built), "Restored") == builds


def test_deleted_and_altered_plans_are_restored(built: Checkout) -> None:
    digest = (built.root / ENGINE).read_bytes()
    (built.root / BUILT).unlink()
    data = bytearray(digest)
    data[len(data) // 2] ^= 1
    (built.root / ENGINE).write_bytes(data)
    verified = built.run("enginery", "verify")
    assert verified.returncode == 1
    assert f"{ENGINE}: sha256" in verified.stdout
    states = build(built)
    assert counted(states, "Restored") == {"build yolov8n-shapes fp16 for rtx-ada"}
    assert (built.root / ENGINE).read_bytes() == digest


def test_a_failing_graph_is_not_registered_and_the_others_go_on(built: Checkout) -> None:
    built.change(lambda params: params["validation"]["rms_relative"].update(fp16=0.0))
    before = (built.root / ENGINE).read_bytes()
    result = built.run("enginery", "build")
    assert result.returncode == 1
    assert "raw outputs differ" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    states = task_states(built)
    assert counted(states, "Failed") == {
        f"register yolov8n-shapes fp16 for {target}" for target in ("rtx-ada", "rtx-ampere")
    }
    assert (built.root / ENGINE).read_bytes() == before
    listed = json.loads(built.run("enginery", "list", "--json").stdout)
    kept = [engine for engine in listed if engine["state"] == "outdated"]
    assert [(engine["target"], engine["precision"]) for engine in kept] == [
        ("rtx-ada", "fp16"),
        ("rtx-ampere", "fp16"),
    ]
    why = kept[0]["reason"]
    assert why.startswith(
        "the last that passed; the newest (rms_relative 0.02 -> 0.0) failed: raw outputs differ by"
    )
    assert f"2 engines, outdated: {why}\n" in result.stdout
    table = {row["engine"]: row for row in engines_table(built)}
    shown = table["yolov8n-shapes/rtx-ada/fp16"]
    assert (shown["state"], shown["this run"], shown["why"]) == ("outdated", "Failed", why)
    assert {row["this run"] for row in table.values() if "fp16" not in row["engine"]} == {"Cached"}


def test_only_what_is_asked_for(built: Checkout) -> None:
    recipes = {path.name: path.read_bytes() for path in built.root.rglob("recipes/*/*.json")}
    states = build(built, "--target", "rtx-ada", "--precision", "fp16")
    assert "build yolov8n-shapes fp16 for rtx-ada" in states
    assert not any("rtx-ampere" in name for name in states)
    assert {name for name in states if "fp32" in name} == {
        "quantize yolov8n-shapes fp32"
    }  # whose graph every build may read
    kept = {path.name: path.read_bytes() for path in built.root.rglob("recipes/*/*.json")}
    assert kept == recipes  # those of the others stay as they are
    both = build(built, "--target", "rtx-ada", "--target", "rtx-ampere", "--precision", "fp32")
    assert len([name for name in both if name.startswith("register")]) == 2
    result = built.run("enginery", "build", "--target", "rtx-turing")
    assert (result.returncode, "rtx-ampere, rtx-ada" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "yolov8n-shapes.pt"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "yolov8n-shapes.pt"),
        (lambda path: path.write_bytes(b"no model"), "yolov8n-shapes.pt"),
    ],
)
def test_bad_weights_are_one_clear_line(built: Checkout, damage: Any, words: str) -> None:
    damage(built.root / "data/demo/yolov8n-shapes.pt")
    refused(built, words)
    assert built.run("enginery", "verify").returncode == 0


def test_configuration_mistakes_start_nothing(fresh: Checkout) -> None:
    fresh.change(lambda params: params["matrix"].update(precisions=["fp8"], targets=["moon"]))
    result = fresh.run("enginery", "build", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert result.returncode == 1
    assert "matrix.precisions.0" in result.stderr
    assert not (fresh.root / "artifacts").exists()


def test_a_lock_that_a_killed_dvc_left_half_written_is_mended(built: Checkout) -> None:
    (built.root / ".dvc/tmp/rwlock").write_text("")
    assert counted(build(built), "Failed") == set()


def test_a_second_run_is_told_to_wait(built: Checkout) -> None:
    import fcntl

    lock = built.root / ".dvc/tmp/enginery.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = built.run("enginery", "build")
    assert result.returncode == 1
    assert "is at work in this checkout" in result.stderr


def test_fp32_alone_makes_nothing_in_fp16(fresh: Checkout) -> None:
    def only(params: dict[str, Any]) -> None:
        params["matrix"].update(targets=["rtx-ada"], precisions=["fp32"])
        params["int8"] = {}

    fresh.change(only)
    stages = (fresh.root / "dvc.yaml").read_text()
    begin, end = stages.index("  demo-data:"), stages.index("  export:")
    (fresh.root / "dvc.yaml").write_text(stages[:begin] + stages[end:])
    refused(
        fresh,
        "demo: dvc.yaml has no stage demo-data for it: take this key out, too, or put the stage back",
    )
    (fresh.root / "dvc.yaml").write_text(stages)
    assert not [name for name in build(fresh) if "fp16" in name]
    repro = fresh.run("dvc", "repro")
    assert repro.returncode == 0, repro.stderr
    assert repro.stdout.count("Running stage") == 1  # the fingerprint
    assert "fp16" not in repro.stdout
    made = fresh.root / "artifacts/models/yolov8n-shapes"
    assert [path.parents[1].name for path in made.glob("*/graph/model.onnx")] == ["fp32"]
    assert "up to date" in fresh.run("enginery", "status").stdout
    fresh.change(lambda params: params.pop("demo"))
    refused(
        fresh,
        "demo: missing: dvc.yaml has the stage demo-data: take that out, too, or put this key back",
    )
