"""Engines signed with the team's SSH keys: what is not signed, or not by one of them, is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from enginery.registry.signatures import sign
from tests.team import MODEL, Machine, Team, git
from tests.team_registry.common import Captured, refused, said
from tests.team_registry.test_pull import pull

ENGINE = f"{MODEL}/rtx-ada/fp16"


def make_key(folder: Path, name: str) -> str:
    """A key; its public half."""
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
    subprocess.run(line, check=True)
    return (folder / f"{name}.pub").read_text()


@pytest.fixture
def signers(machine: Machine, tmp_path: Path) -> Path:
    """The file of allowed signers: ada and, until 2020, bob. The machine signs as ada."""
    ada, bob = (make_key(tmp_path, name) for name in ("ada", "bob"))
    make_key(tmp_path, "eve")
    allowed = machine.root / "signers"
    allowed.write_text(f'ada@example.org {ada}bob@example.org valid-before="20200101" {bob}')
    key = str(tmp_path / "ada")
    machine.change(signing_key=key, allowed_signers="signers", require_signature=True)
    return allowed


def serve(machine: Machine, capsys: Captured, content: str = "") -> None:
    """Publish and promote an engine."""
    machine.register(ENGINE, content, valid=True)
    said(capsys, "publish")
    said(capsys, "promote", ENGINE)


def test_what_the_team_signed_is_pulled(
    team: Team, machine: Machine, signers: Path, capsys: Captured
) -> None:
    serve(machine, capsys)
    assert "is new" in said(capsys, *pull())
    assert team.tree()[-2:] == [f"{ENGINE}/statement.json", f"{ENGINE}/statement.json.sig"]
    statement = json.loads(team.git("show", f"engines:{ENGINE}/statement.json"))
    assert statement["engine"] == ENGINE and statement["state"] == "validated"
    away = Path("engines").rename("away")
    line = ("--registry", str(team.origin), "--allowed-signers", str(signers))
    Path("params.yaml").unlink()  # a serving host has none
    assert "is new" in said(capsys, *pull(*line))
    assert (away / MODEL / "current/model.plan").is_file()


@pytest.mark.parametrize(
    ("signer", "why"),
    [
        ("", "is not signed"),
        ("bob", "does not have, or has no more (signers:2: key has expired"),
        ("eve", "is signed with a key that "),
    ],
)
def test_what_nobody_signed_whose_signature_counts_is_refused(
    machine: Machine, signers: Path, tmp_path: Path, signer: str, why: str, capsys: Captured
) -> None:
    machine.change(signing_key=str(tmp_path / signer) if signer else None, require_signature=False)
    serve(machine, capsys)
    machine.change(require_signature=True)
    refusal = refused(capsys, *pull())
    assert why.partition("(")[0] in refusal and f"tag {ENGINE}#production#1" in refusal
    assert ("key has expired" in refusal) is (signer == "bob")
    assert why.partition("(")[0] in refused(capsys, *pull("--state", "validated"))
    assert not (Path("engines") / MODEL / "current").exists()


@pytest.mark.usefixtures("signers")
def test_unsigned_engines_are_published_again_once_there_is_a_key(
    machine: Machine, tmp_path: Path, capsys: Captured
) -> None:
    machine.change(signing_key=None, require_signature=False)
    serve(machine, capsys)
    machine.change(signing_key=str(tmp_path / "ada"), require_signature=True)
    assert f"tag {ENGINE}#production#1 is not signed. Promote it again" in refused(capsys, *pull())
    assert f"published {ENGINE} v2" in said(capsys, "publish")
    said(capsys, "promote", ENGINE)
    assert "is new" in said(capsys, *pull())
    machine.change(signing_key=None)
    machine.register(ENGINE, "other")
    for command in (["publish"], ["promote", ENGINE, "--stage", "canary"]):
        assert "registry.require_signature is true, and registry.signing_key" in refused(
            capsys, *command
        )
    machine.change(signing_key=str(tmp_path / "nobody"))
    assert f"the key {tmp_path / 'nobody'} does not sign: " in refused(capsys, "publish")


@pytest.mark.usefixtures("signers")
def test_a_signature_of_something_else_is_refused(
    team: Team, machine: Machine, tmp_path: Path, capsys: Captured
) -> None:
    serve(machine, capsys, "one")
    serve(machine, capsys, "two")
    work, folder = tmp_path / "by hand", tmp_path / "by hand" / ENGINE
    git(tmp_path, "clone", "--quiet", "--branch", "engines", str(team.origin), str(work))
    old = work / "old"
    git(work, "worktree", "add", "--quiet", "--detach", str(old), "HEAD^")
    for name in ("statement.json", "statement.json.sig"):  # of version 1
        shutil.copyfile(old / ENGINE / name, folder / name)
    replace(work, team)
    assert "ada@example.org signed version 1, not 2" in refused(capsys, *pull())

    statement = json.loads((folder / "statement.json").read_text())
    (folder / "statement.json").write_text(json.dumps({**statement, "version": 2}))
    replace(work, team)
    assert "ada@example.org did not sign this: " in refused(capsys, *pull())
    other = json.dumps({**statement, "engine": f"{MODEL}/rtx-ada/int8"}).encode()
    (folder / "statement.json").write_bytes(other)
    (folder / "statement.json.sig").write_bytes(sign(other, str(tmp_path / "ada")))
    replace(work, team)
    assert f"signed engine {MODEL}/rtx-ada/int8, not {ENGINE}" in refused(capsys, *pull())
    for name in ("statement.json", "statement.json.sig"):
        (folder / name).unlink()
    replace(work, team)
    assert f"{ENGINE} v2 is not signed" in refused(capsys, *pull())


def replace(work: Path, team: Team) -> None:
    """Commit the files of the newest version, and let the index name them."""
    git(work, "add", ENGINE)
    tree = git(work, "write-tree", f"--prefix={ENGINE}/").strip()
    index = work / MODEL / "index.json"
    content = json.loads(index.read_text())
    content["engines"][-1]["reference"] = tree
    index.write_text(json.dumps(content))
    git(work, "commit", "--quiet", "--all", "-m", "By hand")
    git(work, "push", "--quiet", "origin", "engines")
