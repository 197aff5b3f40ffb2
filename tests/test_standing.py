"""How engines stand: outdated with the reason, retired, pruned; a row is of one engine only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from enginery.cli.main import main
from enginery.project.engine_name import EngineName
from enginery.project.paths import BUILDS, ENGINES, RECIPES, REPORTS, engine_report, model_folder
from enginery.project.stage import Stage, record_file
from enginery.registry.standing import build_seconds, standing
from enginery.registry.store import Engine, entries
from enginery.report.tables import engine_notes, engine_rows, listed, outcomes_of
from enginery.system.files import read_json, write_json
from tests.registered import compared, profile, recipe, register, report

ASKED_FOR = [EngineName("m", "server", "fp16")]
NAME = "m/server/fp16"
MODEL_STEPS = (Stage("export", "m"), Stage("simplify", "m"))
GRAPH_STEPS = tuple(Stage(name, "m", precision="fp16") for name in ("quantize", "validate"))
STEPS = (*MODEL_STEPS, *GRAPH_STEPS, Stage("build", "m", "server", "fp16"))
REGISTER = Stage("register", "m", "server", "fp16")
FAILED = "raw outputs differ by 0.5 (RMS, relative), 0.02 is allowed"


def leave_results(engine: Engine) -> None:
    """What the steps of an engine leave on disk, and the recipes that they were made by."""
    steps = engine.manifest.steps.to_json()
    for step in (*STEPS, REGISTER):
        write_json(step.recipe, steps[step.step]["recipe"])
        if step != REGISTER:
            write_json(record_file(step), steps[step.step])
    write_json(BUILDS / NAME / "measured.json", {"seconds": 1.25})


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that is the newest of all."""
    monkeypatch.chdir(tmp_path)
    engine = register(NAME)
    leave_results(engine)
    return engine


def change(path: Path, edit: Callable[[Any], object]) -> None:
    found = read_json(path)
    edit(found)
    write_json(path, found)


def rebuild(batch: int, rms: float) -> None:
    """What a run leaves whose graph is for another batch and as far from the original as this."""

    def exported(recipe: Any) -> None:
        recipe["parameters"]["batch"] = batch

    def built(recipe: Any) -> None:
        recipe["parameters"]["profile"] = profile(batch, batch, batch)

    for step, edit in ((STEPS[0], exported), (STEPS[-1], built)):
        change(step.recipe, edit)
        path = record_file(step)
        change(path, lambda record, edit=edit: edit(record["recipe"]))
    change(
        model_folder("m", "fp16") / "validation.json",
        lambda record: record.update(report=compared(rms=rms)),
    )
    write_json(BUILDS / NAME / "measured.json", {"seconds": 99.0})


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


def params(**matrix: list[str]) -> None:
    """A params.yaml of the one engine, and of what `matrix` has else."""
    model = {"source": "m.onnx", "validation": "data/validation"}
    target = {"runtime": "tensorrt_rtx"}
    whole = {"models": ["m"], "targets": ["server"], "precisions": ["fp16"], **matrix}
    Path("params.yaml").write_text(
        yaml.safe_dump(
            {
                "matrix": whole,
                "models": dict.fromkeys(whole["models"], model),
                "int8": {},
                "targets": dict.fromkeys(whole["targets"], target),
                "toolchains": {},
            }
        )
    )


@pytest.fixture
def remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An engine that params.yaml has beside two that it has not; the paths of the two."""
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    params()
    for name in (NAME, "m/other/fp16", "m/server/fp32"):
        engine = register(name)
        write_json(engine_report(*name.split("/")), report(engine))
    (BUILDS / NAME).mkdir(parents=True)
    (BUILDS / "m/gone/int8").mkdir(parents=True)  # a build that never passed its gate
    (BUILDS / "m/gone/int8/model.plan").write_bytes(b"?" * 3_000_000)
    (ENGINES / "m/other/.gitignore").write_text("/fp16\n")
    return [
        ENGINES / "m/other",
        REPORTS / "m/other",
        ENGINES / "m/server/fp32",
        REPORTS / "m/server/fp32.json",
        BUILDS / "m/gone",
    ]


def kept() -> list[str]:
    return sorted(path.as_posix() for path in Path("artifacts").rglob("*"))


def test_prune_removes_what_is_retired_and_nothing_else(
    remains: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept()
    assert main(["prune", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert kept() == before
    assert "would remove m/gone/int8: 3.0 MB in artifacts/build/m/gone/int8\n" in said
    assert "3 engines would be removed, 3.0 MB" in said
    assert main(["prune"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        line.replace("would remove", "removed") for line in said.splitlines()[:3]
    ]
    assert not [path for path in remains if path.exists()]
    paths = [*remains, *(inner for path in remains for inner in [path.as_posix()])]
    assert kept() == [
        path for path in before if not path.startswith(tuple(str(path) for path in paths))
    ]
    assert main(["prune"]) == 0
    assert capsys.readouterr().out == "Nothing to remove: params.yaml has every engine.\n"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "matrix:\n  models: [m]\n",
        "matrix: {models: [m], targets: [], precisions: [fp16]}\n",
        None,
    ],
)
def test_a_damaged_params_yaml_removes_nothing(
    remains: list[Path], capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    before = kept()
    Path("params.yaml").unlink()
    if content is not None:
        Path("params.yaml").write_text(content)
    assert main(["prune"]) == 1
    assert kept() == before
    assert capsys.readouterr().err.startswith("error: params.yaml: ")
    assert main(["list"]) == 0
    shown = capsys.readouterr()
    assert "Whether engines are retired cannot be told: params.yaml: " in shown.err
    assert "retired" not in shown.out


def test_prune_waits_for_no_run_and_follows_no_link(
    remains: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import fcntl

    outside = tmp_path / "outside"
    shutil.move(ENGINES / "m/other/fp16", outside)
    (ENGINES / "m/other/fp16").symlink_to(outside)
    lock = Path(".dvc/tmp/enginery.lock")
    lock.parent.mkdir(parents=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["prune"]) == 1
    assert "is at work in this checkout" in capsys.readouterr().err
    assert all(path.exists() for path in remains)
    assert main(["prune"]) == 0
    assert sorted(path.name for path in outside.iterdir()) == ["manifest.json", "model.plan"]
    assert not (ENGINES / "m/other").exists()
