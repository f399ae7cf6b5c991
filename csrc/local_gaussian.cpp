// Local mean weighted by a Gaussian: a separable FIR filter, bit for bit scipy.ndimage's.
//
// The result of a sum in floating point depends on its order, so the order is SciPy's: axis after
// axis from the first, every pixel's sum begins with the centre and goes on with pairs of equal
// distance, farthest first, each added before it is multiplied; between two axes values are rounded
// to the result's type.
//
// The axes are fused over tiles: a block of rows of the last but one axis is filtered into scratch
// memory, then along the last axis into the result, so that no filtered image is ever written. With
// more axes a block of slices is. Both passes run the same loop on strips of 32 columns ("lanes"):
// along the last axis the strip is turned, so its lanes are rows. Loads are then aligned and the
// strip stays in the L1 cache whatever the image's width.
#include <cstring>

#include "local.hpp"
#include "pack.hpp"

namespace msf {
namespace {

using local::Index;
using local::Result;
using local::Tile;
using local::Window;

constexpr Index lanes = 32;
constexpr Index longest_strip = 512;        // positions; their numbers stay in the L2 cache
constexpr Index scratch_bytes = 512 << 10;  // of an L2 cache of 1 MB or more

struct alignas(64) Line {  // one position of a strip
  double lane[lanes];
};

// out[i] = sum over t of weight[|t|] * in[i + radius + t], for n positions. Two positions at a time
// share their loads: what is before the one at distance t is before the other at t + 1.
void filter(const Line* in, const std::vector<double>& weights, Index n, Line* out) {
  using P = Pack<double>;
  const Index radius = static_cast<Index>(weights.size()) - 1;
  const double* const weight = weights.data();
  for (Index v = 0; v < lanes; v += P::size) {
    Index i = 0;
    for (; i + 1 < n; i += 2) {
      const double* const centre = in[i + radius].lane + v;
      P sum = P::scaled(P::load(centre), weight[0]);
      P next = P::scaled(P::load(centre + lanes), weight[0]);
      P before = P::load(centre - radius * lanes), after = P::load(centre + (radius + 1) * lanes);
      for (Index t = radius; t > 0; --t) {
        const P next_before = P::load(centre + (1 - t) * lanes);
        const P sum_after = P::load(centre + t * lanes);
        sum.add_pair<false>(before, sum_after, weight[t]);
        next.add_pair<false>(next_before, after, weight[t]);
        before = next_before;
        after = sum_after;
      }
      sum.store(out[i].lane + v);
      next.store(out[i + 1].lane + v);
    }
    if (i < n) {
      const double* const centre = in[i + radius].lane + v;
      P sum = P::scaled(P::load(centre), weight[0]);
      for (Index t = radius; t > 0; --t)
        sum.add_pair<false>(P::load(centre - t * lanes), P::load(centre + t * lanes), weight[t]);
      sum.store(out[i].lane + v);
    }
  }
}

// turned[c][r] = block[r][c] for 8 x 8 numbers; rows are `pitch` and `to_pitch` apart.
template <class S>
void transpose(const S* block, Index pitch, double* turned, Index to_pitch) {
  using Vector = double __attribute__((vector_size(64)));
  Vector a[8], b[8];
  for (int r = 0; r < 8; ++r) {
    S row[8];
    std::memcpy(row, block + r * pitch, sizeof row);
    for (int c = 0; c < 8; ++c) a[r][c] = static_cast<double>(row[c]);
  }
  for (int r = 0; r < 8; r += 2) {  // pairs of rows, then pairs of pairs, then halves
    b[r] = __builtin_shufflevector(a[r], a[r + 1], 0, 8, 2, 10, 4, 12, 6, 14);
    b[r + 1] = __builtin_shufflevector(a[r], a[r + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int r = 0; r < 8; r += 4)
    for (int i = 0; i < 2; ++i) {
      a[r + i] = __builtin_shufflevector(b[r + i], b[r + 2 + i], 0, 1, 8, 9, 4, 5, 12, 13);
      a[r + 2 + i] = __builtin_shufflevector(b[r + i], b[r + 2 + i], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    b[i] = __builtin_shufflevector(a[i], a[4 + i], 0, 1, 2, 3, 8, 9, 10, 11);
    b[4 + i] = __builtin_shufflevector(a[i], a[4 + i], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int c = 0; c < 8; ++c) std::memcpy(turned + c * to_pitch, &b[c], sizeof b[c]);
}

// The same for any size.
template <class S>
void transpose(const S* block, Index rows, Index columns, Index pitch, double* turned,
               Index to_pitch) {
  const Index whole_rows = rows & ~Index{7}, whole_columns = columns & ~Index{7};
  for (Index r = 0; r < whole_rows; r += 8)
    for (Index c = 0; c < whole_columns; c += 8)
      transpose(block + r * pitch + c, pitch, turned + c * to_pitch + r, to_pitch);
  for (Index r = 0; r < rows; ++r)
    for (Index c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      turned[c * to_pitch + r] = static_cast<double>(block[r * pitch + c]);
}

// Filters the pixels of one tile; Mid is the type between two axes.
template <class Mid>
class Blur {
 public:
  Blur(const Window& w, const std::vector<std::vector<double>>& weights, const Array& image,
       const Tile& tile, Index rows)
      : w_(w), weights_(weights), image_(image), tile_(tile), last_(w.ndim() - 1), rows_(rows) {
    extent_ = w.shape;
    extent_[1] = tile.high - tile.low;
    block_.resize(last_);
    for (int k = 0; k < last_; ++k) block_[k].resize(step(k) * slice(k));
    Index longest = 0;
    for (int k = 0; k <= last_; ++k)
      longest = std::max(longest, std::min(piece(k), end(k) - begin(k)) + w.block[k] - 1);
    in_.resize(longest);
    out_.resize(longest);
    level_.resize(lanes * (end(last_) - begin(last_)));
  }

  void run(const Result& result) {
    const Index size = item_size(image_.dtype);
    descend(0, image_.as<char>() + tile_.low * w_.stride(1) * size, image_.dtype, 0, result);
  }

 private:
  Index begin(int k) const { return k < 2 ? tile_.begin[k] : 0; }
  Index end(int k) const { return k < 2 ? tile_.end[k] : w_.shape[k]; }
  Index slice(int k) const {
    Index n = 1;
    for (int i = k + 1; i <= last_; ++i) n *= extent_[i];
    return n;
  }
  // Positions of axis k filtered before the next axis is; many for rows, which are lanes then.
  Index step(int k) const { return std::min(end(k) - begin(k), k + 1 == last_ ? rows_ : Index{8}); }
  // Positions of axis k that one strip holds.
  Index piece(int k) const { return std::max(longest_strip, w_.block[k]); }
  Index first(int k) const { return k == 1 ? tile_.low : 0; }

  static constexpr DType mid = sizeof(Mid) == 4 ? DType::float32 : DType::float64;

  // Axis k and those after it of `source`: pixels on the first axis, then values of type Mid.
  void descend(int k, const char* source, DType dtype, Index position, const Result& result) {
    const Index n = slice(k), size = item_size(dtype);
    const Index pitch = (k == 0 ? w_.stride(0) : n) * size;
    for (Index from = begin(k); from < end(k); from += step(k)) {
      const Index count = std::min(step(k), end(k) - from);
      Mid* const block = block_[k].data();
      for (Index column = 0; column < n; column += lanes) {
        poll();
        const Index width = std::min(lanes, n - column);
        for (Index done = 0; done < count; done += piece(k)) {
          const Index m = std::min(piece(k), count - done);
          load_down(k, source + column * size, dtype, pitch, from + done, m + w_.block[k] - 1,
                    width);
          filter(in_.data(), weights_[k], m, out_.data());
          for (Index i = 0; i < m; ++i)
            for (Index lane = 0; lane < width; ++lane)
              block[(done + i) * n + column + lane] = static_cast<Mid>(out_[i].lane[lane]);
        }
      }
      if (k + 1 == last_)
        for (Index row = 0; row < count; row += lanes)
          finish(block + row * n, std::min(lanes, count - row), n,
                 position + (from + row) * w_.stride(k), result);
      else
        for (Index i = 0; i < count; ++i)
          descend(k + 1, reinterpret_cast<const char*>(block + i * n), mid,
                  position + (from + i) * w_.stride(k), result);
    }
  }

  // Strip of `width` columns, extended positions [e, e + count) of axis k; pitch in bytes.
  void load_down(int k, const char* source, DType dtype, Index pitch, Index e, Index count,
                 Index width) {
    for (Index i = 0; i < count; ++i) {
      double* const to = in_[i].lane;
      const Index at = w_.source[k][e + i];
      if (at < 0)
        std::fill_n(to, width, w_.cval);
      else
        local::to_double(dtype, source + (at - first(k)) * pitch, width, to);
    }
  }

  // Position i of the strip from extended position e of the last axis on: outside the image.
  void turn_border(const Mid* rows, Index count, Index pitch, Index e, Index i) {
    const Index at = w_.source[last_][e + i];
    double* const to = in_[i].lane;
    for (Index lane = 0; lane < count; ++lane)
      to[lane] = at < 0 ? w_.cval : static_cast<double>(rows[lane * pitch + at - first(last_)]);
  }

  // The last axis, for up to `lanes` rows at a time.
  void finish(const Mid* rows, Index count, Index pitch, Index position, const Result& result) {
    poll();
    const Index length = end(last_) - begin(last_), radius = w_.block[last_] / 2;
    for (Index done = 0; done < length; done += piece(last_)) {
      const Index m = std::min(piece(last_), length - done), e = begin(last_) + done;
      const Index reach = m + w_.block[last_] - 1;
      // Positions [from, to) of the strip follow each other in the image; the rest is border.
      const Index from = std::clamp<Index>(radius - e, 0, reach);
      const Index to = std::clamp<Index>(radius + w_.shape[last_] - e, from, reach);
      for (Index i = 0; i < from; ++i) turn_border(rows, count, pitch, e, i);
      for (Index i = to; i < reach; ++i) turn_border(rows, count, pitch, e, i);
      transpose(rows + (e + from - radius - first(last_)), count, to - from, pitch, in_[from].lane,
                lanes);
      filter(in_.data(), weights_[last_], m, out_.data());
      transpose(out_[0].lane, m, count, lanes, level_.data() + done, length);
    }
    for (Index lane = 0; lane < count; ++lane)
      result.store(level_.data() + lane * length,
                   position + lane * w_.stride(last_ - 1) + begin(last_), length);
  }

  const Window& w_;
  const std::vector<std::vector<double>>& weights_;
  const Array& image_;
  const Tile& tile_;
  const int last_;
  const Index rows_;
  std::vector<Index> extent_;
  std::vector<std::vector<Mid>> block_;
  std::vector<Line> in_, out_;
  std::vector<double> level_;
};

}  // namespace

void local_gaussian(const Array& image, const std::vector<std::vector<double>>& half_weights,
                    BorderMode border, double cval, double offset, const MutableArray& out) {
  std::vector<std::vector<double>> weights(std::max(0, 2 - image.ndim), {1.0});
  weights.insert(weights.end(), half_weights.begin(), half_weights.end());
  std::vector<Index> block;
  for (const auto& w : half_weights) block.push_back(2 * static_cast<Index>(w.size()) - 1);
  const Window w(image, block, border, cval);
  const Result result(image, offset, out);
  if (w.empty()) return;
  constexpr Index rows = 64;
  // 2D: columns such that a block of rows stays in the L2 cache; more axes: that many rows of a
  // block of slices.
  const bool flat = w.ndim() == 2;
  const Index inner = w.stride(1), slices = flat ? rows : 8;
  const Index fit = scratch_bytes / (slices * inner * Index{sizeof(double)}) - w.block[1];
  const Index columns = std::max({fit, w.block[1], Index{64}});
  const Index high = std::max(std::min<Index>(w.shape[0] / (4 * num_threads()), 16 * rows),
                              flat ? rows : 2 * w.block[0]);
  const auto blur = [&]<class Mid>(Type<Mid>) {
    local::for_tiles(w, high, columns, [&](const Tile& tile) {
      Blur<Mid>(w, weights, image, tile, rows).run(result);
    });
  };
  const bool single = image.dtype == DType::float16 || image.dtype == DType::float32;
  single ? blur(Type<float>{}) : blur(Type<double>{});
}

}  // namespace msf
