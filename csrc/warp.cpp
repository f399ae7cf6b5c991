// Resampling of an image and its labels in one pass, for augmentation.
//
// Rows of the result are cut into chunks of at most 64 voxels. A chunk first finds where its voxels
// lie: an affine map is a line, and within an interval of the control points a cubic B-spline is
// a cubic polynomial of x, whose coefficients the row's 4 x 4 lines of points give (Rueckert et
// al., "Nonrigid registration using free-form deformations", IEEE TMI 18 (1999) 712-721). So a
// coordinate costs some eight vector operations. All channels and the labels then read at these
// places; a chunk whose neighbourhoods all lie within the source needs no test at each voxel.
// Coordinates are double where a chunk begins and float, relative to a whole voxel, within it.
#include "kernels/augment.hpp"

#include <algorithm>
#include <cmath>

#include "parallel.hpp"

namespace msf {
namespace {

using Index = std::int64_t;
constexpr int most = 64;  // voxels of a chunk

// Places in the source of `count` neighbours along a row of the result.
template <int D>
struct Places {
  int count = 0;
  std::int32_t cell[D][most];
  float part[D][most];  // beyond the cell, in [0, 1)
  std::int32_t low[D], high[D];
};

// The spatial axes of an array, with a leading 1 in 2D.
struct Shape {
  Index n[3];
  Shape(const Array& array, int axes) {
    n[0] = 1;
    for (int k = 0; k < axes; ++k) n[3 - axes + k] = array.shape[array.ndim - axes + k];
  }
};

// Weights of the four control points around a voxel of an axis of `n` voxels and `intervals`.
struct Knots {
  Index first;
  float weight[4];
  Knots(Index at, Index n, Index intervals) {
    first = (2 * at + 1) * intervals / (2 * n);
    const double t = (2 * at + 1) * intervals / (2.0 * n) - static_cast<double>(first), r = 1 - t;
    weight[0] = static_cast<float>(r * r * r / 6);
    weight[1] = static_cast<float>((3 * t * t * t - 6 * t * t + 4) / 6);
    weight[2] = static_cast<float>((3 * r * r * r - 6 * r * r + 4) / 6);
    weight[3] = static_cast<float>(t * t * t / 6);
  }
};

// Finds the places of a row's voxels, chunk by chunk.
template <int D>
class Row {
 public:
  Row(const WarpMap& map, const Shape& out) : map_(map), out_(out) {
    if (map.control) line_.resize(D * map.control->shape[D]);
  }

  void start(Index z, Index y) {
    for (int a = 0; a < D; ++a) {
      const double* m = &map_.matrix[a * D];
      const double row = D == 3 ? m[0] * static_cast<double>(z) + m[1] * static_cast<double>(y)
                                : m[0] * static_cast<double>(y);
      start_[a] = row + map_.offset[a];
    }
    if (map_.control) collapse(z, y);
  }

  // The chunk from x on.
  void place(Index x, Places<D>& at) {
    at.count = static_cast<int>(std::min<Index>(most, out_.n[2] - x));
    Index knot = 0;
    float t0 = 0, step = 0;
    if (map_.control) {
      const Index n = out_.n[2], intervals = map_.control->shape[D] - 3;
      knot = (2 * x + 1) * intervals / (2 * n);
      const Index end = ((knot + 1) * 2 * n - intervals + 2 * intervals - 1) / (2 * intervals);
      at.count = static_cast<int>(std::min<Index>(at.count, end - x));
      t0 = static_cast<float>((2 * x + 1) * intervals / (2.0 * n) - static_cast<double>(knot));
      step = static_cast<float>(static_cast<double>(intervals) / n);
    }
    for (int a = 0; a < D; ++a) {
      const double slope = map_.matrix[a * D + D - 1];
      const double from = std::clamp(start_[a] + slope * static_cast<double>(x), -1e9, 1e9);
      const double whole = std::floor(from);
      std::array<float, 4> cubic{};
      if (map_.control) cubic = polynomial(&line_[a * map_.control->shape[D] + knot]);
      locate(static_cast<std::int32_t>(whole), static_cast<float>(from - whole),
             static_cast<float>(slope), t0, step, cubic, at.count, at.cell[a], at.part[a]);
      const auto [low, high] = std::minmax_element(at.cell[a], at.cell[a] + at.count);
      at.low[a] = *low, at.high[a] = *high;
    }
  }

 private:
  static std::array<float, 4> polynomial(const float* p) {
    return {(p[0] + 4 * p[1] + p[2]) / 6, (p[2] - p[0]) / 2, (p[0] - 2 * p[1] + p[2]) / 2,
            (p[3] - 3 * p[2] + 3 * p[1] - p[0]) / 6};
  }

  static void locate(std::int32_t whole, float from, float slope, float t0, float step,
                     const std::array<float, 4>& cubic, int count, std::int32_t* __restrict cell,
                     float* __restrict part) {
    const float c0 = cubic[0], c1 = cubic[1], c2 = cubic[2], c3 = cubic[3];
    for (int i = 0; i < count; ++i) {
      const float x = static_cast<float>(i), t = t0 + x * step;
      const float at = from + x * slope + (c0 + t * (c1 + t * (c2 + t * c3)));
      const float down = std::floor(at);
      cell[i] = whole + static_cast<std::int32_t>(down);
      part[i] = at - down;
    }
  }

  // The control points' lines around row (z, y), weighed to one.
  void collapse(Index z, Index y) {
    const Array& control = *map_.control;
    const Index columns = control.shape[D], rows = control.shape[D - 1];
    const Index planes = D == 3 ? control.shape[1] : 1;
    const Knots ky(y, out_.n[1], rows - 3), kz(z, out_.n[0], D == 3 ? planes - 3 : 1);
    std::fill(line_.begin(), line_.end(), 0.0f);
    for (int a = 0; a < D; ++a)
      for (int i = 0; i < (D == 3 ? 4 : 1); ++i)
        for (int j = 0; j < 4; ++j) {
          const float weight = (D == 3 ? kz.weight[i] : 1.0f) * ky.weight[j];
          const Index plane = D == 3 ? kz.first + i : 0;
          const float* const from =
              control.as<float>() + ((a * planes + plane) * rows + ky.first + j) * columns;
          float* const to = &line_[a * columns];
          for (Index k = 0; k < columns; ++k) to[k] += weight * from[k];
        }
  }

  const WarpMap& map_;
  const Shape out_;
  double start_[D];
  std::vector<float> line_;  // D lines of control points
};

// One channel of the source.
template <class T, int D>
struct Source {
  const T* data;
  Index n[3];
  bool clamped;
  float fill;

  // The voxel at an offset from a cell, which may lie outside.
  float tap(const Index (&cell)[3]) const {
    Index at[3];
    for (int k = 3 - D; k < 3; ++k) {
      at[k] = std::clamp<Index>(cell[k], 0, n[k] - 1);
      if (at[k] != cell[k] && !clamped) return fill;
    }
    const Index plane = D == 3 ? at[0] * n[1] : 0;
    return static_cast<float>(data[(plane + at[1]) * n[2] + at[2]]);
  }

  // Whether the voxels from `before` cells on to `after` cells on all exist.
  bool holds(const Places<D>& at, int before, int after) const {
    for (int a = 0; a < D; ++a)
      if (at.low[a] < before || at.high[a] + after >= n[3 - D + a]) return false;
    return true;
  }
  // The same for one of the voxels.
  bool holds(const Places<D>& at, int i, int before, int after) const {
    bool all = true;
    for (int a = 0; a < D; ++a)
      all &= at.cell[a][i] >= before && at.cell[a][i] + after < n[3 - D + a];
    return all;
  }
  bool beyond(const Places<D>& at, int reach) const {
    for (int a = 0; a < D; ++a)
      if (at.high[a] < -reach || at.low[a] - reach >= n[3 - D + a]) return true;
    return false;
  }

  const T* cell(const Places<D>& at, int i) const {
    Index row = at.cell[D - 2][i];
    if (D == 3) row += at.cell[0][i] * n[1];
    return data + row * n[2] + at.cell[D - 1][i];
  }
};

inline float mix(float a, float b, float part) { return a + part * (b - a); }

template <class T, int D>
void linear(const Source<T, D>& source, const Places<D>& at, float* out) {
  const Index row = source.n[2], plane = source.n[1] * row;
  const auto within = [&](int i) {
    const float x = at.part[D - 1][i], y = at.part[D - 2][i];
    const auto face = [&](const T* p) {
      return mix(mix(p[0], p[1], x), mix(p[row], p[row + 1], x), y);
    };
    const T* const p = source.cell(at, i);
    return D == 3 ? mix(face(p), face(p + plane), at.part[0][i]) : face(p);
  };
  const auto at_border = [&](int i) {
    const float x = at.part[D - 1][i], y = at.part[D - 2][i];
    const auto face = [&](int dz) {
      const auto tap = [&](int dy, int dx) {
        return source.tap({D == 3 ? Index{at.cell[0][i]} + dz : 0, Index{at.cell[D - 2][i]} + dy,
                           Index{at.cell[D - 1][i]} + dx});
      };
      return mix(mix(tap(0, 0), tap(0, 1), x), mix(tap(1, 0), tap(1, 1), x), y);
    };
    return D == 3 ? mix(face(0), face(1), at.part[0][i]) : face(0);
  };
  if (!source.clamped && source.beyond(at, 1)) {
    std::fill_n(out, at.count, source.fill);
  } else if (source.holds(at, 0, 1)) {
    for (int i = 0; i < at.count; ++i) out[i] = within(i);
  } else {
    for (int i = 0; i < at.count; ++i)
      out[i] = source.holds(at, i, 0, 1) ? within(i) : at_border(i);
  }
}

// Keys' cubic convolution with a = -1/2: it reproduces quadratic polynomials.
inline std::array<float, 4> keys(float t) {
  const float r = 1 - t;
  return {-0.5f * t * r * r, 1 + t * t * (1.5f * t - 2.5f), 1 + r * r * (1.5f * r - 2.5f),
          -0.5f * r * t * t};
}

template <class T, int D>
void cubic(const Source<T, D>& source, const Places<D>& at, float* out) {
  if (!source.clamped && source.beyond(at, 2)) return void(std::fill_n(out, at.count, source.fill));
  const Index row = source.n[2], plane = source.n[1] * row;
  for (int i = 0; i < at.count; ++i) {
    const std::array<float, 4> x = keys(at.part[D - 1][i]), y = keys(at.part[D - 2][i]);
    const std::array<float, 4> z = D == 3 ? keys(at.part[0][i]) : std::array<float, 4>{1};
    const bool whole = source.holds(at, i, 1, 2);
    float total = 0;
    for (int dz = 0; dz < (D == 3 ? 4 : 1); ++dz)
      for (int dy = 0; dy < 4; ++dy) {
        float v[4];
        if (whole) {
          const T* const p =
              source.cell(at, i) + (D == 3 ? (dz - 1) * plane : 0) + (dy - 1) * row - 1;
          for (int dx = 0; dx < 4; ++dx) v[dx] = static_cast<float>(p[dx]);
        } else {
          for (int dx = 0; dx < 4; ++dx)
            v[dx] =
                source.tap({D == 3 ? Index{at.cell[0][i]} + dz - 1 : 0,
                            Index{at.cell[D - 2][i]} + dy - 1, Index{at.cell[D - 1][i]} + dx - 1});
        }
        const float line = (x[0] * v[0] + x[1] * v[1]) + (x[2] * v[2] + x[3] * v[3]);
        total += z[dz] * y[dy] * line;
      }
    out[i] = total;
  }
}

template <class T, int D>
void nearest(const T* label, const Shape& shape, const Places<D>& at, bool clamped, T fill,
             T* out) {
  for (int i = 0; i < at.count; ++i) {
    Index offset = 0;
    bool outside = false;
    for (int a = 0; a < D; ++a) {
      const Index n = shape.n[3 - D + a], cell = at.cell[a][i] + (at.part[a][i] >= 0.5f);
      const Index within = std::clamp<Index>(cell, 0, n - 1);
      outside |= within != cell;
      offset = offset * n + within;
    }
    out[i] = outside && !clamped ? fill : label[offset];
  }
}

// body(from, to): reads labels or a channel at places and writes where they belong.
template <int D, class F>
void for_places(const WarpMap& map, const Array& out, F&& body) {
  const Shape shape(out, D);
  const Index rows = shape.n[0] * shape.n[1], columns = shape.n[2];
  parallel_for(rows, std::max<Index>(1, 8192 / columns), [&](Index begin, Index end) {
    Row<D> row(map, shape);
    Places<D> at;
    for (Index r = begin; r < end; ++r) {
      poll();
      row.start(r / shape.n[1], r % shape.n[1]);
      for (Index x = 0; x < columns; x += at.count) {
        row.place(x, at);
        body(at, r * columns + x);
      }
    }
  });
}

template <int D>
void run(const Array& image, const WarpMap& map, int order, std::optional<double> fill,
         const MutableArray& out, const Array* label, std::int64_t label_fill,
         const MutableArray* label_out) {
  const Shape shape(image, D), to(out, D);
  const Index channels = image.shape[0], size = shape.n[0] * shape.n[1] * shape.n[2];
  const Index voxels = to.n[0] * to.n[1] * to.n[2];
  const bool clamped = !fill;
  const auto read = [&]<class T>(Type<T>, const Places<D>& at, Index from) {
    for (Index c = 0; c < channels; ++c) {
      const Source<T, D> source{image.as<T>() + c * size,
                                {shape.n[0], shape.n[1], shape.n[2]},
                                clamped,
                                static_cast<float>(fill.value_or(0))};
      float* const row = out.as<float>() + c * voxels + from;
      order == 3 ? cubic(source, at, row) : linear(source, at, row);
    }
  };
  for_places<D>(map, out, [&](const Places<D>& at, Index from) {
    switch (image.dtype) {
      case DType::uint8:
        read(Type<std::uint8_t>{}, at, from);
        break;
      case DType::uint16:
        read(Type<std::uint16_t>{}, at, from);
        break;
      case DType::int16:
        read(Type<std::int16_t>{}, at, from);
        break;
      default:
        read(Type<float>{}, at, from);
    }
    if (!label) return;
    visit_bits(label->dtype, [&]<class T>(Type<T>) {
      nearest(label->as<T>(), shape, at, clamped, static_cast<T>(label_fill),
              label_out->as<T>() + from);
    });
  });
}

}  // namespace

void warp(const Array& image, const WarpMap& map, int order, std::optional<double> fill,
          const MutableArray& out, const Array* label, std::int64_t label_fill,
          const MutableArray* label_out) {
  if (out.size() == 0) return;
  if (image.ndim == 4)
    run<3>(image, map, order, fill, out, label, label_fill, label_out);
  else
    run<2>(image, map, order, fill, out, label, label_fill, label_out);
}

}  // namespace msf
