"""The report's samples: each picture with what FP32 and the graph find, for eyes and for readers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from enginery.evaluation.samples import Detection, samples_file
from enginery.project.paths import model_folder
from enginery.registry.store import entries
from enginery.report import samples_page
from enginery.report.run_page import report, write_report
from enginery.report.samples_page import samples_of_graphs
from enginery.report.tables import listed
from tests.pictures import BOX, detection, keep_samples, sample
from tests.registered import register
from tests.test_report import RUN, contrast

CHROMIUM = shutil.which("chromium")
AXE = os.environ.get("ENGINERY_AXE")  # the path of axe.min.js, from npm's axe-core
_RUN_AXE = """<script>{axe}</script><script>
document.querySelectorAll("details").forEach(part => part.open = true);
axe.run().then(result => {{
  const told = document.createElement("pre");
  told.textContent = "violations: " + JSON.stringify(result.violations.map(each => each.id));
  document.body.appendChild(told);
}});</script></body>"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_thirty_engines_of_ten_models_with_pictures_stay_small() -> None:
    pictures = [sample(f"{number}.jpg", *[detection()] * 20) for number in range(3)]
    for model in range(10):
        for precision in ("fp32", "fp16", "int8"):
            register(f"m{model}/t/{precision}")
            keep_samples(f"m{model}", precision, *pictures)
    began = time.monotonic()
    write_report(listed(entries(), None), None)
    assert time.monotonic() - began < 3
    path = Path("artifacts/report.html")
    assert len(pictures[0].jpeg) > 20_000  # more than a photograph of this size has
    assert 1_000_000 < path.stat().st_size < 5_000_000


def test_both_say_what_they_find_and_share_one_picture() -> None:
    keep_samples("plates", "int8", sample("a<b.jpg", detection(), detection("star", 0.5)))
    page = report("shop", [], None)
    assert page.count("data:image/jpeg") == 1
    assert page.count('href="#picture-plates-int8-0"') == 1
    labels = re.findall(r'role="img" aria-label="([^"]*)"', page)
    assert labels == ["FP32 on a&lt;b.jpg: 1 disc, 1 star", "INT8 on a&lt;b.jpg: star 0.50"]
    assert page.count("<polygon") == 3
    assert page.count(">disc 0.91</text>") == 1 and page.count(">star 0.50</text>") == 2
    assert "<details open><summary>plates int8: FP32 beside INT8</summary>" in page


def test_a_picture_in_which_nothing_is_found_says_so() -> None:
    keep_samples("plates", "fp16", sample("a.jpg"))
    assert 'aria-label="FP16 on a.jpg: nothing"' in samples_of_graphs()


def test_a_region_of_a_class_has_no_number() -> None:
    region = Detection(name="road", outline=BOX)
    keep_samples("streets", "int8", sample("a.jpg", region, region))
    assert 'aria-label="INT8 on a.jpg: road"' in samples_of_graphs()
    assert ">road</text>" in samples_of_graphs()


def test_many_graphs_are_folded() -> None:
    for number in range(5):
        keep_samples(f"m{number}", "int8", sample("a.jpg", detection()))
    assert "<details open" not in samples_of_graphs()


@pytest.mark.parametrize("content", ["", "{}", '{"samples": [{"image": "a"}]}', '{"samples": []}'])
def test_samples_that_are_not_whole_are_left_out(content: str) -> None:
    keep_samples("other", "int8", sample("a.jpg"))
    path = samples_file(model_folder("plates", "int8"))
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert "plates" not in samples_of_graphs() and "other" in samples_of_graphs()


def test_without_samples_there_is_no_such_part() -> None:
    keep_samples("plates", "fp32", sample("a.jpg", detection()))
    assert samples_of_graphs() == ""
    assert "Samples" not in report("shop", [], None)


@pytest.mark.parametrize("colour", samples_page._COLOURS)
def test_names_over_pictures_can_be_read(colour: str) -> None:
    assert contrast(colour.removeprefix("#"), "10161d") >= 4.5


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_both_pictures(project: Path) -> None:
    """The second is the first once more: a policy that is too strict would leave it empty."""
    keep_samples("plates", "int8", sample("a.jpg", detection(), colour=(0, 0, 200)))
    write_report([], None)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    shown = subprocess.run(
        [
            str(CHROMIUM),
            *flags,
            f"--user-data-dir={project / 'browser'}",
            "--window-size=1000,700",
            f"--screenshot={project / 'shot.png'}",
            (project / "artifacts/report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "CONSOLE" not in shown.stderr and "Refused to" not in shown.stderr, shown.stderr
    picture = cv2.imread(str(project / "shot.png")).astype(int)
    red = (picture[..., 2] > 150) & (picture[..., :2].max(axis=2) < 60)
    assert np.count_nonzero(red[:, :500]) > 20_000
    assert np.count_nonzero(red[:, 500:]) > 20_000


@pytest.mark.skipif(not (CHROMIUM and AXE), reason="needs chromium and ENGINERY_AXE")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_complaint(project: Path, scheme: str) -> None:
    """Contrast, labels, headings and the rest of what axe-core looks for, all parts open."""
    for precision in ("fp16", "int8"):
        register(f"plates/rtx/{precision}")
    keep_samples("plates", "int8", sample("a.jpg", detection(), detection("star", 0.5)))
    content = report("shop", listed(entries(), None), RUN)
    content = re.sub("<meta http-equiv=[^>]*>", "", content)  # it forbids scripts
    if scheme == "dark":
        content = content.replace("@media(prefers-color-scheme:dark)", "@media all")
    script = _RUN_AXE.format(axe=Path(str(AXE)).read_text(encoding="utf-8"))
    page = project / "page.html"
    page.write_text(content.replace("</body>", script), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000"]
    home = f"--user-data-dir={project / 'browser'}"
    command = [str(CHROMIUM), *flags, home, "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "violations: []" in shown.stdout, shown.stdout[-2000:]
