"""Data sets that a team brings: every layout, the sample, and what cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from enginery.datasets import read_dataset
from enginery.datasets.interface import Dataset, TextLabels
from enginery.datasets.sampling import copies, sample
from enginery.errors import DataError
from enginery.project.adding import ModelRequest
from enginery.project.init import InitRequest, init
from enginery.project.models import new_targets
from tests.init.common import draw


def test_the_sample_is_the_same_wherever_the_data_lies(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read_dataset(shapes / "data.yaml")
    assert (len(dataset.validation), len(dataset.train)) == (3, 9)
    whole = sample(dataset)
    assert [image.name for image in whole] == sorted(f"{number}.jpg" for number in range(3, 11)), (
        "2.jpg is a validation image, by its bytes"
    )
    monkeypatch.setattr("enginery.datasets.sampling.SAMPLE", 5)
    chosen = sample(dataset)
    assert len(chosen) == 5 and set(chosen) < set(whole)
    shutil.move(shapes, tmp_path / "moved")
    again = sample(read_dataset(tmp_path / "moved"))
    assert [image.name for image in again] == [image.name for image in chosen]


def test_every_layout_of_a_data_set_is_read(tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    draw(listed / "images/v", 2)
    (listed / "val.txt").write_text("./images/v/0.jpg\n./images/v/1.jpg\n")
    (listed / "data.yaml").write_text("val: val.txt\n")
    assert [image.name for image in read_dataset(listed).validation] == ["0.jpg", "1.jpg"]
    draw(tmp_path / "exported/valid/images", 2)
    draw(tmp_path / "exported/train/images", 4, first=5)
    (tmp_path / "exported/data.yaml").write_text("train: ../train/images\nval: ../valid/images\n")
    exported = read_dataset(tmp_path / "exported/data.yaml")
    assert (len(exported.validation), len(exported.train)) == (2, 4)
    draw(tmp_path / "classes/val/cat", 2, labels=False)
    draw(tmp_path / "classes/train/cat", 1, labels=False)
    classes = read_dataset(tmp_path / "classes")
    assert list(copies(classes.validation, "classify", classes.labels)) == [
        "cat/0.jpg",
        "cat/1.jpg",
    ]
    draw(tmp_path / "flat/images", 1)
    assert read_dataset(tmp_path / "flat").train == ()


def test_images_of_one_name_keep_both(tmp_path: Path) -> None:
    folders = [draw(tmp_path / name / "images", 1) for name in ("a", "b")]
    images = tuple(folder / "0.jpg" for folder in folders)
    files = copies(images, "detect", TextLabels())
    assert len(files) == 4 and set(files.values()) >= set(images)
    assert sample(Dataset((), images)) == images


BROKEN = {
    "a: [": "is no YAML",
    "- 1": "is no data.yaml",
    "train: x": "names no `val` images",
    "val: nowhere": "names nowhere, and .* is not there",
    "path: nowhere\nval: x": "`path` 'nowhere' is no folder: .* nor nowhere",
    "val: empty": "`val` holds no images",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_data_set_that_cannot_be_used_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(DataError, match=BROKEN[content]):
        read_dataset(tmp_path / "data.yaml")
    with pytest.raises(DataError, match="no such file or folder"):
        read_dataset(tmp_path / "no.yaml")


def test_what_belongs_to_an_image_comes_with_it(tmp_path: Path) -> None:
    image = draw(tmp_path / "a/images", 1, labels=False) / "0.jpg"
    (tmp_path / "a/masks").mkdir()
    for file in ("masks/0.png", "images/0.npz"):
        (tmp_path / "a" / file).write_bytes(b"more")
    assert list(copies([image], "semantic", TextLabels())) == ["images/0.jpg", "masks/0.png"]
    assert list(copies([image], "semantic")) == ["images/0.jpg"]
    assert list(copies([image], "tensors")) == ["images/0.jpg", "images/0.npz"]
    assert list(copies([image.with_suffix(".npz")], "tensors")) == ["images/0.npz"]


def test_arrays_are_for_tensors_alone(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"weights")
    for part in ("val", "train"):
        (tmp_path / "data" / part).mkdir(parents=True)
        (tmp_path / "data" / part / "0.npz").write_bytes(part.encode())
    request = InitRequest(
        ModelRequest(tmp_path / "best.pt", tmp_path / "data"), new_targets(["l4"])
    )
    with pytest.raises(DataError, match=r"holds arrays, and detect takes images. Give images, or"):
        init(tmp_path / "team", request)
