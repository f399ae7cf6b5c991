// Pixelwise comparison. One pass, read once and written once: the bound is memory bandwidth.
#include "kernels/threshold.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// Stays in the core's L2 cache, so that two threads do not share a line and a page is touched by
// one of them.
constexpr std::int64_t grain = 1 << 18;

template <class T>
void in_range_span(const T* __restrict image, T lower, T upper, std::uint8_t* __restrict mask,
                   std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) mask[i] = (image[i] >= lower) & (image[i] <= upper);
}

}  // namespace

void in_range(const Array& image, const Array& bounds, const MutableArray& mask) {
  visit(image.dtype, [&]<class T>(Type<T>) {
    const T lower = bounds.as<T>()[0], upper = bounds.as<T>()[1];
    parallel_for(image.size(), grain, [&](std::int64_t begin, std::int64_t end) {
      in_range_span(image.as<T>() + begin, lower, upper, mask.as<std::uint8_t>() + begin,
                    end - begin);
    });
  });
}

}  // namespace msf
