"""DVC, reached through this package alone: what is stale, reproducing a stage, and what DVC keeps:
checked, repaired, pushed.
"""

from enginery.pipeline.process import OnEvent
from enginery.pipeline.stages import Pipeline, open_project

__all__ = ["OnEvent", "Pipeline", "open_project"]
