// What Python sees of augmentation.
#include "bindings.hpp"
#include "kernels/augment.hpp"

namespace msf {

void bind_augment(const Scope& m) {
  m.def("warp", [](const Array& image, const std::array<double, 9>& matrix,
                   const std::array<double, 3>& offset, const Array* control, int order,
                   std::optional<double> fill, const MutableArray& out, const Array* label,
                   std::int64_t label_fill, const MutableArray* label_out) {
    warp(image, {matrix, offset, control}, order, fill, out, label, label_fill, label_out);
  });
  m.def("shade", &shade);
}

}  // namespace msf
