"""What this machine can build, and with which toolchain."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tasks.fingerprint
import tasks.timing
from enginery.errors import (
    ConfigError,
    EngineryError,
    ExcludedTargetError,
    TargetLostError,
    ToolchainError,
)
from enginery.pipeline import fingerprint as fingerprinting
from enginery.pipeline.workplace import read_workplace, was_buildable
from enginery.project.params import Spec
from enginery.project.paths import WORKPLACE
from enginery.project.stage import Stage
from enginery.system.files import write_json
from enginery.toolchain.requests import ToolchainInfo
from enginery.toolchain.selection import Choice
from tests.exact.engines.common import CARD, GPU, OTHER, PYTHON, choice, info, written
from tests.exact.steps.common import MODEL
from tests.stages import stages_of


def builds_for(target: Any, chosen: Choice) -> dict[str, Any]:
    return fingerprinting._runtime("mine", target, chosen)


def test_what_a_target_is_built_with() -> None:
    target: Any = SimpleNamespace(compute_capability="9.0")
    rtx = info(runtime="tensorrt_rtx", version="1.7", compute_capabilities=("8.9", "9.0"))
    base = {"runtime": "tensorrt_rtx", "runtime_version": "1.7", "platform": "linux_x86_64"}
    of_rtx = builds_for(target, replace(choice(), info=rtx))
    assert of_rtx == {**base, "compute_capability": "9.0"}
    any_card: Any = SimpleNamespace(compute_capability=None)
    portable = builds_for(any_card, replace(choice(), info=rtx))
    assert portable == {**base, "compute_capability": None}
    other: Any = SimpleNamespace(compute_capability="12.0")
    with pytest.raises(ToolchainError) as error:
        builds_for(other, replace(choice(), info=rtx))
    assert str(error.value) == (
        "target mine: tensorrt_rtx 1.7 cannot build for compute capability 12.0 on this machine. It can build for 8.9, 9.0"
    )
    own = {
        "runtime": "tensorrt",
        "runtime_version": "10.16.1.11",
        "platform": "linux_x86_64",
        "compute_capability": "9.0",
        "gpu": "Card",
    }
    assert builds_for(target, choice()) == {**own, "strongly_typed": True}
    assert builds_for(target, choice(features=("weak typing",))) == own
    assert builds_for(any_card, choice(gpus=(CARD, OTHER)))["gpu"] == "Card"
    with pytest.raises(ExcludedTargetError) as elsewhere:
        builds_for(other, choice())
    assert str(elsewhere.value) == (
        "target mine: it is for compute capability 12.0, and the GPU here, Card, has 9.0. "
        "Run this on a machine with such a GPU, or correct the target in params.yaml"
    )
    with pytest.raises(ToolchainError, match="though the driver lists Card"):
        builds_for(target, choice(gpus=(), no_gpu="none"))


@pytest.fixture
def machine(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Toolchains that answer as they are told."""
    found = SimpleNamespace(answers={}, asked=[])

    def choose(name: str) -> Choice:
        found.asked.append(name)
        answer = found.answers.get(
            name, choice(runtime="tensorrt_rtx", compute_capabilities=("8.6", "8.9", "12.0"))
        )
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    toolchains = SimpleNamespace(choose=choose, answering=lambda targets: nullcontext())
    for module in (fingerprinting, tasks.fingerprint):
        monkeypatch.setattr(module, "Toolchains", lambda spec: toolchains)
    found.fingerprint = lambda targets=None: fingerprinting.fingerprint(
        spec, stages_of(spec), targets
    )
    return found


def test_a_machine_that_can_build_all(machine: Any, spec: Spec) -> None:
    names = ["rtx-ampere", "rtx-ada", "rtx-blackwell"]
    assert machine.fingerprint() == {}
    assert machine.asked == names  # each once, though each has nine builds
    assert {stage.recipe for stage in stages_of(spec) if stage.step != "fingerprint"} == set(
        Path("artifacts/recipes").rglob("*.json")
    )
    workplace = read_workplace()
    for name in names:
        in_use = workplace.toolchain(name)
        assert (in_use.name, in_use.python, in_use.gpu, in_use.visible) == (
            "mine",
            PYTHON,
            GPU,
            "GPU-1",
        )
        assert in_use.time_limit_s == spec.targets[name].time_limit_s
        assert was_buildable(spec, name)
    machine.asked.clear()
    assert machine.fingerprint(["rtx-ada"]) == {}
    assert machine.asked == ["rtx-ada"]
    assert written() == set(names)  # those of the others stay
    assert read_workplace().toolchain("rtx-ampere").python == PYTHON


def test_what_a_step_needs_beside_its_recipe_is_in_no_recipe(machine: Any, spec: Spec) -> None:
    """Where a toolchain lies and how long a step may take change no engine."""
    machine.fingerprint()
    for path in Path("artifacts/recipes").rglob("*.json"):
        text = path.read_text()
        assert str(PYTHON) not in text
        assert "GPU-1" not in text
        assert "time_limit" not in text


def test_targets_that_cannot_be_built_here(machine: Any, spec: Spec) -> None:
    broken = ToolchainError("target rtx-ampere: broken", "c")
    machine.answers = {
        "rtx-ampere": broken,
        "rtx-ada": ExcludedTargetError("rtx-ada", "no GPU", "c"),
    }
    found = machine.fingerprint()
    assert list(found) == ["rtx-ampere", "rtx-ada"]
    assert (found["rtx-ampere"], type(found["rtx-ada"])) == (broken, ExcludedTargetError)
    assert written() == {"rtx-blackwell"}
    answers, machine.answers = machine.answers, {}
    assert machine.fingerprint() == {}  # as on a machine that can build all
    machine.answers = answers
    found = machine.fingerprint()
    assert (found["rtx-ampere"], type(found["rtx-ada"])) == (broken, TargetLostError)
    assert str(found["rtx-ada"]) == (
        "target rtx-ada: this machine could build it at its last run: no GPU. Look at nvidia-smi and at its toolchain's path; "
        "if it has gone for good, delete artifacts/workplace.json"
    )
    assert type(machine.fingerprint()["rtx-ada"]) is TargetLostError  # and stays so


def test_mistakes_stop_everything(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistakes(name: str, target: Any, info: ToolchainInfo) -> list[str]:
        return [f"targets.{name}.sparsity: no"] if name != "rtx-ampere" else []

    runtime = SimpleNamespace(mistakes=mistakes)
    monkeypatch.setattr(fingerprinting.runtimes, "find", lambda name: runtime)
    with pytest.raises(ConfigError) as error:
        machine.fingerprint()
    assert error.value.mistakes == (
        "targets.rtx-ada.sparsity: no",
        "targets.rtx-blackwell.sparsity: no",
    )
    assert not Path("artifacts").exists()
    assert str(error.value).startswith("params.yaml: 2 mistakes")


def test_dvc_is_told_what_it_cannot_leave_out(
    machine: Any,
    spec: Spec,
    here: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[Path] = []
    stages = stages_of(spec)
    graph = SimpleNamespace(before=dict)
    monkeypatch.setattr(fingerprinting, "check_plain", checked.append)
    monkeypatch.setattr(tasks.fingerprint, "load_spec", lambda: spec)
    monkeypatch.setattr(tasks.fingerprint, "read_stages", lambda given: (graph, stages))
    recipe = Stage("build", MODEL, "rtx-ampere", "fp16").recipe
    other = Stage("build", MODEL, "rtx-ada", "fp16").recipe
    for path in (recipe, other):
        write_json(path, {})
    machine.answers = {"rtx-ampere": ToolchainError("broken", "mend it")}
    with pytest.raises(EngineryError, match=r"than artifacts/matrix\.yaml, which is written anew"):
        tasks.fingerprint.fingerprint_machine(Stage("fingerprint"))
    assert (checked, here) == ([], [])  # DVC has read another file
    tasks.fingerprint.fingerprint_machine(Stage("fingerprint"))
    model = spec.models[MODEL]
    assert checked == [
        Path(model.source),
        Path(model.validation),
        Path(spec.int8[MODEL].calibration),
    ]
    assert here == [("broken. mend it", "error")]
    assert (recipe.exists(), other.exists()) == (False, True)
    machine.answers = {
        "rtx-ampere": ExcludedTargetError("rtx-ampere", "no GPU", "c"),
        "rtx-blackwell": ExcludedTargetError("rtx-blackwell", "none", "c"),
    }
    WORKPLACE.unlink()
    with pytest.raises(EngineryError) as error:
        tasks.fingerprint.fingerprint_machine(Stage("fingerprint"))
    assert str(error.value) == (
        "this machine cannot build every target: target rtx-ampere: no GPU; target rtx-blackwell: none. "
        "`enginery build` leaves these out; `dvc repro --single-item` makes the stages that you name"
    )


def test_timing_caches_are_counted(here: list[Any]) -> None:
    step = Stage("timing", toolchain="mine")
    write_json(step.recipe, {"parameters": {"toolchain": "mine"}})
    tasks.timing.keep_timings(step)
    folder = Path("artifacts/timing/mine")
    assert folder.is_dir()
    (folder / "deep").mkdir()
    for name in ("a.timing", "deep/b.timing", "c.other"):
        (folder / name).write_text("")
    tasks.timing.keep_timings(step)
    assert here == [("0 timing caches of mine",), ("2 timing caches of mine",)]
    assert (
        json.dumps(sorted(path.name for path in folder.iterdir()))
        == '["a.timing", "c.other", "deep"]'
    )
