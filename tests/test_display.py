"""The end of a run on a terminal of 80 by 24: failures come last, each with its reason and what to
run next.
"""

from __future__ import annotations

import io

from rich.console import Console

from enginery.report.console import table
from enginery.report.display import Display, Outcome, skipped_for

BROKEN = "target moon: /bin/false does not work. Install TensorRT there again"


def run() -> tuple[Display, io.StringIO]:
    said = io.StringIO()
    return Display(Console(file=said, width=80, height=24)), said


def test_failures_come_last_with_reason_and_next_command() -> None:
    display, said = run()
    builds = [f"build m {precision} for moon" for precision in ("fp32", "fp16", "int8")]
    for title in builds:
        display.ended(Outcome(title, "Failed", BROKEN, 0.1))
    display.ended(Outcome("build m fp16 for sun", "Failed", "sun: no room. Free some space", 2.0))
    for title in builds:
        display.ended(
            Outcome(title.replace("build", "register"), "Skipped", skipped_for(title), 0.0)
        )
    display.summary = "4 Failed, 3 Skipped, 9 Cached"
    rows = [{"engine": f"m/sun/{number}", "state": "candidate"} for number in range(9)]
    display.console.print(table("Registered engines", rows))
    display.conclude("enginery build --model m")
    assert said.getvalue().splitlines()[-7:] == [
        "Failed    build m fp32 for moon, build m fp16 for moon, build m int8 for moon",
        f"          {BROKEN}",
        "          3 steps need it: they were skipped",
        "Failed    build m fp16 for sun",
        "          sun: no room. Free some space",
        "Next      `enginery build --model m`, once this is mended: it goes on from here",
        "4 Failed, 3 Skipped, 9 Cached",
    ]


def test_many_steps_of_one_reason_are_counted() -> None:
    display, said = run()
    for number in range(90):
        display.ended(Outcome(f"build {number}", "Failed", BROKEN, 0.1))
    said.truncate(0)
    display.conclude("enginery build")
    assert (
        said.getvalue().strip("\0").splitlines()[0]
        == "Failed    build 0, build 1, build 2 and 87 more"
    )


def test_a_reason_that_names_its_step_is_said_once_for_all_of_its_kind() -> None:
    display, _ = run()
    for title in ("m int8 for sun", "m int8 for moon", "m fp16 for sun"):
        why = f"{title} is not registered: mAP50-95 {'0.5' if 'int8' in title else '0.4'}"
        display.ended(Outcome(f"register {title}", "Failed", why, 0.1))
    assert [(failure.titles, failure.reason) for failure in display.failures()] == [
        (
            ("register m int8 for sun", "register m int8 for moon"),
            "each is not registered: mAP50-95 0.5",
        ),
        (("register m fp16 for sun",), "m fp16 for sun is not registered: mAP50-95 0.4"),
    ]


def test_a_run_without_failures_ends_in_its_summary() -> None:
    display, said = run()
    display.ended(Outcome("build", "Completed", "", 1.0))
    display.summary = "1 Completed"
    display.conclude("enginery build")
    assert said.getvalue().splitlines()[-1] == "1 Completed"
    assert "Next" not in said.getvalue()


def test_a_step_that_succeeds_the_second_time_is_no_failure() -> None:
    display, _ = run()
    display.ended(Outcome("timing t", "Failed", "busy", 1.0))
    display.ended(Outcome("timing t", "Completed", "", 1.0))
    assert display.failures() == []
