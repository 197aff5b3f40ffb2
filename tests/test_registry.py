"""The registry: publish whole, find by a part of the name, name the damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.errors import EngineryError, IntegrityError
from enginery.files import sha256
from enginery.registry import damage, engines, find, publish


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plan = tmp_path / "plan"
    plan.write_bytes(b"plan" * 100)
    for precision in ("fp16", "fp32"):
        manifest = {"plan": {"sha256": sha256(plan), "bytes": 400}}
        publish(plan, manifest, tmp_path / "engines" / "yolo" / "ada" / precision)
    return tmp_path / "engines"


def test_finds_by_name_or_part(root: Path) -> None:
    assert [engine.name for engine in engines(root)] == ["yolo/ada/fp16", "yolo/ada/fp32"]
    assert find("fp16", root).name == "yolo/ada/fp16"
    with pytest.raises(EngineryError, match="more than one"):
        find("yolo", root)
    with pytest.raises(EngineryError, match="no engine is called 'int8'"):
        find("int8", root)


def test_names_the_damage(root: Path) -> None:
    engine = find("fp16", root)
    assert damage(engine) == []
    engine.plan.write_bytes(b"plaN" + b"plan" * 99)
    assert "a byte changed" in damage(engine)[0]
    engine.plan.write_bytes(b"plan")
    assert "4 bytes, 400 are recorded" in damage(engine)[0]
    engine.plan.unlink()
    assert "missing" in damage(engine)[0]


def test_a_failed_publish_leaves_the_old_engine(root: Path, tmp_path: Path) -> None:
    engine = find("fp16", root)
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "nothing", {}, engine.folder)
    (tmp_path / "plan").write_bytes(b"another")
    with pytest.raises(IntegrityError, match="7 bytes, 400 are recorded; it was not used"):
        publish(tmp_path / "plan", engine.manifest, engine.folder)
    assert damage(find("fp16", root)) == []
    assert [path.name for path in engine.folder.parent.iterdir() if path.name.endswith(".part")] == []
    assert sorted(path.name for path in engine.folder.iterdir()) == ["manifest.json", "model.plan"]
