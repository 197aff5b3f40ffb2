"""The step that builds a plan: what it asks the toolchain for, and what it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tasks.build
import tasks.refitting
from enginery.errors import EngineryError, ModelError
from enginery.project.paths import WORKPLACE
from enginery.project.stage import Stage
from enginery.system.files import sha256, write_json
from enginery.toolchain.requests import BuildRequest
from tests.exact.steps.common import GPU, HEAD, MODEL, TOOLCHAIN, pictures, read


def test_a_build_has_its_gpu_to_itself(built: Any, said: list[Any]) -> None:
    built()
    assert built.asked[0] == ("reserved", GPU, 1024)
    python, _, limit = built.asked[1]
    assert (python, limit) == (Path("/env/python"), 1800)
    assert built.asked[2:] == ["given back"]
    assert said == [("4.0 MB in 12.3 s", "info")]
    built(workspace_mib=4096)
    assert built.asked[0] == ("reserved", GPU, 4096)
    built(workspace_mib=512)
    assert built.asked[0] == ("reserved", GPU, 1024)


def test_a_build_is_refused_where_no_fingerprint_found_its_toolchain(built: Any) -> None:
    built()
    write_json(WORKPLACE, {"targets": {"other": {}}})
    with pytest.raises(EngineryError) as error:
        tasks.build.build(Stage("build", MODEL, "rtx-ada", "fp16"))
    assert str(error.value) == (
        "artifacts/workplace.json does not say how this machine builds for rtx-ada. "
        "Run the fingerprint step first: dvc repro fingerprint"
    )


def test_what_a_build_writes(built: Any) -> None:
    built()
    assert sorted(path.name for path in Path(built.folder).iterdir()) == [
        "measured.json",
        "model.plan",
        "record.json",
    ]
    assert read(f"{built.folder}/record.json") == {
        "recipe": built.recipe,
        "graph_sha256": sha256(Path(f"artifacts/models/{MODEL}/fp32/graph/model.onnx")),
        "plan_sha256": "p",
        "plan_bytes": 4_000_000,
        "weights_sha256": None,
        "runtime_version": "10.16.1.11",
        "messages": ["a warning"],
    }
    measured = read(f"{built.folder}/measured.json")
    assert (measured["seconds"], measured["peak_memory_mib"], measured["gpu"]["uuid"]) == (
        12.346,
        2049,
        "GPU-12345678-9",
    )
    built.toolchain = TOOLCHAIN.model_copy(update={"gpu": None})
    built()
    assert read(f"{built.folder}/measured.json") == {"seconds": 12.346, "peak_memory_mib": 2049}


def test_tactics_and_layers_that_were_left_out_are_said(built: Any, said: list[Any]) -> None:
    built.made = replace(built.made, skipped_tactics=3, dla_fallback=tuple("abcdefg"))
    built(dla_core=1)
    assert said[:2] == [
        (
            "3 tactics were skipped for want of GPU memory: free some, or raise workspace_mib",
            "warning",
        ),
        ("7 layers cannot run on the DLA and fall back to the GPU: a, b, c, d, e", "warning"),
    ]
    found = read(f"{built.folder}/record.json")
    assert (found["skipped_tactics"], found["dla_fallback"]) == (3, list("abcdefg"))
    built.made = replace(built.made, skipped_tactics=0, dla_fallback=())
    built(dla_core=1)
    found = read(f"{built.folder}/record.json")
    assert (found["dla_fallback"], "skipped_tactics" in found) == ([], False)


def test_the_request_of_a_plain_build(built: Any) -> None:
    folder = Path("artifacts/timing/mine/10.16.1.11-Card")
    folder.mkdir(parents=True)
    for name in ("b.timing", "a.timing", "other"):
        (folder / name).write_text("")
    request = built("fp16", workspace_mib=64, optimization_level=0, tactic_sources=["CUDNN"])
    place = Path(f"artifacts/build/{MODEL}/rtx-ada")
    assert request.plan.parent.parent == place
    assert request == BuildRequest(
        "tensorrt",
        Path(f"artifacts/models/{MODEL}/fp32/graph/model.onnx"),
        request.plan,
        MODEL,
        gpu="GPU-12345678-9",
        workspace_mib=64,
        optimization_level=0,
        tactic_sources=("CUDNN",),
        timing_caches=(folder / "a.timing", folder / "b.timing"),
        timing_cache=folder / "builds-12345678.timing",
        precision="fp16",
    )
    built.toolchain = TOOLCHAIN.model_copy(update={"gpu": None})
    assert built().timing_cache == folder / "builds-gpu.timing"


@pytest.mark.parametrize(
    "option", ["tf32", "sparsity", "version_compatible", "hardware_compatible"]
)
def test_an_option_reaches_the_builder(built: Any, option: str) -> None:
    assert getattr(built(**{option: True}), option) is True
    assert getattr(built(), option) is False


def test_a_strongly_typed_build_takes_the_typed_graph(built: Any) -> None:
    request = built("int8", strongly_typed=True)
    assert request.onnx == Path(f"artifacts/models/{MODEL}/int8/graph/model.onnx")
    assert (request.precision, request.cache, request.fp16_layers, request.strongly_typed) == (
        "fp32",
        None,
        (),
        True,
    )
    assert request.timing_cache is not None
    rtx = built("fp16", runtime="tensorrt_rtx", compute_capability="8.9")
    assert rtx.onnx == Path(f"artifacts/models/{MODEL}/fp16/graph/model.onnx")
    assert (rtx.compute_capability, rtx.timing_cache, rtx.timing_caches, rtx.precision) == (
        "8.9",
        None,
        (),
        "fp32",
    )


def test_int8_ranges_are_headed_for_the_tensorrt_that_reads_them(built: Any) -> None:
    """As bytes; and the layers that stay in fp16 are told."""
    for version, number in (("8.6.0", 8600), ("10.16.1.11", 101601)):
        request = built("int8", runtime_version=version)
        assert request.onnx == Path(f"artifacts/models/{MODEL}/fp32/graph/model.onnx")
        assert (request.precision, request.fp16_layers, request.native_images) == (
            "int8",
            (HEAD,),
            None,
        )
        assert built.files == [
            f"TRT-{number}-EntropyCalibration2\nimages: 3c010204\nr: 3f800000\n".encode(),
            None,
        ]
        assert not request.cache.exists()
        assert "calibration.cache" not in [path.name for path in Path(built.folder).iterdir()]
    own = built("int8", own=True)
    assert (own.precision, own.cache, own.fp16_layers) == ("int8", None, ())


def test_native_calibration_gets_the_images_as_the_network_takes_them(built: Any) -> None:
    height, width = 6, 8
    paths = pictures("set/images", 51, 204, size=(height, width))
    write_json(
        Path(f"artifacts/models/{MODEL}/calibration-images.json"),
        {"images": {path.name: "x" for path in paths}},
    )
    native = {"calibration": "set", "height": height, "width": width, "task": "detect"}
    request = built("int8", native=native)
    assert request.native_images == request.plan.with_name("calibration.npy")
    assert request.cache == request.plan.with_name("calibration.cache")
    Path("i.npy").write_bytes(built.files[1])
    batch = np.load("i.npy")
    assert batch.shape == (2, 3, height, width)
    assert [float(image.max()) for image in batch] == [
        float(np.float32(value) / np.float32(255)) for value in (51, 204)
    ]
    assert built.files[0] is None
    assert (
        read(f"{built.folder}/record.json")["native_cache"]
        == "TRT-101601-EntropyCalibration2\nimages: 1\n"
    )
    assert sorted(path.name for path in Path(built.folder).iterdir()) == [
        "measured.json",
        "model.plan",
        "record.json",
    ]


PROFILE = {"min": [1, 3, 4, 4], "opt": [2, 3, 4, 4], "max": [4, 3, 4, 4]}
OTHER = {"min": [8, 3, 4, 4], "opt": [8, 3, 4, 4], "max": [9, 3, 4, 4]}


def test_profiles_are_for_open_sizes(built: Any) -> None:
    assert built().profiles == ()
    assert built(batch="n", profile=PROFILE).profiles == ({"images": PROFILE},)
    assert built(batch="n", profile=PROFILE, profiles=[PROFILE, OTHER]).profiles == (
        {"images": PROFILE},
        {"images": OTHER},
    )
    assert built(batch="n", profile=PROFILE, input="images").profiles == ({"images": PROFILE},)
    path = f"artifacts/models/{MODEL}/fp32/graph/model.onnx"
    cure = "Correct batch, height, width, profiles or input of the model in params.yaml"
    with pytest.raises(ModelError) as error:
        built(profile=PROFILE)
    assert str(error.value) == (
        f"{path}: the profile does not fit: images: axis 0: the graph has the fixed size 1, the profile [1, 2, 4]. {cure}"
    )
    with pytest.raises(ModelError) as error:
        built(batch="n", profile=PROFILE, profiles=[PROFILE, OTHER], input="x")
    assert (
        str(error.value)
        == f"{path}: the profile does not fit: no input is called 'x', the graph has images. {cure}"
    )


def test_a_build_of_what_can_be_refitted(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.build, "refitted", lambda *given: None)
    request = built("int8", refittable=True)
    found = read(f"{built.folder}/record.json")
    assert found["refittable_weights"] == ["w"]
    assert found["structure_sha256"] == tasks.refitting.structure(request, ["w"])
    calls: list[Any] = []
    facts = {"plan_sha256": "r", "plan_bytes": 5_500_000}
    monkeypatch.setattr(
        tasks.build, "refitted", lambda *given: calls.append(given) or (facts, {"seconds": 0.25})
    )
    with pytest.raises(StopIteration):  # no build was asked for
        built("int8", refittable=True)
    [(step, asked, python, limit)] = calls
    assert (step, python) == (Stage("build", MODEL, "rtx-ada", "int8"), Path("/env/python"))
    assert (asked.refittable, limit) == (True, 1800)
    assert read(f"{built.folder}/record.json")["plan_sha256"] == "r"
    assert read(f"{built.folder}/measured.json")["seconds"] == 0.25
