// Bilinear resizing as torch.nn.functional.interpolate(align_corners=False), of what is visible.
//
// Every row of a mask is resized along the columns once; each row of the image then mixes two of
// them. Pixels outside the boxes are never touched, so of a fresh image only the boxes' pages cost.
#include <algorithm>
#include <vector>

#include "kernels/paste_masks.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// The two source pixels of an output pixel and the second one's weight.
template <class T>
struct Between {
  std::int64_t low, high;
  T above;

  Between(std::int64_t to, std::int64_t source, std::int64_t size) : low(to), high(to), above(0) {
    if (source == size) return;
    const T ratio = static_cast<T>(source) / static_cast<T>(size);
    const T position = std::max(ratio * (static_cast<T>(to) + T(0.5)) - T(0.5), T(0));
    low = std::min(static_cast<std::int64_t>(position), source - 1);
    high = std::min(low + 1, source - 1);
    above = std::clamp(position - static_cast<T>(low), T(0), T(1));
  }
};

template <class T>
void mix(const T* a, const T* b, T wa, T wb, std::int64_t n, T*, T, T* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = wa * a[i] + wb * b[i];
}

template <class T>
void mix(const T* a, const T* b, T wa, T wb, std::int64_t n, T* line, T threshold,
         std::uint8_t* out) {
  mix(a, b, wa, wb, n, line, threshold, line);
  for (std::int64_t i = 0; i < n; ++i) out[i] = line[i] >= threshold;
}

template <class T, class Out>
void paste(const Array& masks, const Array& boxes, std::int64_t padding, double threshold,
           const MutableArray& out) {
  const std::int64_t rows = masks.shape[1], columns = masks.shape[2];
  const std::int64_t height = out.shape[1], width = out.shape[2];
  parallel_tasks(masks.shape[0], [&](std::int64_t k) {
    const std::int64_t* const box = boxes.as<std::int64_t>() + 4 * k;
    const T* const mask = masks.as<T>() + k * rows * columns;
    const std::int64_t x0 = std::max<std::int64_t>(box[0], 0), x1 = std::min(box[2] + 1, width);
    const std::int64_t y0 = std::max<std::int64_t>(box[1], 0), y1 = std::min(box[3] + 1, height);
    if (x0 >= x1 || y0 >= y1) return;
    const std::int64_t n = x1 - x0;
    const std::int64_t padded_rows = rows + 2 * padding, padded = columns + 2 * padding;
    std::vector<T> resized((padded_rows + 1) * n, T(0));  // and a line for `mix`
    std::vector<T> source(padded, T(0));
    std::vector<Between<T>> from;
    from.reserve(n);
    for (std::int64_t x = x0; x < x1; ++x)
      from.emplace_back(x - box[0], padded, box[2] - box[0] + 1);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::copy_n(mask + r * columns, columns, source.data() + padding);
      T* const to = resized.data() + (r + padding) * n;
      for (std::int64_t x = 0; x < n; ++x)
        to[x] = (1 - from[x].above) * source[from[x].low] + from[x].above * source[from[x].high];
    }
    T* const line = resized.data() + padded_rows * n;
    for (std::int64_t y = y0; y < y1; ++y) {
      const Between<T> b(y - box[1], padded_rows, box[3] - box[1] + 1);
      mix(resized.data() + b.low * n, resized.data() + b.high * n, 1 - b.above, b.above, n, line,
          static_cast<T>(threshold), out.as<Out>() + (k * height + y) * width + x0);
    }
  });
}

}  // namespace

void paste_masks(const Array& masks, const Array& boxes, std::int64_t padding, double threshold,
                 const MutableArray& out) {
  const bool thresholded = out.dtype == DType::boolean;
  if (masks.dtype == DType::float32)
    (thresholded ? paste<float, std::uint8_t> : paste<float, float>)(masks, boxes, padding,
                                                                     threshold, out);
  else
    (thresholded ? paste<double, std::uint8_t> : paste<double, double>)(masks, boxes, padding,
                                                                        threshold, out);
}

}  // namespace msf
