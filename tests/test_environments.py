"""`enginery toolchain`: environments made, looked at and removed, with the real package index."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import Checkout


def test_one_is_made_checked_listed_and_removed(fresh: Checkout) -> None:
    made = fresh.run("enginery", "toolchain", "add", "old", "tensorrt-rtx-cu13==1.6.1.120", "numpy")
    assert made.returncode == 0, made.stderr
    assert "old: { python: .toolchains/old/bin/python }" in made.stdout
    checked = fresh.run("enginery", "toolchain", "check", ".toolchains/old/bin/python")
    assert json.loads(checked.stdout)["version"] == "1.6.1.120"
    assert list((fresh.root / ".toolchains/old/lib").glob("*/site-packages/numpy"))
    fresh.change(
        lambda params: params.update(toolchains={"old": {"python": ".toolchains/old/bin/python"}})
    )
    listed = fresh.run("enginery", "toolchain", "list").stdout
    assert "tensorrt_rtx 1.6.1.120" in listed
    assert "tensorrt_rtx 1.7.1.116" in listed
    assert (
        "params.yaml names the toolchain old"
        in fresh.run("enginery", "toolchain", "remove", "old").stderr
    )
    assert (
        "there is a toolchain old already"
        in fresh.run("enginery", "toolchain", "add", "old", "tensorrt==8").stderr
    )
    fresh.change(lambda params: params.update(toolchains={}))
    assert fresh.run("enginery", "toolchain", "remove", "old").stdout == "removed old\n"
    assert not (fresh.root / ".toolchains/old").exists()


def test_what_cannot_be_made_leaves_nothing(fresh: Checkout) -> None:
    for arguments, words in (
        (("add", "none", "tensorrt-rtx-cu13==0.0.7"), "could not install tensorrt-rtx-cu13==0.0.7"),
        (
            ("add", "none", "tensorrt==8.6.1", "--python", "/nowhere/python"),
            "could not make the environment: /nowhere/python",
        ),
        (("remove", "none"), "no toolchain none was made here. Made here: none"),
        (
            ("check", "nowhere"),
            "'nowhere' is neither a toolchain of params.yaml nor an interpreter's path. Toolchains: this",
        ),
        (("check", "/bin/false"), "the child ended with exit code 1"),
    ):
        result = fresh.run("enginery", "toolchain", *arguments)
        assert (result.returncode, words in result.stderr) == (1, True), result.stderr
        assert "Traceback" not in result.stderr
    assert not list(Path(fresh.root / ".toolchains").glob("*"))


def test_every_name_that_list_shows_can_be_checked(fresh: Checkout) -> None:
    listed = fresh.run("enginery", "toolchain", "list").stdout
    [name] = [line.split()[0] for line in listed.splitlines() if "tensorrt_rtx" in line]
    checked = json.loads(fresh.run("enginery", "toolchain", "check", name).stdout)
    assert (name, checked["interpreter"], checked["runtime"]) == (
        "this",
        Path(sys.executable).as_posix(),
        "tensorrt_rtx",
    )


def test_one_that_is_stopped_leaves_nothing(fresh: Checkout) -> None:
    command = [
        sys.executable,
        "-m",
        "enginery",
        "toolchain",
        "add",
        "slow",
        "tensorrt-rtx-cu13==1.6.1.120",
    ]
    process = subprocess.Popen(
        command, cwd=fresh.root, env=fresh.environment(), stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not (fresh.root / ".toolchains/slow/bin/pip").exists():
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate()
    assert (process.returncode, said) == (130, "interrupted; the next run goes on from here\n")
    assert not (fresh.root / ".toolchains/slow").exists()


def test_a_name_leads_nowhere_else(fresh: Checkout, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("..", ".", "", "a/b", str(tmp_path / "mine")):
        for action in (("remove", name), ("add", name, "numpy")):
            result = fresh.run("enginery", "toolchain", *action)
            assert (result.returncode, f"{name!r} is no name for a toolchain" in result.stderr) == (
                1,
                True,
            ), result.stderr
    assert (tmp_path / "mine").is_dir()
    assert (fresh.root / "params.yaml").is_file()
