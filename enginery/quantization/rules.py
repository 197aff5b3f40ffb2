"""Named, versioned rules for what stays in float. A rule never changes: a better one gets the next number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Patterns are searched in node names. YOLO's last convolutions give box distances and class scores, and dfl turns distances into pixels:
# one INT8 step there is a visible shift of a box.
RULES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "yolo-head-1": (r"\.2/Conv$", r"/dfl/"),
}


def patterns(rule: str, exclude: Sequence[str]) -> tuple[str, ...]:
    """What a rule and a user's own patterns keep in float."""
    return (*RULES[rule], *exclude)
