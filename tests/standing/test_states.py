"""Candidate, outdated, failed, retired: what an engine is now, and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from enginery.cli.main import main
from enginery.project.paths import BUILDS, ENGINES, RECIPES, engine_report, model_folder
from enginery.project.stage import Stage, record_file
from enginery.registry.standing import build_seconds, standing
from enginery.registry.store import Engine, entries
from enginery.report.tables import engine_notes, engine_rows, listed, outcomes_of
from enginery.system.files import read_json, write_json
from tests.registered import recipe, register, report
from tests.standing.common import ASKED_FOR, FAILED, NAME, REGISTER, STEPS, change, rebuild


def test_the_newest_is_a_candidate_with_its_own_numbers(engine: Engine) -> None:
    assert standing(engine, ASKED_FOR).state == "candidate"
    [row] = engine_rows(listed(entries(), ASKED_FOR))
    assert row == {
        "engine": NAME,
        "for": "9.0",
        "size": "0.0 MB",
        "build": "1.2 s",
        "mAP50-95": "0.5000",
        "state": "candidate",
    }


def test_after_a_failed_gate_the_kept_engine_is_outdated_and_says_why(engine: Engine) -> None:
    """A batch-1 engine must not pass for its batch-8 successor."""
    write_json(engine_report("m", "server", "fp16"), report(engine))
    rebuild(batch=8, rms=0.5)
    found = standing(engine, ASKED_FOR)
    assert found.state == "outdated"
    changes = "batch 1 -> 8, profile 1x3x160x160 -> 8x3x160x160"
    assert found.reason == f"the last that passed; the newest ({changes}) failed: {FAILED}"
    [kept] = listed(entries(), ASKED_FOR)
    summary = kept.summary()
    assert (summary["state"], summary["checked"], summary["build_seconds"]) == (
        "outdated",
        "validated",
        None,
    )
    assert summary["profiles"][0]["opt"] == [1, 3, 160, 160]
    [row] = engine_rows([kept], outcomes_of([(STEPS[-1], "Completed"), (REGISTER, "Failed")]))
    assert (row["state"], row["build"], row["this run"], row["why"]) == (
        "outdated",
        "-",
        "Failed",
        found.reason,
    )
    assert list(engine_notes([kept])) == [f"{NAME}, outdated: {found.reason}"]


def test_what_passed_and_is_not_registered_yet(engine: Engine) -> None:
    rebuild(batch=8, rms=0.001)
    found = standing(engine, ASKED_FOR)
    assert found.reason.endswith("8x3x160x160) is not registered yet")
    assert "Run `enginery build`" in found.cure


@pytest.mark.parametrize("step", [*STEPS, REGISTER], ids=lambda step: step.step)
def test_every_recipe_and_result_counts(engine: Engine, step: Stage) -> None:
    before = read_json(step.recipe)
    change(step.recipe, lambda found: found["tools"].update(tool="2.0"))
    assert (
        standing(engine, ASKED_FOR).reason == "the newest (tool 1.0 -> 2.0) is not registered yet"
    )
    write_json(step.recipe, before)
    if step != REGISTER:
        change(record_file(step), lambda record: record.update(more="result"))
        assert (
            standing(engine, ASKED_FOR).reason
            == f"the newest (other results of {step.step}) is not registered yet"
        )
        assert build_seconds(engine) == (None if step.step == "build" else 1.25)


def test_a_calibration_that_failed_leaves_an_outdated_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.registered import DIGEST, enter, records

    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan").write_bytes(b"plan")
    made_of = records(tmp_path / "plan")
    made_of["quantize"]["calibration"] = {
        "recipe": recipe("calibrate", calibration="data/c", counting={"algorithm": "mse"}),
        "images": 4,
        "images_sha256": DIGEST,
        "own_quantization": False,
    }
    engine = enter("m/server/int8", tmp_path / "plan", made_of)
    write_json(
        RECIPES / "calibrate/m.json",
        recipe("calibrate", calibration="data/c", counting={"algorithm": "entropy"}),
    )
    assert (
        standing(engine, None).reason
        == "the newest (algorithm mse -> entropy) is not registered yet"
    )


def test_where_nothing_was_built_nothing_is_newer(engine: Engine) -> None:
    """Another machine's engine, or a checkout that only pulled."""
    for folder in (RECIPES, BUILDS, model_folder("m", "")):
        shutil.rmtree(folder)
    assert standing(engine, ASKED_FOR).state == "candidate"
    assert build_seconds(engine) is None


@pytest.mark.parametrize(
    "content",
    ["<<<<<<< HEAD\n", "", "{}", "[]", '{"seconds": -1}', '{"recipe": 1, "seconds": null}'],
)
def test_damaged_results_and_recipes_say_nothing_and_break_nothing(
    engine: Engine, content: str
) -> None:
    for path in (
        *RECIPES.rglob("*.json"),
        *BUILDS.rglob("*.json"),
        *model_folder("m", "").rglob("*.json"),
    ):
        before = path.read_text()
        path.write_text(content)
        assert standing(engine, ASKED_FOR).state == "candidate", path
        assert build_seconds(engine) in (1.25, None)
        for command in (["list"], ["list", "--json"], ["show", "m"]):
            assert main(command) == 0
        path.write_text(before)


def test_outcomes_are_those_of_build_and_registration() -> None:
    def outcome(build: str, register: str) -> str:
        return outcomes_of([(STEPS[-1], build), (REGISTER, register)])[NAME]

    assert (
        outcome("Completed", "Failed")
        == outcome("Failed", "Skipped")
        == outcome("Cached", "Failed")
        == "Failed"
    )
    assert outcome("Skipped", "Skipped") == "Skipped"
    assert outcome("Restored", "Completed") == "Restored"
    assert outcome("Cached", "Completed") == "Completed"
    assert outcome("Cached", "Cached") == "Cached"
    assert outcome("Elsewhere", "Elsewhere") == "Elsewhere"
    assert outcomes_of([(STEPS[0], "Failed")]) == {}


def test_engines_that_params_yaml_does_not_have_are_retired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (NAME, "m/server/fp32", "m/other/fp16", "old/server/fp16"):
        register(name)
    (ENGINES / "m/other/fp16/manifest.json").write_text(
        "{"
    )  # retired and damaged: to be pruned all the same
    found = {engine.entry.name: engine.standing.state for engine in listed(entries(), ASKED_FOR)}
    assert found == {
        "m/other/fp16": "retired",
        NAME: "candidate",
        "m/server/fp32": "retired",
        "old/server/fp16": "retired",
    }
    assert list(engine_notes(listed(entries(), ASKED_FOR))) == [
        "3 engines, retired: params.yaml does not ask for it any more",
        "`enginery prune` removes what is retired",
    ]
    assert "retired" not in {engine.standing.state for engine in listed(entries(), None)}
