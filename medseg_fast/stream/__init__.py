"""Segmentation in real time: frames in, masks out, every deadline accounted for.

`Pipeline` runs steps on the frames of a source and hands masks to sinks. Steps are plans: an
operation for one shape and dtype whose memory is allocated before the first frame.
"""

from medseg_fast.canny import CannyPlan
from medseg_fast.stream._frame import Frame, Record, Result
from medseg_fast.stream._log import read_log, summarise
from medseg_fast.stream._summary import Summary
from medseg_fast.stream.cutting import GraphCutPlan
from medseg_fast.stream.evolving import TrackedLevelSet
from medseg_fast.stream.igtl_ports import IgtlSink, IgtlSource, igtl_endpoint
from medseg_fast.stream.pipeline import Pipeline
from medseg_fast.stream.plans import (
    EdgePlan,
    LargestPlan,
    NetworkPlan,
    RegionGrowPlan,
    SmoothPlan,
    ThresholdPlan,
    WatershedPlan,
)
from medseg_fast.stream.sinks import FolderSink, SharedRing, SharedRingReader, VideoSink
from medseg_fast.stream.sources import Paced, VideoSource, frames_of
from medseg_fast.stream.tracking import TrackedCut, TrackedRegion

__all__ = [
    "CannyPlan",
    "EdgePlan",
    "FolderSink",
    "Frame",
    "GraphCutPlan",
    "IgtlSink",
    "IgtlSource",
    "LargestPlan",
    "NetworkPlan",
    "Paced",
    "Pipeline",
    "Record",
    "RegionGrowPlan",
    "Result",
    "SharedRing",
    "SharedRingReader",
    "SmoothPlan",
    "Summary",
    "ThresholdPlan",
    "TrackedCut",
    "TrackedLevelSet",
    "TrackedRegion",
    "VideoSink",
    "VideoSource",
    "WatershedPlan",
    "frames_of",
    "igtl_endpoint",
    "read_log",
    "summarise",
]
