// Sets a result to 0 where the block of neighbours is not all inside a mask: an erosion by rows of
// bytes that is never stored.
#include <cstring>

#include "kernels/stencil.hpp"
#include "stencil.hpp"

namespace msf {

using stencil::Box;
using stencil::Index;

void clip_to_mask(const Array& mask, const MutableArray& out) {
  const Box box(mask);
  const Index n = box.columns;
  if (n == 0) return;
  const int axes = mask.ndim - 1;
  parallel_for(box.planes * box.rows, 16, [&](Index begin, Index end) {
    std::vector<std::uint8_t> inside(n + 2);  // one column beyond each end, outside
    Index offsets = 1;
    for (int k = 0; k < axes; ++k) offsets *= 3;
    for (Index row = begin; row < end; ++row) {
      std::memset(inside.data() + 1, 1, n);
      for (Index i = 0; i < offsets; ++i) {
        Index other = row, stride = 1;
        bool exists = true;
        for (Index k = axes - 1, rest = i; k >= 0; --k, rest /= 3) {
          const Index step = rest % 3 - 1, at = row / stride % mask.shape[k] + step;
          exists = exists && at >= 0 && at < mask.shape[k];
          other += step * stride;
          stride *= mask.shape[k];
        }
        if (!exists) {
          std::memset(inside.data() + 1, 0, n);
          break;
        }
        const std::uint8_t* __restrict in = mask.as<std::uint8_t>() + other * n;
        std::uint8_t* __restrict both = inside.data() + 1;
        for (Index j = 0; j < n; ++j) both[j] &= in[j];
      }
      const std::uint8_t* __restrict in = inside.data();
      const auto clip = [&]<class T>(Type<T>) {
        T* __restrict to = out.as<T>() + row * n;
        for (Index j = 0; j < n; ++j) to[j] = (in[j] & in[j + 1] & in[j + 2]) ? to[j] : T{0};
      };
      out.dtype == DType::float32 ? clip(Type<float>{}) : clip(Type<double>{});
    }
  });
}

}  // namespace msf
