// What Python sees of the kernels that networks are made of.
#include <array>
#include <optional>

#include "bindings.hpp"
#include "kernels/halving.hpp"
#include "kernels/norm_activation.hpp"
#include "kernels/pooling.hpp"
#include "kernels/pyramid_pool.hpp"
#include "kernels/resample_argmax.hpp"
#include "kernels/upsampling.hpp"

namespace msf {

void bind_networks(const Scope& m) {
  m.def("resample_argmax",
        [](const Array& logits, const std::array<std::int64_t, 5>& shape,
           const std::array<std::int64_t, 5>& strides, const std::array<double, 3>& scales,
           const std::array<bool, 3>& linear, bool align_corners, std::optional<double> threshold,
           const MutableArray& labels) {
          std::array<ResampledAxis, 3> axes;
          for (int axis = 0; axis < 3; ++axis) axes[axis] = {scales[axis], linear[axis]};
          resample_argmax(logits, shape, strides, axes, align_corners, threshold, labels);
        });
  m.def("max_pool", [](const Array& input, const std::array<std::array<std::int64_t, 4>, 3>& axes,
                       const MutableArray& values, const MutableArray& indices) {
    std::array<Windows, 3> windows;
    for (int axis = 0; axis < 3; ++axis)
      windows[axis] = {axes[axis][0], axes[axis][1], axes[axis][2], axes[axis][3]};
    max_pool(input, windows, values, indices);
  });
  m.def("max_unpool", &max_unpool);
  m.def("transposed_conv2x2", &transposed_conv2x2);
  m.def("crop_concat", &crop_concat);
  m.def("halve", &halve);
  m.def("halve_gradient", &halve_gradient);
  m.def("norm_activation",
        [](const Array& input, const Array& scale, const Array& shift, bool by_image,
           double epsilon, float slope, const MutableArray& output, const MutableArray& mean,
           const MutableArray& inverse) {
          norm_activation(input, scale, shift, {by_image, epsilon, slope}, output, mean, inverse);
        });
  m.def(
      "norm_activation_gradient",
      [](const Array& input, const Array& gradient, const Array& scale, const Array& shift,
         const Array& mean, const Array& inverse, bool by_image, float slope,
         const MutableArray& by_input, const MutableArray& by_scale, const MutableArray& by_shift) {
        norm_activation_gradient(input, gradient, scale, shift, mean, inverse, {by_image, 0, slope},
                                 by_input, by_scale, by_shift);
      });
  m.def("pyramid_means", &pyramid_means);
  m.def("pyramid_mix", &pyramid_mix);
  m.def("pyramid_concat", &pyramid_concat);
}

}  // namespace msf
