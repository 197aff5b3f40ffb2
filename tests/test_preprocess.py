"""How images and arrays become inputs: as torchvision does it, as params.yaml says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import TypeAdapter, ValidationError

from enginery.errors import ConfigError, DataError, ModelError
from enginery.evaluation.judges.labels import finish
from enginery.project.load import load_spec
from enginery.sources.ultralytics_compat import import_torchvision
from enginery.vision.feeds import Feeder, Input, feeds
from enginery.vision.images import letterbox, list_images
from enginery.vision.preprocess import Feeding, Preprocess, parse
from tests.conftest import ROOT

PICTURE = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)


def of(value: Any) -> Preprocess:
    """What params.yaml says, as it is read."""
    return TypeAdapter(Preprocess).validate_python(parse(value))


@pytest.mark.parametrize("shape", [(90, 130), (131, 90), (64, 64), (40, 300)])
@pytest.mark.parametrize(
    ("value", "crop", "resize", "interpolation"),
    [
        ("imagenet", 64, 73, "BILINEAR"),
        ({"preset": "torchvision", "resize": 64, "interpolation": "bicubic"}, 64, 64, "BICUBIC"),
    ],
)
def test_images_are_prepared_as_torchvision_does(
    shape: tuple[int, int], value: Any, crop: int, resize: int, interpolation: str
) -> None:
    from PIL import Image

    torchvision = import_torchvision()
    presets = torchvision.transforms._presets
    theirs = presets.ImageClassification(
        crop_size=crop,
        resize_size=resize,
        interpolation=torchvision.transforms.InterpolationMode[interpolation],
    )
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = theirs(Image.fromarray(picture[:, :, ::-1])).numpy()
    assert np.allclose(of(value).apply(picture, crop, crop), expected, atol=1e-6)


def test_every_choice_does_what_it_says() -> None:
    rgb = of({}).apply(PICTURE, 64, 96)
    assert (rgb.shape, rgb.dtype, rgb.max() <= 1) == ((3, 64, 96), np.float32, True)
    assert np.array_equal(of({"color": "bgr"}).apply(PICTURE, 64, 96), rgb[::-1])
    last = of({"layout": "nhwc"}).apply(PICTURE, 64, 96)
    assert np.array_equal(last.transpose(2, 0, 1), rgb)
    grey = of({"color": "grey", "mode": "stretch"}).apply(PICTURE, 64, 96)
    assert grey.shape == (1, 64, 96)
    plain = of({"dtype": "uint8"}).apply(PICTURE, 64, 96)
    assert np.array_equal(plain.astype(np.float32) / np.float32(255), rgb)
    half = of({"dtype": "float16", "mean": [0.5], "std": [0.25]}).apply(PICTURE, 64, 96)
    assert half.dtype == np.float16 and np.allclose(half, (rgb - 0.5) / 0.25, atol=1e-2)
    assert np.array_equal(finish(rgb, of({"color": "bgr"})), rgb[::-1])


@pytest.mark.parametrize("mode", ["letterbox", "stretch", "resize_crop"])
def test_a_mask_is_fitted_as_its_image(mode: str) -> None:
    """A picture of two flat halves: where its pixels are dark, the mask is 0."""
    mask = np.zeros((60, 100), np.uint8)
    mask[:, 50:] = 1
    picture = np.repeat(mask[:, :, None] * 250, 3, axis=2)
    how = of({"mode": mode})
    image = how.apply(picture, 80, 80)[0]
    fitted = how.fit_mask(mask, 80, 80)
    assert set(np.unique(fitted)) <= {0, 1, 255}
    seen = fitted != 255
    edge = np.abs(np.arange(80) - 40) < 3  # there the picture is neither
    agree = ((image > 0.5) == (fitted == 1))[:, ~edge][seen[:, ~edge]]
    assert agree.all() and (mode != "letterbox" or not seen[0].any())


def test_a_letterbox_takes_pictures_of_one_channel() -> None:
    assert letterbox(PICTURE[:, :, 0], 64, 64, fill=9)[0, 0] == 9


def change(tmp_path: Path, **model: Any) -> Path:
    import yaml

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"]["yolov8n-shapes"].update(model)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path / "params.yaml"


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown preset": (
        {"preprocess": "imagnet"},
        r"preprocess: 'imagnet': torchvision, imagenet or ultralytics is expected",
    ),
    "an unknown key": ({"preprocess": {"colour": "bgr"}}, r"preprocess\.colour: unknown key"),
    "too few values": (
        {"preprocess": {"mean": [0.1, 0.2]}},
        r"preprocess\.mean: \(0\.1, 0\.2\): 1 or 3 values are expected for rgb",
    ),
    "a division by zero": ({"preprocess": {"std": [0]}}, r"std: .*: every value must be above 0"),
    "bytes with a mean": (
        {"preprocess": {"dtype": "uint8", "mean": [0.5]}},
        r"preprocess\.dtype: 'uint8': uint8 takes pixels as they are: leave out mean and std",
    ),
    "an idle resize": ({"preprocess": {"resize": 256}}, r"resize: 256: mode letterbox has none"),
    "boxes of a crop": (
        {"preprocess": "imagenet"},
        r"mode: 'resize_crop': detect is judged as Ultralytics does it, which letterboxes",
    ),
    "a network of a .pt": ({"architecture": "resnet18"}, r"a \.pt file holds its network"),
    "agreement of tensors": (
        {"task": "tensors", "truth": "original"},
        "`tensors` are always compared with the original's",
    ),
    "outputs of a detector": (
        {"outputs": {"a": {"rms": 0.1}}},
        r"outputs: only task `tensors` has tolerances for outputs",
    ),
    "a metric without a function": ({"metric": "metrics/mine.py"}, r"metric: 'metrics/mine\.py'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_does_not_fit_together_is_said_with_its_key(tmp_path: Path, case: str) -> None:
    model, words = MISTAKES[case]
    with pytest.raises(ConfigError, match=words):
        load_spec(change(tmp_path, **model))


def test_presets_and_calibration_by_default(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        of({"mode": "squash"})
    model = load_spec(change(tmp_path, preprocess="ultralytics")).models["yolov8n-shapes"]
    assert (model.preprocess, model.judging()) == (None, None)
    spec = load_spec(change(tmp_path, preprocess={"color": "bgr"}))
    assert spec.models["yolov8n-shapes"].profile()["opt"] == [1, 3, 640, 640]
    spec = load_spec(change(tmp_path, preprocess={"color": "grey", "layout": "nhwc"}))
    assert spec.models["yolov8n-shapes"].profile()["opt"] == [1, 640, 640, 1]
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("calibration: data/demo/calibration", ""))
    spec = load_spec(tmp_path / "params.yaml")
    assert spec.int8["yolov8n-shapes"].calibration == "data/demo/validation"


# --- arrays


def two_inputs(path: Path, batch: Any = 1) -> Path:
    """image (3, 8, 8) and meta (4) in; their means out."""
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8]),
        helper.make_tensor_value_info("meta", TensorProto.FLOAT, [batch, 4]),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["a"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["meta"], ["b"], axes=[1], keepdims=0),
        helper.make_node("Add", ["a", "b"], ["sum"]),
    ]
    outputs = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [batch])]
    graph = helper.make_graph(nodes, "g", ends, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("batch", [1, 2, "n"])
def test_a_sample_is_arrays_or_an_image_with_arrays_beside_it(tmp_path: Path, batch: Any) -> None:
    graph, folder = two_inputs(tmp_path / "g.onnx", batch), tmp_path / "data"
    folder.mkdir()
    image, meta = np.full((3, 8, 8), 0.5, np.float32), np.arange(4, dtype=np.float32)
    np.savez(folder / "a.npz", image=image[None], meta=meta, more=meta)
    [feed] = feeds(graph, list_images(folder, "tensors"), "tensors", (8, 8))
    count = batch if isinstance(batch, int) else 1
    assert (feed["image"].shape, feed["meta"].shape) == ((count, 3, 8, 8), (count, 4))
    cv2.imwrite(str(folder / "b.png"), np.full((8, 8, 3), 51, np.uint8))
    np.savez(folder / "b.npz", meta=meta)
    samples = list_images(folder, "tensors")
    assert [path.name for path in samples] == ["b.png"], "an .npz beside images is no sample"
    [feed] = feeds(graph, samples, "tensors", (8, 8))
    assert np.allclose(feed["image"], 0.2) and np.array_equal(feed["meta"][0], meta)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another shape": (
        {"image": np.zeros((3, 8, 9), np.float32), "meta": np.zeros(4, np.float32)},
        r"a\.npz: image has the shape \[3, 8, 9\], and the graph takes \[3, 8, 8\]",
    ),
    "another type": (
        {"image": np.zeros((3, 8, 8)), "meta": np.zeros(4, np.float32)},
        r"image is float64, and the graph takes float32\. Save it as float32",
    ),
    "a missing one": (
        {"image": np.zeros((3, 8, 8), np.float32), "mta": np.zeros(4, np.float32)},
        r"no array 'meta', which the graph takes; it has image, mta",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, case: str) -> None:
    arrays, words = BAD[case]
    np.savez(tmp_path / "a.npz", **arrays)
    graph = two_inputs(tmp_path / "g.onnx")
    with pytest.raises(DataError, match=words):
        list(feeds(graph, [tmp_path / "a.npz"], "tensors", (8, 8)))


def test_files_that_are_no_arrays_are_named(tmp_path: Path) -> None:
    graph = two_inputs(tmp_path / "g.onnx")
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "b.npz").write_bytes(b"PK")
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((8, 8, 3), np.uint8))
    for name, words in (
        ("a.npy", r"a\.npy is one array, and the graph takes image, meta"),
        ("b.npz", r"b\.npz cannot be read"),
        ("c.png", r"c\.npz is missing: it has the inputs that are no image"),
    ):
        with pytest.raises(DataError, match=words):
            list(feeds(graph, [tmp_path / name], "tensors", (8, 8)))
    vector = Feeder([Input("x", "float32", (1, 4))], Feeding("tensors", (8, 8)))
    with pytest.raises(DataError, match=r"is an image, and the graph takes arrays \(x\)"):
        vector.row(tmp_path / "c.png")


def test_a_preprocess_that_the_input_does_not_take(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((8, 8, 3), np.uint8))
    for how, made in (
        (Preprocess(color="grey"), r"makes \[1, 1, 8, 8\] of float32"),
        (Preprocess(dtype="uint8"), r"makes \[1, 3, 8, 8\] of uint8"),
    ):
        feeder = Feeder([Input("x", "float32", (1, 3, 8, 8))], Feeding("detect", (8, 8), how))
        with pytest.raises(ModelError, match=rf"takes \[1, 3, 8, 8\] of float32, .* {made}"):
            feeder.row(tmp_path / "c.png")
