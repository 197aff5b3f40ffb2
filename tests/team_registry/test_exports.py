"""Exports for Triton and DeepStream, read by Triton's own schema and by the parser of DeepStream's
configurations.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from enginery.actions.export_deepstream import export_deepstream
from enginery.actions.export_triton import Signature, Tensor, config, plans_by_capability
from enginery.calibration import cache
from enginery.cli.main import main
from enginery.errors import EngineryError
from enginery.project.paths import CACHE, model_folder
from enginery.registry.store import engines
from enginery.system.files import sha256
from tests.registered import DIGEST, enter, profile, recipe, records, register
from tests.team import MODEL, Machine
from tests.team_registry.common import Captured, refused, said

ADA = {"compute_capability": "8.9", "gpu": "NVIDIA L4"}
AMPERE = {"compute_capability": "8.6", "gpu": "NVIDIA A10"}
SIGNATURE = Signature(
    (Tensor("images", "FLOAT", (-1, 3, 160, 160)),), (Tensor("output0", "FLOAT", (-1, 84, 525)),)
)
# A Python that has tritonclient: `pip install tritonclient protobuf` in an environment of its own.
TRITON = "ENGINERY_TRITON_PYTHON"
READ = """
import importlib.util, json, pathlib, sys
from google.protobuf import json_format, text_format
place = pathlib.Path(importlib.util.find_spec("tritonclient").origin).parent
path = place / "grpc/model_config_pb2.py"
spec = importlib.util.spec_from_file_location("model_config_pb2", path)
schema = importlib.util.module_from_spec(spec)
spec.loader.exec_module(schema)
config = text_format.Parse(sys.stdin.read(), schema.ModelConfig())
print(json.dumps(json_format.MessageToDict(config, preserving_proto_field_name=True)))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def as_triton_reads(text: str) -> dict[str, Any]:
    """A configuration by Triton's own schema."""
    if TRITON not in os.environ:
        pytest.skip(f"{TRITON} names no Python with tritonclient")
    line = [os.environ[TRITON], "-c", READ]
    ended = subprocess.run(line, input=text, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    read: dict[str, Any] = json.loads(ended.stdout)
    return read


def test_one_plan_for_each_compute_capability(capsys: Captured) -> None:
    ada, ampere = register("m/ada/fp16", **ADA), register("m/ampere/fp16", **AMPERE)
    register("m/ada/int8", **ADA)
    told = said(capsys, "export", "triton", "m")
    assert told.splitlines()[0] == (
        "triton/m-fp16: m/ada/fp16, m/ampere/fp16 for a Triton with TensorRT 10.16.1.11"
    )
    assert "reads inputs and outputs from the plans" in told
    files = sorted(path.name for path in Path("triton/m-fp16").rglob("*") if path.is_file())
    assert files == ["config.pbtxt", "sm86.plan", "sm89.plan"]
    assert Path("triton/m-fp16/1/sm89.plan").read_bytes() == ada.plan.read_bytes()
    said(capsys, "export", "triton", "m", "--target", "ampere", "--out", "one")
    assert [path.name for path in Path("one/m-fp16/1").iterdir()] == ["sm86.plan"]
    read = as_triton_reads(Path("triton/m-fp16/config.pbtxt").read_text())
    digest = ampere.manifest.plan.sha256
    assert read == {
        "name": "m-fp16",
        "platform": "tensorrt_plan",
        "cc_model_filenames": {"8.6": "sm86.plan", "8.9": "sm89.plan"},
        "optimization": {"cuda": {"graphs": True}},
        "metric_tags": {"sha256_sm86": digest, "sha256_sm89": ada.manifest.plan.sha256},
    }


def test_a_dynamic_batch_is_batched_by_triton() -> None:
    register("m/ada/fp16", profile=profile(1, 4, 8), **ADA)
    register("m/all/fp16", profile=profile(1, 4, 8), hardware_compatible=True, **AMPERE)
    plans = plans_by_capability(engines())
    text = config('a "name" ü', plans, SIGNATURE)
    assert "max_batch_size: 8\n" in text
    read = as_triton_reads(text)
    assert read["name"] == 'a "name" ü' and read["max_batch_size"] == 8
    assert read["dynamic_batching"] == {"preferred_batch_size": [4]}
    images = {"name": "images", "data_type": "TYPE_FP32", "dims": ["3", "160", "160"]}
    assert read["input"] == [images]
    assert read["output"][0]["dims"] == ["84", "525"]
    assert read["cc_model_filenames"]["8.9"] == "sm89.plan"
    assert read["cc_model_filenames"]["9.0"] == "sm80-and-later.plan"
    assert "7.5" not in read["cc_model_filenames"]


def test_a_static_batch_is_part_of_the_shapes() -> None:
    register("m/ada/fp16", **ADA)
    static = Signature((Tensor("images", "UINT8", (1, 160, 160, 3)),), ())
    text = config("m", plans_by_capability(engines()), static)
    assert "max_batch_size: 0\n" in text and "dynamic_batching" not in text
    read = as_triton_reads(text)
    assert read["input"][0]["dims"] == ["1", "160", "160", "3"]
    odd = Signature((Tensor("images", "DOUBLE", (1,)),), ())
    with pytest.raises(EngineryError, match="of the type DOUBLE, which this export does not know"):
        config("m", plans_by_capability(engines()), odd)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (ADA, "are both for 8.9. Triton tells GPUs apart by that alone: choose one with --target"),
        ({**AMPERE, "runtime_version": "10.3.0"}, "have TensorRT of their own: 10.16.1.11, 10.3.0"),
        ({**AMPERE, "profile": profile(2, 2, 2)}, "have shapes of their own: 1x3x160x160, 2x3x160"),
        ({**AMPERE, "runtime": "tensorrt_rtx"}, "is of tensorrt_rtx, which Triton does not load"),
    ],
)
def test_engines_that_do_not_go_together(other: Any, why: str, capsys: Captured) -> None:
    register("m/a/fp16", **ADA)
    register("m/b/fp16", **other)
    assert why in refused(capsys, "export", "triton", "m")
    assert not Path("triton/m-fp16").exists()


def test_what_serves_in_production_is_exported(machine: Machine, capsys: Captured) -> None:
    os.chdir(machine.root)
    served = machine.register(f"{MODEL}/rtx-ada/fp16", "one", valid=True, **ADA)
    said(capsys, "publish")
    said(capsys, "promote", MODEL, "--unvalidated")
    machine.register(f"{MODEL}/rtx-ada/fp16", "two", **ADA)
    machine.register(f"{MODEL}/rtx-ampere/fp16", **AMPERE)
    said(capsys, "publish")
    said(capsys, "export", "triton", MODEL, "--state", "production")
    text = Path(f"triton/{MODEL}-fp16/config.pbtxt").read_text()
    assert served in text and "8.6" not in text
    assert [path.name for path in Path("triton").iterdir()] == [f"{MODEL}-fp16"]
    canary = refused(capsys, "export", "triton", MODEL, "--state", "canary")
    assert f"no engine of {MODEL} fp16 serves in canary" in canary
    assert "no engine of other fp16 is registered" in refused(capsys, "export", "triton", "other")


def test_deepstream_finds_plan_labels_and_preprocessing(capsys: Captured) -> None:
    engine = register("m/ada/fp16", profile=profile(1, 4, 8), **ADA)
    assert main(["export", "deepstream", "m/ada/fp16"]) == 0
    folder = Path("deepstream/m-ada-fp16")
    assert capsys.readouterr().out.startswith(f"{folder}/config_infer.txt: m/ada/fp16; ")
    read = as_glib_reads(folder / "config_infer.txt")
    assert read("model-engine-file") == "model.plan"
    assert (folder / "model.plan").read_bytes() == engine.plan.read_bytes()
    assert (folder / read("labelfile-path")).read_text() == "disc\n"
    assert (read("network-mode"), read("batch-size"), read("infer-dims")) == ("2", "8", "3;160;160")
    assert float(read("net-scale-factor")) == pytest.approx(1 / 255)
    assert (read("network-type"), read("output-tensor-meta")) == ("100", "1")
    assert not (folder / "calibration.cache").exists()


def test_deepstream_gets_the_ranges_of_an_int8_engine_for_its_tensorrt() -> None:
    ranges = model_folder("m", "calibration") / CACHE
    cache.write(cache.from_thresholds({"images": 1.0}), ranges)
    plan = Path("some.plan")
    plan.write_bytes(b"plan")
    made = records(plan, **ADA)
    calibration = {
        "recipe": recipe("calibrate", calibration="images", algorithm="mse"),
        "images": 4,
        "images_sha256": DIGEST,
        "cache_sha256": sha256(ranges),
        "own_quantization": False,
    }
    engine = enter(
        "m/ada/int8", plan, {**made, "quantize": {**made["quantize"], "calibration": calibration}}
    )
    export_deepstream(engine, Path("out"))
    read = as_glib_reads(Path("out/config_infer.txt"))
    assert (read("network-mode"), read("int8-calib-file")) == ("1", "calibration.cache")
    assert cache.read(Path("out/calibration.cache")).version == 101601
    cache.write(cache.from_thresholds({"images": 2.0}), ranges)  # calibrated again since
    export_deepstream(engine, Path("out"))
    assert not Path("out/calibration.cache").exists()


def as_glib_reads(path: Path) -> Any:
    """The values of a configuration, by the parser that DeepStream uses."""
    library = ctypes.util.find_library("glib-2.0")
    if not library:
        pytest.skip("GLib is not installed here")
    glib = ctypes.CDLL(library)
    glib.g_key_file_new.restype = ctypes.c_void_p
    glib.g_key_file_get_string.restype = ctypes.c_char_p
    glib.g_key_file_load_from_file.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        *[ctypes.c_void_p] * 2,
    ]
    glib.g_key_file_get_string.argtypes = [ctypes.c_void_p, *[ctypes.c_char_p] * 2, ctypes.c_void_p]
    file = glib.g_key_file_new()
    assert glib.g_key_file_load_from_file(file, os.fsencode(path), None, None)
    return lambda key: glib.g_key_file_get_string(file, b"property", key.encode(), None).decode()


def test_what_deepstream_cannot_feed(capsys: Captured) -> None:
    register("m/rtx/fp16", runtime="tensorrt_rtx")
    shapes = {"min": [1, 3, 32, 32], "opt": [1, 3, 64, 64], "max": [1, 3, 96, 96]}
    register("m/sizes/fp16", profile=shapes)
    assert "which nvinfer does not load" in refused(capsys, "export", "deepstream", "rtx")
    assert "nvinfer feeds one size" in refused(capsys, "export", "deepstream", "sizes")
