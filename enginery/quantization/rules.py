"""Named, versioned rules for what stays in float.

A rule never changes: a better one gets the next number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# The last layers of each task's head, from YOLOv8 to YOLO26. In turn: box distances, class scores,
# mask coefficients, keypoints or
# angles; distances into pixels; YOLO26's keypoints; mask prototypes; the classes of a whole image.
_LAST = (r"\.2/Conv$", r"/dfl/", r"/cv4_kpts\.\d/Conv$", r"/proto/cv3/conv/Conv$", r"/linear/Gemm$")

# Patterns are searched in node names. YOLO's last convolutions give box distances and class scores,
# and dfl turns distances into pixels:
# one INT8 step there is a visible shift of a box.
RULES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "yolo-head-1": (r"\.2/Conv$", r"/dfl/"),
    "yolo-head-2": ("|".join(_LAST),),  # one pattern: no head has all of them
}


def patterns(rule: str, exclude: Sequence[str]) -> tuple[str, ...]:
    """What a rule and a user's own patterns keep in float."""
    return (*RULES[rule], *exclude)
