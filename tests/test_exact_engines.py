"""Engines from their registration to their GPU: what is refused, what is asked for, each in its
words and numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import enginery.actions.engine_session
import enginery.actions.inspect
import enginery.actions.sensitivity
import enginery.actions.validate
import tasks.fingerprint
import tasks.register
import tasks.timing
from enginery.actions.engine_session import EngineSession
from enginery.actions.sensitivity import RankedLayer
from enginery.calibration import cache
from enginery.errors import (
    ConfigError,
    EngineError,
    EngineryError,
    ExcludedTargetError,
    GateError,
    IntegrityError,
    TargetLostError,
    ToolchainError,
)
from enginery.evaluation.compare import OutputError
from enginery.evaluation.engine_report import OperatingPoint
from enginery.gpu.inventory import Gpu
from enginery.pipeline import fingerprint as fingerprinting
from enginery.pipeline.workplace import read_workplace, was_buildable
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.project.paths import WORKPLACE, build_folder, engine_folder, model_folder
from enginery.project.stage import Stage
from enginery.quantization.sensitivity import LayerCost
from enginery.registry.store import Engine, engine_in
from enginery.registry.task_metadata import read_task_metadata
from enginery.system.files import read_json, sha256, write_json
from enginery.toolchain.requests import (
    Inspection,
    InspectRequest,
    MeasureRequest,
    PlanRequest,
    PointRequest,
    ToolchainInfo,
)
from enginery.toolchain.selection import Choice
from enginery.vision.tasks import TaskMetadata
from tests.registered import change_manifest, compared, profile, records, register
from tests.stages import stages_of
from tests.test_exact_steps import HEAD, MODEL, network

ROOT = Path(__file__).resolve().parents[1]
CARD = {"gpu": "Card", "uuid": "GPU-1", "compute_capability": "9.0"}
GPU = Gpu(0, "GPU-1", "Card", "9.0", 81920, "580", "13.0", 2000, 9000)
PYTHON = Path("/env/python")


def info(**changed: Any) -> ToolchainInfo:
    fields = {
        "runtime": "tensorrt",
        "version": "10.16.1.11",
        "python": "3.11",
        "platform": "linux_x86_64",
        "features": (),
        "compute_capabilities": ("9.0",),
        "gpus": (CARD,),
        **changed,
    }
    return ToolchainInfo(**fields)


def choice(**changed: Any) -> Choice:
    return Choice("mine", PYTHON, info(**changed), GPU, "GPU-1")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A checkout of this test's own; what the steps say."""
    monkeypatch.chdir(tmp_path)
    said: list[tuple[str, ...]] = []
    for module in (tasks.register, enginery.actions.sensitivity, tasks.timing, tasks.fingerprint):
        monkeypatch.setattr(module, "log", lambda *given: said.append(given))
    return said


@pytest.fixture
def spec() -> Spec:
    return load_spec(ROOT / "params.yaml")


# The gate

STEP = Stage("register", "m", "server", "int8")


def made(**report: Any) -> dict[str, Any]:
    """What all steps before the registration wrote."""
    build, precision = build_folder("m", "server", "int8"), model_folder("m", "int8")
    build.mkdir(parents=True)
    (build / "model.plan").write_bytes(b"plan")
    found = records(build / "model.plan")
    found["validate"]["report"] = compared(**report)
    write_json(model_folder("m", "export") / "record.json", found["export"])
    write_json(model_folder("m", "simplify") / "record.json", found["simplify"])
    write_json(precision / "graph" / "record.json", found["quantize"])
    write_json(precision / "validation.json", found["validate"])
    write_json(build / "record.json", found["build"])
    write_json(STEP.recipe, found["register"]["recipe"])
    return found


def test_an_engine_that_passes_is_registered(here: list[Any]) -> None:
    expected = made()
    tasks.register.register(STEP)
    engine = engine_in(engine_folder("m", "server", "int8"))
    assert engine
    assert (engine.plan.read_bytes(), engine.state) == (b"plan", "candidate")
    written = read_json(engine.folder / "manifest.json")
    assert written["steps"] == expected
    assert here == [("registered m int8 for server as candidate",)]


def test_an_engine_of_tensorrts_own_ranges_is_not_praised_for_ours(here: list[Any]) -> None:
    made()
    path = build_folder("m", "server", "int8") / "record.json"
    write_json(path, {**read_json(path), "native_cache": "TRT"})
    quantized = model_folder("m", "int8") / "graph" / "record.json"
    calibration = {
        "recipe": {
            "step": "calibrate",
            "version": 1,
            "tools": {},
            "parameters": {"calibration": "c"},
        },
        "images": 1,
        "images_sha256": "0" * 64,
        "own_quantization": False,
    }
    write_json(quantized, {**read_json(quantized), "calibration": calibration})
    tasks.register.register(STEP)
    words = "its metrics are those of Enginery's ranges; what TensorRT's own cost, only `enginery validate` tells"
    assert here[1:] == [(words, "warning")]


@pytest.mark.parametrize("quantized", [[], ["layer"]])
def test_an_engine_that_fails_leaves_the_registry(quantized: list[str]) -> None:
    made(value=0.3)
    path = model_folder("m", "int8") / "graph" / "record.json"
    write_json(path, {**read_json(path), "quantized": quantized})
    with pytest.raises(GateError) as error:
        tasks.register.register(STEP)
    cure = (
        "`enginery sensitivity m --propose` finds the fewest layers to keep in float with which it passes"
        if quantized
        else "Look at the graph's validation, or loosen `validation` in params.yaml if this loss is acceptable"
    )
    assert str(error.value) == (
        "m int8 for server is not registered: mAP50-95 0.3000 against 0.5000 of the FP32 original, "
        f"a drop of 0.01 is allowed. {cure}"
    )
    assert not Path("artifacts/engines").exists()


def test_a_plan_that_is_not_what_was_built_is_not_registered() -> None:
    made()
    (build_folder("m", "server", "int8") / "model.plan").write_bytes(b"plaN")
    with pytest.raises(IntegrityError, match="a byte changed"):
        tasks.register.register(STEP)
    assert not Path("artifacts/engines").exists()


# On its GPU


@pytest.fixture
def engine() -> Engine:
    found = register("m/server/fp16")
    write_json(model_folder("m", "export") / "record.json", found.manifest.steps.export.to_json())
    return found


def changed(engine: Engine, **changes: Any) -> Engine:
    change_manifest(engine.folder, **changes)
    found = engine_in(engine.folder)
    assert found
    return found


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


OTHER = {"gpu": "Old", "uuid": "GPU-2", "compute_capability": "8.6"}


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


# Validation on the GPU


def test_each_point_is_measured(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    session = EngineSession(engine, choice(), 77)
    data = enginery.actions.validate._Data(Path("graph"), TaskMetadata("detect", {}), Path("set"))
    points = [OperatingPoint(0, "opt", (1, 3, 8, 16)), OperatingPoint(1, "max", (4, 3, 32, 16))]

    def open_set(*given: Any) -> Any:
        asked.append(given)
        images = [(np.full((3, *given[2]), number, np.float32), {}) for number in range(3)]
        return nullcontext(images)

    monkeypatch.setattr(enginery.actions.validate, "open_validation_set", open_set)
    monkeypatch.setattr(
        enginery.actions.engine_session, "measure", lambda *given: asked.append(given) or "measured"
    )
    clocks = SimpleNamespace(follow=print)
    measured = enginery.actions.validate._measure(session, data, points, tmp_path, clocks)  # type: ignore[arg-type]
    assert measured == "measured"
    assert asked[:2] == [
        (Path("set"), TaskMetadata("detect", {}), (8, 16), None),
        (Path("set"), TaskMetadata("detect", {}), (32, 16), 16),
    ]
    python, request, told, limit = asked[2]
    assert (python, told, limit) == (PYTHON, print, 77)
    assert request == MeasureRequest(
        **vars(session.plan),
        noisy=1.25,
        points=(
            PointRequest((1, 3, 8, 16), tmp_path / "0/images.npy", tmp_path / "0", 0, timed=True),
            PointRequest((4, 3, 32, 16), tmp_path / "1/images.npy", tmp_path / "1", 1, timed=False),
        ),
    )
    assert np.load(tmp_path / "0/images.npy")[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert (enginery.actions.validate.SLOWER, enginery.actions.validate.FEW) == (1.02, 16)


def test_the_images_and_the_task_of_an_engine(engine: Engine) -> None:
    known: Any = SimpleNamespace(
        models={"m": SimpleNamespace(validation="set", judging=lambda: None)}
    )
    data = enginery.actions.validate._data(known, engine)
    assert (data.original, data.images) == (model_folder("m", "export") / "model.onnx", Path("set"))
    assert data.head == read_task_metadata("m")


def test_the_closeness_of_some_images(tmp_path: Path) -> None:
    reference = SimpleNamespace(run=lambda image: [image * 2])
    engine = SimpleNamespace(run=lambda image: [image * 3])
    np.save(tmp_path / "images.npy", np.array([[1.0], [2.0]], np.float32))
    found = enginery.actions.validate._output_error(reference, engine, tmp_path)  # type: ignore[arg-type]
    assert found == OutputError(2.0, 0.5, 0, 0)


def test_the_size_of_profiles_is_a_places() -> None:
    assert profile(1, 2, 4)["opt"] == [2, 3, 160, 160]


# Which layers INT8 costs most


@pytest.fixture
def ranked(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A calibrated model, three pictures, and costs that are given."""
    graph = model_folder(MODEL, "simplify") / "model.onnx"
    graph.parent.mkdir(parents=True)
    onnx.save(network(), graph)
    folder = model_folder(MODEL, "calibration")
    write_json(folder / "record.json", {})
    cache.write(cache.from_thresholds({"images": 1.27, "r": 2.54}), folder / "calibration.cache")
    Path(spec.int8[MODEL].calibration).mkdir(parents=True)
    found = SimpleNamespace(asked=[], images=np.zeros((1, 3, 4, 4), np.float32), ranks=0)

    def feeds(*given: Any) -> Any:
        found.asked.append(given)
        return [{"images": found.images}]

    def rank(
        model: Any, placement: Any, thresholds: Any, images: Any, told: Any
    ) -> list[LayerCost]:
        found.ranks += 1
        found.given = (list(placement.nodes), thresholds, images)
        return [LayerCost(HEAD, 0.5), LayerCost("/model.0/conv/Conv", 0.25)]

    monkeypatch.setattr(
        enginery.actions.sensitivity,
        "list_images",
        lambda *given: found.asked.append(given) or tuple(map(Path, "abcdefghij")),
    )
    monkeypatch.setattr(enginery.actions.sensitivity, "feeds", feeds)
    monkeypatch.setattr(enginery.actions.sensitivity, "rank", rank)
    return found


def test_layers_are_ranked_on_eight_calibration_images(spec: Spec, ranked: Any) -> None:
    costs = enginery.actions.sensitivity.ranking(spec, MODEL)
    assert costs == [
        RankedLayer(HEAD, 0.5, kept_in_fp16=True),
        RankedLayer("/model.0/conv/Conv", 0.25, kept_in_fp16=False),
    ]
    graph = model_folder(MODEL, "simplify") / "model.onnx"
    assert ranked.asked == [
        (Path(spec.int8[MODEL].calibration), "detect", "calibration", True),
        (graph, tuple(map(Path, "abcdefgh")), "detect", spec.models[MODEL].size, None, None),
    ]
    nodes, thresholds, images = ranked.given
    assert (nodes, images) == (["/model.0/conv/Conv", HEAD], [{"images": ranked.images}])
    assert thresholds == pytest.approx({"images": 1.27, "r": 2.54})


def test_a_ranking_is_kept_until_something_changes(spec: Spec, ranked: Any) -> None:
    first = enginery.actions.sensitivity.ranking(spec, MODEL)
    assert enginery.actions.sensitivity.ranking(spec, MODEL) == first
    assert ranked.ranks == 1
    kept = model_folder(MODEL, "int8") / "sensitivity.json"
    assert [layer["layer"] for layer in read_json(kept)["layers"]] == [HEAD, "/model.0/conv/Conv"]
    ranked.images = np.ones((1, 3, 4, 4), np.float32)
    enginery.actions.sensitivity.ranking(spec, MODEL)
    cache.write(
        cache.from_thresholds({"images": 1.0, "r": 2.0}),
        model_folder(MODEL, "calibration") / "calibration.cache",
    )
    enginery.actions.sensitivity.ranking(spec, MODEL)
    onnx.save(network(2), model_folder(MODEL, "simplify") / "model.onnx")
    enginery.actions.sensitivity.ranking(spec, MODEL)
    assert ranked.ranks == 4


def test_an_imported_cache_ranks_the_layers_that_it_has_ranges_for(spec: Spec, ranked: Any) -> None:
    cache.write(
        cache.from_thresholds({"images": 1.0}),
        model_folder(MODEL, "calibration") / "calibration.cache",
    )
    enginery.actions.sensitivity.ranking(spec, MODEL)
    assert ranked.given[0] == ["/model.0/conv/Conv"]


def test_without_a_folder_of_calibration_images_the_validations_count(
    spec: Spec, ranked: Any
) -> None:
    Path(spec.int8[MODEL].calibration).rmdir()
    enginery.actions.sensitivity.ranking(spec, MODEL)
    place = Path(spec.models[MODEL].validation)
    assert ranked.asked[0] == (place, "detect", "validation", True)


def test_what_cannot_be_ranked(spec: Spec) -> None:
    def refused(name: str) -> str:
        with pytest.raises(EngineryError) as error:
            enginery.actions.sensitivity.ranking(spec, name)
        return str(error.value)

    assert refused("other") == f"other has no calibration in params.yaml. int8 has {MODEL}"
    assert (
        refused(MODEL)
        == f"{MODEL} is not calibrated yet. Run `enginery build --precision int8` first"
    )
    write_json(model_folder(MODEL, "calibration") / "record.json", {})
    assert (
        refused(MODEL)
        == f"{MODEL} brings its own Q/DQ nodes. Its training decided what is quantized"
    )


def test_the_fewest_layers_are_proposed_by_their_exact_names(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def passes(names: Sequence[str]) -> bool:
        asked.append(list(names))
        return len(names) >= 2

    monkeypatch.setattr(enginery.actions.sensitivity, "_gate", lambda *given: passes)
    layers = [RankedLayer(name, 0.5, name == "b") for name in ("/a.0/Conv", "b", "c+", "d")]
    assert enginery.actions.sensitivity.propose(spec, MODEL, layers) == [r"^/a\.0/Conv$", r"^c\+$"]
    assert asked == [[], ["/a.0/Conv"], ["/a.0/Conv", "c+"]]
    assert enginery.actions.sensitivity.propose(spec, MODEL, layers[:1]) is None


def test_a_proposal_is_judged_as_the_pipeline_would(
    spec: Spec,
    ranked: Any,
    here: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_json(
        model_folder(MODEL, "export") / "record.json", {"task": "detect", "names": {"0": "a"}}
    )
    asked: list[Any] = []

    def validate_graph(*given: Any) -> Any:
        graph = onnx.load(given[1]).graph
        quantized = [
            node.name
            for node in graph.node
            if node.op_type == "Conv" and "dequantized" in node.input[0]
        ]
        asked.append((given[0], quantized, *given[2:4], given[5]))
        value = 0.5 if len(quantized) else 0.3
        return SimpleNamespace(to_dict=lambda: compared(value=value))

    monkeypatch.setattr(enginery.actions.sensitivity, "validate_graph", validate_graph)
    passes = enginery.actions.sensitivity._gate(spec, MODEL)
    assert passes([]) is True
    assert passes(["/model.0/conv/Conv"]) is False
    model = spec.models[MODEL]
    expected = (
        model_folder(MODEL, "export") / "model.onnx",
        ["/model.0/conv/Conv"],
        Path(model.validation),
        TaskMetadata("detect", {0: "a"}),
        model.size,
    )
    assert asked == [expected, (expected[0], [], *expected[2:])]
    assert here == [
        ("0 more layers in FP16: passes",),
        (
            "1 more layers in FP16: mAP50-95 0.3000 against 0.5000 of the FP32 original, a drop of 0.01 is allowed",
        ),
    ]


# What this machine can build


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

    toolchains = SimpleNamespace(choose=choose)
    monkeypatch.setattr(fingerprinting, "Toolchains", lambda spec: toolchains)
    found.fingerprint = lambda targets=None: fingerprinting.fingerprint(
        spec, stages_of(spec), targets
    )
    return found


def written() -> set[str]:
    """The targets whose builds have recipes."""
    paths = Path("artifacts/recipes/build").glob("*.json")
    names = ("rtx-ampere", "rtx-ada", "rtx-blackwell")
    return {name for path in paths for name in names if f"-{name}-" in path.name}


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
