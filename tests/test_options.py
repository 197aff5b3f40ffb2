"""The options of targets and profiles: every mistake named, no recipe changed by a default, and the
points and steps that follow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enginery.errors import ConfigError
from enginery.evaluation.engine_report import operating_points
from enginery.project.load import load_spec
from enginery.project.model import Model
from enginery.project.params import Spec
from enginery.project.paths import timing_folder
from enginery.project.target import BUILD_OPTIONS, Target
from tests.test_recipes import changed, edit
from tests.test_spec import write

ROOT = Path(__file__).resolve().parents[1]
NAME = "yolov8n-shapes"
OWN: dict[str, Any] = {"runtime": "tensorrt"}
DEFAULTS: dict[str, Any] = {
    "gpu": None,
    "calibration": "portable",
    "strongly_typed": False,
    "tf32": False,
    "sparsity": False,
    "version_compatible": False,
    "hardware_compatible": False,
    "refittable": False,
    "dla_core": None,
    "tactic_sources": None,
}
SET: dict[str, Any] = {
    "strongly_typed": True,
    "tf32": True,
    "sparsity": True,
    "version_compatible": True,
    "hardware_compatible": True,
    "refittable": True,
    "dla_core": 0,
    "tactic_sources": ["CUBLAS"],
}


def refusal(folder: Path, **changes: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        load_spec(write(folder, **changes))
    return error.value.mistakes


def model(**sizes: Any) -> Model:
    return Model.model_validate({"source": "m.onnx", "validation": "images", **sizes})


def server(**options: Any) -> Spec:
    """The shipped configuration, with the model's own GPU as the only target."""
    raw = load_spec(ROOT / "params.yaml").model_dump()
    raw["targets"] = {"server": {**OWN, **options}}
    raw["matrix"]["targets"] = ["server"]
    return Spec.model_validate(raw)


def test_mistakes_of_options_that_exclude_each_other_all_at_once(tmp_path: Path) -> None:
    found = refusal(
        tmp_path,
        **{
            "targets__rtx-ada": {
                "runtime": "tensorrt_rtx",
                "refittable": True,
                "gpu": 0,
                "calibration": "native",
                "dla_core": 0,
            },
            "targets__typed": {**OWN, "strongly_typed": True, "calibration": "native"},
            "targets__native": {**OWN, "calibration": "native"},
            "matrix__targets": ["native"],
            f"int8__{NAME}": {"calibration": "made/elsewhere.cache"},
        },
    )
    only = "only runtime tensorrt has this; leave it out"
    assert sorted(found) == sorted(
        [
            f"targets.rtx-ada.gpu: 0: {only}",
            f"targets.rtx-ada.calibration: 'native': {only}",
            f"targets.rtx-ada.refittable: True: {only}",
            f"targets.rtx-ada.dla_core: 0: {only}",
            "targets.typed.calibration: 'native': a strongly typed network takes no calibrator; leave one of the two out",
            f"int8.{NAME}.calibration: 'made/elsewhere.cache': target native calibrates natively and needs a folder of images",
        ]
    )


def test_mistakes_of_values_all_at_once(tmp_path: Path) -> None:
    found = refusal(
        tmp_path,
        targets__card={**OWN, "gpu": "GPU-XYZ"},
        targets__before={**OWN, "gpu": -1},
        targets__old={**OWN, "version": "8.x"},
        targets__number={**OWN, "version": 10.3},
        targets__other={**OWN, "calibration": "natif", "dla_core": -1, "refittable": "perhaps"},
        **{f"models__{NAME}__profiles": [{"batch": [4, 2, 8]}]},
    )
    text = "\n".join(found)
    for key, value in (
        ("card.gpu", "'GPU-XYZ'"),
        ("before.gpu", "-1"),
        ("old.version", "'8.x'"),
        ("number.version", "10.3"),
        ("other.calibration", "'natif'"),
        ("other.dla_core", "-1"),
        ("other.refittable", "'perhaps'"),
    ):
        assert f"targets.{key}: {value}: " in text
    assert [
        line
        for line in found
        if line.startswith(f"models.{NAME}:")
        and "batch: min <= opt <= max must hold, not [4, 2, 8]" in line
    ]


def test_a_mistake_of_a_whole_model_is_one_sentence(tmp_path: Path) -> None:
    [line] = refusal(tmp_path, **{f"models__{NAME}__batch": [4, 2, 8]})
    assert "::" not in line


@pytest.mark.parametrize("gpu", [0, 7, "GPU-0123abcd-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("version", ["8", "8.6", "10.16.1.11"])
def test_good_values(tmp_path: Path, gpu: int | str, version: str) -> None:
    target = load_spec(
        write(tmp_path, targets__mine={**OWN, "gpu": gpu, "version": version})
    ).targets["mine"]
    assert (target.gpu, target.version) == (gpu, version)


def test_options_that_are_set_are_told_from_defaults() -> None:
    assert Target(runtime="tensorrt", **DEFAULTS).chosen(*DEFAULTS) == {}
    assert Target(runtime="tensorrt", dla_core=0, tf32=True).chosen(*BUILD_OPTIONS) == {
        "tf32": True,
        "dla_core": 0,
    }
    assert set(SET) >= set(BUILD_OPTIONS)


def test_a_static_model_has_one_profile_and_one_point() -> None:
    static = model(batch=2, height=64, width=96)
    shape = [2, 3, 64, 96]
    assert static.all_profiles() == [{"min": shape, "opt": shape, "max": shape}]
    assert not static.dynamic
    [point] = operating_points(static.all_profiles())
    assert (point.profile, point.which, point.shape, point.main) == (0, "opt", (2, 3, 64, 96), True)


def test_a_range_makes_a_model_dynamic_and_opt_comes_first() -> None:
    dynamic = model(batch=[1, 2, 8], height=[32, 64, 64], width=64)
    assert dynamic.dynamic
    assert [(point.which, point.shape) for point in operating_points(dynamic.all_profiles())] == [
        ("opt", (2, 3, 64, 64)),
        ("min", (1, 3, 32, 64)),
        ("max", (8, 3, 64, 64)),
    ]


def test_points_that_coincide_are_run_once() -> None:
    assert [
        (point.which, point.shape[0])
        for point in operating_points(model(batch=[1, 1, 4]).all_profiles())
    ] == [("opt", 1), ("max", 4)]
    assert [
        (point.which, point.shape[0])
        for point in operating_points(model(batch=[1, 4, 4]).all_profiles())
    ] == [("opt", 4), ("min", 1)]
    again = operating_points(
        model(batch=[1, 2, 4], profiles=[{"batch": [1, 2, 2]}, {}]).all_profiles()
    )
    assert [(point.profile, point.which, point.shape[0]) for point in again] == [
        (0, "opt", 2),
        (0, "min", 1),
        (0, "max", 4),
        (1, "opt", 2),
        (1, "min", 1),
        (2, "opt", 2),
        (2, "min", 1),
        (2, "max", 4),
    ]
    assert [point.main for point in again] == [True] + [False] * 7


def test_a_further_profile_takes_what_it_leaves_out_from_the_model() -> None:
    several = model(
        batch=1,
        height=64,
        width=96,
        profiles=[{"batch": [2, 4, 8]}, {"height": 128, "width": [96, 128, 128]}],
    )
    assert several.dynamic
    assert several.all_profiles()[1:] == [
        {"min": [2, 3, 64, 96], "opt": [4, 3, 64, 96], "max": [8, 3, 64, 96]},
        {"min": [1, 3, 128, 96], "opt": [1, 3, 128, 128], "max": [1, 3, 128, 128]},
    ]
    assert model(batch=1, profiles=[{"batch": 2}]).dynamic  # two static sizes
    assert not model(batch=1, profiles=[{"batch": 1}, {}]).dynamic
    assert several.size == (64, 96)


@pytest.mark.parametrize("key", DEFAULTS)
def test_an_option_at_its_default_changes_no_recipe(key: str) -> None:
    assert changed(server(), server(**{key: DEFAULTS[key]})) == set()


@pytest.mark.parametrize("key", SET)
def test_an_option_that_is_set_changes_its_builds(key: str) -> None:
    touched = changed(server(), server(**{key: SET[key]}))
    assert {name for name in touched if name.startswith("build/")} == {
        f"build/{NAME}-server-{p}.json" for p in ("fp32", "fp16", "int8")
    }
    assert {name.split("/")[0] for name in touched} == {"build"}


def test_native_calibration_changes_int8_alone_and_another_card_nothing() -> None:
    assert changed(server(), server(calibration="native")) == {f"build/{NAME}-server-int8.json"}
    assert (
        changed(server(), server(gpu=1)) == set()
    )  # the fingerprint step records what the GPU is, not which


def test_a_further_profile_changes_builds_and_makes_the_export_dynamic() -> None:
    spec = server()
    after = edit(spec, f"models/{NAME}/profiles", [{"batch": 4}])
    assert {name.split("/")[0] for name in changed(spec, after)} == {"export", "build"}
    again = edit(after, f"models/{NAME}/profiles", [{"batch": 8}])
    assert {name.split("/")[0] for name in changed(after, again)} == {"build"}
    assert changed(spec, edit(spec, f"models/{NAME}/profiles", [])) == set()


def test_timing_caches_lie_apart_by_toolchain_version_and_gpu() -> None:
    folder = timing_folder("trt10", "10.16.1.11", "NVIDIA H100 80GB HBM3")
    assert folder.as_posix() == "artifacts/timing/trt10/10.16.1.11-NVIDIA-H100-80GB-HBM3"
    assert (
        len(
            {
                timing_folder(*parts)
                for parts in (("a", "8", "g"), ("b", "8", "g"), ("a", "9", "g"), ("a", "8", "h"))
            }
        )
        == 4
    )
