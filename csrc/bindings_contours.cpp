// What Python sees of the deformable contours.
#include <array>

#include "bindings.hpp"
#include "kernels/active_contour.hpp"
#include "kernels/chan_vese.hpp"
#include "kernels/level_set.hpp"
#include "kernels/morphological_snake.hpp"

namespace msf {

template <>
struct From<GeodesicWeights> {
  static bool read(PyObject* object, GeodesicWeights& weights) {
    return read_tuple(object, weights.propagation, weights.curvature, weights.advection);
  }
};
template <>
struct From<RegionWeights> {
  static bool read(PyObject* object, RegionWeights& weights) {
    return read_tuple(object, weights.mu, weights.nu, weights.lambda1, weights.lambda2);
  }
};

static Ref to_python(const LevelSet::Step& step) { return tuple(step.energy, step.rms); }

void bind_contours(const Scope& m) {
  m.add_class<MorphologicalSnake>("medseg_fast._core.MorphologicalSnake")
      .def<&MorphologicalSnake::iterate>("iterate");
  m.def("chan_vese_snake", &chan_vese_snake, {0, 1});
  m.def("geodesic_snake", &geodesic_snake, {0, 2});

  m.add_class<LevelSet>("medseg_fast._core.LevelSet")
      .def<&LevelSet::iterate>("iterate")
      .def<&LevelSet::mask>("mask")
      .def<&LevelSet::overlay>("overlay");
  m.def("geodesic_level_set", &geodesic_level_set, {0});
  m.def("region_level_set", &region_level_set, {0});

  m.def("spline_coefficients", &spline_coefficients);
  m.def("active_contour", [](const Array& coefficients, const std::array<double, 4>& weights,
                             std::int64_t iterations, double convergence,
                             const std::array<SnakeEnd, 2>& ends, const MutableArray& snake) {
    return active_contour(
        coefficients,
        {weights[0], weights[1], weights[2], weights[3], iterations, convergence, ends[0], ends[1]},
        snake);
  });
  m.def("chan_vese", [](const Array& image, const std::array<double, 5>& weights,
                        std::int64_t iterations, bool with_energies, const MutableArray& phi) {
    return chan_vese(image,
                     {weights[0], weights[1], weights[2], weights[3], weights[4], iterations},
                     with_energies, phi);
  });
}

}  // namespace msf
