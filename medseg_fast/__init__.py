"""medseg_fast: fast segmentation of 2D and 3D medical images."""

from medseg_fast._config import show_config
from medseg_fast._threads import get_num_threads, num_threads, set_num_threads
from medseg_fast._version import __version__
from medseg_fast.components import label
from medseg_fast.region import LeakWarning
from medseg_fast.region_growing import region_growing, seeded_region_growing
from medseg_fast.threshold import threshold
from medseg_fast.threshold_explorer import ThresholdExplorer

__all__ = [
    "LeakWarning",
    "ThresholdExplorer",
    "__version__",
    "get_num_threads",
    "label",
    "num_threads",
    "region_growing",
    "seeded_region_growing",
    "set_num_threads",
    "show_config",
    "threshold",
]


def __getattr__(name: str) -> object:
    """``medseg_fast.io`` is imported at first use."""
    if name == "io":
        from importlib import import_module

        return import_module("medseg_fast.io")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
