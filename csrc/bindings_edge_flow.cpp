// What Python sees of the edge flow and the Gabor filters.
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "kernels/edge_flow.hpp"
#include "kernels/gabor.hpp"

namespace py = pybind11;

namespace msf {

void bind_edge_flow(py::module_& m) {
  m.def(
      "edge_flow_vectors",
      [](const Array& maps, const std::vector<int>& of_map, const std::vector<double>& map_weights,
         const std::vector<double>& attribute_weights,
         const std::vector<std::array<std::int64_t, 2>>& offsets,
         const std::vector<std::array<double, 2>>& directions, const std::array<double, 2>& spacing,
         const MutableArray& flow) {
        edge_flow_vectors(maps, {of_map, map_weights, attribute_weights}, offsets, directions,
                          spacing, flow);
      },
      NoGil());
  m.def("meet_flows", &meet_flows, NoGil());
  m.def("unit_flow", &unit_flow, NoGil());
  m.def("link_boundaries", &link_boundaries, NoGil());
  m.def("label_enclosed", &label_enclosed, NoGil());
  m.def("merge_enclosed", &merge_enclosed, NoGil());

  using Part = std::pair<std::vector<double>, std::vector<double>>;
  m.def(
      "symmetric_filter",
      [](const Array& image, const std::array<std::vector<Part>, 4>& classes, int border,
         const MutableArray& magnitude, const std::optional<MutableArray>& mirrored) {
        const auto parts = [&](int i) {
          std::vector<SeparablePart> list;
          for (const auto& [down, right] : classes[i]) list.push_back({down, right});
          return list;
        };
        symmetric_filter(image, {parts(0), parts(1), parts(2), parts(3)},
                         static_cast<BorderMode>(border), magnitude,
                         mirrored ? &*mirrored : nullptr);
      },
      NoGil());
}

}  // namespace msf
