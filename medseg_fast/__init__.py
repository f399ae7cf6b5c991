"""medseg_fast: fast segmentation of 2D and 3D medical images."""

from medseg_fast import measure, metrics
from medseg_fast._config import show_config
from medseg_fast._memory import get_kept_memory, set_kept_memory
from medseg_fast._threads import get_num_threads, num_threads, set_num_threads
from medseg_fast._version import __version__
from medseg_fast.active_contour import active_contour
from medseg_fast.batch import batch
from medseg_fast.boundaries import find_boundaries, mark_boundaries
from medseg_fast.boundary_score import BoundaryScore, boundary_f1
from medseg_fast.canny import CannyPlan, canny
from medseg_fast.capture import capture
from medseg_fast.chan_vese import chan_vese
from medseg_fast.components import (
    clear_border,
    fill_holes,
    label,
    largest_component,
)
from medseg_fast.cross_difference import roberts, roberts_neg_diag, roberts_pos_diag
from medseg_fast.distance import distance_transform_edt, expand_labels, signed_distance
from medseg_fast.edge_detection import (
    EdgeResult,
    detect_edges,
    multiscale_morphological_gradient,
)
from medseg_fast.edge_flow import EdgeFlow, edge_flow
from medseg_fast.edges import (
    farid,
    farid_h,
    farid_v,
    prewitt,
    prewitt_h,
    prewitt_v,
    scharr,
    scharr_h,
    scharr_v,
    sobel,
    sobel_h,
    sobel_v,
)
from medseg_fast.fast_marching import fast_marching
from medseg_fast.flooding import flood, flood_fill
from medseg_fast.gabor import gabor_bank
from medseg_fast.gaussian import (
    difference_of_gaussians,
    gaussian,
    gaussian_gradient_magnitude,
    gaussian_laplace,
)
from medseg_fast.geodesic import geodesic_distance, geodesic_segmentation
from medseg_fast.grab_cut import grab_cut
from medseg_fast.graph_cut import maxflow_grid, verify_cut
from medseg_fast.grid_graph import GridGraph
from medseg_fast.hysteresis import apply_hysteresis_threshold
from medseg_fast.initial_shapes import box_level_set, checkerboard_level_set, disk_level_set
from medseg_fast.labelling import (
    alpha_beta_swap,
    alpha_expansion,
    icm,
    labelling_energy,
    potts,
    truncated_linear,
)
from medseg_fast.level_set import LevelSetResult, chan_vese_level_set, geodesic_active_contour
from medseg_fast.live_wire import LiveWire
from medseg_fast.measure import regionprops, regionprops_table
from medseg_fast.metrics import (
    average_surface_distance,
    dice,
    hausdorff_distance,
    jaccard,
)
from medseg_fast.minima import local_maxima, local_minima
from medseg_fast.minimum_cost import (
    MCP,
    MCP_Geometric,
    minimum_cost_path,
    minimum_costs,
    route_through_array,
)
from medseg_fast.morphological_snakes import (
    inverse_gaussian_gradient,
    morphological_chan_vese,
    morphological_geodesic_active_contour,
)
from medseg_fast.morphology import (
    black_tophat,
    closing,
    dilation,
    erosion,
    morphological_gradient,
    opening,
    white_tophat,
)
from medseg_fast.morphology_binary import (
    binary_closing,
    binary_dilation,
    binary_erosion,
    binary_opening,
)
from medseg_fast.pymaxflow import GraphFloat, GraphInt
from medseg_fast.random_walker import random_walker
from medseg_fast.reconstruction import h_maxima, h_minima, reconstruction
from medseg_fast.region import (
    LeakWarning,
    confidence_connected,
    connected_threshold,
    isolated_connected,
    neighborhood_connected,
)
from medseg_fast.region_cut import graph_cut_regions
from medseg_fast.region_growing import region_growing, seeded_region_growing
from medseg_fast.second_difference import laplace, zero_crossings
from medseg_fast.seeded_cut import GraphCutSession, graph_cut
from medseg_fast.small_objects import remove_small_holes, remove_small_objects
from medseg_fast.sparse_graph import Graph
from medseg_fast.split_touching import split_touching
from medseg_fast.threshold import threshold
from medseg_fast.threshold_explorer import ThresholdExplorer
from medseg_fast.threshold_histogram import (
    threshold_isodata,
    threshold_minimum,
    threshold_otsu,
    threshold_triangle,
    threshold_yen,
)
from medseg_fast.threshold_li import threshold_li, threshold_mean
from medseg_fast.threshold_local import threshold_local, threshold_niblack, threshold_sauvola
from medseg_fast.threshold_multiotsu import threshold_multiotsu
from medseg_fast.watershed import watershed
from medseg_fast.watershed_hierarchy import (
    WatershedHierarchy,
    markers_from_minima,
    watershed_hierarchy,
)
from medseg_fast.watershed_immersion import watershed_immersion

__all__ = [
    "MCP",
    "BoundaryScore",
    "CannyPlan",
    "EdgeFlow",
    "EdgeResult",
    "Graph",
    "GraphCutSession",
    "GraphFloat",
    "GraphInt",
    "GridGraph",
    "LeakWarning",
    "LevelSetResult",
    "LiveWire",
    "MCP_Geometric",
    "ThresholdExplorer",
    "WatershedHierarchy",
    "__version__",
    "active_contour",
    "alpha_beta_swap",
    "alpha_expansion",
    "apply_hysteresis_threshold",
    "average_surface_distance",
    "batch",
    "binary_closing",
    "binary_dilation",
    "binary_erosion",
    "binary_opening",
    "black_tophat",
    "boundary_f1",
    "box_level_set",
    "canny",
    "capture",
    "chan_vese",
    "chan_vese_level_set",
    "checkerboard_level_set",
    "clear_border",
    "closing",
    "confidence_connected",
    "connected_threshold",
    "detect_edges",
    "dice",
    "difference_of_gaussians",
    "dilation",
    "disk_level_set",
    "distance_transform_edt",
    "edge_flow",
    "erosion",
    "expand_labels",
    "farid",
    "farid_h",
    "farid_v",
    "fast_marching",
    "fill_holes",
    "find_boundaries",
    "flood",
    "flood_fill",
    "gabor_bank",
    "gaussian",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "geodesic_active_contour",
    "geodesic_distance",
    "geodesic_segmentation",
    "get_kept_memory",
    "get_num_threads",
    "grab_cut",
    "graph_cut",
    "graph_cut_regions",
    "h_maxima",
    "h_minima",
    "hausdorff_distance",
    "icm",
    "inverse_gaussian_gradient",
    "isolated_connected",
    "jaccard",
    "label",
    "labelling_energy",
    "laplace",
    "largest_component",
    "local_maxima",
    "local_minima",
    "mark_boundaries",
    "markers_from_minima",
    "maxflow_grid",
    "measure",
    "metrics",
    "minimum_cost_path",
    "minimum_costs",
    "morphological_chan_vese",
    "morphological_geodesic_active_contour",
    "morphological_gradient",
    "multiscale_morphological_gradient",
    "neighborhood_connected",
    "num_threads",
    "opening",
    "potts",
    "prewitt",
    "prewitt_h",
    "prewitt_v",
    "random_walker",
    "reconstruction",
    "region_growing",
    "regionprops",
    "regionprops_table",
    "remove_small_holes",
    "remove_small_objects",
    "roberts",
    "roberts_neg_diag",
    "roberts_pos_diag",
    "route_through_array",
    "scharr",
    "scharr_h",
    "scharr_v",
    "seeded_region_growing",
    "set_kept_memory",
    "set_num_threads",
    "show_config",
    "signed_distance",
    "sobel",
    "sobel_h",
    "sobel_v",
    "split_touching",
    "threshold",
    "threshold_isodata",
    "threshold_li",
    "threshold_local",
    "threshold_mean",
    "threshold_minimum",
    "threshold_multiotsu",
    "threshold_niblack",
    "threshold_otsu",
    "threshold_sauvola",
    "threshold_triangle",
    "threshold_yen",
    "truncated_linear",
    "verify_cut",
    "watershed",
    "watershed_hierarchy",
    "watershed_immersion",
    "white_tophat",
    "zero_crossings",
]


def __getattr__(name: str) -> object:
    """What few programs need is imported at first use."""
    if name in ("augment", "data", "io", "nn", "reference", "stream"):
        from importlib import import_module

        return import_module(f"medseg_fast.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
