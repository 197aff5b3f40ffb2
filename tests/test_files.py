"""Folders that are whole or absent, whenever their writer stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.files import replacing_folder, scratch

GONE = 999_999_999  # a process number that Linux does not give


def test_a_folder_takes_the_place_of_another_or_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    for text in ("first", "second"):
        with replacing_folder(folder) as partial:
            (partial / text).write_text(text)
        assert [path.name for path in folder.iterdir()] == [text]
    with pytest.raises(RuntimeError), replacing_folder(folder) as partial:
        (partial / "third").write_text("third")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_one_left_in_the_scratch_folder_is_swept(tmp_path: Path) -> None:
    (tmp_path / f".scratch.abc.{GONE}.part").mkdir()
    with scratch(tmp_path) as first, scratch(tmp_path) as second:
        (first / "images.npy").touch()
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert list(tmp_path.iterdir()) == []


def test_the_next_writer_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    for name in (f".made.{GONE}.part", f".made.old.{GONE}.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    with replacing_folder(tmp_path / "made"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]
