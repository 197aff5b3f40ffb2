"""docs/fleet.md and deploy/: the commands and units that a fleet is set up with."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PAGE = (ROOT / "docs/fleet.md").read_text(encoding="utf-8")
SHELL = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
MARK = "----"
HELP = f"""
import json, sys
from prefect.cli import app
for line in json.loads(sys.argv[1]):
    sys.argv = ["prefect", *line]
    try:
        app()
    except SystemExit as end:
        assert not end.code, line
    print("{MARK}", flush=True)
"""
UNITS = sorted((ROOT / "deploy").glob("*.service"))


def test_prefects_commands_exist_with_their_options() -> None:
    lines = re.findall(r"^prefect .*$", SHELL, re.MULTILINE)
    units = "".join(path.read_text() for path in UNITS)
    lines += [
        line.replace("${ENGINERY_POOL}", "l4") for line in re.findall(r"prefect worker.*", units)
    ]
    assert len(lines) == 7
    asked = [[*shlex.split(line)[1:], "--help"] for line in dict.fromkeys(lines)]
    command = [sys.executable, "-c", HELP, json.dumps(asked)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    for line, said in zip(dict.fromkeys(lines), ended.stdout.split(MARK), strict=False):
        for option in re.findall(r"--[a-z-]+", line):
            assert option in said, line


def test_ten_commands_make_a_fleet() -> None:
    section = PAGE.partition("## Ten commands")[2].partition("\n## ")[0]
    blocks = "".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))
    assert len([line for line in blocks.splitlines() if not line.startswith("export ")]) <= 10


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd is here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_the_units_are_units(unit: Path, tmp_path: Path) -> None:
    text = re.sub(r"/opt/enginery/bin/\w+", "/bin/true", unit.read_text())
    copy = tmp_path / unit.name
    copy.write_text(text.replace("User=enginery", "User=root"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert unit.name not in ended.stderr


@pytest.mark.parametrize(("code", "builds"), [(0, False), (3, True), (1, False)])
def test_the_line_for_cron_builds_if_there_is_work(tmp_path: Path, code: int, builds: bool) -> None:
    [line] = re.findall(r"^    0 \* \* \* \* cd /srv/project && (.*)$", PAGE, re.MULTILINE)
    program = tmp_path / "enginery"
    program.write_text(f'#!/bin/sh\n[ "$1" = build ] && touch built && exit 0\nexit {code}\n')
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-c", line], cwd=tmp_path, env={"PATH": path}, check=True)
    assert (tmp_path / "built").exists() is builds


def test_each_deployment_has_a_flow_and_its_parameters() -> None:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    for deployment in content["deployments"]:
        path, _, function = deployment["entrypoint"].partition(":")
        source = (ROOT / path).read_text(encoding="utf-8")
        signature = re.search(rf"def {function}\((.*?)\) ->", source, re.DOTALL)
        assert signature, deployment["name"]
        for name in deployment.get("parameters", {}):
            assert f"{name}:" in signature[1]
    names = [deployment["name"].split("-")[0] for deployment in content["deployments"]]
    assert names == ["build", "watch", "validate", "promote"]
