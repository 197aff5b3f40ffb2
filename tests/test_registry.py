"""The registry: publish whole, find by a part of the name; what is damaged hides nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enginery.cli.main import main
from enginery.errors import DamagedFileError, EngineryError, IntegrityError
from enginery.project.paths import ENGINES
from enginery.registry.store import (
    DamagedEngine,
    damage,
    engines,
    entries,
    find,
    find_entry,
    publish,
)
from enginery.system.files import read_json, write_json
from tests.registered import register

NAMES = ["yolo/ada/fp16", "yolo/ada/fp32"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        register(name)
    return ENGINES


def test_finds_by_name_or_part(root: Path) -> None:
    assert [engine.name for engine in engines(root)] == NAMES
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
        publish(tmp_path / "plan", engine.manifest.to_json(), engine.folder)
    with pytest.raises(DamagedFileError, match=r"manifest\.json is that of yolo/ada/fp16"):
        publish(engine.plan, engine.manifest.to_json(), root / "yolo/ada/int8")
    assert damage(find("fp16", root)) == []
    assert [
        path.name for path in engine.folder.parent.iterdir() if path.name.endswith(".part")
    ] == []
    assert sorted(path.name for path in engine.folder.iterdir()) == ["manifest.json", "model.plan"]


def test_what_is_being_written_and_what_others_keep_there_is_no_engine(root: Path) -> None:
    for name in (".fp16.12.part", "notes", "int8x"):
        (root / "yolo/ada" / name).mkdir()
    (root / "yolo/ada/.gitignore").write_text("/fp16\n")
    (root / ".yolo.1.part/ada/fp16").mkdir(parents=True)
    assert [entry.name for entry in entries(root)] == NAMES


def conflict(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(
            [*lines[:3], "<<<<<<< HEAD", lines[3], "=======", lines[3], ">>>>>>> x", *lines[4:]]
        )
    )


def turned_into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edited(*keys: str, value: Any = None) -> Callable[[Path], None]:
    """Another value under these keys; without one, the key is taken out."""

    def edit(path: Path) -> None:
        manifest = inner = read_json(path)
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        if value is None:
            del inner[keys[-1]]
        path.write_text(json.dumps(manifest))

    return edit


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "conflict": (conflict, "manifest.json holds a merge conflict (line 4)"),
    "cut off": (
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        "manifest.json is no JSON: EOF while parsing",
    ),
    "empty": (lambda path: path.write_text(""), "manifest.json is empty"),
    "no text": (
        lambda path: path.write_bytes(b"\xff\x00"),
        "manifest.json is no JSON: expected value",
    ),
    "deep": (
        lambda path: path.write_text("[" * 100_000),
        "manifest.json is no JSON: recursion limit exceeded",
    ),
    "a list": (
        lambda path: path.write_text("[]"),
        "manifest.json is not whole: (top level): input should be an object",
    ),
    "a folder": (turned_into_a_folder, "manifest.json is no file"),
    "missing": (lambda path: path.unlink(), "manifest.json is missing"),
    "a link to nowhere": (
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
        "manifest.json is missing",
    ),
    "no plan": (lambda path: path.with_name("model.plan").unlink(), "model.plan: missing"),
    "a folder for a plan": (
        lambda path: turned_into_a_folder(path.with_name("model.plan")),
        "model.plan: a folder lies in its place",
    ),
    "a cut plan": (
        lambda path: path.with_name("model.plan").write_bytes(b"?"),
        "model.plan: 1 bytes, 400 are recorded",
    ),
    "a key less": (edited("plan"), "manifest.json is not whole: plan is missing"),
    "a key less, deep": (
        edited("steps", "build", "recipe"),
        "is not whole: steps.build.recipe is missing",
    ),
    "another schema": (edited("schema", value=2), "is not whole: schema: input should be 1"),
    "text for a number": (
        edited("plan", "bytes", value="400"),
        "plan.bytes: input should be a valid integer",
    ),
    "Infinity in a note": (
        lambda path: path.write_text(
            path.read_text().replace('"simplified": true', '"simplified": 1e999')
        ),
        "manifest.json holds a number that is not finite",
    ),
    "of another": (edited("target", value="ampere"), "manifest.json is that of yolo/ampere/fp16"),
    "another plan": (
        edited("plan", "sha256", value="1" * 64),
        "its plan is not the one that its build wrote down",
    ),
    "better metrics": (
        edited("metrics", "map50_95", value=0.9),
        "its metrics are not those that its validation",
    ),
    "a failing one": (
        edited("steps", "register", "recipe", "parameters", "rms_relative", value=0.0001),
        "its own numbers fail its tolerance: raw outputs differ by 0.001 (RMS, relative), 0.0001",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_engine_is_shown_with_its_reason_and_hides_no_other(
    root: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    spoil, reason = DAMAGES[case]
    spoil(root / "yolo/ada/fp16/manifest.json")
    damaged = find_entry("fp16", root)
    assert isinstance(damaged, DamagedEngine)
    assert reason in damaged.reason
    assert [engine.name for engine in engines(root)] == ["yolo/ada/fp32"]
    assert damage(damaged) == [f"{damaged.folder}: {damaged.reason}"]
    with pytest.raises(DamagedFileError, match=r"fp16 is damaged: .* Run `enginery build`"):
        find("fp16", root)

    assert main(["list", "--json"]) == 0
    listed = {(e["precision"], e["state"]): e for e in json.loads(capsys.readouterr().out)}
    assert list(listed) == [("fp16", "damaged"), ("fp32", "candidate")]
    assert {engine.keys() == listed["fp32", "candidate"].keys() for engine in listed.values()} == {
        True
    }
    assert listed["fp16", "damaged"]["reason"] == damaged.reason
    for command in (["list"], ["show", "fp16"], ["show", "fp16", "--json"], ["show", "fp32"]):
        assert main(command) == 0
    assert main(["verify"]) == 1
    assert damaged.reason in capsys.readouterr().out


def test_a_whole_manifest_is_read_as_it_was_written(root: Path) -> None:
    path = root / "yolo/ada/fp16/manifest.json"
    before = path.read_bytes()
    write_json(path, find("fp16", root).manifest.to_json())
    assert path.read_bytes() == before
