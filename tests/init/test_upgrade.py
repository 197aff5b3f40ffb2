"""What `upgrade` replaces, keeps and refuses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from enginery import __version__
from enginery.errors import DamagedFileError, EngineryError
from enginery.project import origin
from enginery.project import upgrade as upgrading
from enginery.project.origin import ORIGIN, check_version, read_origin
from enginery.project.upgrade import decide, upgrade
from tests.init.common import files_of


@pytest.mark.parametrize(
    ("written", "here", "new", "action"),
    [
        ("1", "1", "1", "same"),
        ("1", "1", "2", "replace"),
        ("1", "x", "2", "keep"),
        ("1", "x", "1", "same"),  # only the team changed it
        ("1", "2", "2", "same"),
        ("1", None, "2", "deleted"),
        ("1", None, None, "same"),
        (None, None, "2", "add"),
        (None, "x", "2", "keep"),
        ("1", "1", None, "remove"),
        ("1", "x", None, "keep"),
    ],
)
def test_what_happens_to_a_file(
    written: str | None, here: str | None, new: str | None, action: str
) -> None:
    assert decide(written, here, new) == action


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(origin, "__version__", version)
    monkeypatch.setattr(upgrading, "__version__", version)


def test_an_upgrade_over_two_versions(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path / "later"
    for name in ("tasks/build.py", "tasks/export.py", "tasks/images.py"):
        (later / name).write_text("# 2.0\n")
    (later / "tasks/new.py").write_text("# new\n")
    (later / "tasks/timing.py").unlink()
    (later / ".gitignore").write_text("/.venv/\n/more\n")
    (project / "tasks/export.py").write_text("# ours\n")
    (project / "tasks/images.py").unlink()
    (project / "tasks/simplify.py").write_text("# ours, and the same in 2.0\n")
    install(monkeypatch, "2.0.0")
    before = files_of(project)
    planned = upgrade(project, dry_run=True)
    assert files_of(project) == before
    done = upgrade(project)
    assert done == planned
    assert [str(change) for change in done.changes] == [
        "tasks/build.py: brought up to date",
        "tasks/export.py: kept: you changed it, and so does this version",
        "tasks/images.py: stays deleted: you removed it",
        "tasks/new.py: new",
        "tasks/timing.py: removed: this version has no such file",
        ".gitignore: brought up to date",
    ]
    assert "-# ours\n+# 2.0\n" in done.changes[1].diff
    assert (project / "tasks/export.py").read_text() == "# ours\n"
    assert not (project / "tasks/images.py").exists()
    assert (project / ".gitignore").read_text().endswith("/more\n")
    assert read_origin(project).version == "2.0.0"
    (later / "tasks/build.py").write_text("# 3.0\n")
    install(monkeypatch, "3.0.0")
    assert [str(change) for change in upgrade(project).changes] == [
        "tasks/build.py: brought up to date",
        "tasks/images.py: stays deleted: you removed it",
    ]


def test_a_newer_versions_project_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((project / ORIGIN).read_text())
    (project / ORIGIN).write_text(json.dumps({**content, "version": "99.10"}))
    said = f"Enginery 99.10 wrote this project, and {__version__} is installed. Install it: pip"
    for ask in (upgrade, check_version):
        with pytest.raises(EngineryError, match=said):
            ask(project)
    install(monkeypatch, "99.9")
    with pytest.raises(EngineryError, match=r"Enginery 99\.10 wrote this project"):
        check_version(project)
    (project / ORIGIN).write_text("[]")
    with pytest.raises(DamagedFileError, match="is no record of `enginery init`"):
        upgrade(project)
    (project / ORIGIN).unlink()
    check_version(project)
    with pytest.raises(EngineryError, match=r"has no \.enginery\.json"):
        upgrade(project)


def test_what_git_has_not_committed_is_a_warning(project: Path) -> None:
    subprocess.run(["git", "init", "-q", project], check=True)
    [warning] = upgrade(project).warnings
    assert warning.startswith("git has changes here that are not committed")
    (project / "params.yaml").write_text("matrix: 1\n")
    assert upgrade(project).warnings[1].startswith("this version refuses ")
