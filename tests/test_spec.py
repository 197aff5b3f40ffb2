"""params.yaml: every mistake at once, and every configuration that ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from enginery.errors import ConfigError
from enginery.project.load import load_spec

ROOT = Path(__file__).resolve().parents[1]


def write(folder: Path, **changes: object) -> Path:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dotted, value in changes.items():
        place = params
        *parents, last = dotted.split("__")
        for key in parents:
            place = place[key]
        place[last] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def test_what_ships_loads() -> None:
    spec = load_spec(ROOT / "params.yaml")
    assert len(spec.matrix.targets) == 3
    assert spec.models["yolov8n-shapes"].profile()["opt"] == [1, 3, 640, 640]


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        matrix__precisions=["fp16", "fp8"],
        targets__turing={"runtime": "tensorrt_rtx", "compute_capability": "7.6"},
        validation__map50_95_drop=2,
        typo=1,
    )
    with pytest.raises(ConfigError) as error:
        load_spec(path)
    text = str(error.value)
    for key in (
        "matrix.precisions.1",
        "targets.turing.compute_capability",
        "validation.map50_95_drop",
        "typo: unknown key",
    ):
        assert key in text
    assert "'fp8'" in text
    assert "'7.6'" in text
    assert len(error.value.mistakes) == 4


def test_wrong_values_hide_no_wrong_names(tmp_path: Path) -> None:
    wrong = {"matrix__targets": ["rtx-ada", "rtx-turing"], "int8__yolov8n-shapes__rule": "all"}
    path = write(tmp_path, typo=1, validation__map50_95_drop=2, **wrong)
    with pytest.raises(ConfigError) as error:
        load_spec(path)
    assert [mistake.split(":")[0] for mistake in error.value.mistakes] == [
        "validation.map50_95_drop",
        "typo",
        "matrix.targets",
        "int8.yolov8n-shapes.rule",
    ]


def test_a_tolerance_that_is_left_out_is_the_default(tmp_path: Path) -> None:
    tolerance = load_spec(write(tmp_path, validation={"rms_relative": {"int8": 0.1}})).validation
    assert [
        tolerance.of("detect", precision)["rms_relative"] for precision in ("fp32", "fp16", "int8")
    ] == [0.001, 0.02, 0.1]


def test_a_model_may_have_its_own_targets_and_precisions(tmp_path: Path) -> None:
    small = {"source": "a.onnx", "validation": "images", "targets": ["rtx-extra"]}
    float_only = {"source": "b.onnx", "validation": "images", "precisions": ["fp16"]}
    spec = load_spec(
        write(
            tmp_path,
            models__small={**small, "precisions": ["fp32"]},
            models__float=float_only,
            matrix__models=["yolov8n-shapes", "small", "float"],
            matrix__targets=["rtx-ada", "rtx-ampere"],
            **{"targets__rtx-extra": {"runtime": "tensorrt_rtx"}},
        )
    )
    demo = [
        f"yolov8n-shapes/{target}/{precision}"
        for target in ("rtx-ada", "rtx-ampere")
        for precision in ("fp32", "fp16", "int8")
    ]
    own = ["small/rtx-extra/fp32", "float/rtx-ada/fp16", "float/rtx-ampere/fp16"]
    assert list(map(str, spec.engines())) == demo + own  # int8 asks nothing of small and float
    assert spec.used_targets() == ["rtx-ada", "rtx-ampere", "rtx-extra"]


def test_two_engines_that_dvc_would_call_the_same(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    model, target = params["models"]["yolov8n-shapes"], params["targets"]["rtx-ada"]
    path = write(
        tmp_path,
        models={"yolo": model, "yolo-rtx": model},
        targets={"ada": target, "rtx-ada": target},
        int8={},
        matrix={
            "models": ["yolo", "yolo-rtx"],
            "targets": ["ada", "rtx-ada"],
            "precisions": ["fp16"],
        },
    )
    with pytest.raises(
        ConfigError, match="yolo for rtx-ada and yolo-rtx for ada would both be called yolo-rtx-ada"
    ):
        load_spec(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"matrix__models": ["yolo"]},
            "matrix.models: 'yolo': not defined; models has yolov8n-shapes",
        ),
        ({"models__yolov8n-shapes__height": 100}, "multiples of its stride, 32"),
        ({"models__yolov8n-shapes__batch": 0}, "batch"),
        (
            {"models__yolov8n-shapes__task": "mask"},
            "models.yolov8n-shapes.task: 'mask': input should be 'detect', 'segment', 'pose', 'obb'",
        ),
        ({"validation__top1_drop": 2}, "validation.top1_drop"),
        (
            {"models__yolov8n-shapes__height": 2**70},
            f"yolov8n-shapes.height: {2**70}: input should be less than or equal to 16384",
        ),
        (
            {"models__yolov8n-shapes__width": [32, 64, 16416]},
            "yolov8n-shapes.width.2: 16416: input should be less than or equal to 16384",
        ),
        (
            {"models__yolov8n-shapes__batch": 65537},
            "models.yolov8n-shapes.batch: 65537: input should be less than or equal to 65536",
        ),
        ({"targets__rtx-ada__workspace_mib": 2**70}, "targets.rtx-ada.workspace_mib"),
        ({"demo__validation_images": 2**70}, "demo.validation_images"),
        ({"models__yolov8n-shapes__batch": [4, 2, 8]}, "min <= opt <= max"),
        ({"models__yolov8n-shapes__source": "weights.bin"}, "a .pt or a .onnx or a .pth file"),
        (
            {"targets__rtx-ada__toolchain": "rtx16"},
            "targets.rtx-ada.toolchain: 'rtx16': not defined",
        ),
        ({"models__Bad Name": {}}, "Bad Name"),
        (
            {"models__other": {"source": "a.pt", "validation": "images"}},
            "models.other: nothing builds it: add it to matrix.models",
        ),
        (
            {
                "targets__a": {
                    "runtime": "tensorrt",
                    "compute_capability": "7.5",
                    "hardware_compatible": True,
                }
            },
            "targets.a.hardware_compatible",
        ),
        (
            {"models__yolov8n-shapes__source": "own.onnx"},
            "models.yolov8n-shapes.opset: 17: own.onnx has an opset of its own; leave",
        ),
        (
            {"int8__yolov8n-shapes__percentile": 99.9},
            "int8.yolov8n-shapes.percentile: 99.9: algorithm mse has none; leave this out",
        ),
        (
            {"int8__yolov8n-shapes__calibration": "a.cache"},
            "int8.yolov8n-shapes.algorithm: 'mse': a.cache has its ranges already",
        ),
        (
            {"int8__yolov8n-shapes__calibration": "a.cache"},
            "int8.yolov8n-shapes.minimum_images: 64: a.cache has its ranges",
        ),
        (
            {"matrix__targets": ["rtx-ada", "rtx-ada"]},
            "matrix.targets: 'rtx-ada': is there more than once",
        ),
        (
            {"models__yolov8n-shapes__targets": ["rtx-ada", "h100"]},
            "models.yolov8n-shapes.targets: 'h100': not defined; targets has rtx-ada, rtx-ampere",
        ),
        (
            {"models__yolov8n-shapes__targets": ["rtx-ada", "rtx-ada"]},
            "models.yolov8n-shapes.targets: 'rtx-ada': is there more than once",
        ),
        (
            {"models__yolov8n-shapes__precisions": ["int8", "int8"]},
            "models.yolov8n-shapes.precisions: 'int8': is there more than once",
        ),
        ({"models__yolov8n-shapes__precisions": ["fp8"]}, "models.yolov8n-shapes.precisions.0: "),
        (
            {"models__yolov8n-shapes__precisions": ["fp16"]},
            "int8.yolov8n-shapes: nothing builds it",
        ),
        (
            {
                "matrix__precisions": ["fp16"],
                "models__yolov8n-shapes__precisions": ["int8"],
                "int8": {},
            },
            "int8.yolov8n-shapes: missing",
        ),
    ],
)
def test_each_mistake_names_its_key(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml") as error:
        load_spec(write(tmp_path, **change))
    assert words in str(error.value)


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_spec(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_spec(tmp_path / "params.yaml")


def places(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a nested mapping."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.parametrize(
    "value", [None, -1, 5, "x", [], [1, "a", 3], {}, {"x": 1}, True, 1e9, ["x"]], ids=repr
)
def test_whatever_stands_anywhere_is_a_mistake_or_is_taken(tmp_path: Path, value: object) -> None:
    for place in places(yaml.safe_load((ROOT / "params.yaml").read_text())):
        try:
            load_spec(write(tmp_path, **{"__".join(place): value}))
        except ConfigError as error:
            assert error.mistakes
            assert not [mistake for mistake in error.mistakes if "\n" in mistake]
