// Every kernel that Python can call, by family: the engine's table of contents.
//
// Only bindings.cpp includes this file; a kernel's source includes its own family's header, so that
// a change rebuilds one family. Arguments are checked by the Python function of the same family; a
// kernel may rely on what its comment says. Kernels allocate only scratch memory; results go to
// arrays that Python allocated.
#pragma once

#include "kernels/boundaries.hpp"
#include "kernels/canny.hpp"
#include "kernels/components.hpp"
#include "kernels/contrast.hpp"
#include "kernels/cost_search.hpp"
#include "kernels/distance.hpp"
#include "kernels/fast_marching.hpp"
#include "kernels/histogram.hpp"
#include "kernels/histogram_peaks.hpp"
#include "kernels/hysteresis.hpp"
#include "kernels/label.hpp"
#include "kernels/label_sizes.hpp"
#include "kernels/local_threshold.hpp"
#include "kernels/maxflow.hpp"
#include "kernels/minima.hpp"
#include "kernels/mixture.hpp"
#include "kernels/morphology.hpp"
#include "kernels/morphological_snake.hpp"
#include "kernels/moves.hpp"
#include "kernels/multiotsu.hpp"
#include "kernels/random_walker.hpp"
#include "kernels/reconstruction.hpp"
#include "kernels/region.hpp"
#include "kernels/region_growing.hpp"
#include "kernels/seeded_region_growing.hpp"
#include "kernels/separable.hpp"
#include "kernels/sparse_graph.hpp"
#include "kernels/stencil.hpp"
#include "kernels/sums.hpp"
#include "kernels/threshold.hpp"
#include "kernels/threshold_explorer.hpp"
#include "kernels/watershed.hpp"
#include "kernels/watershed_hierarchy.hpp"
#include "kernels/watershed_immersion.hpp"
