"""`medseg_fast.nn` without PyTorch: kernels stay, networks say what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

import medseg_fast.nn as networks

_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from medseg_fast import nn
assert nn.functional.__name__ == "medseg_fast.nn.functional"
for name in nn.__all__:
    try:
        getattr(nn, name)
    except ImportError as error:
        assert str(error) == (
            f'medseg_fast.nn: {name} needs PyTorch: pip install "medseg_fast[nn]"'
        ), error
    else:
        without = "functional Cancelled folds load_plan Plan plan_training predict".split()
        without += "DetectorPlan Instances instances TrainingPlan box_labels pseudo_labels".split()
        assert name in without, name
"""


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_torch() -> None:
    _run(_WITHOUT_TORCH)


def test_torch_is_imported_when_a_network_is_asked_for() -> None:
    _run("import sys, medseg_fast.nn as nn; dir(nn); assert 'torch' not in sys.modules")


def test_mask_rcnn_is_a_module() -> None:
    pytest.importorskip("torch", reason="networks need the extra nn")
    _run("from medseg_fast import nn; nn.mask_rcnn.maskrcnn_resnet50_fpn")


def test_names() -> None:
    assert set(networks.__all__) <= set(dir(networks))
    with pytest.raises(AttributeError, match="has no attribute 'resnet'"):
        networks.resnet  # noqa: B018


def test_all_names_are_there() -> None:
    pytest.importorskip("torch", reason="networks need the extra nn")
    for name in networks.__all__:
        assert getattr(networks, name) is not None
