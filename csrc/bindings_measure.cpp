// What Python sees of metrics and measurements.
#include "bindings.hpp"
#include "kernels/overlap.hpp"
#include "kernels/regions.hpp"
#include "kernels/surface_cells.hpp"
#include "kernels/texture.hpp"

namespace msf {

static Ref to_python(LabelPairs&& pairs) {
  return tuple(std::move(pairs.a), std::move(pairs.b), std::move(pairs.count));
}

void bind_measure(const Scope& m) {
  m.def("overlap_counts", &overlap_counts);
  m.def("label_pairs", &label_pairs);
  m.def("surface_cells", &surface_cells);
  m.def("label_cells", &label_cells);
  m.def("region_table", &region_table);
  m.def("gather_values", &gather_values);
  m.def("first_order", &first_order);
  m.def("weighted_sums", &weighted_sums);
  m.def("diameters", &diameters);
  m.def("convex_image", &convex_image);
  m.def("cooccurrence", &cooccurrence);
  m.def("run_lengths", &run_lengths);
  m.def("neighbourhoods", &neighbourhoods);
  m.def("border_steps", &border_steps);
}

}  // namespace msf
