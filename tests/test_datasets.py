"""Data sets as people have them: Ultralytics' layouts, COCO's JSON, folders of classes, images
without labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from enginery.datasets import read_dataset
from enginery.datasets.class_names import read_names
from enginery.datasets.sampling import copies
from enginery.demo.scenes import CLASSES, scene
from enginery.errors import DataError
from enginery.vision.images import list_images, read_image
from enginery.vision.labels import check_format, check_labels
from enginery.vision.tasks import TaskMetadata

SIDE = 64
NAMES = dict(enumerate(CLASSES))


def draw(folder: Path, seeds: range, labels: Path | None) -> None:
    """Scenes, with their boxes as polygons of four corners."""
    for place in filter(None, (folder, labels)):
        place.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        image, boxes = scene(seed, SIDE)
        cv2.imwrite(str(folder / f"{seed}.png"), image)
        if labels:
            lines = [polygon(box.yolo_line(SIDE)) for box in boxes]
            (labels / f"{seed}.txt").write_text("".join(f"{line}\n" for line in lines))


def polygon(line: str) -> str:
    label, x, y, w, h = (float(word) for word in line.split())
    left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
    corners = (left, top, right, top, right, bottom, left, bottom)
    return f"{label:.0f} {' '.join(f'{value:.6f}' for value in corners)}"


@pytest.fixture
def standard(tmp_path: Path) -> Path:
    """Ultralytics' own layout, with polygons."""
    for part, seeds in (("val", range(3)), ("train", range(2, 9))):
        draw(tmp_path / "set/images" / part, seeds, tmp_path / "set/labels" / part)
    data = {"path": ".", "train": "images/train", "val": "images/val", "names": NAMES}
    (tmp_path / "set/data.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "set"


def test_a_data_set_stays_where_it_is_and_has_parts(standard: Path) -> None:
    images = list_images(standard, "detect")
    assert [image.name for image in images] == ["0.png", "1.png", "2.png"]
    calibration = list_images(standard, "detect", "calibration")
    assert [image.name for image in calibration] == [f"{seed}.png" for seed in range(3, 9)], (
        "2.png is a validation image, too"
    )
    check_labels(images, TaskMetadata("detect", NAMES))
    (standard / "data.yaml").unlink()
    assert list_images(standard, "detect") == images


def test_labels_lie_beside_images_too(standard: Path, tmp_path: Path) -> None:
    folder = tmp_path / "beside"
    draw(folder, range(2), folder)
    images = list_images(folder, "detect")
    there = check_format(list_images(standard, "detect"), "detect").values()
    assert list(check_format(images, "detect").values()) == list(there)[:2]


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    for name in ("test", "bench"):
        draw(tmp_path / name, range(1), None)
    assert len(list_images(tmp_path, "classify")) == 2


def test_polygons_are_the_boxes_around_them(standard: Path, tmp_path: Path) -> None:
    from enginery.vision.dataset import open_validation_set

    boxes = tmp_path / "boxes"
    draw(boxes / "images", range(3), None)
    (boxes / "labels").mkdir()
    for seed in range(3):
        lines = [box.yolo_line(SIDE) for box in scene(seed, SIDE)[1]]
        (boxes / f"labels/{seed}.txt").write_text("\n".join(lines))
    head = TaskMetadata("detect", NAMES)
    with (
        open_validation_set(standard, head, (SIDE, SIDE)) as ours,
        open_validation_set(boxes, head, (SIDE, SIDE)) as theirs,
    ):
        for (_, one), (_, other) in zip(ours, theirs, strict=True):
            order = [np.lexsort(each["bboxes"].numpy().round(3).T) for each in (one, other)]
            assert np.allclose(
                one["bboxes"].numpy()[order[0]], other["bboxes"].numpy()[order[1]], atol=1e-5
            )
    (boxes / "labels/1.txt").write_text("0 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.2 0.1 0.2 0.2\n")
    with pytest.raises(DataError, match=r"1\.txt has both boxes and polygons"):
        check_format(list_images(boxes, "detect"), "detect")


def coco(folder: Path, split: str, seeds: range, **changes: Any) -> Path:
    """The scenes as COCO has them: ids from 1 on with gaps, pixels, a crowd, a group of classes."""
    draw(folder / split, seeds, None)
    categories = [{"id": 0, "name": "shapes", "supercategory": "none"}] + [
        {"id": 10 * number + 10, "name": name, "supercategory": "shapes"}
        for number, name in NAMES.items()
    ]
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    for seed in seeds:
        size = {"width": SIDE, "height": SIDE}
        content["images"].append({"id": seed + 100, "file_name": f"{seed}.png", **size})
        for box in scene(seed, SIDE)[1]:
            label, x, y, w, h = (float(word) for word in box.yolo_line(SIDE).split())
            rectangle = [SIDE * value for value in (x - w / 2, y - h / 2, w, h)]
            corners = [SIDE * float(value) for value in polygon(box.yolo_line(SIDE)).split()[1:]]
            content["annotations"].append(
                {
                    "image_id": seed + 100,
                    "category_id": int(label) * 10 + 10,
                    "bbox": rectangle,
                    "segmentation": [corners],
                }
            )
        crowd = {"category_id": 10, "bbox": [0, 0, 9, 9], "iscrowd": 1, "segmentation": {}}
        content["annotations"].append({"image_id": seed + 100, **crowd})
    (folder / "annotations").mkdir(exist_ok=True)
    file = folder / f"annotations/instances_{split}.json"
    file.write_text(json.dumps(content | changes))
    return file


@pytest.mark.parametrize("by_folder", [True, False])
def test_coco_is_the_same_labels(tmp_path: Path, by_folder: bool) -> None:
    file = coco(tmp_path, "val2017", range(2))
    coco(tmp_path, "train2017", range(5, 8))
    dataset = read_dataset(tmp_path if by_folder else file)
    assert dataset.names == tuple(CLASSES)
    assert [image.name for image in dataset.train] == ["5.png", "6.png", "7.png"]
    for task in ("detect", "segment", "obb"):
        files = copies(dataset.validation, task, dataset.labels)
        for seed in range(2):
            text = files[f"labels/{seed}.txt"]
            assert isinstance(text, bytes)
            expected = [box.yolo_line(SIDE) for box in scene(seed, SIDE)[1]]
            expected = expected if task == "detect" else list(map(polygon, expected))
            assert np.allclose(
                [list(map(float, line.split())) for line in text.decode().splitlines()],
                [list(map(float, line.split())) for line in expected],
                atol=1e-5,
            )
    with pytest.raises(DataError, match=r"without a bbox and keypoints\. Add it, or choose"):
        copies(dataset.validation, "pose", dataset.labels)
    with pytest.raises(DataError, match=r"COCO's JSON\. `enginery add-model --data"):
        list_images(tmp_path, "detect")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a missing image": (
        {"images": [{"id": 1, "file_name": "no.png", "width": 9, "height": 9}]},
        r"names 1 images that are not there: no\.png \(looked in",
    ),
    "another category": (
        {"categories": [{"id": 3, "name": "a"}]},
        r"an annotation is of category \d+, which is missing",
    ),
    "no size": ({"images": [{"id": 1, "file_name": "0.png"}]}, "images.0.width: Field required"),
    "no images": ({"images": [], "annotations": []}, "has no images"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_coco_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    changes, words = BROKEN[case]
    file = coco(tmp_path, "val", range(1), **changes)
    with pytest.raises(DataError, match=words):
        read_dataset(file)
    file.write_text('{"images": [')
    with pytest.raises(DataError, match="is no JSON"):
        read_dataset(file)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "ant\nbee\n\n"),
        ("a.yaml", "names: [ant, bee]"),
        ("b.yaml", "{0: ant, 1: bee}"),
        ("a.json", '{"names": {"1": "bee", "0": "ant"}}'),
    ],
)
def test_class_names_come_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path / name) == ("ant", "bee")
    (tmp_path / name).write_text("{" if name != "a.txt" else "")
    with pytest.raises(DataError, match=name):
        read_names(tmp_path / name)
    with pytest.raises(DataError, match=r"no\.yaml: No such file"):
        read_names(tmp_path / "no.yaml")
    with pytest.raises(DataError, match="class 0 has no name"):
        (tmp_path / "c.yaml").write_text("{1: ant, 2: bee}")
        read_names(tmp_path / "c.yaml")


def kinds(folder: Path) -> list[Path]:
    """One picture in every way that cameras and editors write."""
    from PIL import Image

    folder.mkdir()
    picture = Image.fromarray(scene(3, SIDE)[0][:40, :, ::-1])
    rotated = picture.getexif()
    rotated[0x0112] = 6  # a camera held upright
    picture.save(folder / "exif.jpg", exif=rotated)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("L").save(folder / "grey.jpg")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("1").save(folder / "two-colours.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    sixteen = np.asarray(picture.convert("L")).astype(np.uint16) * 257 - 100
    cv2.imwrite(str(folder / "sixteen.png"), sixteen)
    picture.save(folder / "whole.webp")
    return sorted(folder.iterdir())


def test_every_kind_of_image_is_read_as_ultralytics_reads_it(tmp_path: Path) -> None:
    from ultralytics.utils.patches import imread

    for path in kinds(tmp_path / "kinds"):
        assert np.array_equal(read_image(path), imread(path)), path.name
    assert read_image(tmp_path / "kinds/exif.jpg").shape == (SIDE, 40, 3), "it was turned"


def test_an_image_that_is_cut_off_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "images", range(1), None)
    whole = cv2.imencode(".jpg", scene(1, 200)[0])[1].tobytes()
    path = tmp_path / "images/cut.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be read as an image"):
        read_image(path)
    path.write_bytes(whole + b"more")  # as some cameras do
    assert np.array_equal(read_image(path), cv2.imdecode(np.frombuffer(whole, np.uint8), 1))
