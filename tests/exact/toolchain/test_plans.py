"""Headers of plans: which TensorRT and which GPU they are for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from enginery import runtimes
from enginery.errors import IntegrityError
from enginery.runtimes import tensorrt
from enginery.toolchain import client, environments, plan
from tests.exact.toolchain.common import a_plan


def test_constants() -> None:
    assert (client._PROBE_LIMIT_S, tensorrt.OLDEST, plan._MAGIC) == (120, (8, 5), b"vtrt")
    assert plan._CAPABILITIES == {1: "7.5", 2: "8.0", 4: "8.6", 8: "8.9", 16: "12.0", 32: "12.1"}
    assert (
        Path(".toolchains"),
        ("tensorrt", "tensorrt_rtx"),
    ) == (environments.FOLDER, runtimes.names())
    needs = {
        "optimization_level": ("optimization level", "leave it out, or use TensorRT 8.6 or later"),
        "strongly_typed": ("strong typing", "leave it out, or use TensorRT 10"),
        "sparsity": ("sparsity", "leave it out"),
        "version_compatible": ("version compatible", "leave it out, or use TensorRT 8.6 or later"),
        "hardware_compatible": (
            "hardware compatible",
            "leave it out, or use TensorRT 8.6 or later",
        ),
        "refittable": ("refit", "leave it out"),
        "dla_core": ("DLA", "leave it out, or use TensorRT 10"),
    }
    assert needs == {key: (need.feature, need.cure) for key, need in tensorrt.NEEDS.items()}


AGAIN = plan._CURE


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (1, ("7.5",)),
        (2, ("8.0",)),
        (4, ("8.6",)),
        (8, ("8.9",)),
        (16, ("12.0",)),
        (32, ("12.1",)),
        (64, ()),
        (0, ()),
        (12, ("8.6", "8.9")),
        (63, ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")),
    ],
)
def test_a_header(tmp_path: Path, mask: int, names: tuple[str, ...]) -> None:
    a_plan(tmp_path / "p", mask, (1, 2, 3, 255))
    assert plan.read_header(tmp_path / "p") == plan.PlanHeader("1.2.3.255", names)
    a_plan(tmp_path / "p", mask, size=36)
    assert plan.read_header(tmp_path / "p").version == "1.7.1.116"


def test_files_that_are_no_plans(tmp_path: Path) -> None:
    path = tmp_path / "p"
    for data in (b"", b"vtrt", b"vtrt" + bytes(31), b"vtrT" + bytes(40), b"xvtrt" + bytes(40)):
        path.write_bytes(data)
        with pytest.raises(IntegrityError) as error:
            plan.read_header(path)
        assert str(error.value) == f"{path} is no TensorRT-RTX plan. {AGAIN}"
    for wrong in (1, -1):
        a_plan(path, wrong=wrong)
        with pytest.raises(IntegrityError) as error:
            plan.read_header(path)
        assert str(error.value) == f"{path} has 40 bytes, its header says {40 + wrong}. {AGAIN}"


def test_a_changed_byte_is_said(tmp_path: Path) -> None:
    path = tmp_path / "p"
    digest = a_plan(path)
    plan.check_digest(path, digest)
    other = "0" * 64
    with pytest.raises(IntegrityError) as error:
        plan.check_digest(path, other)
    assert (
        str(error.value)
        == f"{path}: sha256 {digest[:12]}, 000000000000 is recorded: a byte changed. {AGAIN}"
    )


def test_a_plan_is_for_the_capability_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "p"
    digest = a_plan(path, 8)
    header = plan.PlanHeader("1.7.1.116", ("8.9",))
    assert plan.check_plan(path, digest, "8.9") == plan.check_plan(path, digest, None) == header
    with pytest.raises(IntegrityError) as error:
        plan.check_plan(path, digest, "8.6")
    assert str(error.value) == f"{path} is for compute capability 8.9, not 8.6. {AGAIN}"
    digest = a_plan(path, 12)
    with pytest.raises(IntegrityError, match=r"is for compute capability 8\.6, 8\.9, not 8\.9"):
        plan.check_plan(path, digest, "8.9")
    digest = a_plan(path, 0)
    with pytest.raises(IntegrityError, match=r"is for compute capability none known, not 8\.9"):
        plan.check_plan(path, digest, "8.9")
    with pytest.raises(IntegrityError, match="a byte changed"):
        plan.check_plan(path, "0" * 64, None)


def test_each_runtimes_plan_is_checked_by_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "p"
    digest = a_plan(path, 8)
    plan.check_built(path, digest, "tensorrt_rtx", "8.9")
    plan.check_built(path, digest, "tensorrt", "8.6")  # its plans have no header that is known
    for runtime, capability, words in (
        ("tensorrt_rtx", "8.6", "compute capability"),
        ("tensorrt_rtx", "8.9", "a byte changed"),
        ("tensorrt", None, "a byte changed"),
    ):
        with pytest.raises(IntegrityError, match=words):
            plan.check_built(
                path, digest if "capability" in words else "0" * 64, runtime, capability
            )
    path.write_bytes(b"other")
    plan.check_built(path, hashlib.sha256(b"other").hexdigest(), "tensorrt", None)
    with pytest.raises(IntegrityError, match="is no TensorRT-RTX plan"):
        plan.check_built(path, hashlib.sha256(b"other").hexdigest(), "tensorrt_rtx", None)
