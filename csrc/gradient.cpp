// Gradients by small separable kernels (Sobel, Prewitt, Scharr, Farid) of images of up to three
// axes: every pixel is read once from memory, every result written once.
//
// A block is swept plane by plane, row by row. Each row of the planes above, at and below is
// combined along the planes into two rows, A smoothed and B differentiated; a ring keeps them for
// the 3 (or 5) rows that the step along the rows needs. That step makes three rows P, Q and R: what
// is left to do along the columns is to differentiate P and to smooth Q and R, which gives the
// three components; their magnitude is written at once. The rows of a step stay in the L1 cache,
// the planes of a block in L2. The border exists only in P, Q and R: tables say which row or plane
// stands for one outside, and the few columns outside are filled in after a row is made.
#include <array>
#include <cmath>

#include "separable.hpp"
#include "stencil.hpp"

namespace msf {
namespace {

using stencil::Block;
using stencil::Box;
using stencil::Index;
using stencil::Source;

// value(t) is the value at distance t.
template <class T, std::size_t N, class F>
inline T smoothed(const std::array<T, N>& weight, F&& value) {
  T sum = weight[0] * value(0) + weight[1] * (value(-1) + value(1));
  if constexpr (N == 3) sum += weight[2] * (value(-2) + value(2));
  return sum;
}
template <class T, std::size_t N, class F>
inline T difference(const std::array<T, N>& weight, F&& value) {
  T sum = weight[1] * (value(1) - value(-1));
  if constexpr (N == 3) sum += weight[2] * (value(2) - value(-2));
  return sum;
}

template <class T, int R>
class Gradient {
  static constexpr int reach = 2 * R + 1;
  using W = std::array<T, R + 1>;
  using Rows = std::array<const T*, reach>;

 public:
  Gradient(const Array& image, double scale, const Separable& filter, const MutableArray& out)
      : filter_(filter),
        box_(image),
        source_(image, scale),
        out_(out.as<T>()),
        first_axis_(3 - image.ndim),
        cval_(static_cast<T>(filter.cval)),
        share_(static_cast<T>(1 / std::sqrt(filter.over))) {
    const Index extent[3] = {box_.planes, box_.rows, box_.columns};
    for (int axis = first_axis_; axis < 3; ++axis) {
      const int k = axis - first_axis_;
      smooth_[axis] = weights(filter.smooth[k]);
      derive_[axis] = weights(filter.derive[k]);
      at_[axis] = local::extended_axis(extent[axis], R, filter.border[k]);
    }
    for (const int axis : filter.terms) terms_.push_back(first_axis_ + axis);
    for (const int axis : terms_) wanted_[axis] = true;
    const std::vector<int> flat{1, 2}, deep{0, 1, 2};
    fused_ = filter.magnitude && terms_ == (image.ndim == 2 ? flat : deep);
  }

  void run() const {
    const bool wrap = filter_.border.back() == BorderMode::wrap;  // a row's ends need each other
    stencil::for_blocks(box_, reach, sizeof(T), wrap, [&](const Block& block) { sweep(block); });
  }

 private:
  static W weights(const Taps& taps) {
    W w{};
    for (std::size_t t = 0; t < taps.half.size(); ++t) w[t] = static_cast<T>(taps.half[t]);
    return w;
  }

  // Scratch rows of a block: columns [first, last) of the image; p, q, r also R to each side of it.
  struct Scratch {
    Index first, last, lead;
    std::vector<T> memory;
    T *a[reach], *b[reach], *plane[reach], *outside, *level, *p, *q, *r, *term;

    Scratch(const Block& block, Index columns, T cval)
        : first(std::max<Index>(0, block.begin[2] - R)),
          last(std::min(columns, block.end[2] + R)),
          lead(first - (block.begin[2] - R)) {
      const Index pitch = (block.end[2] - block.begin[2] + 2 * R + 15) / 16 * 16;
      memory.resize(pitch * (3 * reach + 6));
      T* next = memory.data();
      const auto take = [&](T*& row) {
        row = next;
        next += pitch;
      };
      for (int i = 0; i < reach; ++i) take(a[i]), take(b[i]), take(plane[i]);
      for (T** row : {&outside, &level, &p, &q, &r, &term}) take(*row);
      std::fill_n(outside, last - first, cval);
      std::fill_n(level, last - first, cval - cval);  // 0; NaN if cval is infinite or NaN
    }
    Index size() const { return last - first; }
  };

  void sweep(const Block& block) const {
    Scratch s(block, box_.columns, cval_);
    Rows a{}, b{};
    const int lag = first_axis_ <= 1 ? 2 * R : 0;  // rows before the first result
    for (Index z = block.begin[0]; z < block.end[0]; ++z)
      for (Index e = block.begin[1]; e < block.end[1] + lag; ++e) {
        poll();
        const int slot = static_cast<int>((e - block.begin[1]) % reach);
        make_planes(z, e, slot, s, a[slot], b[slot]);
        const Index y = e - lag;
        if (y < block.begin[1]) continue;
        Rows near_a{}, near_b{};
        for (int i = 0; i <= lag; ++i) {
          const int from = static_cast<int>((y + i - block.begin[1]) % reach);
          near_a[i] = a[from];
          near_b[i] = b[from];
        }
        make_rows(near_a, near_b, s);
        for (const int axis : {0, 1, 2})
          if (wanted_[axis]) extend(axis, block, s);
        write(s, out_ + box_.at(z, y) + block.begin[2], block.end[2] - block.begin[2]);
      }
  }

  // Row e (counted with the border) of plane z: smoothed and differentiated along the planes.
  void make_planes(Index z, Index e, int slot, Scratch& s, const T*& a, const T*& b) const {
    const Index y = first_axis_ <= 1 ? at_[1][e] : e;
    a = s.outside;
    b = s.level;
    if (y < 0) return;
    if (first_axis_ > 0) {
      a = source_.row(box_.at(z, y) + s.first, s.size(), s.a[slot]);
      return;
    }
    Rows rows;
    for (int k = 0; k < reach; ++k) {
      const Index from = at_[0][z + k];
      rows[k] =
          from < 0 ? s.outside : source_.row(box_.at(from, y) + s.first, s.size(), s.plane[k]);
    }
    a = s.a[slot];
    b = s.b[slot];
    smooth_and_derive(rows, 0, s.size(), s.a[slot], wanted_[0] ? s.b[slot] : nullptr);
  }

  // P, Q, R from the rows around one.
  void make_rows(const Rows& a, const Rows& b, Scratch& s) const {
    T *const p = s.p + s.lead, *const q = s.q + s.lead, *const r = s.r + s.lead;
    if (first_axis_ == 2) {
      std::copy_n(a[0], s.size(), p);
      return;
    }
    smooth_and_derive(a, 1, s.size(), wanted_[2] ? p : nullptr, wanted_[1] ? q : nullptr);
    if (wanted_[0]) smooth_and_derive(b, 1, s.size(), r, nullptr);
  }

  void smooth_and_derive(const Rows& rows, int axis, Index n, T* __restrict smooth,
                         T* __restrict derived) const {
    const W ws = smooth_[axis], wd = derive_[axis];
    const Rows in = rows;
    if (smooth && derived) {
      for (Index j = 0; j < n; ++j) {
        smooth[j] = smoothed(ws, [&](int t) { return in[R + t][j]; });
        derived[j] = difference(wd, [&](int t) { return in[R + t][j]; });
      }
    } else if (smooth) {
      for (Index j = 0; j < n; ++j) smooth[j] = smoothed(ws, [&](int t) { return in[R + t][j]; });
    } else if (derived) {
      for (Index j = 0; j < n; ++j)
        derived[j] = difference(wd, [&](int t) { return in[R + t][j]; });
    }
  }

  // Fills in the columns of a component's row that lie outside the image.
  void extend(int axis, const Block& block, Scratch& s) const {
    T* const row = axis == 2 ? s.p : axis == 1 ? s.q : s.r;
    const T fill = axis == 2 ? cval_ : cval_ - cval_;
    const Index start = block.begin[2] - R;
    const auto fill_in = [&](Index x) {
      const Index from = at_[2][x + R];
      row[x - start] = from < 0 ? fill : row[from - start];
    };
    for (Index x = start; x < s.first; ++x) fill_in(x);
    for (Index x = s.last; x < block.end[2] + R; ++x) fill_in(x);
  }

  void write(Scratch& s, T* __restrict out, Index n) const {
    const T* __restrict p = s.p + R, * __restrict q = s.q + R, * __restrict r = s.r + R;
    const W d = derive_[2], w = smooth_[2];
    const T share = share_;
    if (fused_) {
      if (first_axis_ == 0)
        for (Index j = 0; j < n; ++j) {
          const T gz = smoothed(w, [&](int t) { return r[j + t]; });
          const T gy = smoothed(w, [&](int t) { return q[j + t]; });
          const T gx = difference(d, [&](int t) { return p[j + t]; });
          out[j] = std::sqrt(gz * gz + gy * gy + gx * gx) * share;
        }
      else
        for (Index j = 0; j < n; ++j) {
          const T gy = smoothed(w, [&](int t) { return q[j + t]; });
          const T gx = difference(d, [&](int t) { return p[j + t]; });
          out[j] = std::sqrt(gy * gy + gx * gx) * share;
        }
      return;
    }
    std::fill_n(out, n, T{0});
    T* __restrict term = s.term;
    for (const int axis : terms_) {
      const T* __restrict row = axis == 1 ? q : r;
      if (axis == 2)
        for (Index j = 0; j < n; ++j) term[j] = difference(d, [&](int t) { return p[j + t]; });
      else
        for (Index j = 0; j < n; ++j) term[j] = smoothed(w, [&](int t) { return row[j + t]; });
      if (filter_.magnitude)
        for (Index j = 0; j < n; ++j) out[j] += term[j] * term[j];
      else
        for (Index j = 0; j < n; ++j) out[j] += term[j];
    }
    if (filter_.magnitude)
      for (Index j = 0; j < n; ++j) out[j] = std::sqrt(out[j]) * share;
  }

  const Separable& filter_;
  const Box box_;
  const Source<T> source_;
  T* const out_;
  const int first_axis_;  // of the box that the image has
  const T cval_, share_;
  std::array<W, 3> smooth_{}, derive_{};
  std::array<std::vector<Index>, 3> at_;  // where a plane, row or column is read; -1: outside
  std::vector<int> terms_;                // axes of the box
  std::array<bool, 3> wanted_{};
  bool fused_ = false;
};

}  // namespace

bool short_gradient(const Array& image, double scale, const Separable& filter,
                    const MutableArray& out) {
  if (image.ndim > 3 || filter.terms.empty() || !filter.surround || !filter.skip_centre)
    return false;
  std::size_t longest = 0;
  for (int k = 0; k < image.ndim; ++k) {
    if (!filter.derive[k].odd || filter.smooth[k].odd) return false;
    longest = std::max({longest, filter.derive[k].half.size(), filter.smooth[k].half.size()});
  }
  if (longest > 3) return false;
  const auto run = [&]<class T>(Type<T>) {
    longest <= 2 ? Gradient<T, 1>(image, scale, filter, out).run()
                 : Gradient<T, 2>(image, scale, filter, out).run();
  };
  out.dtype == DType::float32 ? run(Type<float>{}) : run(Type<double>{});
  return true;
}

}  // namespace msf
