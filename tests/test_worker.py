"""The process that reproduces stages: it writes dvc.lock as DVC does, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from enginery.errors import DiskFullError, EngineryError
from enginery.pipeline import lock_entries, worker, yaml12
from enginery.pipeline.process import StageProcess
from enginery.pipeline.repository import open_repository

LONG = "a_rather_long_word_" * 3
STAGES: dict[str, Any] = {
    "plain": {"cmd": "true", "deps": ["in.txt"], "outs": ["out.txt"]},
    "long@a-b": {
        "cmd": f"python -m tasks.build {LONG} {LONG} {LONG} and 'a quote' \"another\" {LONG} # end",
        "deps": ["in.txt", "a folder ü/with a space.txt"],
        "outs": ["folder", {"kept.json": {"persist": True}}, {"loose.txt": {"cache": False}}],
    },
    "numbers": {"cmd": "echo 1:2 - 'yes' | tee x", "deps": ["1e3", "no", "0x1F"], "outs": ["null"]},
    "list": {"cmd": ["echo one", "echo two: three", "@odd % start", "- dash"], "outs": ["~"]},
    "parameters": {
        "cmd": "true  two  spaces",
        "params": [{"p.yaml": ["a", "text", "float", "none", "list", "deep.er"]}],
        "outs": ["p.out"],
    },
    "lines": {"cmd": "echo one\necho two\n", "outs": ["l.out"]},
    "spaces": {"cmd": "echo one  ", "outs": ["s.out"]},
    "unicode": {"cmd": "echo ü € 中 \t tab", "outs": ["ü.out"]},
    "quotes": {"cmd": "sh -c 'it''s' and 'more': \"x\" # 'y'", "outs": ["q.out"]},
    "apostrophe": {"cmd": "echo it's", "outs": ["a.out"]},
}
PARAMETERS = {
    "a": 1,
    "text": "yes",
    "float": 1e-07,
    "none": None,
    "list": [1, "two", 3.5, True, "2026-01-01"],
    "deep": {"er": {"x": {}, "y": [], "z": "multi\nline\n"}},
}
FILES = ["in.txt", "a folder ü/with a space.txt", "1e3", "no", "0x1F", "out.txt", "kept.json"]
FILES += [
    "loose.txt",
    "null",
    "~",
    "p.out",
    "l.out",
    "s.out",
    "ü.out",
    "q.out",
    "a.out",
    "folder/a",
    "folder/b/c",
]


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stages of every kind of content, as after their commands have run."""
    from dvc.utils.serialize import dump_yaml

    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    plain = {name: stage for name, stage in STAGES.items() if "@" not in name}
    each = {"long": {"foreach": ["a-b"], "do": STAGES["long@a-b"]}}
    dump_yaml("dvc.yaml", {"stages": {**plain, **each}})
    dump_yaml("p.yaml", PARAMETERS)
    for name in FILES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"content of {name}")
    repository = open_repository(Path())
    with repository.lock:
        found = {stage.addressing: stage for stage in repository.stage.load_all("dvc.yaml")}
        for stage in found.values():
            stage.save()
    assert found.keys() == STAGES.keys()
    return found


def lock_of(dump: Callable[..., None], stages: list[Any]) -> bytes:
    from dvc.dvcfile import Lockfile

    path = Path("dvc.lock")
    for stage in stages:
        dump(Lockfile(stage.repo, str(path)), [stage])
    return path.read_bytes()


def test_a_lock_has_the_same_bytes_as_dvcs_own(stages: dict[str, Any]) -> None:
    from dvc.dvcfile import Lockfile
    from dvc.utils.serialize import load_yaml

    texts = []
    for dump in (Lockfile.dump_stages, worker._dump_stages):
        Path("dvc.lock").unlink(missing_ok=True)
        texts.append(lock_of(dump, list(stages.values())))
    assert texts[1].decode() == texts[0].decode()
    assert len(yaml.safe_load(texts[0])["stages"]) == len(stages)
    assert yaml12.load(texts[1]) == load_yaml("dvc.lock")


def test_each_stage_replaces_its_own_entry_and_both_writers_may_take_turns(
    stages: dict[str, Any],
) -> None:
    from dvc.dvcfile import Lockfile

    first = lock_of(Lockfile.dump_stages, list(stages.values()))
    stage = stages["plain"]
    Path("out.txt").write_text("other")
    with stage.repo.lock:
        stage.save()
    second = lock_of(worker._dump_stages, [stage])
    assert list(yaml.safe_load(second)["stages"]) == list(yaml.safe_load(first)["stages"])
    assert second != first
    assert lock_of(Lockfile.dump_stages, [stage]) == second  # it finds nothing to change
    Path("dvc.lock").write_bytes(first)
    assert lock_of(Lockfile.dump_stages, [stage]) == second


@pytest.mark.parametrize("text", ["1e3", "0o17", "yes", "12:30:45", "1_000", "0x1F", "😀", "~"])
def test_a_text_comes_back_as_dvc_reads_it(tmp_path: Path, text: str) -> None:
    from dvc.utils.serialize import load_yaml

    path = tmp_path / "x.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml12.dump({"key": text}, file)
    assert load_yaml(str(path)) == {"key": text}
    assert yaml12.load(path.read_bytes()) == {"key": text}
    path.write_text(f"key: {text}\n", encoding="utf-8")
    assert yaml12.load(path.read_bytes()) == load_yaml(str(path))


@pytest.mark.parametrize("content", ["", "{}", "schema: '2.0'\n"])
def test_a_lock_without_stages_gets_its_first(stages: dict[str, Any], content: str) -> None:
    Path("dvc.lock").write_text(content)
    found = yaml.safe_load(lock_of(worker._dump_stages, [stages["plain"]]))
    assert list(found["stages"]) == ["plain"]
    assert found["schema"] == "2.0"


@pytest.mark.parametrize("form", [b"", b"# by hand\n", b"datasets: {}\n"])
def test_one_entry_is_read_and_exchanged_as_the_whole_file_would_be(
    stages: dict[str, Any], form: bytes
) -> None:
    whole = form + lock_of(worker._dump_stages, list(stages.values()))
    entries = yaml12.load(whole)["stages"]
    for name, entry in entries.items():
        assert lock_entries.read_entry(whole, name) == entry
    assert lock_entries.read_entry(whole, "no such stage") is None
    other = {**entries["quotes"], "cmd": "it's\nanother: 'one' # of 1e3"}
    changed = lock_entries.with_entries(whole, {"quotes": other, "1e3": other})
    assert yaml12.load(changed)["stages"] == {**entries, "quotes": other, "1e3": other}
    assert list(yaml12.load(changed)["stages"]) == [*entries, "1e3"]
    if not form:
        one = lock_entries.with_entries(whole, {"quotes": other})
        kept = lock_entries.with_entries(one, {"quotes": entries["quotes"]})
        assert (one != whole, kept) == (True, whole)


def test_an_error_of_ours_is_one_line_and_any_other_leaves_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk that the child meets when it writes dvc.lock."""

    def child(error: Exception) -> tuple[str, str]:
        reader, writer = os.pipe()
        if (number := os.fork()) == 0:
            monkeypatch.setattr(worker, "_fetch_runs", lambda repository: _raise(error))
            worker._child(None, {}, worker.Request(), writer)
        os.close(writer)
        with os.fdopen(reader) as lines, pytest.raises(EngineryError) as caught:
            StageProcess(lines, "stage").follow(lambda event: None, lambda: False)
        os.waitpid(number, 0)
        return str(caught.value), "".join(map(Path.read_text, tmp_path.rglob("*.txt")))

    monkeypatch.chdir(tmp_path)
    full = "stage failed: no room to write dvc.lock. Free some space, then run again"
    assert child(DiskFullError(Path("dvc.lock"))) == (full, "")
    said, traceback = child(ValueError("odd"))
    assert said.startswith("stage failed: ValueError: odd")
    assert "in _raise" in traceback


def _raise(error: Exception) -> None:
    raise error
