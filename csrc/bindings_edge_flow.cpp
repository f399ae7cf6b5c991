// What Python sees of the edge flow and the Gabor filters.
#include <array>
#include <vector>

#include "bindings.hpp"
#include "kernels/edge_flow.hpp"
#include "kernels/gabor.hpp"

namespace msf {

template <>
struct From<SeparablePart> {
  static bool read(PyObject* object, SeparablePart& part) {
    return read_tuple(object, part.down, part.right);
  }
};
template <>
struct From<SymmetricFilter> {
  static bool read(PyObject* object, SymmetricFilter& filter) {
    return read_tuple(object, filter.even_even, filter.odd_odd, filter.even_odd, filter.odd_even);
  }
};

void bind_edge_flow(const Scope& m) {
  m.def("edge_flow_vectors",
        [](const Array& maps, const std::vector<int>& of_map,
           const std::vector<double>& map_weights, const std::vector<double>& attribute_weights,
           const std::vector<std::array<std::int64_t, 2>>& offsets,
           const std::vector<std::array<double, 2>>& directions,
           const std::array<double, 2>& spacing, const MutableArray& flow) {
          edge_flow_vectors(maps, {of_map, map_weights, attribute_weights}, offsets, directions,
                            spacing, flow);
        });
  m.def("meet_flows", &meet_flows);
  m.def("unit_flow", &unit_flow);
  m.def("link_boundaries", &link_boundaries);
  m.def("label_enclosed", &label_enclosed);
  m.def("merge_enclosed", &merge_enclosed);

  m.def("symmetric_filter", &symmetric_filter);
}

}  // namespace msf
