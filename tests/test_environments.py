"""`enginery toolchain`: environments made, looked at and removed, with the real package index."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Checkout


def test_one_is_made_checked_listed_and_removed(fresh: Checkout) -> None:
    made = fresh.run("enginery", "toolchain", "add", "old", "tensorrt-rtx-cu13==1.6.1.120")
    assert made.returncode == 0, made.stderr
    assert "old: { python: .toolchains/old/bin/python }" in made.stdout
    checked = fresh.run("enginery", "toolchain", "check", ".toolchains/old/bin/python")
    assert json.loads(checked.stdout)["version"] == "1.6.1.120"
    fresh.change(lambda params: params.update(toolchains={"old": {"python": ".toolchains/old/bin/python"}}))
    listed = fresh.run("enginery", "toolchain", "list").stdout
    assert "tensorrt_rtx 1.6.1.120" in listed
    assert "tensorrt_rtx 1.7.1.116" in listed
    assert "params.yaml names the toolchain old" in fresh.run("enginery", "toolchain", "remove", "old").stderr
    assert "there is a toolchain old already" in fresh.run("enginery", "toolchain", "add", "old", "tensorrt==8").stderr
    fresh.change(lambda params: params.update(toolchains={}))
    assert fresh.run("enginery", "toolchain", "remove", "old").stdout == "removed old\n"
    assert not (fresh.root / ".toolchains/old").exists()


def test_what_cannot_be_made_leaves_nothing(fresh: Checkout) -> None:
    for arguments, words in (
        (("add", "none", "tensorrt-rtx-cu13==0.0.7"), "could not install tensorrt-rtx-cu13==0.0.7"),
        (("add", "none", "tensorrt==8.6.1", "--python", "/nowhere/python"), "could not make the environment: /nowhere/python"),
        (("remove", "none"), "no toolchain none was made here. Made here: none"),
        (("check", "/bin/false"), "the child ended with exit code 1"),
    ):
        result = fresh.run("enginery", "toolchain", *arguments)
        assert (result.returncode, words in result.stderr) == (1, True), result.stderr
        assert "Traceback" not in result.stderr
    assert not list(Path(fresh.root / ".toolchains").glob("*"))
