"""What every test of the child program may ask for: its event stream, the GPU and an engine."""

from __future__ import annotations

import pytest

from tests.child import Out
from tests.exact.child.common import devices, engines, running
from tests.recorder.cuda import Cuda
from tests.recorder.engines import ICudaEngine


@pytest.fixture
def out() -> Out:
    return Out()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    found = Cuda()
    for module in (devices, engines, running):
        monkeypatch.setattr(module, "cuda", found)
    return found


@pytest.fixture
def engine() -> ICudaEngine:
    return ICudaEngine()
