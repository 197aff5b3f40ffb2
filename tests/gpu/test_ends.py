"""On a machine with an NVIDIA GPU: engines that take pixels and give detections, from the build to
the pictures; what TensorRT chose; the same engine again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Checkout, copy_checkout, small
from tests.gpu.common import MODEL, ON_GPU
from tests.gpu.test_served import on_this_gpu, validate
from tests.test_flow import build as run_build

pytestmark = ON_GPU

ENDS = {"input": "uint8", "output": "detections", "nms": {"detections": 50}}


def with_ends(params: dict[str, Any]) -> None:
    on_this_gpu(params)
    del params["targets"]["server"]["refittable"]
    params["targets"]["server"] |= ENDS
    params["matrix"]["precisions"] = ["fp16", "int8"]


@pytest.fixture(scope="module")
def _ended(tmp_path_factory: pytest.TempPathFactory, server: str) -> Checkout:
    checkout = Checkout(copy_checkout(tmp_path_factory.mktemp("ended") / "checkout ü"), server)
    checkout.change(small)
    checkout.change(with_ends)
    checkout.write_matrix()
    run_build(checkout)
    return checkout


@pytest.fixture
def ended(_ended: Checkout, tmp_path: Path) -> Checkout:
    """A copy, with everything up to date."""
    shutil.copytree(_ended.root, tmp_path / "ended ü", symlinks=True)
    return Checkout(tmp_path / "ended ü", _ended.server)


def manifest(checkout: Checkout, precision: str) -> dict[str, Any]:
    text = checkout.run("enginery", "show", f"server/{precision}", "--json").stdout
    found: dict[str, Any] = json.loads(text)
    return found


def test_detections_are_those_of_the_original(ended: Checkout) -> None:
    validate(ended, "server/fp16")
    report = json.loads((ended.root / f"artifacts/reports/{MODEL}/server/fp16.json").read_text())
    print(json.dumps(report["report"]), report["timing"])
    assert report["report"]["reference"]["map50_95"] > 0.1


def test_pictures_are_drawn_from_detections(ended: Checkout) -> None:
    images = sorted((ended.root / "data/demo/validation/images").iterdir())[:2]
    result = ended.run("enginery", "predict", "server/fp16", *map(str, images), "--out", "seen")
    print(result.stdout, result.stderr)
    assert result.returncode == 0
    assert len(list((ended.root / "seen").iterdir())) == 2
    low = ended.run("enginery", "predict", "server/fp16", str(images[0]), "--confidence", "0.1")
    assert (low.returncode, "drops what is below 0.25" in low.stderr) == (1, True)


def test_the_manifest_tells_the_precisions_and_the_timing_cache(ended: Checkout) -> None:
    for precision in ("fp16", "int8"):
        built = manifest(ended, precision)["steps"]["build"]
        print(precision, built["precisions"], built.get("fp32_fallback"))
        assert built["precisions"]["weights"][precision] > 0.5
        assert sum(built["precisions"]["layers"].values()) == pytest.approx(1, abs=0.01)
        name = f"{built['timing_cache_sha256']}.timing"
        assert list((ended.root / "artifacts/timing").rglob(name))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_same_engine_again(ended: Checkout, precision: str) -> None:
    """At level 0, with which the tests build, TensorRT takes no timing cache: it may choose other
    kernels, and that is said.
    """
    found = ended.run("enginery", "rebuild", f"server/{precision}", "--verify")
    print(found.stdout, found.stderr)
    other = "run other kernels" in found.stdout
    assert f"server/{precision}: " in found.stdout
    assert found.returncode == int(other)
    assert ("at optimization_level 0" in found.stderr) == other
