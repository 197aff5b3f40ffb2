"""A data set of a team, and a project beside a later version's template."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from enginery.project import template
from enginery.project.init import init
from tests.conftest import ROOT
from tests.init.common import DEMO, draw


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A data set as Ultralytics' users have them."""
    draw(tmp_path / "set ü/images/val", 3)
    draw(tmp_path / "set ü/images/train", 9, first=2)
    data = {"path": ".", "train": "images/train", "val": "images/val", "names": {0: "a"}}
    (tmp_path / "set ü/data.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "set ü"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and a later version's template in `tmp_path/later`."""
    later = tmp_path / "later"
    for name in template.template_files(ROOT):
        (later / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, later / name)
    monkeypatch.setattr(template, "PACKED", later)
    init(tmp_path / "project", DEMO)
    return tmp_path / "project"
