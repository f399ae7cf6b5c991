// Magnitudes of complex filters that are sums of a few separable ones (Gabor filters, gabor.py).
//
// A task filters a block of rows and columns. It copies what the filter reaches to compact memory,
// border included, so that nothing after that asks where the image ends. Per row, the parts with
// the same symmetry down the columns share their loads: a pair of pixels at equal distances is
// added (odd: subtracted) once and weighted for each of them. Then each part is filtered along the
// row and added to its class. The filter mirrored left to right has the same classes, those odd
// along the row with the other sign, and costs only its magnitude.
#include <algorithm>
#include <cmath>

#include "kernels/gabor.hpp"
#include "local.hpp"
#include "pack.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using Index = std::int64_t;
using P = Pack<float>;

constexpr Index block_rows = 64;
constexpr Index least_columns = 512;
constexpr Index together = 4;  // parts whose sums are in registers at once

Index rounded(Index n) { return (n + P::size - 1) / P::size * P::size; }

// Parts of one symmetry down the columns, with the class that each belongs to.
struct Parts {
  bool odd;
  std::vector<std::vector<float>> down, right;
  std::vector<int> to;

  void add(const std::vector<SeparablePart>& parts, int which) {
    for (const SeparablePart& part : parts) {
      down.emplace_back(part.down.begin(), part.down.end());
      right.emplace_back(part.right.begin(), part.right.end());
      to.push_back(which);
    }
  }
  Index size() const { return static_cast<Index>(to.size()); }
};

// Filters down the columns by `count` parts from the first: out[k] gets n (rounded up) columns.
template <bool odd, Index count>
void filter_down(const float* centre, Index pitch, Index radius, const std::vector<float>* weights,
                 Index n, float* out, Index out_pitch) {
  for (Index x = 0; x < n; x += P::size) {
    const float* const in = centre + x;
    P sum[count]{};
    if (!odd)
      for (Index k = 0; k < count; ++k) sum[k] = P::scaled(P::load(in), weights[k][0]);
    for (Index t = 1; t <= radius; ++t) {
      P pair = P::load(in + t * pitch);
      const P before = P::load(in - t * pitch);
      for (Index i = 0; i < P::count; ++i)
        pair.part[i] = odd ? pair.part[i] - before.part[i] : pair.part[i] + before.part[i];
      for (Index k = 0; k < count; ++k)
        for (Index i = 0; i < P::count; ++i) sum[k].part[i] += pair.part[i] * weights[k][t];
    }
    for (Index k = 0; k < count; ++k) sum[k].store(out + k * out_pitch + x);
  }
}

template <bool odd>
void filter_right(const float* centre, const std::vector<float>& weights, Index n, bool first,
                  float* out) {
  const Index radius = static_cast<Index>(weights.size()) - 1;
  for (Index x = 0; x < n; x += P::size) {
    const float* const in = centre + x;
    P sum{};
    if (!first) sum = P::load(out + x);
    if (!odd) {
      const P here = P::scaled(P::load(in), weights[0]);
      for (Index i = 0; i < P::count; ++i) sum.part[i] += here.part[i];
    }
    for (Index t = 1; t <= radius; ++t)
      sum.add_pair<odd>(P::load(in - t), P::load(in + t), weights[t]);
    sum.store(out + x);
  }
}

class Block {
 public:
  Block(const Array& image, const Parts& even, const Parts& odd, Index down, Index right,
        Index columns, BorderMode border)
      : image_(image),
        even_(even),
        odd_(odd),
        down_(down),
        right_(right),
        // The last pack of a filtered row reads as far to the right.
        pitch_(rounded(columns) + 2 * rounded(right) + P::size),
        row_of_(local::extended_axis(image.shape[0], down, border)),
        column_of_(local::extended_axis(image.shape[1], right, border)),
        pixels_((block_rows + 2 * down) * pitch_),
        filtered_(together * pitch_),
        classes_(4 * pitch_) {}

  void run(Index row, Index rows, Index column, Index columns, float* magnitude, float* mirrored) {
    const Index width = columns + 2 * right_;
    for (Index r = 0; r < rows + 2 * down_; ++r) {
      const float* const from = image_.as<float>() + row_of_[row + r] * image_.shape[1];
      for (Index c = 0; c < width; ++c) pixels_[r * pitch_ + c] = from[column_of_[column + c]];
    }
    for (Index r = 0; r < rows; ++r) {
      poll();
      bool begun[4] = {};
      filter<false>(even_, r, columns, begun);
      filter<true>(odd_, r, columns, begun);
      for (int i = 0; i < 4; ++i)
        if (!begun[i]) std::fill_n(classes_.data() + i * pitch_, columns, 0.f);
      const Index at = (row + r) * image_.shape[1] + column;
      combine(columns, 1, magnitude + at);
      if (mirrored) combine(columns, -1, mirrored + at);
    }
  }

 private:
  template <bool odd>
  void filter(const Parts& parts, Index row, Index columns, bool (&begun)[4]) {
    const float* const centre = pixels_.data() + (row + down_) * pitch_;
    const Index width = columns + 2 * right_;
    for (Index k = 0; k < parts.size(); k += together) {
      const Index count = std::min(together, parts.size() - k);
      const auto down = [&]<Index n>(std::integral_constant<Index, n>) {
        filter_down<odd, n>(centre, pitch_, down_, parts.down.data() + k, width, filtered_.data(),
                            pitch_);
      };
      if (count == 1) down(std::integral_constant<Index, 1>{});
      if (count == 2) down(std::integral_constant<Index, 2>{});
      if (count == 3) down(std::integral_constant<Index, 3>{});
      if (count == 4) down(std::integral_constant<Index, 4>{});
      for (Index i = 0; i < count; ++i) {
        const float* const in = filtered_.data() + i * pitch_ + right_;
        const int to = parts.to[k + i];
        float* const out = classes_.data() + to * pitch_;
        // Classes 0 and 3 are even along the row.
        to == 0 || to == 3 ? filter_right<false>(in, parts.right[k + i], columns, !begun[to], out)
                           : filter_right<true>(in, parts.right[k + i], columns, !begun[to], out);
        begun[to] = true;
      }
    }
  }

  void combine(Index columns, float sign, float* out) const {
    const float *const even_even = classes_.data(), *const odd_odd = even_even + pitch_;
    const float *const even_odd = odd_odd + pitch_, *const odd_even = even_odd + pitch_;
    for (Index x = 0; x < columns; ++x) {
      const float real = even_even[x] + sign * odd_odd[x];
      const float imaginary = odd_even[x] + sign * even_odd[x];
      out[x] = std::sqrt(real * real + imaginary * imaginary);
    }
  }

  const Array& image_;
  const Parts &even_, &odd_;
  const Index down_, right_, pitch_;  // reach of the filter, floats from row to row
  const std::vector<Index> row_of_, column_of_;
  std::vector<float> pixels_, filtered_, classes_;
};

}  // namespace

void symmetric_filter(const Array& image, const SymmetricFilter& filter, BorderMode border,
                      const MutableArray& magnitude, const MutableArray* mirrored) {
  const Index rows = image.shape[0], columns = image.shape[1];
  if (rows * columns == 0) return;
  Parts even{false, {}, {}, {}}, odd{true, {}, {}, {}};
  even.add(filter.even_even, 0);
  even.add(filter.even_odd, 2);
  odd.add(filter.odd_odd, 1);
  odd.add(filter.odd_even, 3);
  Index reach[2] = {0, 0};
  for (const Parts* parts : {&even, &odd})
    if (parts->size() > 0)
      reach[0] = static_cast<Index>(parts->down[0].size()) - 1,
      reach[1] = static_cast<Index>(parts->right[0].size()) - 1;
  const Index wide = std::min(columns, std::max(least_columns, 8 * reach[1]));
  const Index down = (rows + block_rows - 1) / block_rows, across = (columns + wide - 1) / wide;
  parallel_tasks(down * across, [&](Index i) {
    const Index row = i / across * block_rows, column = i % across * wide;
    Block(image, even, odd, reach[0], reach[1], wide, border)
        .run(row, std::min(block_rows, rows - row), column, std::min(wide, columns - column),
             magnitude.as<float>(), mirrored ? mirrored->as<float>() : nullptr);
  });
}

}  // namespace msf
