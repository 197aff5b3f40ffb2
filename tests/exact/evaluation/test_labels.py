"""Labels: where they lie, and every line that cannot be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.errors import DataError, ModelError
from enginery.vision import labels
from enginery.vision.tasks import TaskMetadata
from tests.exact.evaluation.common import THREE


def test_where_labels_lie(tmp_path: Path) -> None:
    assert labels.label_file(Path("a/images/b.c.png")) == Path("a/labels/b.c.txt")
    assert labels.label_file(Path("a/b/c.png")) == Path("a/b/labels/c.txt")


TRIANGLE = "0 0.1 0.1 0.2 0.1 0.2 0.2"
GOOD = [
    ("detect", "0 0.5 0.5 1 1"),
    ("detect", "2 1.01 -0.01 1.01 0"),
    ("detect", "1.0 0.5 0.5 0.1 0.1"),
    ("segment", TRIANGLE),
    ("segment", f"{TRIANGLE} 0.1 0.2"),
    ("segment", "0 -0.05 0.1 0.2 0.1 0.2 0.2"),
    ("segment", "0 0.5 0.5 0.5 0.5 0.5 0.5"),
    ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2"),
    ("obb", "0 -0.1 0.1 0.3 0.1 0.3 0.2 -0.1 0.2"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0"),
    ("pose", "0 0.5 0.5 0.1 0.1 1.01 -0.01 2 1.01 0.4 0"),
]
BAD = [
    ("detect", "0 0.5 0.5 0.1"),
    ("detect", "0 0.5 0.5 0.1 0.1 0.1"),
    ("detect", "-1 0.5 0.5 0.1 0.1"),
    ("detect", "0.5 0.5 0.5 0.1 0.1"),
    ("detect", "0 1.0101 0.5 0.1 0.1"),
    ("detect", "0 -0.0101 0.5 0.1 0.1"),
    ("detect", "0 0.5 0.5 1.0101 0.1"),
    ("detect", "0 0.5 0.5 -0.001 0.1"),
    ("detect", "0 0.5 0.5 0.1 -0.001"),
    ("detect", "0 0.5 0.5 0.1 nan"),
    ("detect", "inf 0 0 1 1"),
    ("detect", "a 0.5 0.5 0.1 0.1"),
    ("segment", "0 0.1 0.1 0.2 0.1"),
    ("segment", f"{TRIANGLE} 0.1"),
    ("segment", "0 0.1 0.1 0.2 0.1 0.2 2.2"),
    ("segment", "0 -0.3 0.1 -0.2 0.1 0.2 0.2"),
    ("obb", TRIANGLE),
    ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2 0.1"),
    ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 1.95"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0 0"),
    ("pose", "0 0.5 0.5 0.1 0.1 1.02 0.5 2 0.4 0.4 0"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 -0.02 0"),
    ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 -1 0.4 0.4 0"),
    ("pose", "0 1.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0"),
    ("pose", "0 0.5 0.5 0.1 -0.1 0.5 0.5 2 0.4 0.4 0"),
]


def write_labels(folder: Path, *texts: str) -> list[Path]:
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number, text in enumerate(texts):
        (folder / "labels" / f"{number}.txt").write_text(text, encoding="utf-8")
    return [folder / "images" / f"{number}.png" for number in range(len(texts))]


@pytest.mark.parametrize(("task", "line"), GOOD)
def test_good_labels(tmp_path: Path, task: str, line: str) -> None:
    paths = write_labels(tmp_path, f"\ufeff{line}\n\n   \n", "")
    points = (2, 3) if task == "pose" else None
    number = int(float(line.split()[0]))
    assert labels.check_format(paths, task, points) == {paths[0]: {number}, paths[1]: set()}


@pytest.mark.parametrize(("task", "line"), BAD)
def test_bad_labels(tmp_path: Path, task: str, line: str) -> None:
    good = next(each for kind, each in GOOD if kind == task)
    paths = write_labels(tmp_path, f"{good}\n\n  {line}  \n")
    points = (2, 3) if task == "pose" else None
    with pytest.raises(DataError) as error:
        labels.check_format(paths, task, points)
    keypoints = " (2 of 3 values)" if points else ""
    assert str(error.value) == (
        f"{tmp_path}/labels/0.txt, line 3: {line!r} is not {labels._FORMATS[task]}{keypoints} with shares from 0 to 1. Correct the line"
    )


def test_a_long_bad_line_is_cut(tmp_path: Path) -> None:
    paths = write_labels(tmp_path, "x" * 100)
    with pytest.raises(DataError, match=f"line 1: '{'x' * 80}' is not"):
        labels.check_format(paths, "detect")


def test_bytes_that_are_no_text_are_shown(tmp_path: Path) -> None:
    paths = write_labels(tmp_path, "")
    (tmp_path / "labels/0.txt").write_bytes(b"0 0.5 0.5 0.1 0.1\n\xff\n")
    with pytest.raises(DataError, match="line 2: '\ufffd' is not"):
        labels.check_format(paths, "detect")


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("0 0.5 0.5 0.1 0.1 0.5 0.5", True),
        ("0 0.5 0.5 0.1 0.1 0.5", False),
        ("0 0.5 0.5 0.1 0.1 0.5 -0.5", False),
        ("0 0.5 0.5 0.1 0.1 1.5 7 3", True),
    ],
)
def test_keypoints_of_an_unknown_shape(tmp_path: Path, line: str, good: bool) -> None:
    paths = write_labels(tmp_path, line)
    if good:
        assert labels.check_format(paths, "pose") == {paths[0]: {0}}
    else:
        with pytest.raises(
            DataError, match="is not `class x y width height` and the keypoints with shares"
        ):
            labels.check_format(paths, "pose")


def test_several_classes_and_files(tmp_path: Path) -> None:
    paths = write_labels(tmp_path, "0 0.5 0.5 1 1\n2 0.5 0.5 1 1\n0 0.5 0.5 1 1\n", "1 0.5 0.5 1 1")
    more = [*paths, tmp_path / "images/none.png"]
    assert labels.check_format(more, "detect") == {paths[0]: {0, 2}, paths[1]: {1}, more[2]: set()}
    assert labels.check_format(more, "classify") == {path: set() for path in more}
    labels.check_labels(more, TaskMetadata("detect", THREE))
    for names, unknown in (({0: "a", 1: "b"}, 2), ({1: "b", 2: "c"}, 0), ({5: "f"}, 0)):
        with pytest.raises(ModelError) as error:
            labels.check_labels(more, TaskMetadata("detect", names))
        count = len(names)
        assert str(error.value) == (
            f"{paths[0]}: its labels have class {unknown}, the model has {count} classes. Use the model's own data set"
        )


def test_no_labels_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        labels.check_format([tmp_path / "images/a.png", tmp_path / "images/b.png"], "detect")
    assert str(error.value) == (
        f"{tmp_path}/labels holds no labels for the images beside it. Put a text file beside each image's name there"
    )


def test_the_keypoints_of_the_model_are_asked_for(tmp_path: Path) -> None:
    paths = write_labels(tmp_path, "0 0.5 0.5 0.1 0.1 0.5 0.5 2 0.4 0.4 0")
    labels.check_labels(paths, TaskMetadata("pose", THREE, (2, 3)))
    with pytest.raises(DataError, match=r"keypoints \(1 of 3 values\) with"):
        labels.check_labels(paths, TaskMetadata("pose", THREE, (1, 3)))


def test_folders_are_classes_of_the_model() -> None:
    paths = [
        Path("d/bee/1.png"),
        Path("d/ant/1.png"),
        Path("d/n02119789/1.png"),
        Path("d/dog/1.png"),
    ]
    labels.check_labels(paths[:2], TaskMetadata("classify", THREE))
    labels.check_labels(paths[2:3], TaskMetadata("classify", {0: "kit_fox"}))
    with pytest.raises(ModelError) as error:
        labels.check_labels(paths, TaskMetadata("classify", {**THREE, 3: "kit_fox"}))
    assert str(error.value) == (
        "d/dog: the model has no class 'dog'. Name each folder as a class of the model: ant, bee, cat, kit_fox"
    )
    many = {index: f"c{index}" for index in range(12)}
    with pytest.raises(
        ModelError, match=r"as a class of the model: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9$"
    ):
        labels.check_labels(paths, TaskMetadata("classify", many))
