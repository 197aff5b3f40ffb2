"""INT8 ranges in the report are drawn once for each calibration."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.calibration import cache
from enginery.project.paths import CACHE
from enginery.report import ranges_page
from enginery.report.kept_ranges import ranges_of


def test_ranges_are_drawn_again_only_where_they_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder := tmp_path / "calibration").mkdir()
    drawn: list[str] = []
    original = ranges_page.ranges_table

    def noted(model: str, place: Path) -> ranges_page.Html:
        drawn.append(model)
        return original(model, place)

    def calibrated(threshold: float) -> None:
        made = cache.from_thresholds({"images": threshold})
        cache.write(made, folder / CACHE)

    monkeypatch.setattr(ranges_page, "ranges_table", noted)
    calibrated(1.0)
    first = ranges_of("m", folder)
    assert ranges_of("m", folder) == first  # a folder that is no project keeps nothing
    assert drawn == ["m", "m"]
    (tmp_path / ".dvc").mkdir()
    assert [ranges_of("m", folder), ranges_of("m", folder)] == [first, first]
    assert drawn == ["m"] * 3
    calibrated(2.0)
    assert "2" in ranges_of("m", folder) != first
    assert ranges_of("n", folder) != ranges_of("m", folder)
    assert drawn == ["m"] * 4 + ["n"]
