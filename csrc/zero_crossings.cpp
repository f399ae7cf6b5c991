// Where an image changes sign between neighbours along an axis: of the two, the one nearer to zero.
#include <cmath>

#include "kernels/stencil.hpp"
#include "stencil.hpp"

namespace msf {
namespace {

using stencil::Block;
using stencil::Box;
using stencil::Index;
using stencil::Source;

// Marks the pixels nearer to zero than their neighbours of other sign; `later`: equally near
// counts.
template <class T>
void mark(const T* __restrict pixels, const T* __restrict others, Index n, T threshold, bool later,
          std::uint8_t* __restrict out) {
  const std::uint8_t ties = later;
  for (Index j = 0; j < n; ++j) {
    const T p = pixels[j], q = others[j];
    const std::uint8_t differ = ((p < 0) != (q < 0)) | ((p > 0) != (q > 0));
    const std::uint8_t nearer = (std::abs(p) < std::abs(q)) | (ties & (std::abs(p) == std::abs(q)));
    out[j] |= differ & nearer & static_cast<std::uint8_t>(std::abs(p - q) > threshold);
  }
}

template <class T>
void run(const Array& image, double threshold, const MutableArray& out) {
  const Box box(image);
  const Source<T> source(image, 1);
  const int axes = image.ndim - 1;
  const T least = static_cast<T>(threshold);
  stencil::for_blocks(box, 3, sizeof(T), false, [&](const Block& block) {
    const Index first = block.begin[2], n = block.end[2] - first;
    const Index before = first > 0, after = block.end[2] < box.columns;
    std::vector<T> memory(2 * (n + 2));
    for (Index z = block.begin[0]; z < block.end[0]; ++z)
      for (Index y = block.begin[1]; y < block.end[1]; ++y) {
        poll();
        const Index row = z * box.rows + y, start = row * box.columns + first;
        std::uint8_t* const to = out.as<std::uint8_t>() + start;
        std::fill_n(to, n, std::uint8_t{0});
        const T* const pixels =
            source.row(start - before, n + before + after, memory.data()) + before;
        mark(pixels + 1, pixels, n - 1, least, false, to + 1);
        if (before) mark(pixels, pixels - 1, 1, least, false, to);
        mark(pixels, pixels + 1, n - 1 + after, least, true, to);
        Index stride = 1;
        for (int k = axes - 1; k >= 0; --k) {
          const Index at = row / stride % image.shape[k];
          const auto other = [&](Index r) {
            return source.row(r * box.columns + first, n, memory.data() + n + 2);
          };
          if (at > 0) mark(pixels, other(row - stride), n, least, false, to);
          if (at + 1 < image.shape[k]) mark(pixels, other(row + stride), n, least, true, to);
          stride *= image.shape[k];
        }
      }
  });
}

}  // namespace

void zero_crossings(const Array& image, double threshold, const MutableArray& out) {
  switch (image.dtype) {  // float32 holds these exactly
    case DType::boolean:
    case DType::uint8:
    case DType::int8:
    case DType::uint16:
    case DType::int16:
    case DType::float16:
    case DType::float32:
      return run<float>(image, threshold, out);
    default:
      return run<double>(image, threshold, out);
  }
}

}  // namespace msf
