"""A merge conflict in every JSON that a run left: what looks goes on, and a build mends it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from enginery.project.paths import engine_report
from tests.conftest import Checkout
from tests.test_flow import build, counted

MODEL = "yolov8n-shapes"
ENGINES = Path("artifacts/engines") / MODEL
ONE = ("--target", "rtx-ada", "--precision", "fp16")


def conflict(path: Path) -> None:
    """What git leaves where two machines changed the same lines."""
    text = path.read_text()
    path.write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n")


def states(checkout: Checkout) -> dict[str, str]:
    result = checkout.run("enginery", "list", "--json")
    assert result.returncode == 0, result.stderr
    return {
        f"{engine['target']}/{engine['precision']}": engine["state"]
        for engine in json.loads(result.stdout)
    }


def test_a_build_mends_every_json_that_it_makes_and_goes_on_beside_others(
    built: Checkout,
) -> None:
    report = built.root / engine_report(MODEL, "rtx-ada", "fp16")
    report.parent.mkdir(parents=True)
    report.write_text("{}\n")
    for path in (built.root / "artifacts").rglob("*.json"):
        conflict(path)
    shutil.rmtree(built.root / ENGINES / "rtx-ada/fp32")
    (built.root / ENGINES / "rtx-ada/fp32").write_text("no folder")
    assert set(states(built).values()) == {"damaged"}
    assert "holds a merge conflict (line 1)" in built.run("enginery", "show", "rtx-ada/fp16").stdout
    status = built.run("enginery", "status")
    assert (status.returncode, "Traceback" in status.stderr) == (0, False)

    result = built.run("enginery", "build", *ONE)  # the others stay as they are, and stop nothing
    assert result.returncode == 0, result.stderr
    note = f"candidate: its report does not count: {report.relative_to(built.root)}"
    assert f"{MODEL}/rtx-ada/fp16, {note}" in result.stdout
    assert {name for name, state in states(built).items() if state == "candidate"} == {
        "rtx-ada/fp16"
    }
    verified = built.run("enginery", "verify")
    assert (verified.returncode, verified.stdout.count("merge conflict")) == (1, 4)
    assert "rtx-ada/fp32: manifest.json is missing" in verified.stdout

    assert counted(build(built, "--target", "rtx-ada"), "Failed") == set()
    found = states(built)
    assert {name: state == "candidate" for name, state in found.items()} == {
        name: name.startswith("rtx-ada") for name in found
    }
    for path in (built.root / "artifacts").rglob("*.json"):
        assert path == report or "rtx-ampere" in str(path) or json.loads(path.read_text())
