"""Networks for segmentation, and the kernels they are made of.

`functional`, `load_plan`, `predict` and `instances` of a plan, `pseudo_labels` and `box_labels`
need NumPy alone. The networks need PyTorch (``pip install "medseg_fast[nn]"``), which is imported
when the first of them is asked for. Their files begin with an underscore: a module ``unet`` would
hide the function.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medseg_fast.nn import functional

if TYPE_CHECKING:
    from medseg_fast.nn import mask_rcnn
    from medseg_fast.nn._ensemble import Ensemble
    from medseg_fast.nn._fcn import fcn8s, fcn16s, fcn32s
    from medseg_fast.nn._instances import Instances, instances
    from medseg_fast.nn._lenet import lenet5, to_fully_convolutional
    from medseg_fast.nn._nonlocal_unet import nonlocal_unet
    from medseg_fast.nn._optimize._build import optimize
    from medseg_fast.nn._optimize._detector import DetectorPlan
    from medseg_fast.nn._optimize._plan import Plan, load_plan
    from medseg_fast.nn._planner import TrainingPlan, plan_training
    from medseg_fast.nn._predict import Cancelled, predict
    from medseg_fast.nn._pspnet import pspnet
    from medseg_fast.nn._segnet import segnet
    from medseg_fast.nn._training.fit import FitResult, fit
    from medseg_fast.nn._training.folds import folds
    from medseg_fast.nn._training.transfer import layer_rates, pretrain, transfer
    from medseg_fast.nn._unet import unet
    from medseg_fast.nn._unet_plus_plus import unet_plus_plus
    from medseg_fast.nn._vnet import vnet
    from medseg_fast.nn._weak import box_labels, pseudo_labels
    from medseg_fast.nn._weights import LoadReport, load_model, load_weights, save_model
    from medseg_fast.nn.losses import (
        BoundaryLoss,
        CombinedLoss,
        CrossEntropyLoss,
        DeepSupervisionLoss,
        DiceLoss,
        FocalLoss,
        JaccardLoss,
        LovaszLoss,
        StructuredLoss,
        TverskyLoss,
    )

__all__ = [
    "BoundaryLoss",
    "Cancelled",
    "CombinedLoss",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DetectorPlan",
    "DiceLoss",
    "Ensemble",
    "FitResult",
    "FocalLoss",
    "Instances",
    "JaccardLoss",
    "LoadReport",
    "LovaszLoss",
    "Plan",
    "StructuredLoss",
    "TrainingPlan",
    "TverskyLoss",
    "box_labels",
    "fcn8s",
    "fcn16s",
    "fcn32s",
    "fit",
    "folds",
    "functional",
    "instances",
    "layer_rates",
    "lenet5",
    "load_model",
    "load_plan",
    "load_weights",
    "mask_rcnn",
    "nonlocal_unet",
    "optimize",
    "plan_training",
    "predict",
    "pretrain",
    "pseudo_labels",
    "pspnet",
    "save_model",
    "segnet",
    "to_fully_convolutional",
    "transfer",
    "unet",
    "unet_plus_plus",
    "vnet",
]

# Where each name is that needs PyTorch; _NETWORKS are those that make a network. `mask_rcnn` is a
# module, as torchvision's is, with a function of that name.
_NETWORKS = {
    "fcn8s": "_fcn",
    "fcn16s": "_fcn",
    "fcn32s": "_fcn",
    "lenet5": "_lenet",
    "mask_rcnn": "mask_rcnn",
    "nonlocal_unet": "_nonlocal_unet",
    "pspnet": "_pspnet",
    "segnet": "_segnet",
    "unet": "_unet",
    "unet_plus_plus": "_unet_plus_plus",
    "vnet": "_vnet",
}
# Losses are many: one package.
_LOSSES = (
    "BoundaryLoss",
    "CombinedLoss",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DiceLoss",
    "FocalLoss",
    "JaccardLoss",
    "LovaszLoss",
    "StructuredLoss",
    "TverskyLoss",
)
_MODULES = {
    **_NETWORKS,
    **dict.fromkeys(_LOSSES, "losses"),
    "Cancelled": "_predict",
    "DetectorPlan": "_optimize._detector",
    "Ensemble": "_ensemble",
    "FitResult": "_training.fit",
    "Instances": "_instances",
    "LoadReport": "_weights",
    "Plan": "_optimize._plan",
    "TrainingPlan": "_planner",
    "fit": "_training.fit",
    "box_labels": "_weak",
    "folds": "_training.folds",
    "instances": "_instances",
    "layer_rates": "_training.transfer",
    "load_model": "_weights",
    "load_plan": "_optimize._plan",
    "load_weights": "_weights",
    "optimize": "_optimize._build",
    "plan_training": "_planner",
    "predict": "_predict",
    "pretrain": "_training.transfer",
    "pseudo_labels": "_weak",
    "save_model": "_weights",
    "to_fully_convolutional": "_lenet",
    "transfer": "_training.transfer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(
            f'medseg_fast.nn: {name} needs PyTorch: pip install "medseg_fast[nn]"'
        ) from None
    return module if _MODULES[name] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
