"""A graph of two inputs, and arrays for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from enginery.sources.ultralytics_compat import silence


def write_fusion(path: Path, open_batch: bool = False) -> Path:
    """An image and a vector in, two outputs: with depthwise and transposed convolutions, a layer
    norm and a softmax; one output is read inside, too.
    """
    import torch

    torch.manual_seed(0)

    class Fusion(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 3, 2, 1),
                torch.nn.ReLU(),
                torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8),
                torch.nn.ReLU(),
                torch.nn.ConvTranspose2d(8, 8, 2, 2),
                torch.nn.AdaptiveAvgPool2d(2),
                torch.nn.Flatten(),
            )
            self.vector, self.norm = torch.nn.Linear(6, 32), torch.nn.LayerNorm(64)
            self.query, self.key = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
            self.head = torch.nn.Linear(64, 5)

        def forward(self, image: Any, meta: Any) -> Any:
            joined = torch.cat([self.image(image), self.vector(meta)], 1)
            tokens = self.norm(joined).reshape(-1, 8, 8)
            scores = self.query(tokens) @ self.key(tokens).transpose(1, 2) / 8**0.5
            features = (torch.softmax(scores, -1) @ tokens).reshape(-1, 64)
            return self.head(features), features

    given = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 6))
    names = ["image", "meta"]
    with silence():
        torch.onnx.export(
            Fusion().eval(),
            given,
            str(path),
            opset_version=17,
            dynamo=False,
            input_names=names,
            output_names=["logits", "features"],
            dynamic_axes={name: {0: "n"} for name in (*names, "logits")} if open_batch else None,
        )
    return path


def write_arrays(folder: Path, seeds: range) -> None:
    folder.mkdir(parents=True)
    for seed in seeds:
        random = np.random.default_rng(seed)
        image = random.random((3, 32, 32), dtype=np.float32)
        meta = random.standard_normal(6).astype(np.float32)
        np.savez(folder / f"{seed}.npz", image=image, meta=meta)
