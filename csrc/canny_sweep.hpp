// A tile of a 2D image swept down: rows in, Sobel differences and magnitudes of the smoothed image
// out, row by row. Rows of the image are converted in a ring, from which two rows at a time are
// smoothed along the columns, then along the rows; three smoothed rows give a row of differences.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>
#include <type_traits>
#include <vector>

#include "canny_rows.hpp"
#include "kernels/canny.hpp"
#include "stencil.hpp"

namespace msf::canny {

using canny_rows::Index;
using stencil::Source;

constexpr Index margin = 8;  // elements before and after a tile's rows of smoothed values

// Halves of the Gaussians, the centre first.
template <class V>
struct Halves {
  explicit Halves(const CannySmoothing& s)
      : down(s.down.begin(), s.down.end()), across(s.across.begin(), s.across.end()) {}
  const std::vector<V> down, across;
};

// What all tiles of an image share.
struct Frame {
  Frame(Index rows, Index columns, const CannySmoothing& smoothing)
      : rows(rows),
        columns(columns),
        smoothing(smoothing),
        down(static_cast<Index>(smoothing.down.size()) - 1),
        across(static_cast<Index>(smoothing.across.size()) - 1),
        at_row(local::extended_axis(rows, down, smoothing.border)),
        at_column(local::extended_axis(columns, across, smoothing.border)),
        halves_(smoothing, smoothing) {}

  const Index rows, columns;
  const CannySmoothing smoothing;
  const Index down, across;  // radii
  const std::vector<Index> at_row, at_column;

  template <class V>
  const Halves<V>& halves() const {
    return std::get<Halves<V>>(halves_);
  }

 private:
  const std::tuple<Halves<double>, Halves<float>> halves_;
};

// The part of the Gaussian's weight that lies inside the image, for each kind of row and column;
// with cval, as the peer has it, in place of 0 outside. Empty: all of it.
template <class T>
class BorderWeights {
 public:
  explicit BorderWeights(const Frame& frame) : frame_(frame) {
    if (frame.smoothing.border != BorderMode::constant || frame.rows == 0 || frame.columns == 0)
      return;
    const double cval = frame.smoothing.cval;
    const auto sum = [&](const std::vector<double>& half, auto&& value) {
      double total = value(0) * half[0];
      for (Index t = static_cast<Index>(half.size()) - 1; t > 0; --t)
        total += (value(-t) + value(t)) * half[t];
      return static_cast<T>(total);
    };
    for (Index r = 0; r < kinds(frame.rows, frame.down); ++r) {
      const Index y = representative(r, frame.rows, frame.down);
      const double row = sum(frame.smoothing.down, [&](Index t) {
        return y + t < 0 || y + t >= frame.rows ? cval : 1.0;
      });
      for (Index c = 0; c < kinds(frame.columns, frame.across); ++c) {
        const Index x = representative(c, frame.columns, frame.across);
        const T weight = sum(frame.smoothing.across, [&](Index t) {
          return x + t < 0 || x + t >= frame.columns ? cval : row;
        });
        weights_.push_back(weight + std::numeric_limits<T>::epsilon());
      }
    }
  }
  // In another precision.
  template <class U>
  BorderWeights(const Frame& frame, const BorderWeights<U>& other)
      : frame_(frame), weights_(other.all().begin(), other.all().end()) {
    // Where nothing is outside there is 1 but for a rounding.
    for (T& w : weights_)
      if (std::abs(w - 1) < T(3e-7)) w = 1;
  }
  const std::vector<T>& all() const { return weights_; }

  // row /= weights, for the columns [from, to) of row y; row is by column of the image.
  void divide(Index y, Index from, Index to, T* row) const {
    if (weights_.empty()) return;
    const Index n = frame_.columns, r = frame_.across;
    const T* const weight = weights_.data() + kind(y, frame_.rows, frame_.down) * kinds(n, r);
    const Index left = std::clamp(n <= 2 * r + 1 ? n : r, from, to);
    const Index right = std::clamp(n - r, left, to);
    for (Index x = from; x < left; ++x) row[x] /= weight[kind(x, n, r)];
    if (right > left) canny_rows::divide(row + left, right - left, weight[r]);
    for (Index x = right; x < to; ++x) row[x] /= weight[kind(x, n, r)];
  }

 private:
  static Index kinds(Index n, Index radius) { return std::min(n, 2 * radius + 1); }
  // Of the kinds of an axis: before the border is out of reach, there, and after that.
  static Index kind(Index at, Index n, Index radius) {
    if (n <= 2 * radius + 1 || at < radius) return at;
    return at < n - radius ? radius : at - (n - 2 * radius - 1);
  }
  static Index representative(Index kind, Index n, Index radius) {
    return n <= 2 * radius + 1 || kind <= radius ? kind : kind + (n - 2 * radius - 1);
  }

  const Frame& frame_;
  std::vector<T> weights_;
};

// Pixels [y0, y1) x [x0, x1) of an image.
struct Rectangle {
  Index y0, y1, x0, x1;
};

// V: what pixels are converted to and sums are taken in. T: to what these are rounded.
template <class V, class T>
class Sweep {
 public:
  // Rows of a tile that is so wide at most. Without memory: just how many bytes they take.
  struct Scratch {
    std::byte* next;
    Index size = 0;
    Index ring_pitch;
    V *image, *weight, *raw[2], *raw_weight[2], *extended, *outside;
    T *s[4], *rows[2], *columns[2], *m[3], *bleed;
    const V** near;

    template <class U>
    void take(U*& row, Index n) {
      const Index bytes = (n * static_cast<Index>(sizeof(U)) + 63) / 64 * 64;
      row = reinterpret_cast<U*>(next);
      if (next) next += bytes;
      size += bytes;
    }

    Scratch(const Frame& frame, Index width, std::byte* memory) : next(memory) {
      const Index tile = std::min(width, frame.columns);
      Index widest = tile + 2 * frame.across + 4;
      if (frame.smoothing.border == BorderMode::wrap || widest > frame.columns)
        widest = std::max(widest, frame.columns);
      ring_pitch = (widest + 31) / 16 * 16;
      const Index row_pitch = (tile + 2 * margin + 63) / 32 * 32;
      const Index live = 2 * frame.down + 2;
      take(image, live * ring_pitch);
      take(weight, live * ring_pitch);
      take(near, live);
      for (auto** row : {&raw[0], &raw[1], &raw_weight[0], &raw_weight[1], &extended, &outside})
        take(*row, ring_pitch + 2 * frame.across + 16);
      for (auto** row : {&s[0], &s[1], &s[2], &s[3], &rows[0], &rows[1], &columns[0], &columns[1],
                         &m[0], &m[1], &m[2], &bleed})
        take(*row, row_pitch);
    }
  };

  Sweep(const Frame& frame, const BorderWeights<T>& weights, const Source<V>& source,
        bool may_be_infinite, const Array* mask, const Rectangle& tile, const Scratch& scratch)
      : f_(frame),
        weights_(weights),
        source_(source),
        mask_(mask),
        may_be_infinite_(may_be_infinite),
        a_(scratch),
        tile_(tile),
        per_step_{static_cast<T>(frame.smoothing.per_step[0]),
                  static_cast<T>(frame.smoothing.per_step[1])},
        from_(std::max<Index>(0, tile.x0 - 2)),
        to_(std::min(frame.columns, tile.x1 + 2)),
        low_(frame.columns),
        infinite_(!std::isfinite(frame.smoothing.cval)) {
    for (Index e = from_; e < to_ + 2 * f_.across; ++e)
      if (const Index at = f_.at_column[e]; at >= 0) {
        low_ = std::min(low_, at);
        high_ = std::max(high_, at + 1);
      }
    // A Gaussian of an image of fewer columns than its radius reaches them over and over.
    std::fill_n(a_.outside, high_ - low_ + Pack<V>::size, static_cast<V>(f_.smoothing.cval));
    smoothed_ = std::max<Index>(0, std::max<Index>(0, tile.y0 - 1) - 1);
    loaded_ = smoothed_;
  }

  // Without a mask: subtract it from all pixels; those below `least` count as `least`.
  void shift(V offset, V least) { offset_ = offset, least_ = least; }
  // The image, if it is of bytes: the same, but faster.
  void read_bytes(const std::uint8_t* image) { bytes_ = image; }
  // The greatest absolute value of a pixel so far, after that.
  V extent() const { return extent_; }
  bool infinite() const { return infinite_; }  // there may be infinities or NaN

  // Differences and magnitudes of row y, for the columns [x0 - 1, x1 + 1) in the image. To be
  // called for y0 - 1 or 0, and one row after the other.
  void differentiate(Index y) {
    while (smoothed_ <= std::min(f_.rows - 1, y + 1)) smooth_two();
    const auto smooth = [&](Index at) {
      return a_.s[std::clamp<Index>(at, 0, f_.rows - 1) % 4] + margin;
    };
    const Index begin = tile_.x0 > 0 ? -1 : 0;
    const Index end = tile_.x1 - tile_.x0 + (tile_.x1 < f_.columns), skip = margin + begin;
    canny_rows::gradient<V, !shifted>(
        smooth(y - 1) + begin, smooth(y) + begin, smooth(y + 1) + begin, end - begin, per_step_,
        a_.rows[y % 2] + skip, a_.columns[y % 2] + skip, a_.m[y % 3] + skip);
  }

  // From the tile's first column on. Magnitudes are kept for three rows, differences for two.
  const T* magnitude(Index y) const { return a_.m[y % 3] + margin; }
  const T* along_rows(Index y) const { return a_.rows[y % 2] + margin; }
  const T* along_columns(Index y) const { return a_.columns[y % 2] + margin; }

 private:
  static constexpr bool shifted = std::is_same_v<V, float>;  // only where results are not exact

  Index live() const { return 2 * f_.down + 2; }

  // The next extended row of the image, and of the mask, to their rings.
  void load() {
    const Index slot = loaded_ % live(), n = high_ - low_;
    const Index at = loaded_ < static_cast<Index>(f_.at_row.size()) ? f_.at_row[loaded_] : -1;
    ++loaded_;
    V* const row = a_.image + slot * a_.ring_pitch;
    V* const weight = a_.weight + slot * a_.ring_pitch;
    if (at < 0) {
      std::copy_n(a_.outside, n, row);
      if (mask_) std::copy_n(a_.outside, n, weight);
      return;
    }
    const Index start = at * f_.columns + low_;
    if constexpr (shifted) {
      extent_ = std::max(extent_, load_shifted(start, n, row));
    } else {
      source_.load(start, n, row);
      if (mask_) {
        const std::uint8_t* const inside = mask_->template as<std::uint8_t>() + start;
        for (Index j = 0; j < n; ++j) weight[j] = inside[j] != 0;
        for (Index j = 0; j < n; ++j) row[j] = inside[j] ? row[j] : 0;
      }
    }
    if (may_be_infinite_ && !infinite_) infinite_ = canny_rows::has_infinity(row, n);
  }

  V load_shifted(Index start, Index n, V* row) const {
    if (bytes_) return canny_rows::shift(bytes_ + start, n, offset_, least_, row);
    source_.load(start, n, row);
    return canny_rows::shift(row, n, offset_, least_, row);
  }

  void smooth_two() {
    while (loaded_ < smoothed_ + live()) load();
    smooth_down(a_.image, a_.raw);
    if (mask_) smooth_down(a_.weight, a_.raw_weight);
    for (const Index i : {0, 1})
      if (smoothed_ + i < f_.rows) smooth_across(smoothed_ + i, i);
    smoothed_ += 2;
  }

  void smooth_down(const V* ring, V* const* raw) {
    for (Index i = 0; i < live(); ++i) a_.near[i] = ring + (smoothed_ + i) % live() * a_.ring_pitch;
    canny_rows::smooth_columns<T>(a_.near, f_.template halves<V>().down, high_ - low_, raw[0],
                                  raw[1]);
  }

  void smooth_across(Index y, Index i) {
    T* const row = a_.s[y % 4] + margin - tile_.x0;  // by column of the image
    filter_across(a_.raw[i], row);
    if (mask_) {
      T* const bleed = a_.bleed + margin - tile_.x0;
      filter_across(a_.raw_weight[i], bleed);
      for (Index x = from_; x < to_; ++x) row[x] /= bleed[x] + std::numeric_limits<T>::epsilon();
    } else {
      weights_.divide(y, from_, to_, row);
    }
    if (infinite_)
      for (Index x = from_; x < to_; ++x) row[x] += 0 * row[x];
    if (from_ == 0) row[-1] = row[0];  // Sobel's border: reflect
    if (to_ == f_.columns) row[to_] = row[to_ - 1];
  }

  // The columns [from, to) of a row, smoothed along it.
  void filter_across(const V* raw, T* row) {
    const Index r = f_.across, n = to_ - from_;
    const V* centre = raw + from_ - low_;
    if (from_ < r || to_ + r > f_.columns) {
      const Index begin = std::clamp<Index>(r - from_, 0, n + 2 * r);
      const Index end = std::clamp<Index>(r + f_.columns - from_, begin, n + 2 * r);
      const auto border = [&](Index e) {
        const Index at = f_.at_column[from_ + e];
        a_.extended[e] = at < 0 ? static_cast<V>(f_.smoothing.cval) : raw[at - low_];
      };
      for (Index e = 0; e < begin; ++e) border(e);
      std::copy_n(raw + from_ + begin - r - low_, end - begin, a_.extended + begin);
      for (Index e = end; e < n + 2 * r; ++e) border(e);
      centre = a_.extended + r;
    }
    canny_rows::smooth_row(centre, f_.template halves<V>().across, n, row + from_);
  }

  const Frame& f_;
  const BorderWeights<T>& weights_;
  const Source<V>& source_;
  const Array* const mask_;
  const bool may_be_infinite_;
  const Scratch a_;
  const Rectangle tile_;
  const T per_step_[2];
  const Index from_, to_;            // columns whose smoothed values are needed
  Index low_, high_ = 0;             // columns of the image that these read
  Index loaded_ = 0, smoothed_ = 0;  // next row of the ring and of the smoothed ones
  bool infinite_;
  const std::uint8_t* bytes_ = nullptr;
  V offset_ = 0, least_ = 0, extent_ = 0;
};

}  // namespace msf::canny
