"""Ctrl-C stops a long call of every family (how the pool does it: test_threads.py)."""

from __future__ import annotations

import importlib.util

from _interrupt import DELAY, MOST
from test_threads import run_python

CALLS = {
    "otsu": "ms.threshold_otsu(image)",
    "li": "ms.threshold_li(image)",
    "multiotsu": "ms.threshold_multiotsu(image, 5, nbins=3000)",
    "local mean": "ms.threshold_local(noise, 5, 'mean')",
    "local gaussian": "ms.threshold_local(noise, 25, 'gaussian', binary=True)",
    "local median": "ms.threshold_local(noise, 5, 'median', binary=True)",
    "sauvola": "ms.threshold_sauvola(noise)",
    "hysteresis": "ms.apply_hysteresis_threshold(noise, 100, 200)",
    "label of a mask": "ms.label(mask)",
    "label of values": "ms.label(noise)",
    "small objects": "ms.remove_small_objects(mask, connectivity=1)",
    "holes": "ms.fill_holes(mask)",
    "flood": "ms.flood(noise, seed, tolerance=170)",
    "connected": "ms.connected_threshold(image, seed, 0, 180, connectivity=3)",
    "neighborhood": "ms.neighborhood_connected(image, seed, 0, 300)",
    "confidence": "ms.confidence_connected(image, seed)",
    "isolated": "ms.isolated_connected(image, seed, (1, 1, 1), 0, 300)",
    "seeded growing": "ms.seeded_region_growing(image, markers)",
    "growing by a rule": "ms.region_growing(noise, seed, rule, connectivity=3)",
    "explorer": "ms.ThresholdExplorer(image, seed)",
    "maxflow": "ms.maxflow_grid(noise, noise[::-1], 40)",
    "maxflow of edges": "graph.copy().maxflow()",
    "graph cut": "ms.graph_cut(noise, noise > 250, noise < 5, region=None)",
    "grab cut": "ms.grab_cut(noise[0], ((9, 390), (9, 390)))",
    "alpha expansion": "ms.alpha_expansion(costs, ms.potts(3, 60))",
    "icm": "ms.icm(costs, ms.potts(3, 60))",
    "random walker": "ms.random_walker(noise, markers)",
    "route": "ms.route_through_array(image[:4] + 1, (0, 0, 0), (3, 399, 399))",
    "minimum costs": "ms.minimum_costs(noise[:4], (0, 0, 0), geometric=False)",
    "live wire": "expand(wire)",
    "fast marching": "ms.fast_marching(image[:9] + 1, (0, 0, 0))",
    "geodesic distance": "ms.geodesic_distance(image[:4], (0, 0, 0))",
    "geodesic segmentation": "ms.geodesic_segmentation(noise, markers)",
    "canny": "ms.canny(noise.reshape(-1, 400))",
    "canny of a volume": "ms.canny(noise)",
    "morphological snake": "ms.morphological_chan_vese(noise, 50)",
    "geodesic snake": "ms.morphological_geodesic_active_contour(image, 50, balloon=1)",
    "level set": "ms.chan_vese_level_set(image, ms.disk_level_set(image.shape))",
    "chan-vese": "ms.chan_vese(image[0], tol=1e-12)",
    "snake": "ms.active_contour(image[0], nodes.T[:3000], convergence=-1)",
}

SCRIPT = """
    import warnings
    import numpy as np, medseg_fast as ms
    warnings.simplefilter("ignore")
    noise = np.random.default_rng(0).integers(0, 256, (50, 400, 400), np.uint8)
    image, mask, seed = noise.astype(np.float32), noise > 128, (25, 200, 200)
    markers = np.zeros(noise.shape, np.uint8)
    markers[0, 0, 0], markers[-1, -1, -1] = 1, 2
    costs = np.stack([noise[:9], noise[9:18], noise[18:27]], -1).astype(np.int32)
    nodes = np.random.default_rng(1).integers(0, 10**5, (2, 10**6))
    graph = ms.Graph(10**5)
    graph.add_edge(nodes[0], nodes[0] ^ 1 + nodes[1] % 2, nodes[1] % 9)
    graph.add_terminal(noise.ravel()[: 10**5], noise.ravel()[-(10**5) :])
    rule = lambda value, mean, std, seed_value: True
    wire = ms.LiveWire.from_costs(image[:4] + 1)
    ms.set_num_threads(1)

    def expand(wire):
        while wire.anchors:
            wire.undo()
        wire.seed((0, 0, 0))
        wire.expand()

    for line in CALLS.splitlines():
        name, code = line.split("|")
        if "rule" in code:  # compiled before
            ms.region_growing(noise[0], (0, 0), rule, connectivity=1, max_voxels=9)
        call = eval("lambda: " + code)
        print(name, delay(call, 0.02), sep="|")
"""


def test_ctrl_c_stops_every_family():
    numba = importlib.util.find_spec("numba") is not None
    calls = {name: code for name, code in CALLS.items() if numba or "rule" not in code}
    listing = "\n".join(f"{name}|{code}" for name, code in calls.items())
    printed = run_python(DELAY + SCRIPT.replace("CALLS.", f"{listing!r}."), timeout=300)
    delays = {name: float(late) for name, late in (x.split("|") for x in printed.splitlines())}
    assert list(delays) == list(calls)
    assert {name: late for name, late in delays.items() if late > MOST} == {}
