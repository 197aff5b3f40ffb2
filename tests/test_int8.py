"""INT8 through the whole pipeline: bad calibration data, a killed calibration, imported caches,
exclusions, the failing gate.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from enginery.calibration import cache
from enginery.quantization.placement import place
from enginery.quantization.qdq import insert
from enginery.system.files import read_json, sha256
from tests.conftest import Checkout, use_cache, use_onnx
from tests.test_flow import build, counted, refused

MODEL = "yolov8n-shapes"
FOLDER = Path("artifacts/models") / MODEL
INT8 = [f"{step} {MODEL}" for step in ("calibration-images", "calibrate", "quantize", "validate")]


def own_images(checkout: Checkout) -> Path:
    """The demo's calibration images as a user's own folder."""
    folder = checkout.root / "data/own"
    shutil.copytree(checkout.root / "data/demo/calibration", folder)
    checkout.change(lambda params: params["int8"][MODEL].update(calibration="data/own"))
    return folder


def few(checkout: Checkout) -> str:
    checkout.change(lambda params: params["int8"][MODEL].pop("minimum_images"))
    return "data/demo/calibration holds 4 images, int8.yolov8n-shapes.minimum_images asks for 300"


def none(checkout: Checkout) -> str:
    for path in (own_images(checkout) / "images").iterdir():
        path.unlink()
    return "data/own/images holds no images"


def overlapping(checkout: Checkout) -> str:
    shutil.copyfile(
        checkout.root / "data/demo/validation/images/000003.jpg",
        own_images(checkout) / "images/copy.jpg",
    )
    return "1 images of data/own are validation images too: copy.jpg is images/000003.jpg"


def broken(checkout: Checkout) -> str:
    (own_images(checkout) / "images/000001.jpg").write_bytes(b"no picture")
    return "images/000001.jpg cannot be read as an image"


def another_cache(checkout: Checkout) -> str:
    cache.write(cache.Cache(8600, {"other": 1.0}), checkout.root / "data/other.cache")
    checkout.change(lambda params: use_cache(params, "data/other.cache"))
    return "data/other.cache has no range for 5"


def cut_cache(checkout: Checkout) -> str:
    (checkout.root / "data/cut.cache").write_text("TRT-8600-EntropyCalibration2\nimages: 3c")
    checkout.change(lambda params: use_cache(params, "data/cut.cache"))
    return "data/cut.cache is cut off in line 2"


def lost_pattern(checkout: Checkout) -> str:
    checkout.change(lambda params: params["int8"][MODEL].update(exclude=["nowhere"]))
    return "int8.yolov8n-shapes.exclude: 'nowhere': finds no layer"


@pytest.mark.parametrize(
    "mistake", [few, none, overlapping, broken, another_cache, cut_cache, lost_pattern]
)
def test_mistakes_are_one_line_and_the_registry_stays(built: Checkout, mistake: Any) -> None:
    words = mistake(built)
    before = sha256(built.root / "artifacts/engines" / MODEL / "rtx-ada/int8/model.plan")
    assert "register yolov8n-shapes fp16" not in refused(built, words)
    assert sha256(built.root / "artifacts/engines" / MODEL / "rtx-ada/int8/model.plan") == before
    assert not list((built.root / "artifacts").rglob("*.part"))


def test_a_calibration_killed_outright_goes_on(built: Checkout) -> None:
    """Kill -9 after each image is counted; the kept counts are written after every image for it."""
    before = (built.root / FOLDER / "calibration" / "calibration.cache").read_bytes()
    shutil.rmtree(built.root / FOLDER / "calibration")
    code = (
        "import os, signal, sys; from enginery.calibration import collect; import tasks.calibrate as task;"
        "collect._SAVE_EVERY_S = 0; collect._WORKERS = collect._BATCHES = 1;"
        "task.progress = lambda phase, done, total: done == 3 and os.kill(os.getpid(), signal.SIGKILL);"
        "from enginery.project.stage import Stage; task.calibrate(Stage('calibrate', sys.argv[1]))"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, MODEL], cwd=built.root, env=os.environ, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert list((built.root / FOLDER).glob(".calibration.*.part"))
    resumed = built.run("tasks.calibrate", MODEL)
    assert resumed.returncode == 0, resumed.stderr
    assert "goes on after 2 of 4 images" in resumed.stdout
    assert (built.root / FOLDER / "calibration" / "calibration.cache").read_bytes() == before
    assert not list((built.root / FOLDER).glob(".*.part"))
    assert not (built.root / FOLDER / "calibration-so-far.npz").exists()


def test_an_exclusion_calibrates_nothing_again_and_is_in_the_manifest(built: Checkout) -> None:
    built.change(lambda params: params["int8"][MODEL].update(exclude=[r"^/model\.0/conv/Conv$"]))
    states = build(built)
    assert f"calibrate {MODEL}" in counted(states, "Cached")
    assert f"build {MODEL} fp16 for rtx-ada" in counted(states, "Cached")
    assert f"build {MODEL} int8 for rtx-ada" in counted(states, "Completed")
    manifest = json.loads(built.run("enginery", "show", "rtx-ada/int8", "--json").stdout)
    assert "/model.0/conv/Conv" in manifest["steps"]["quantize"]["excluded"]
    assert len(manifest["steps"]["quantize"]["excluded"]) == 8
    assert {"calibration_images", "calibration_cache"} <= manifest["digests"].keys()
    assert manifest["digests"]["graph"] == sha256(
        built.root / f"artifacts/models/{MODEL}/int8/graph/model.onnx"
    )


def test_more_images_and_another_algorithm_make_int8_stale_and_nothing_else(
    built: Checkout,
) -> None:
    from enginery.demo.dataset import write_dataset

    folder = own_images(built)
    write_dataset(folder.with_name("more"), range(900_000, 900_001), 160)
    shutil.copyfile(folder.with_name("more") / "images/900000.jpg", folder / "images/another.jpg")
    built.change(lambda params: params["int8"][MODEL].update(algorithm="minmax"))
    status = built.run("enginery", "status").stdout
    assert (
        f"calibrate {MODEL}: calibration data/demo/calibration -> data/own, algorithm mse -> minmax"
        in status
    )
    states = build(built)
    touched = {name for name in counted(states, "Completed") if not name.startswith("fingerprint")}
    assert touched >= {
        f"calibration-images {MODEL}",
        f"calibrate {MODEL}",
        f"quantize {MODEL} int8",
    }
    assert not [name for name in touched if "fp16" in name or "fp32" in name]


def test_an_imported_cache_takes_the_place_of_images(built: Checkout) -> None:
    ours = built.root / FOLDER / "calibration/calibration.cache"
    shutil.copyfile(ours, built.root / "elsewhere.cache")
    imported = built.run("enginery", "calibration", "import", MODEL, "elsewhere.cache")
    assert imported.returncode == 0, imported.stderr
    assert (
        "set int8.yolov8n-shapes.calibration to data/calibration/yolov8n-shapes.cache"
        in imported.stdout
    )
    built.change(lambda params: use_cache(params, "data/calibration/yolov8n-shapes.cache"))
    graph = sha256(built.root / FOLDER / "int8/graph/model.onnx")
    states = build(built)
    assert f"calibrate {MODEL}" in counted(states, "Completed")
    assert sha256(built.root / FOLDER / "int8/graph/model.onnx") == graph
    assert (
        "was imported: it holds no histograms"
        in built.run("enginery", "calibration", "show", MODEL, "--histogram", "images").stderr
    )


def test_a_lower_minimum_lists_again_and_calibrates_nothing(built: Checkout) -> None:
    built.change(lambda params: params["int8"][MODEL].update(minimum_images=2))
    status = built.run("enginery", "status").stdout
    assert (
        f"calibration-images {MODEL}: artifacts/recipes/calibration-images/{MODEL}.json modified"
        in status
    )
    states = build(built)
    assert counted(states, "Completed") == {"fingerprint", f"calibration-images {MODEL}"}


def test_looking_at_a_calibration(built: Checkout) -> None:
    shown = built.run("enginery", "calibration", "show", MODEL)
    assert shown.returncode == 0, shown.stderr
    assert "/model.4/m.0/Add_output_0" in shown.stdout
    drawn = built.run(
        "enginery", "calibration", "show", MODEL, "--histogram", "model.4/m.0/Add", "--out", "ü.png"
    )
    assert drawn.returncode == 0, drawn.stderr
    assert (built.root / "ü.png").read_bytes().startswith(b"\x89PNG")
    exported = built.run(
        "enginery", "calibration", "export", MODEL, "--tensorrt", "10.16.1.11", "--out", "out.cache"
    )
    assert exported.returncode == 0, exported.stderr
    assert cache.read(built.root / "out.cache").version == 101601
    for command, words in (
        (("show", "nobody"), "nobody has no calibration here. Calibrated: yolov8n-shapes"),
        (("show", MODEL, "--histogram", "nothing"), "no tensor is called 'nothing'"),
        (("export", MODEL, "--tensorrt", "new"), "--tensorrt new: major.minor.patch is expected"),
        (("import", MODEL, "missing.cache"), "missing.cache cannot be read"),
    ):
        result = built.run("enginery", "calibration", *command)
        assert (result.returncode, words in result.stderr) == (1, True), result.stderr


def test_a_failing_gate_names_classes_and_layers_and_a_proposal_passes(built: Checkout) -> None:
    drop = read_json(built.root / FOLDER / "int8/validation.json")["report"]["closeness"][
        "rms_relative"
    ]
    built.change(lambda params: params["validation"]["rms_relative"].update(int8=drop * 0.6))
    result = built.run("enginery", "build", "--precision", "int8")
    assert result.returncode == 1
    assert "int8 for rtx-ada is not registered: raw outputs differ" in result.stderr
    assert (
        f"`enginery sensitivity {MODEL} --propose` finds the fewest layers to keep in float"
        in result.stderr
    )
    assert not (
        built.root / FOLDER / "int8/sensitivity.json"
    ).exists()  # ranking is for whoever asks
    assert "mAP50-95 of yolov8n-shapes int8 by class" in result.stderr
    assert "triangle" in result.stderr
    proposed = built.run("enginery", "sensitivity", MODEL, "--propose")
    assert proposed.returncode == 0, proposed.stdout + proposed.stderr
    patterns = [
        line.strip(" -'") for line in proposed.stdout.splitlines() if line.startswith("      - '")
    ]
    assert patterns
    built.change(lambda params: params["int8"][MODEL].update(exclude=patterns))
    build(built, "--precision", "int8")
    built.change(lambda params: params["int8"][MODEL].update(exclude=patterns[:-1]))
    assert built.run("enginery", "build", "--precision", "int8").returncode == 1


def test_sensitivity_without_a_calibration(fresh: Checkout) -> None:
    result = fresh.run("enginery", "sensitivity", MODEL)
    assert (result.returncode, "is not calibrated yet" in result.stderr) == (1, True)
    result = fresh.run("enginery", "sensitivity", "nobody")
    assert (result.returncode, "nobody has no calibration in params.yaml" in result.stderr) == (
        1,
        True,
    )


def test_a_model_that_brings_its_own_quantization_passes_untouched(built: Checkout) -> None:
    model = onnx.load(built.root / FOLDER / "simplify/model.onnx")
    ranges = cache.read(built.root / FOLDER / "calibration/calibration.cache").thresholds()
    insert(model, place(model.graph, [r"\.2/Conv$", "/dfl/"]), ranges)
    onnx.save(model, built.root / "data/qat.onnx")
    built.change(lambda params: use_onnx(params, "data/qat.onnx"))
    built.change(lambda params: params["validation"]["rms_relative"].update(fp16=0.2))
    build(built)
    manifest = json.loads(built.run("enginery", "show", "rtx-ada/int8", "--json").stdout)
    assert manifest["steps"]["quantize"]["calibration"]["own_quantization"]
    assert manifest["metrics"]["rms_relative"] == 0
    result = built.run("enginery", "sensitivity", MODEL)
    assert (result.returncode, "brings its own Q/DQ nodes" in result.stderr) == (1, True)
