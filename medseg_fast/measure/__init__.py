"""Sizes, shapes, intensities and textures of labelled regions, in mm.

`regionprops` and `regionprops_table` are scikit-image's; `measure` is the table that a radiologist
wants, with the features that the IBSI defines, and `change` compares two of them.
"""

from medseg_fast.measure.change import Change, change
from medseg_fast.measure.measurement import Measurements, measure
from medseg_fast.measure.neighbourhoods import ngldm, ngldm_features, ngtdm, ngtdm_features
from medseg_fast.measure.region_properties import RegionProperties, regionprops
from medseg_fast.measure.region_table import regionprops_table
from medseg_fast.measure.texture import glcm, glcm_features
from medseg_fast.measure.zones import (
    gldzm,
    gldzm_features,
    glrlm,
    glrlm_features,
    glszm,
    glszm_features,
)

__all__ = [
    "Change",
    "Measurements",
    "RegionProperties",
    "change",
    "glcm",
    "glcm_features",
    "gldzm",
    "gldzm_features",
    "glrlm",
    "glrlm_features",
    "glszm",
    "glszm_features",
    "measure",
    "ngldm",
    "ngldm_features",
    "ngtdm",
    "ngtdm_features",
    "regionprops",
    "regionprops_table",
]
