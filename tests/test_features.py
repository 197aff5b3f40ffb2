"""What a target asks for that its TensorRT cannot do: the key, the version, the cure; and what the
real bindings of 10 and 11 can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enginery.project.target import BUILD_OPTIONS, Target
from enginery.runtimes import tensorrt, tensorrt_rtx
from enginery.toolchain.client import probe
from enginery.toolchain.requests import ToolchainInfo
from tests.test_bindings import toolchain

OLD = ("weak typing", "calibrators", "timing cache", "refit", "sparsity", "DLA")
NEWER = ("optimization level", "version compatible", "hardware compatible")
FEATURES = {
    "8.4.3.1": OLD,
    "8.5.3.1": OLD,
    "8.6.1": (*OLD, *NEWER, "fp8"),
    "10.16.1.11": (*OLD, *NEWER, "fp8", "strong typing", "editable timing cache", "progress"),
    "11.4.0.106": (
        "timing cache",
        "refit",
        "sparsity",
        "DLA",
        *NEWER,
        "fp8",
        "strong typing",
        "editable timing cache",
        "progress",
    ),
}
OPTIONS: dict[str, Any] = {
    "optimization_level": 0,
    "strongly_typed": True,
    "sparsity": True,
    "version_compatible": True,
    "hardware_compatible": True,
    "refittable": True,
    "dla_core": 0,
    "calibration": "native",
}
LEFT = "leave it out"
SINCE_10 = {"strongly_typed": f"{LEFT}, or use TensorRT 10"}
SINCE_86 = dict.fromkeys(
    ("optimization_level", "version_compatible", "hardware_compatible"),
    f"{LEFT}, or use TensorRT 8.6 or later",
)
PORTABLE = "use `portable`, whose ranges become Q/DQ nodes"
REFUSED = {  # by version: what is not there, under which key, and the cure
    "8.4.3.1": {**SINCE_86, **SINCE_10},
    "8.5.3.1": {**SINCE_86, **SINCE_10},
    "8.6.1": SINCE_10,
    "10.16.1.11": {},
    "11.4.0.106": {"calibration": PORTABLE},
}


def info(
    version: str, features: tuple[str, ...] | None = None, runtime: str = "tensorrt"
) -> ToolchainInfo:
    return ToolchainInfo(
        runtime,
        version,
        "3.11.7",
        "linux_x86_64",
        FEATURES[version] if features is None else features,
        (),
    )


def said(version: str, **options: Any) -> list[str]:
    return list(
        tensorrt.RUNTIME.mistakes("server", Target(runtime="tensorrt", **options), info(version))
    )


@pytest.mark.parametrize("version", FEATURES)
@pytest.mark.parametrize("key", OPTIONS)
def test_each_option_alone(version: str, key: str) -> None:
    found = [line for line in said(version, **{key: OPTIONS[key]}) if "too old" not in line]
    if key not in REFUSED[version]:
        assert found == []
        return
    [line] = found
    assert line.startswith(f"targets.server.{key}: ")
    assert f"tensorrt {version} has no " in line
    assert line.endswith(f": {REFUSED[version][key]}")


@pytest.mark.parametrize("version", FEATURES)
def test_all_options_at_once(version: str) -> None:
    lines = said(version, **OPTIONS)
    keys = sorted(line.split(":")[0] for line in lines if "too old" not in line)
    assert keys == sorted(f"targets.server.{key}" for key in REFUSED[version])
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("version", FEATURES)
def test_what_is_too_old_is_said_without_any_option(version: str) -> None:
    too_old = ["targets.server: tensorrt 8.4.3.1 is too old; 8.5 to 11 are supported"]
    assert said(version) == (too_old if version == "8.4.3.1" else [])


def test_options_at_their_defaults_ask_for_nothing() -> None:
    nothing = info("8.5.3.1", ())
    defaults = {
        "strongly_typed": False,
        "refittable": False,
        "dla_core": None,
        "optimization_level": None,
        "calibration": "portable",
    }
    assert (
        list(
            tensorrt.RUNTIME.mistakes(
                "server",
                Target(runtime="tensorrt", tf32=True, workspace_mib=64, **defaults),
                nothing,
            )
        )
        == []
    )


def test_no_build_option_is_forgotten() -> None:
    """Every option but tf32, which all versions have, is refused where a TensorRT has no features
    at all.
    """
    values = {key: 0 if key == "dla_core" else True for key in BUILD_OPTIONS}
    lines = list(
        tensorrt.RUNTIME.mistakes(
            "server", Target(runtime="tensorrt", **values), info("10.16.1.11", ())
        )
    )
    assert {line.split(":")[0].split(".")[-1] for line in lines} == set(BUILD_OPTIONS) - {"tf32"}


def test_tensorrt_rtx_is_asked_for_nothing_that_it_lacks() -> None:
    """Its version 1 is not TensorRT's, and what only tensorrt has is refused when params.yaml is
    read.
    """
    target = Target(runtime="tensorrt_rtx", compute_capability="8.9", optimization_level=3)
    assert (
        list(tensorrt_rtx.RUNTIME.mistakes("rtx", target, info("1.7.1.116", (), "tensorrt_rtx")))
        == []
    )


@pytest.mark.parametrize(
    ("version", "lacking"), [("10.16.1.11", set()), ("11.4.0.106", {"weak typing", "calibrators"})]
)
def test_the_real_bindings_have_what_is_supposed_here(
    tmp_path: Path, version: str, lacking: set[str]
) -> None:
    found = probe(toolchain(tmp_path, version), "tensorrt")
    assert found.version == version
    assert set(found.features) == {*FEATURES["10.16.1.11"]} - lacking
    lines = list(tensorrt.RUNTIME.mistakes("server", Target(runtime="tensorrt", **OPTIONS), found))
    assert [line.split(":")[0] for line in lines] == [
        f"targets.server.{key}" for key in REFUSED[version]
    ]
