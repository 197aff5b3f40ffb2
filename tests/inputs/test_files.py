"""Only plain files are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.trouble.cases.data import picture
from enginery.calibration import cache
from enginery.errors import DataError
from enginery.project.inputs import check_plain, plain_files
from enginery.system.files import sha256_tree
from enginery.vision.images import list_images, read_image
from enginery.vision.labels import check_format
from tests.inputs.common import BAD, WEIGHTS, folder_with


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_plain_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    make, words = BAD[kind]
    folder = folder_with(tmp_path, make)
    for read in (check_plain, sha256_tree, lambda folder: list_images(folder, "detect")):
        with pytest.raises(DataError, match=words) as error:
            read(folder)
        str(error.value).encode()  # can be printed


def test_a_cache_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.cache")
    with pytest.raises(DataError, match=r"own\.cache is a named pipe"):
        cache.read(tmp_path / "own.cache")


def test_files_behind_links_count_and_what_is_missing_does_not(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, lambda path: path.symlink_to("../../elsewhere/2.png"))
    (tmp_path / "link").symlink_to(folder)
    before = sha256_tree(tmp_path / "link")
    assert before == sha256_tree(folder)
    (tmp_path / "elsewhere/2.png").write_bytes(b"other")
    assert sha256_tree(folder) != before
    assert list(plain_files(tmp_path / "nowhere")) == []
    assert list(plain_files(WEIGHTS)) == [WEIGHTS]
    with pytest.raises(DataError, match="is a device"):
        check_plain(Path("/dev/null"))


def test_a_folder_with_the_name_of_an_image_or_of_labels(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, Path.mkdir)
    with pytest.raises(DataError, match=r"x\.png is a folder with the name of an image"):
        list_images(folder, "detect")
    (folder / "labels/1.txt").mkdir(parents=True)
    (folder / "labels/2.txt").touch()
    with pytest.raises(DataError, match=r"1\.txt is no file"):
        check_format([folder / "images/1.png", folder / "images/2.png"], "detect")


def test_an_image_that_is_too_large_for_opencv(tmp_path: Path) -> None:
    (tmp_path / "vast.png").write_bytes(picture(40_000, 40_000))
    with pytest.raises(
        DataError,
        match=r"vast\.png cannot be read as an image: it has more pixels than OpenCV reads",
    ):
        read_image(tmp_path / "vast.png")
    (tmp_path / "small.png").write_bytes(picture(20, 20))
    assert read_image(tmp_path / "small.png").shape == (20, 20, 3)
