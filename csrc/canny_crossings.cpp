// Canny's edge detector on volumes and images of any rank, by ITK's definition: an edge is where
// the second derivative along the gradient changes sign while it falls, which is where the gradient
// has a maximum along its own direction.
//
// Two sweeps by rows over the smoothed image, which is kept with the second derivative: the first
// makes the derivative, the second the weak and strong edges as bits. Derivatives are central
// differences; beyond the border the edge pixel counts.
#include <cmath>

#include "hysteresis.hpp"
#include "kernels/canny.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

// Keeps the direction defined where the image is flat: ITK's number, in its place.
constexpr double flat = 0.0001;

// Pixels before and after a row's along its own axis, the border repeated: [-1, n] may be read.
template <class T>
void extend(const T* row, Index n, T* to) {
  std::copy_n(row, n, to);
  to[-1] = row[0];
  to[n] = row[n - 1];
}

// Rows of an image of any rank and those next to them; all axes but the last are outer.
class Rows {
 public:
  explicit Rows(const Array& image)
      : outer_(image.ndim - 1), length_(image.shape[image.ndim - 1]), shape_(image.shape) {
    for (int k = 0; k < outer_; ++k) count_ *= shape_[k];
  }
  int outer() const { return outer_; }
  Index count() const { return count_; }
  Index length() const { return length_; }
  // The row `step` (-1 or 1) further along an outer axis; the same at the border.
  Index next(Index row, int axis, int step) const {
    Index stride = 1;
    for (int k = outer_ - 1; k > axis; --k) stride *= shape_[k];
    const Index at = row / stride % shape_[axis] + step;
    return at < 0 || at >= shape_[axis] ? row : row + step * stride;
  }

 private:
  int outer_;
  Index length_, count_ = 1;
  const std::array<std::int64_t, max_dims> shape_;
};

template <class T>
class Crossings {
 public:
  Crossings(const Array& smooth, const std::vector<double>& per_mm)
      : smooth_(smooth), rows_(smooth), s_(smooth.as<T>()) {
    for (const double m : per_mm) {
      first_.push_back(static_cast<T>(m / 2));
      second_.push_back(static_cast<T>(m * m));
    }
    for (const double a : per_mm)
      for (const double b : per_mm) mixed_.push_back(static_cast<T>(a * b / 4));
  }

  void magnitude(T* out) const {
    each_row([&](Index row, Scratch& a) {
      gradient(row, a);
      T* const to = out + row * n();
      for (Index j = 0; j < n(); ++j) to[j] = std::sqrt(a.norm[j] - static_cast<T>(flat));
    });
  }

  void edges(double low, double high, const Array* inside, const MutableArray& out) {
    const std::unique_ptr<T[]> curvature(new T[rows_.count() * n()]);
    each_row([&](Index row, Scratch& a) { derive(row, a, curvature.get() + row * n()); });
    // Grid leaves out axes of one pixel; the caller has done so, too.
    const Grid grid(smooth_);
    const Index words = words_for(n());
    const std::unique_ptr<Word[]> strong(new Word[grid.rows * words]);
    const T weak_above = below(low), strong_above = below(high);
    Runs runs(grid.rows, grid.length, false, [&](Index row, Word* weak, Word*) {
      thread_local std::vector<std::byte> memory;
      Scratch a(*this, memory);
      maxima(row, curvature.get(), a);
      if (inside) {
        const std::uint8_t* const in = inside->as<std::uint8_t>() + row * n();
        for (Index j = 0; j < n(); ++j) a.found[j] &= in[j];
      }
      const T* const m = a.norm;
      const std::uint8_t* const found = a.found;
      pack_row([=](Index j) { return static_cast<bool>(found[j] & (m[j] > weak_above)); }, n(),
               weak);
      Word* const high_bits = strong.get() + row * words;
      pack_row([=](Index j) { return m[j] > strong_above; }, n(), high_bits);
      for (Index w = 0; w < words; ++w) high_bits[w] &= weak[w];
    });
    keep_strong(Components(std::move(runs), grid, smooth_.ndim), strong.get(), out);
  }

 private:
  // Rows of one thread.
  struct Scratch {
    T *g, *norm, *sum, *row, *other;
    std::uint8_t* found;
    Index pitch;
    Scratch(const Crossings& c, std::vector<std::byte>& memory) {
      pitch = (c.n() + 2 + 31) / 16 * 16;
      const int axes = c.rows_.outer() + 1;
      memory.resize((axes + 5) * pitch * sizeof(T));
      T* next = reinterpret_cast<T*>(memory.data());
      const auto take = [&](Index rows) { return std::exchange(next, next + rows * pitch); };
      g = take(axes);
      norm = take(1);
      sum = take(1);
      row = take(1) + 1;
      other = take(1) + 1;
      found = reinterpret_cast<std::uint8_t*>(take(1));
    }
  };

  // The largest T that is at most `value`: above both or none.
  static T below(double value) {
    const T near = static_cast<T>(value);
    return near > value ? std::nextafter(near, -std::numeric_limits<T>::infinity()) : near;
  }

  Index n() const { return rows_.length(); }
  const T* at(Index row) const { return s_ + row * n(); }

  template <class F>
  void each_row(F&& f) const {
    const Index grain = std::max<Index>(1, (1 << 15) / std::max<Index>(n(), 1));
    parallel_for(rows_.count(), grain, [&](Index begin, Index end) {
      std::vector<std::byte> memory;
      Scratch a(*this, memory);
      for (Index row = begin; row < end; ++row) f(row, a);
    });
  }

  // a.g, one row per axis, and a.norm = flat + sum of squares; leaves a.row extended.
  void gradient(Index row, Scratch& a) const {
    const int last = rows_.outer();
    extend(at(row), n(), a.row);
    T* __restrict norm = a.norm;
    std::fill_n(norm, n(), static_cast<T>(flat));
    for (int k = 0; k <= last; ++k) {
      const T* const before = k < last ? at(rows_.next(row, k, -1)) : a.row - 1;
      const T* const after = k < last ? at(rows_.next(row, k, 1)) : a.row + 1;
      T* __restrict g = a.g + k * a.pitch;
      const T scale = first_[k];
      for (Index j = 0; j < n(); ++j) {
        g[j] = (after[j] - before[j]) * scale;
        norm[j] += g[j] * g[j];
      }
    }
  }

  // out = second derivative along the gradient.
  void derive(Index row, Scratch& a, T* __restrict out) const {
    gradient(row, a);
    const int last = rows_.outer();
    T* __restrict sum = a.sum;
    std::fill_n(sum, n(), T{0});
    const T* const here = a.row;
    for (int k = 0; k <= last; ++k) {
      const T* __restrict g = a.g + k * a.pitch;
      const Index row_before = k < last ? rows_.next(row, k, -1) : row;
      const Index row_after = k < last ? rows_.next(row, k, 1) : row;
      const T* const before = k < last ? at(row_before) : a.row - 1;
      const T* const after = k < last ? at(row_after) : a.row + 1;
      const T scale = second_[k];
      for (Index j = 0; j < n(); ++j)
        sum[j] += g[j] * g[j] * ((before[j] - 2 * here[j] + after[j]) * scale);
      for (int l = k + 1; l <= last; ++l) {
        const T* __restrict h = a.g + l * a.pitch;
        const T mixed = mixed_[k * (last + 1) + l];
        if (l < last) {
          const T* const pp = at(rows_.next(row_after, l, 1));
          const T* const pm = at(rows_.next(row_after, l, -1));
          const T* const mp = at(rows_.next(row_before, l, 1));
          const T* const mm = at(rows_.next(row_before, l, -1));
          for (Index j = 0; j < n(); ++j)
            sum[j] += 2 * g[j] * h[j] * (((pp[j] - pm[j]) - (mp[j] - mm[j])) * mixed);
        } else {
          T* const p = a.other;
          extend(after, n(), p);
          for (Index j = 0; j < n(); ++j) out[j] = p[j + 1] - p[j - 1];
          extend(before, n(), p);
          for (Index j = 0; j < n(); ++j)
            sum[j] += 2 * g[j] * h[j] * ((out[j] - (p[j + 1] - p[j - 1])) * mixed);
        }
      }
    }
    const T* __restrict norm = a.norm;
    for (Index j = 0; j < n(); ++j) out[j] = sum[j] / norm[j];
  }

  // a.found = zero crossings of the second derivative `d` where it does not rise along the
  // gradient, a.norm = length of the gradient.
  void maxima(Index row, const T* d, Scratch& a) const {
    poll();
    gradient(row, a);
    const int last = rows_.outer();
    extend(d + row * n(), n(), a.row);
    const T* const here = a.row;
    T* __restrict slope = a.sum;
    std::uint8_t* __restrict found = a.found;
    std::fill_n(slope, n(), T{0});
    std::fill_n(found, n(), std::uint8_t{0});
    for (int k = 0; k <= last; ++k) {
      const T* const before = k < last ? d + rows_.next(row, k, -1) * n() : here - 1;
      const T* const after = k < last ? d + rows_.next(row, k, 1) * n() : here + 1;
      const T* __restrict g = a.g + k * a.pitch;
      const T scale = first_[k];
      for (Index j = 0; j < n(); ++j) {
        slope[j] += (after[j] - before[j]) * scale * g[j];
        const T p = here[j], length = std::abs(p);
        found[j] |= differ(p, before[j]) & (length < std::abs(before[j]));
        found[j] |= differ(p, after[j]) & (length <= std::abs(after[j]));
      }
    }
    T* __restrict norm = a.norm;
    for (Index j = 0; j < n(); ++j) {
      found[j] &= slope[j] <= 0;
      norm[j] = std::sqrt(norm[j]);
    }
  }

  static bool differ(T p, T q) { return ((p < 0) != (q < 0)) | ((p > 0) != (q > 0)); }

  const Array& smooth_;
  const Rows rows_;
  const T* const s_;
  std::vector<T> first_, second_, mixed_;  // weights of differences, by axis or pair of axes
};

template <class F>
void with_type(const Array& smooth, F&& f) {
  smooth.dtype == DType::float32 ? f(Type<float>{}) : f(Type<double>{});
}

}  // namespace

void canny_crossings(const Array& smooth, const std::vector<double>& per_mm, double low,
                     double high, const Array* inside, const MutableArray& out) {
  with_type(smooth,
            [&]<class T>(Type<T>) { Crossings<T>(smooth, per_mm).edges(low, high, inside, out); });
}

void canny_magnitude(const Array& smooth, const std::vector<double>& per_mm,
                     const MutableArray& out) {
  with_type(smooth, [&]<class T>(Type<T>) { Crossings<T>(smooth, per_mm).magnitude(out.as<T>()); });
}

}  // namespace msf
