"""The peers' own tests, with our functions in place of theirs.

    tar xf scikit_image-0.26.0.tar.gz  # the source on PyPI: wheels hold no tests
    python tests/peer_suite.py scikit_image-0.26.0

Runs scikit-image's tests and those of SciPy's `distance_transform_edt`. Tests in `DIFFERENT` are
left out: what differs there differs on purpose.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import scipy.ndimage

import medseg_fast as ms

_FILES = """
feature: test_canny
filters: test_edges test_gaussian test_thresholding
graph: test_anisotropy test_connect test_flexible test_mcp test_spath
measure: test_ccomp test_label test_regionprops
metrics: test_segmentation_metrics
morphology: test_binary test_extrema test_flood_fill test_gray test_misc test_reconstruction
segmentation: test_active_contour_model test_boundaries test_chan_vese test_clear_border
segmentation: test_expand_labels test_morphsnakes test_random_walker test_watershed
"""
TESTS = [
    (part, file)
    for part, _, files in (line.partition(":") for line in _FILES.split("\n"))
    for file in files.split()
]
DIFFERENT = {
    "morphology/test_binary.py::test_deprecation_warning": "masks have a kernel of their own",
    "feature/test_canny.py::TestCanny::test_image_shape": "canny takes volumes, too",
    "measure/test_ccomp.py::TestConnectedComponents3d::test_nd": "label takes any number of axes",
    "morphology/test_extrema.py::TestLocalMaxima::test_exceptions": "float16 is taken, too",
    "segmentation/test_random_walker.py::test_prob_tol": "an isolated seed shifts no edges",
    "measure/test_regionprops.py::test_docstrings_and_props": "the form of a docstring",
    "segmentation/test_watershed.py::test_connectivity": "equal markers flood in raster order",
}


def modules() -> Iterator[types.ModuleType]:
    """Where scikit-image's functions have names, private modules included."""
    for part in dict(TESTS):
        package = importlib.import_module(f"skimage.{part}")
        yield package
        for found in pkgutil.iter_modules(package.__path__):
            yield importlib.import_module(f"skimage.{part}.{found.name}")


def replace() -> set[str]:
    """Put our functions where scikit-image's are; their names."""
    names = set()
    for module in list(modules()):
        for name in [*ms.__all__, "adapted_rand_error", "variation_of_information"]:
            theirs = vars(module).get(name)
            if (
                callable(theirs)
                and theirs.__module__.startswith("skimage.")
                and name != "threshold"
            ):
                setattr(module, name, getattr(ms, name, None) or getattr(ms.metrics, name))
                names.add(name)
    return names


class Scipy:
    """SciPy's tests look their functions up while they are collected: ours come after."""

    def pytest_collection_finish(self) -> None:
        scipy.ndimage.distance_transform_edt = ms.distance_transform_edt  # type: ignore[assignment]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="scikit-image's source, unpacked")
    tests = parser.parse_args().source.resolve() / "tests" / "skimage"
    if not tests.is_dir():
        parser.error(f"{tests} is no folder: the source of scikit-image 0.26 has it")
    paths = [str(tests / part / f"{file}.py") for part, file in TESTS]
    quiet = ["-q", "-p", "no:cacheprovider"]
    scipy_tests = [
        "--pyargs",
        "scipy.ndimage.tests.test_morphology",
        "-k",
        "distance_transform_edt",
    ]
    worst = pytest.main([*quiet, *scipy_tests], plugins=[Scipy()])
    print(f"{len(replace())} functions of ours in place of scikit-image's; left out:")
    print("\n".join(f"  {test}: {why}" for test, why in DIFFERENT.items()))
    left_out = [f"--deselect={test}" for test in DIFFERENT]
    options = [*quiet, "--noconftest", f"--rootdir={tests}", f"--confcutdir={tests}"]
    return max(worst, pytest.main([*options, *left_out, *paths]))


if __name__ == "__main__":
    sys.exit(main())
