"""The kinds of values in params.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from enginery import runtimes
from enginery.project.engine_name import NAME

Name = Annotated[str, StringConstraints(pattern=NAME)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[int, Field(ge=1, le=100_000_000)]  # three years: no timer overflows
Share = Annotated[float, Field(ge=0, le=1)]
# Beyond these no GPU holds even the images: one of 16,384 x 16,384 is 3 GB as a tensor.
Side = Annotated[int, Field(ge=1, le=16_384)]
Batch = Annotated[int, Field(ge=1, le=65_536)]
SideExtent = Side | Annotated[tuple[Side, Side, Side], Field(description="[min, opt, max]")]
BatchExtent = Batch | Annotated[tuple[Batch, Batch, Batch], Field(description="[min, opt, max]")]
Precision = Literal["fp32", "fp16", "int8"]
Algorithm = Literal["mse", "entropy", "percentile", "minmax"]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


def _runtime(name: str) -> str:
    if name not in runtimes.names():
        raise ValueError(f"{' or '.join(runtimes.names())} is expected")
    return name


Runtime = Annotated[str, AfterValidator(_runtime)]
SIZES, WHICH = ("batch", "height", "width"), ("min", "opt", "max")
Capability = Literal[
    "7.0", "7.2", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1"
]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


def extent(value: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """(min, opt, max) of a size."""
    return value if isinstance(value, tuple) else (value, value, value)
