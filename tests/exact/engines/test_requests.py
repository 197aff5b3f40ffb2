"""What is asked of an engine on its GPU: which toolchain and GPU, and which plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import enginery.actions.engine_session
import enginery.actions.inspect
from enginery.actions.engine_session import EngineSession
from enginery.errors import (
    EngineError,
    EngineryError,
    ExcludedTargetError,
    IntegrityError,
    ToolchainError,
)
from enginery.project.paths import model_folder
from enginery.registry.store import Engine
from enginery.system.files import read_json, sha256, write_json
from enginery.toolchain.requests import Inspection, InspectRequest, PlanRequest
from tests.exact.engines.common import CARD, GPU, OTHER, PYTHON, changed, choice, info
from tests.registered import register


def test_an_engine_has_its_gpu_to_itself(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    @contextmanager
    def reserved(gpu: Any, needed: int, on_wait: Any) -> Iterator[None]:
        calls.append((gpu, needed, on_wait is enginery.actions.engine_session.log))
        yield
        calls.append("given back")

    server = SimpleNamespace(time_limit_s=77)
    known = SimpleNamespace(models={"m": 1}, targets={"server": server})
    chosen = SimpleNamespace(choose=lambda target: calls.append(target) or choice())
    monkeypatch.setattr(
        enginery.actions.engine_session,
        "Toolchains",
        lambda spec: chosen if spec is known else None,
    )
    monkeypatch.setattr(enginery.actions.engine_session, "reserved", reserved)
    with enginery.actions.engine_session.open_engine(known, engine) as found:  # type: ignore[arg-type]
        assert found == EngineSession(engine, choice(), 77)
        assert calls == ["server", (GPU, 512, True)]
    assert calls[2:] == ["given back"]
    engine.plan.write_bytes(b"plaN" * 100)
    with (
        pytest.raises(IntegrityError, match="a byte changed; it was not used"),
        enginery.actions.engine_session.open_engine(known, engine),
    ):  # type: ignore[arg-type]
        pass
    assert len(calls) == 4


def test_the_request_for_a_plan(engine: Engine) -> None:
    assert EngineSession(engine, choice(), 77).plan == PlanRequest(
        runtime="tensorrt",
        plan=engine.plan,
        plan_sha256=sha256(engine.plan),
        gpu="GPU-1",
        host_code=False,
        dla_core=None,
    )
    other = register("m/server/int8", version_compatible=True, dla_core=1)
    plan = EngineSession(other, choice(), 77).plan
    assert (plan.host_code, plan.dla_core) == (True, 1)


@pytest.mark.parametrize(
    ("models", "targets", "what"), [((), ("server",), "model"), (("m",), (), "target")]
)
def test_an_engine_that_params_yaml_does_not_know(
    engine: Engine, models: Any, targets: Any, what: str
) -> None:
    known = SimpleNamespace(models=models, targets=targets)
    with pytest.raises(EngineryError) as error:
        enginery.actions.engine_session.check_known(known, engine)  # type: ignore[arg-type]
    assert error.value.what == f"m/server/fp16: its {what} is not in params.yaml"
    assert error.value.cure.startswith("Add it again, or ")
    enginery.actions.engine_session.check_known(
        SimpleNamespace(models=("m",), targets=("server",)), engine
    )  # type: ignore[arg-type]


def test_an_engine_of_another_training(engine: Engine) -> None:
    enginery.actions.engine_session.check_original(engine)
    path = model_folder("m", "export") / "record.json"
    write_json(path, {**read_json(path), "stride": 64})
    with pytest.raises(EngineryError) as error:
        enginery.actions.engine_session.check_original(engine)
    assert (
        str(error.value)
        == "m/server/fp16: its model has changed since it was built. Run `enginery build` first"
    )
    path.unlink()
    with pytest.raises(EngineryError) as error:
        enginery.actions.engine_session.check_original(engine)
    assert (
        str(error.value)
        == f"m/server/fp16: {path} is missing: its original is not here. Run `enginery build` first"
    )


def test_an_rtx_engine_takes_the_first_gpu_that_it_is_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        enginery.actions.engine_session, "choose", lambda *given: asked.append(given) or GPU
    )
    assert enginery.actions.engine_session._with_gpu(engine, choice()) == choice()
    assert asked == []
    without = replace(choice(), gpu=None, visible=None)
    assert enginery.actions.engine_session._with_gpu(engine, without) == choice()
    assert asked == [(None, "9.0")]
    monkeypatch.setattr(enginery.actions.engine_session, "choose", lambda *given: None)
    assert enginery.actions.engine_session._with_gpu(engine, without) == without


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ((OTHER,), "Old (8.6). Use a machine that has one"),
        ((OTHER, {**OTHER, "gpu": "New"}), "Old (8.6), New (8.6). Use a machine that has one"),
        (({**CARD, "gpu": "Old"},), "Old (9.0). Use a machine that has one"),
    ],
)
def test_an_engine_for_another_gpu(engine: Engine, gpus: tuple[Any, ...], words: str) -> None:
    enginery.actions.engine_session._check_gpu(engine, choice())
    enginery.actions.engine_session._check_gpu(engine, choice(gpus=(OTHER, CARD)))
    with pytest.raises(ExcludedTargetError) as error:
        enginery.actions.engine_session._check_gpu(engine, choice(gpus=gpus))
    prefix = "target server: m/server/fp16 is for compute capability 9.0 on Card, and this machine shows its toolchain"
    assert str(error.value) == f"{prefix} {words}"


def test_a_toolchain_that_shows_no_gpu(engine: Engine) -> None:
    with pytest.raises(
        ToolchainError,
        match=r"tensorrt 10\.16\.1\.11 works on its GPU, and this machine shows it none",
    ):
        enginery.actions.engine_session._check_gpu(engine, choice(gpus=(), no_gpu="no driver"))
    rtx = changed(engine, runtime="tensorrt_rtx", gpu=None, compute_capability=None)
    enginery.actions.engine_session._check_gpu(rtx, choice(gpus=(OTHER,)))
    with pytest.raises(ExcludedTargetError) as error:
        enginery.actions.engine_session._check_gpu(rtx, choice(gpus=(), no_gpu="no driver"))
    assert str(error.value) == (
        "target server: m/server/fp16 is for compute capability any, and this machine shows its toolchain no GPU. "
        "Use a machine that has one (no driver)"
    )


@pytest.mark.parametrize(
    ("built", "has", "runs"),
    [
        ({}, {}, True),
        ({}, {"version": "10.17"}, False),
        ({"version_compatible": True}, {"version": "10.17"}, True),
        ({"version_compatible": True}, {"platform": "linux_aarch64"}, False),
        ({}, {"platform": "linux_aarch64"}, False),
    ],
)
def test_a_plan_runs_with_the_tensorrt_that_built_it(built: Any, has: Any, runs: bool) -> None:
    engine = register("m/server/fp16", **built)
    if runs:
        enginery.actions.engine_session._check_runtime(engine, choice(**has))
        return
    with pytest.raises(EngineError) as error:
        enginery.actions.engine_session._check_runtime(engine, choice(**has))
    found = info(**has)
    assert str(error.value) == (
        "m/server/fp16 is of tensorrt 10.16.1.11 for linux_x86_64, and toolchain mine is "
        f"tensorrt {found.version} for {found.platform}. Run `enginery build`, or name a toolchain that fits"
    )


def test_an_inspection_is_asked_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    session, inspection = EngineSession(engine, choice(), 77), Inspection((), {}, 1)
    monkeypatch.setattr(
        enginery.actions.inspect,
        "open_engine",
        lambda *given: asked.append(given) or nullcontext(session),
    )
    monkeypatch.setattr(
        enginery.actions.engine_session,
        "inspect",
        lambda *given: asked.append(given) or inspection,
    )
    known: Any = SimpleNamespace()
    assert enginery.actions.inspect.inspect_engine(known, engine) is inspection
    assert asked[0] == (known, engine)
    python, request, told, limit = asked[1]
    assert (python, told, limit) == (PYTHON, enginery.actions.engine_session.forward_progress, 77)
    assert request == InspectRequest(**vars(session.plan), shape=(1, 3, 160, 160))
