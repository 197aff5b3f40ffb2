"""The bad inputs: what each does to a checkout, what must be said, and what must go on.

The checkout has two models, `good` and `own`, built for two targets as fp16 and int8. Harm comes to
`own`, to the target rtx-ada, or to the whole. A plan of good for rtx-ampere is always missing: a
run has something to restore.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.trouble.cases.caches import cache_cases
from benchmarks.trouble.cases.case import Case
from benchmarks.trouble.cases.commands import command_cases
from benchmarks.trouble.cases.data import image_cases, label_cases
from benchmarks.trouble.cases.dvc_files import dvc_cases
from benchmarks.trouble.cases.models import graph_cases, weight_cases
from benchmarks.trouble.cases.project import params_cases, toolchain_cases
from benchmarks.trouble.cases.registry import registry_cases


def cases() -> Iterator[Case]:
    """All of them."""
    yield from graph_cases()
    yield from weight_cases()
    yield from image_cases()
    yield from label_cases()
    yield from params_cases()
    yield from toolchain_cases()
    yield from registry_cases()
    yield from dvc_cases()
    yield from cache_cases()
    yield from command_cases()
