"""DVC, reached through this package alone: what is stale, reproducing a stage, and what DVC keeps:
checked, repaired, pushed.
"""

from enginery.pipeline.stages import OnEvent, Pipeline

__all__ = ["OnEvent", "Pipeline"]
