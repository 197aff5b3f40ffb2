"""The real DVC in small projects: what a kill leaves is repaired, and no byte that DVC restores is
believed unchecked.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enginery.cli.main import main
from enginery.errors import BusyError, DiskFullError, EngineryError
from enginery.pipeline import Pipeline
from enginery.pipeline.disk import disk_full_guard
from enginery.pipeline.lockfile import md5_of, recorded
from enginery.pipeline.repair import KEPT, repair
from enginery.pipeline.site_cache import private_site_cache
from enginery.project.stage import Stage
from enginery.registry.manifest import compose
from tests.registered import records, records_of

PLAN, ENGINE = "artifacts/build/m/t/fp16/model.plan", "artifacts/engines/m/t/fp16"
STARTED = """echo '{"event": "started"}'"""
TEMPLATE = json.dumps(compose(Stage("register", "m", "t", "fp16"), records_of("DIGEST", "BYTES")))
MANIFEST = f"""sed -e "s/DIGEST/$(sha256sum < {PLAN} | cut -d' ' -f1)/g" -e "s/.BYTES./$(wc -c < {PLAN})/g" template.json"""
COMMANDS = {
    "file": f"mkdir -p {Path(PLAN).parent} && tr a-z A-Z < source > {PLAN}",
    "folder": f"mkdir -p folder/deep && cp {PLAN} folder/deep/one && cat {PLAN} {PLAN} > folder/two",
    "kept": f"mkdir -p {ENGINE} && cp {PLAN} {ENGINE} && {MANIFEST} > {ENGINE}/manifest.json",
}
SCRIPT = f"""\
stages:
  file:
    cmd: {json.dumps(f"{STARTED} && {COMMANDS['file']}")}
    deps: [source]
    outs: [{PLAN}]
  folder:
    cmd: {json.dumps(f"{STARTED} && {COMMANDS['folder']}")}
    deps: [{PLAN}]
    outs: [folder]
  kept:
    cmd: {json.dumps(f"{STARTED} && {COMMANDS['kept']}")}
    deps: [{PLAN}]
    outs: [{ENGINE}: {{persist: true}}]
"""
STAGES = ("file", "folder", "kept")


@dataclass
class Project:
    """A checkout with three small stages: a file, a folder, and one that DVC's run-cache does not
    know.
    """

    root: Path
    said: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def build(self) -> dict[str, str]:
        """Bring every stage up to date; how each was."""
        with contextlib.chdir(self.root):
            pipeline = Pipeline(say=self.said.append)
            return {
                stage: pipeline.reproduce(stage, self._on_event)
                if pipeline.stale(stage)
                else "cached"
                for stage in STAGES
            }

    def _on_event(self, event: Mapping[str, Any]) -> None:
        assert (event["severity"], event["notice"]) == ("warning", True)
        self.warnings.append(event["message"])

    def git(self, *command: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *command], cwd=self.root, check=True, capture_output=True)

    def dvc(self, *command: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "dvc", *command], cwd=self.root, check=True, capture_output=True
        )

    def cached(self, digest: str) -> Path:
        return self.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]

    def digests(self) -> dict[str, str]:
        return {
            output.path: md5_of(self.root / output.path)
            for outs in recorded(self.root).values()
            for output in outs
        }


@pytest.fixture(scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("projects") / "project ü")
    (project.root / ".dvc").mkdir(parents=True)
    (project.root / ".dvc/config").write_text(
        "[core]\n    analytics = false\n    check_update = false\n"
    )
    (project.root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (project.root / ".gitignore").write_text("/artifacts\n/folder\n")
    (project.root / "dvc.yaml").write_text(SCRIPT)
    (project.root / "template.json").write_text(TEMPLATE)
    (project.root / "source").write_text("some bytes\n" * 200)
    project.git("init", "--quiet")
    assert set(project.build().values()) == {"completed"}
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=all")
    assert (project.said, project.warnings) == ([], [])
    return project


@pytest.fixture
def project(_built: Project, tmp_path: Path) -> Project:
    """A copy in which everything is up to date."""
    root = tmp_path / "project ü"
    subprocess.run(["cp", "-a", _built.root, root], check=True)
    return Project(root)


# What a kill leaves


def cut_in_last_digest(content: bytes) -> bytes:
    return content[: content.rindex(b"md5: ") + len("md5: 1234")]


def cut_before_last_stage(content: bytes) -> bytes:
    return content[: content.rindex(b"  kept:")]


def cut_within_a_stage(content: bytes) -> bytes:
    return content[: content.index(b"    outs:\n")]


LEFT = {
    "empty": lambda content: b"",
    "blank": lambda content: b"\n",
    "no YAML": lambda content: content[: content.index(b"cmd") + 2],
    "no bytes of text": lambda content: b"\xff" * len(content),
    "zeros": lambda content: b"\0" * len(content),
    "a list": lambda content: b"- 1\n",
    "schema alone": lambda content: b"schema: '2.0'\n",
    "a path alone": lambda content: content[: content.rindex(b"      hash:")],
    "half a digest": cut_in_last_digest,
    "last stage lost": cut_before_last_stage,
    "stage without outputs": cut_within_a_stage,
}


SAME = ("last stage lost", "stage without outputs")  # lock files, as DVC reads them


def damage_lock_file(project: Project, left: str, source: str) -> None:
    lock = project.root / "dvc.lock"
    lock.write_bytes(LEFT[left](lock.read_bytes()))
    if source != "kept":
        (project.root / KEPT).unlink()
    if source == "nothing":
        project.git("rm", "--quiet", "--cached", "dvc.lock")
        project.git("commit", "--quiet", "--message=none")


@pytest.mark.parametrize("source", ["kept", "committed", "nothing"])
@pytest.mark.parametrize("left", sorted(LEFT.keys() - {*SAME}))
def test_a_damaged_lock_file_is_repaired_in_one_line(
    project: Project, left: str, source: str
) -> None:
    whole = (project.root / "dvc.lock").read_bytes()
    damage_lock_file(project, left, source)
    for _ in range(2):
        repair(project.root, project.said.append)
    lock = project.root / "dvc.lock"
    assert (lock.read_bytes() if lock.is_file() else b"") == (b"" if source == "nothing" else whole)
    [line] = project.said
    how = {
        "kept": "as the last step that ended well left it",
        "committed": "as it was committed last",
        "nothing": "taken away",
    }
    short = left in ("schema alone", "a path alone", "half a digest")
    why = (
        "it is empty"
        if left in ("empty", "blank")
        else "it is cut short"
        if short
        else "it is cut short or altered"
    )
    assert (
        line
        == f"dvc.lock was damaged ({why}) and is {how[source]}; what was built since is restored from DVC's cache"
    )


def test_copies_that_are_damaged_too_are_passed_over(project: Project) -> None:
    whole = (project.root / "dvc.lock").read_bytes()
    (project.root / KEPT).write_bytes(whole[:-4])
    (project.root / "dvc.lock").write_bytes(b"")
    repair(project.root, project.said.append)
    assert (project.root / "dvc.lock").read_bytes() == whole
    assert "as it was committed last" in project.said[0]


@pytest.mark.parametrize(
    ("left", "source"),
    [("empty", "kept"), ("empty", "nothing"), *((left, "kept") for left in SAME)],
)
def test_after_a_damaged_lock_file_nothing_is_built_again(
    project: Project, left: str, source: str
) -> None:
    before = project.digests()
    damage_lock_file(project, left, source)
    states = project.build()
    assert {states["file"], states["folder"]} <= {"cached", "restored"}
    assert source == "nothing" or left in SAME or set(states.values()) == {"cached"}
    assert project.digests() == before
    assert len(project.said) == (left not in SAME)


def test_dvc_by_hand_while_the_lock_file_is_looked_at_is_waited_for(project: Project) -> None:
    (project.root / "dvc.lock").write_bytes(b"")
    code = "import sys, zc.lockfile; held = zc.lockfile.LockFile('.dvc/tmp/lock'); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project.root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match="a DVC command is at work in this checkout"):
        repair(project.root, project.said.append)
    holder.communicate(b"")
    repair(project.root, project.said.append)
    assert len(project.said) == 1


@pytest.mark.parametrize("left", ["", "{", "[]", '{"read": 1}', '{"write": {"/x": {"pid": 1}}}'])
def test_a_half_written_list_of_locks_is_taken_away(project: Project, left: str) -> None:
    path = project.root / ".dvc/tmp/rwlock"
    path.write_text(left)
    repair(project.root, project.said.append)
    assert not path.exists()


def test_a_lock_of_a_killed_process_whose_number_another_has_is_none(project: Project) -> None:
    """A container gives the same numbers at every start."""
    path = project.root / ".dvc/tmp/rwlock"
    alive = {"pid": os.getpid(), "cmd": " ".join(sys.argv)}
    other = {"pid": os.getppid(), "cmd": "dvc repro file"}
    path.write_text(
        json.dumps(
            {"read": {"/a": [alive, other], "/b": [other]}, "write": {"/c": other, "/d": alive}}
        )
    )
    repair(project.root, project.said.append)
    assert json.loads(path.read_text()) == {"read": {"/a": [alive]}, "write": {"/d": alive}}


def test_what_killed_writers_left_is_swept_and_a_writer_at_work_is_not_disturbed(
    project: Project,
) -> None:
    token = "A" * 11 + "-_" + "b" * 9
    entries = sorted((project.root / ".dvc/cache/runs").glob("*/*/*"))
    cut = entries[0]
    cut.write_bytes(cut.read_bytes()[:-20])
    empty = cut.parent.parent / ("0" * 64)
    empty.mkdir()
    left = [
        project.cached("00" + "0" * 30).parent / f".{token}.tmp",
        project.root / f".dvc/cache/files/md5/.{token}.tmp",
        cut.parent / f".{token}.tmp",
        project.root / "artifacts/models/.x.999999999.part",
        project.root / ".dvc/tmp/.dvc.lock.kept.999999999.part",
        project.root / f"artifacts/models/x.{token}.tmp",
    ]
    kept = [
        project.root / f"artifacts/models/.x.{os.getpid()}.part",
        project.root / "artifacts/models/x.tmp",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    folder = project.root / "artifacts/models/.y.999999999.part"
    folder.mkdir()
    (folder / "z").touch()
    repair(project.root, project.said.append)
    assert [path for path in (*left, cut, cut.parent, empty, folder) if path.exists()] == []
    assert all(path.exists() for path in (*kept, *entries[1:]))
    assert project.said == []


def test_a_merge_conflict_is_left_to_its_user(project: Project) -> None:
    lock = project.root / "dvc.lock"
    lock.write_text("<<<<<<< HEAD\n" + lock.read_text())
    with pytest.raises(EngineryError, match=r"^dvc\.lock holds a merge conflict\. Resolve it"):
        repair(project.root, project.said.append)
    assert lock.read_text().startswith("<<<<<<< HEAD")


def test_a_folder_in_the_place_of_the_lock_file_is_left_to_its_user(project: Project) -> None:
    lock = project.root / "dvc.lock"
    lock.unlink()
    (lock / "inside").mkdir(parents=True)
    with pytest.raises(EngineryError, match=r"dvc\.lock is no plain file\. Move it away; take dvc"):
        repair(project.root, project.said.append)
    assert (lock / "inside").is_dir()


def test_stages_that_dvc_does_not_take_are_one_line(project: Project) -> None:
    path = project.root / "dvc.yaml"
    path.write_text(path.read_text() + "    nonsense: 1\n")
    line = r"^dvc\.yaml: .*stages\.[a-z]+\.nonsense: extra keys not allowed\. Correct dvc\.yaml$"
    with contextlib.chdir(project.root), pytest.raises(EngineryError, match=line):
        Pipeline(say=project.said.append).graph()  # what a run does first


@pytest.mark.parametrize(
    "said",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        EngineryError(
            "file failed: failed to reproduce 'file': [Errno 28] No space left on device"
        ),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk_that_dvc_does_not_name_is_the_one_with_the_least_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Exception
) -> None:
    for name in (".dvc/cache", ".dvc/tmp", "artifacts", "data"):
        (tmp_path / name).mkdir(parents=True)
    for full in (".dvc/cache", ".dvc/tmp", "artifacts", "data", "dvc.lock"):
        place = tmp_path if full == "dvc.lock" else tmp_path / full

        def usage(path: Path, place: Path = place) -> SimpleNamespace:
            return SimpleNamespace(free=0 if path == place else 5)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        with pytest.raises(DiskFullError) as error, disk_full_guard(tmp_path, [Path("data")]):
            raise said
        assert str(error.value) == f"no room to write {full}. Free some space, then run again"
    with pytest.raises(DiskFullError, match="no room to write x"), disk_full_guard(tmp_path):
        raise DiskFullError(Path("x"))
    with pytest.raises(ValueError, match="other"), disk_full_guard(tmp_path):
        raise ValueError("other")


def test_a_folder_that_is_no_project_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(EngineryError, match="is no DVC project"):
        Pipeline(tmp_path)
    assert list(tmp_path.iterdir()) == []


# What DVC restores


def flip(path: Path) -> None:
    """Change one byte, without a trace in times and rights."""
    times, mode = path.stat(), path.stat().st_mode
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def object_of(project: Project, place: str) -> str:
    """The digest of a file among the outputs."""
    return md5_of(project.root / place)


def lose(project: Project, *outputs: str) -> None:
    """Take outputs out of the work tree: the next run restores them."""
    for output in outputs:
        subprocess.run(["rm", "-r", project.root / output], check=True)


@pytest.fixture
def remote(project: Project, tmp_path: Path) -> Path:
    """The project's remote, a folder, to which all was pushed."""
    project.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    project.dvc("push", "--run-cache")
    return tmp_path / "remote/files/md5"


@pytest.mark.parametrize("place", [PLAN, "folder/deep/one"])
def test_a_damaged_object_in_the_cache_is_not_restored(project: Project, place: str) -> None:
    before = project.digests()
    flip(project.cached(object_of(project, place)))
    stage, output = ("file", PLAN) if place == PLAN else ("folder", "folder")
    lose(project, output)
    states = project.build()
    assert states[stage] == "completed"  # there is no remote
    assert project.digests() == before
    assert project.warnings == [
        f"{output} is damaged, and neither DVC's cache nor a remote has its bytes"
    ]
    assert (
        project.cached(object_of(project, place)).read_bytes()
        == (project.root / place).read_bytes()
    )
    assert set(project.build().values()) == {"cached"}


@pytest.mark.parametrize("what", ["file", "list of files"])
@pytest.mark.usefixtures("remote")
def test_a_damaged_object_is_fetched_from_the_remote_again(project: Project, what: str) -> None:
    before = project.digests()
    digest = object_of(project, "folder" if what == "list of files" else "folder/two")
    if what == "file":
        flip(project.cached(digest))
    else:
        path = project.cached(digest)
        listing = path.read_text()
        path.chmod(0o600)
        path.write_text(listing.replace("deep/one", "deep/eno"))
        path.chmod(0o444)
    lose(project, "folder")
    assert project.build() == {"file": "cached", "folder": "restored", "kept": "cached"}
    assert project.digests() == before
    assert project.warnings == [
        "folder was damaged in the work tree: its bytes are those of the remote again"
    ]
    assert set(project.build().values()) == {"cached"}


def test_an_object_that_is_damaged_in_the_remote_is_not_restored(
    project: Project, remote: Path
) -> None:
    before = project.digests()
    digest = object_of(project, "folder/two")
    flip(remote / digest[:2] / digest[2:])
    subprocess.run(["rm", "-rf", project.root / ".dvc/cache"], check=True)
    lose(project, PLAN, "folder")
    states = project.build()
    assert (states["file"], states["folder"]) == ("restored", "completed")
    assert project.digests() == before
    assert project.warnings == [
        "folder is damaged, and neither DVC's cache nor a remote has its bytes"
    ]


def test_what_a_step_writes_is_not_replaced_by_a_damaged_object(project: Project) -> None:
    """DVC finds the object in its cache and links it in the place of what the step wrote."""
    before = project.digests()
    digest = object_of(project, f"{ENGINE}/model.plan")
    flip(project.cached(digest))
    (project.root / ENGINE / "model.plan").write_bytes(b"altered")
    assert project.build()["kept"] == "completed"
    assert project.digests() == before
    assert md5_of(project.cached(digest)) == digest
    assert len(project.warnings) == 1


def test_a_remote_that_fails_is_one_line(project: Project, remote: Path) -> None:
    digest = object_of(project, PLAN)
    flip(project.cached(digest))
    path = remote / digest[:2] / digest[2:]
    path.unlink()
    path.mkdir()
    (path / "x").touch()
    lose(project, PLAN)
    with pytest.raises(
        EngineryError, match=f"^object {digest} cannot be fetched from the remote: .*Is a directory"
    ):
        project.build()


# What DVC remembers


def site_cache(project: Project, folder: str = ".") -> str:
    """Where a DVC that is started by hand keeps what it remembers."""
    code = "from dvc.repo import Repo; print(Repo().site_cache_dir)"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=project.root / folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_what_dvc_remembers_lies_where_no_other_user_enters(project: Project) -> None:
    closed = project.root.resolve() / f".dvc/tmp/site-{os.geteuid()}"
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    with contextlib.chdir(project.root):
        Pipeline()  # the project was moved here
    assert Path(site_cache(project, "folder")).is_relative_to(closed)
    assert not (project.root / "folder/.dvc").exists()
    assert [path for path in closed.rglob("*") if path.stat().st_mode & 0o002] == []


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_what_others_could_have_written_is_not_believed(
    project: Project, tmp_path: Path, kind: str
) -> None:
    closed = project.root / f".dvc/tmp/site-{os.geteuid()}"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "planted").touch()
    subprocess.run(["rm", "-r", closed], check=True)
    if kind == "link":
        closed.symlink_to(elsewhere)
    elif kind == "file":
        closed.touch()
    else:
        closed.mkdir()
        (closed / "planted").touch()
        closed.chmod(0o777)
    private_site_cache(project.root)
    assert [path.name for path in closed.iterdir()] == ["repo"]
    assert (stat.S_IMODE(closed.lstat().st_mode), (elsewhere / "planted").exists()) == (0o700, True)


def test_the_users_own_settings_stay(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    config = project.root / ".dvc/config.local"
    config.write_text(
        "# mine\n['remote \"s\"']\n    url = s3://b  # bucket\n    password = x\n[core]\n    remote = s\n"
    )
    config.chmod(0o600)
    folder = private_site_cache(project.root)
    said = config.read_text()
    assert all(
        line in said
        for line in (
            "# mine",
            "# bucket",
            "password = x",
            "remote = s",
            f"site_cache_dir = {folder}",
        )
    )
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    config.write_text("[core]\n    site_cache_dir = /mine\n")
    private_site_cache(project.root)
    assert config.read_text() == "[core]\n    site_cache_dir = /mine\n"
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "/named")
    assert private_site_cache(project.root) == "/named"


# verify


@pytest.fixture
def enginery(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in the project: its exit code, what it printed, its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(project.root)
        code = main(list(arguments))
        return code, *capsys.readouterr()

    return run


Run = Callable[..., tuple[int, str, str]]
WHOLE = "1 engines, every digest as recorded\n"


def forge(folder: Path) -> None:
    """Another plan, with a manifest that fits it."""
    (folder / "model.plan").write_bytes(b"another plan")
    manifest = compose(Stage("register", "m", "t", folder.name), records(folder / "model.plan"))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_whole_engines_are_whole(project: Project, enginery: Run) -> None:
    assert enginery("verify") == (0, WHOLE, "")
    assert enginery("verify", "--restore") == (0, WHOLE, "")
    subprocess.run(["rm", "-rf", project.root / ".git"], check=True)
    assert enginery("verify") == (0, WHOLE, "")
    (project.root / "dvc.lock").unlink()
    assert enginery("verify") == (
        0,
        "there is no dvc.lock: engines were compared with their own manifests only\n" + WHOLE,
        "",
    )


def test_a_plan_and_manifest_that_were_edited_together_are_found(
    project: Project, enginery: Run
) -> None:
    forge(project.root / ENGINE)
    found = (1, f"{ENGINE}: plan and manifest fit each other, and are not what dvc.lock records\n")
    assert enginery("verify")[:2] == found
    (project.root / "dvc.lock").unlink()
    assert enginery("verify")[:2] == found  # the last commit has one
    code, out, _ = enginery("verify", "--restore")
    assert (code, out.splitlines()[-1] + "\n") == (0, WHOLE)


def test_an_engine_that_dvc_lock_does_not_record_is_none(project: Project, enginery: Run) -> None:
    planted = project.root / "artifacts/engines/m/t/int8"
    planted.mkdir()
    forge(planted)
    code, out, error = enginery("verify")
    assert (code, out) == (1, "artifacts/engines/m/t/int8: dvc.lock does not record this engine\n")
    assert (
        error
        == "1 of 2 engines are damaged: `enginery verify --restore` brings back what DVC recorded\n"
    )


def test_a_lock_file_that_was_edited_with_the_engine_is_told(
    project: Project, enginery: Run
) -> None:
    before = md5_of(project.root / ENGINE)
    forge(project.root / ENGINE)
    lock = project.root / "dvc.lock"
    lock.write_text(lock.read_text().replace(before, md5_of(project.root / ENGINE)))
    told = (
        "not as in the last commit's dvc.lock, so built here since or altered with it: m/t/fp16\n"
    )
    assert enginery("verify") == (0, told + WHOLE, "")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"plan": 1}', "<<<<<<< HEAD\n"])
def test_a_damaged_manifest_is_found_and_restored(
    project: Project, enginery: Run, content: str
) -> None:
    manifest = project.root / ENGINE / "manifest.json"
    manifest.write_text(content)
    code, out, _ = enginery("verify")
    assert (code, out.startswith(f"{ENGINE}: manifest.json ")) == (1, True)
    assert enginery("verify", "--restore")[0] == 0
    assert enginery("verify") == (0, WHOLE, "")


@pytest.mark.parametrize(
    "harmed",
    [
        ["registry"],
        ["registry", "cache", "build"],
        ["registry", "cache", "build", "remote"],
        ["registry", "cache", "other machine"],
        ["registry", "cache", "other machine", "remote"],
    ],
)
def test_the_cure_that_verify_names_cures(
    project: Project, remote: Path, enginery: Run, harmed: list[str]
) -> None:
    """Bits that rot leave times and sizes as they were: DVC finds everything up to date."""
    before = project.digests()
    digest = object_of(project, PLAN)
    places = {
        "registry": project.root / ENGINE / "model.plan",
        "cache": project.cached(digest),
        "build": project.root / PLAN,
        "remote": remote / digest[:2] / digest[2:],
    }
    if "other machine" in harmed:  # it built the engine: only what is registered came here
        lose(project, PLAN)
    for place in harmed:
        if place in places:
            flip(places[place])
    code, out, error = enginery("verify")
    assert (
        code,
        out.startswith(f"{ENGINE}/model.plan: sha256 "),
        "`enginery verify --restore`" in error,
    ) == (1, True, True)
    code, out, error = enginery("verify", "--restore")
    if "remote" not in harmed:
        assert (code, out.splitlines()[-1] + "\n") == (0, WHOLE)
    else:
        assert (code, "`enginery build` makes them again" in error) == (1, True)
        states = project.build()
        assert (states["file"], states["kept"]) == ("completed", "completed")
        assert enginery("push")[0] == 0  # the remote is whole again
        assert md5_of(places["remote"]) == digest
    assert enginery("verify") == (0, WHOLE, "")
    assert {path: found for path, found in project.digests().items() if found} == {
        path: found for path, found in before.items() if (project.root / path).exists()
    }


# push


def clone_of(project: Project, folder: Path) -> Project:
    """Another clone of the last commit."""
    subprocess.run(
        ["git", "clone", "--quiet", project.root, folder], check=True, capture_output=True
    )
    return Project(folder)


def change_source(project: Project, text: str) -> None:
    (project.root / "source").write_text(text * 200)


@pytest.fixture
def shared(project: Project, tmp_path: Path) -> Path:
    """An empty remote of the project, which its clones have, too."""
    project.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    project.git("commit", "--quiet", "--all", "--message=remote")
    return tmp_path / "remote"


def test_another_clone_restores_every_build(
    project: Project, shared: Path, enginery: Run, tmp_path: Path
) -> None:
    before = project.digests()
    change_source(project, "other bytes\n")
    other = project.build()
    assert other["file"] == "completed"
    changed = project.digests()
    change_source(project, "some bytes\n")
    assert (
        project.build()["file"] == "restored"
    )  # and back: only the run-cache names what was built in between
    code, out, error = enginery("push")
    assert (code, error) == (0, "")
    assert out.startswith("sent 8 objects (0.0 MB) and 4 cached builds to shared (")
    assert (
        "the remote has 8 objects and 4 cached builds of this checkout: asked for there, one by one\n"
        in out
    )
    assert enginery("push")[1].startswith("sent 0 objects (0.0 MB) and 0 cached builds to shared (")
    clone = clone_of(project, tmp_path / "clone")
    states = clone.build()
    assert (states, clone.digests()) == (
        {"file": "restored", "folder": "restored", "kept": "restored"},
        before,
    )
    change_source(clone, "other bytes\n")
    states = clone.build()
    assert ({states["file"], states["folder"]}, clone.digests()) == ({"restored"}, changed)
    assert clone.warnings == []


def test_what_is_damaged_or_lost_is_not_carried_and_named(
    project: Project, shared: Path, enginery: Run
) -> None:
    digest = object_of(project, "folder/two")
    flip(project.cached(digest))
    code, out, error = enginery("push")
    assert code == 1
    assert [line.partition(" (")[0] for line in error.splitlines()[:2]] == [
        "not carried: folder",
        "not carried: a cached build of folder",
    ]
    assert "1 of 3 objects are not whole in DVC's cache, nor at the remote" in error
    assert not (shared / "files/md5" / digest[:2] / digest[2:]).exists()
    assert "1 cached builds" in out
    lose(project, "folder")
    project.build()
    assert enginery("push")[0] == 0


def test_what_the_remote_lost_or_has_damaged_is_sent_again(
    project: Project, shared: Path, enginery: Run
) -> None:
    assert enginery("push")[0] == 0
    lost, damaged = (object_of(project, place) for place in ("folder/two", PLAN))
    (shared / "files/md5" / lost[:2] / lost[2:]).unlink()
    flip(shared / "files/md5" / damaged[:2] / damaged[2:])
    assert enginery("push")[1].startswith("sent 2 objects")
    assert [
        md5_of(shared / "files/md5" / digest[:2] / digest[2:]) for digest in (lost, damaged)
    ] == [lost, damaged]


def test_what_this_clone_never_had_is_at_the_remote(
    project: Project, shared: Path, enginery: Run, tmp_path: Path
) -> None:
    assert enginery("push")[0] == 0
    subprocess.run(["rm", "-rf", project.root / ".dvc/cache"], check=True)
    assert enginery("push")[:2][0] == 0


def test_no_remote_or_one_that_fails_is_one_line(
    project: Project, enginery: Run, tmp_path: Path
) -> None:
    code, out, error = enginery("push")
    assert (code, out) == (1, "")
    assert error.startswith(
        "error: no DVC remote is configured, so there is nowhere to push to. Add one: dvc remote add"
    )
    (tmp_path / "file").touch()
    project.dvc("remote", "add", "--default", "shared", str(tmp_path / "file/remote"))
    code, out, error = enginery("push")
    assert (code, len(error.splitlines())) == (1, 1), error
    assert error.startswith("error: the DVC remote shared (")
