// What Python sees of the deformable contours.
#include <optional>

#include "bindings.hpp"
#include "kernels/morphological_snake.hpp"

namespace py = pybind11;

namespace msf {

void bind_contours(py::module_& m) {
  py::class_<MorphologicalSnake>(m, "MorphologicalSnake", py::module_local())
      .def("iterate", &MorphologicalSnake::iterate, NoGil());
  m.def("chan_vese_snake", &chan_vese_snake, py::keep_alive<0, 1>(), py::keep_alive<0, 2>(),
        NoGil());
  m.def(
      "geodesic_snake",
      [](const Array& edge_map, const std::optional<Array>& open, const MutableArray& level_set,
         int smoothing, int balloon) {
        return geodesic_snake(edge_map, open ? &*open : nullptr, level_set, smoothing, balloon);
      },
      py::keep_alive<0, 1>(), py::keep_alive<0, 3>(), NoGil());
}

}  // namespace msf
