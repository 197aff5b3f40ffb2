"""The report: what it shows and in which order, that it asks nothing of any host, and that people
can read it; and the habits of the commands whose output programs read.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import httpx
import numpy as np
import pytest

from enginery.calibration.histogram import BINS, Histogram
from enginery.cli.main import main
from enginery.registry.store import entries
from enginery.report import document, last_run
from enginery.report.display import Outcome
from enginery.report.last_run import KEPT, LastRun
from enginery.report.ranges_page import _picture
from enginery.report.run_page import report, write_report
from enginery.report.tables import listed
from tests.conftest import Checkout
from tests.registered import enter, metrics, records, register

CHROMIUM = shutil.which("chromium")
REASON = "mAP50-95 0.4000 against 0.5000 <of> the FP32 original"
RUN = LastRun(
    "2026-01-02 03:04",
    "1 Completed, 2 Cached, 2 Failed, 1 Skipped",
    (
        Outcome("build m0 int8 for t0", "Completed", "weights changed", 3.25),
        Outcome("images m0", "Cached", "up to date", 0.1),
        Outcome("export m0", "Cached", "up to date", 0.1),
        Outcome("register m0 int8 for t0", "Failed", REASON, 0.5),
        Outcome("register m0 int8 for t1", "Failed", REASON, 0.5),
        Outcome("publish m0", "Skipped", "register m0 int8 for t0 failed", 0),
    ),
)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with thirty engines."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    for model in range(2):
        for target in range(5):
            for precision in ("fp32", "fp16", "int8"):
                register(f"m{model}/t{target}/{precision}")
    return tmp_path


class Reader(HTMLParser):
    """What a screen reader goes by."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_thirty_engines_are_a_page_of_seconds_and_megabytes(project: Path) -> None:
    began = time.monotonic()
    write_report(listed(entries(), None), RUN)
    assert time.monotonic() - began < 3
    path = project / "artifacts/report.html"
    assert path.stat().st_size < 5_000_000
    content = path.read_text(encoding="utf-8")
    assert all(f"m{model}/t4/int8" in content for model in range(2))
    assert "30 engines: 30 candidate" in content


def test_what_failed_comes_first_and_each_reason_once(project: Path) -> None:
    content = report("shop", listed(entries(), None), RUN)
    headings = re.findall(r"<h2 id=\"(\w+)\"", content)
    assert headings == ["failed", "engines", "done", "classes", "made"]
    failed = content.partition('id="failed"')[2].partition("</section>")[0]
    assert failed.count("0.5000 &lt;of&gt; the FP32") == 1
    assert "register m0 int8 for t0, register m0 int8 for t1" in failed
    assert "1 steps need it" in failed
    done = content.partition('id="done"')[2].partition("</section>")[0]
    assert "weights changed" in done and "3.2 s" in done and "2 steps were up to date" in done
    assert "images m0" not in done


def test_without_a_run_and_without_engines(tmp_path: Path) -> None:
    content = report("a & b", [], None)
    assert "Engines of a &amp; b" in content and "No engine yet." in content
    assert "<h2" not in content


def test_it_asks_nothing_of_any_host_and_runs_nothing(project: Path) -> None:
    content = report("shop", listed(entries(), None), RUN)
    assert not re.search(r"https?://|//\w|url\(|@import|<script", content)
    assert "default-src 'none'" in content
    reader = Reader(content)
    assert all((each["href"] or "").startswith("#") for each in reader.all("a"))


def test_a_screen_reader_and_a_keyboard_find_their_way(project: Path) -> None:
    reader = Reader(report("shop", listed(entries(), None), RUN))
    assert reader.all("html") == [{"lang": "en"}]
    assert len(reader.all("h1")) == len(reader.all("main")) == len(reader.all("title")) == 1
    assert len(reader.all("caption")) == len(reader.all("table"))
    assert all(each.get("scope") in ("col", "row") for each in reader.all("th"))
    scrolled = [each for each in reader.all("div") if each.get("class") == "scroll"]
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in scrolled)
    anchors = {each["id"] for _, each in reader.tags if each.get("id")}
    assert {(each["href"] or "")[1:] for each in reader.all("a")} <= anchors


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(scheme: str) -> None:
    blocks = re.findall(r":root\{([^}]*)\}", document._STYLE)
    colours: dict[str, str] = {}
    for block in blocks[: 1 if scheme == "light" else 2]:
        colours |= dict(re.findall(r"--(\w+):#(\w+)", block))
    for back in ("back", "soft"):
        for front in ("text", "muted", "accent", "bad", "good", "warn"):
            assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
    assert contrast(colours["bad"], colours["badback"]) >= 4.5


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    whole = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    parts = [int(whole[index : index + 2], 16) / 255 for index in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_opens_it_without_a_complaint(project: Path) -> None:
    write_report(listed(entries(), None), RUN)
    path, picture = project / "artifacts/report.html", project / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    home = f"--user-data-dir={project / 'browser'}"
    shown = subprocess.run(
        [str(CHROMIUM), *flags, home, "--dump-dom", f"--screenshot={picture}", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "m1/t4/int8" in shown.stdout
    assert "CONSOLE" not in shown.stderr, shown.stderr
    assert "Refused to" not in shown.stderr


def test_a_histogram_is_a_small_picture_with_its_threshold() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[: BINS // 2] = 10
    histogram = Histogram(counts, 0, 0.5)
    picture = _picture(histogram, 0.25)
    assert 'class="mark" d="M80.0 0V26"' in picture and len(picture) < 2000
    assert _picture(None, 1.0) == "-"


def test_the_last_run_is_read_as_it_was_kept(project: Path) -> None:
    assert last_run.last_run() is None
    last_run.keep(RUN)
    assert last_run.last_run() == RUN
    for content in ("", "[]", "{}", '{"outcomes": [{"title": "a"}]}'):
        KEPT.write_text(content)
        assert last_run.last_run() is None


def test_the_command_writes_it_where_it_is_told(project: Path, capsys: Captured) -> None:
    shutil.copyfile(Path(__file__).resolve().parents[1] / "params.yaml", "params.yaml")
    assert main(["report", "--out", "here/page.html"]) == 0
    assert capsys.readouterr().out == "here/page.html\n"
    assert "30 retired" in Path("here/page.html").read_text(encoding="utf-8")


def test_programs_read_what_the_commands_print(built: Checkout) -> None:
    status = json.loads(built.run("enginery", "status", "--json").stdout)
    assert status["stale"] == [] and status["excluded"] == [] and status["steps"] > 10
    quiet = built.run("enginery", "build", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    page = (built.root / "artifacts/report.html").read_text(encoding="utf-8")
    assert "INT8 ranges" in page and "<svg" in page and "steps were up to date" in page
    newest = {"artifacts": {"key": {"any_": ["report"]}}, "sort": "CREATED_DESC", "limit": 1}
    with httpx.Client(base_url=built.server) as client:
        [artifact] = client.post("/artifacts/filter", json=newest).json()
    assert artifact["type"] == "markdown" and "/artifacts/report.html" in artifact["data"]
    plain = built.run("enginery", "list", NO_COLOR="1", FORCE_COLOR="1").stdout
    assert not re.search(r"\x1b\[[0-9;]*3\dm", plain)
    plan = next(built.root.glob("artifacts/engines/*/rtx-ada/fp16/model.plan"))
    plan.chmod(0o644)
    content = bytearray(plan.read_bytes())
    content[1000] ^= 1
    plan.unlink()
    plan.write_bytes(content)
    verified = built.run("enginery", "verify", "--json")
    engines = {each["engine"].partition("/")[2]: each for each in json.loads(verified.stdout)}
    assert verified.returncode == 1
    assert not engines["rtx-ada/fp16"]["whole"] and engines["rtx-ada/int8"]["damage"] == []
    assert "a byte changed" in engines["rtx-ada/fp16"]["damage"][0]


def test_how_two_engines_differ_in_words(project: Path, capsys: Captured) -> None:
    shown = {"runtime_version": "11.4.0.106", "gpu": "Other"}
    register("m0/new/fp16", **shown)
    assert main(["diff", "m0/t0/fp16", "m0/new/fp16"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "m0/t0/fp16 -> m0/new/fp16: the same plan, byte by byte"
    assert "build gpu Card -> Other" in lines
    assert "runtime_version 10.16.1.11 -> 11.4.0.106" in lines


def test_how_two_engines_differ_for_programs(project: Path, capsys: Captured) -> None:
    assert main(["diff", "m0/t0/fp16", "m0/t1/fp16", "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["same_plan"] and same["recipes"] == {} and same["results"] == []
    plan = project / "other.plan"
    plan.write_bytes(b"plan" * 1_000_000)
    made_of = records(plan)
    made_of["quantize"]["quantized"] = ["/conv1", "/conv2"]
    made_of["validate"]["report"]["candidate"] = metrics(0.495)
    enter("m0/other/int8", plan, made_of)
    assert main(["diff", "m0/t0/fp16", "m0/other/int8", "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["int8_only_in"] == [[], ["/conv1", "/conv2"]]
    results = {each["name"]: (each["old"], each["new"]) for each in other["results"]}
    assert results == {"MB": (0.0, 4.0), "mAP50-95": (0.5, 0.495)}


def test_a_difference_of_an_unknown_engine_names_those_that_are(
    project: Path, capsys: Captured
) -> None:
    assert main(["diff", "m0/t0/fp16", "nothing"]) == 1
    assert "no engine is called 'nothing'" in capsys.readouterr().err
