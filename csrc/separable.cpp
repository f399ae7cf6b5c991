// Sums of separable filters with kernels of any length: Gaussians and their derivatives.
//
// The order is SciPy's: axis after axis from the first; a symmetric kernel's sum begins with the
// centre and goes on with pairs of equal distance, farthest first, each added (or, odd: subtracted)
// before it is multiplied. In float64 a Gaussian is therefore SciPy's bit for bit.
//
// Terms that differ by the axis of their derivative share what they have in common: before axis k
// there is one stream of values that has no derivative yet and one for each axis before k that a
// term derives. Axes are fused over tiles: a block of positions of the first axis is filtered into
// scratch memory, then a block of the next from that, and so on; rows of the last axis go to the
// result, so that no filtered image is ever written beside it.
//
// Along all but the last axis a strip of 64 (double: 32) columns is copied to a compact piece of
// memory in the L1 cache, where its lines are 256 bytes apart whatever the image's strides. Two
// lines at a time share their loads. Along the last axis loads are unaligned instead. If the last
// axis is short and not filtered (colours), it is taken as part of its row, whose neighbours are
// then that many elements apart.
//
// The Gaussian of threshold_local is the same filter in float64, whose rows become thresholds or a
// mask while they are in the cache. For float32 images SciPy rounds between the axes, so it does.
#include "separable.hpp"

#include <cmath>
#include <cstring>
#include <functional>

#include "pack.hpp"
#include "separable_plan.hpp"
#include "stencil.hpp"

namespace msf {
namespace {

using separable::Axis;
using separable::Pass;
using separable::Plan;
using separable::Tile;
using stencil::Index;
using stencil::Source;

constexpr Index line_bytes = 256;
constexpr Index longest_strip = 256;  // lines; they stay in the L2 cache

constexpr Index prefetched = 8;  // lines
template <class T>
constexpr Index lanes = line_bytes / sizeof(T);

template <class T>
struct Kernel {
  std::vector<T> half;
  bool odd, centre;  // centre: the pixel itself is read

  Kernel(const Taps& taps, bool skip_centre)
      : half(taps.half.begin(), taps.half.end()),
        odd(taps.odd),
        centre(!(taps.odd && skip_centre)) {}
  Index radius() const { return static_cast<Index>(half.size()) - 1; }
};

// Line i of the result, `pitch` elements after the one before it, from the lines around line
// i of `in` (lines before it exist). The first `packs` packs of each.
template <bool odd, class T>
void filter_lines(const T* in, const Kernel<T>& kernel, Index n, Index packs, T* out, Index pitch) {
  using P = Pack<T>;
  constexpr Index line = lanes<T>;
  const Index radius = kernel.radius();
  const T* const weight = kernel.half.data();
  for (Index p = 0; p < packs; ++p, in += P::size, out += P::size) {
    Index i = 0;
    // What is before the first of two lines at distance t is before the second at t + 1.
    for (; i + 1 < n; i += 2) {
      const T* const centre = in + i * line;
      P sum{}, next{};
      if (kernel.centre) {
        sum = P::scaled(P::load(centre), weight[0]);
        next = P::scaled(P::load(centre + line), weight[0]);
      }
      P before = P::load(centre - radius * line), after = P::load(centre + (radius + 1) * line);
      for (Index t = radius; t > 0; --t) {
        const P next_before = P::load(centre + (1 - t) * line);
        const P sum_after = P::load(centre + t * line);
        sum.template add_pair<odd>(before, sum_after, weight[t]);
        next.template add_pair<odd>(next_before, after, weight[t]);
        before = next_before;
        after = sum_after;
      }
      sum.store(out + i * pitch);
      next.store(out + (i + 1) * pitch);
    }
    if (i < n) {
      const T* const centre = in + i * line;
      P sum{};
      if (kernel.centre) sum = P::scaled(P::load(centre), weight[0]);
      for (Index t = radius; t > 0; --t)
        sum.template add_pair<odd>(P::load(centre - t * line), P::load(centre + t * line),
                                   weight[t]);
      sum.store(out + i * pitch);
    }
  }
}

// n elements of a row from those `step` apart; both rows may be accessed up to the next multiple of
// two packs.
template <bool odd, class T>
void filter_row(const T* in, const Kernel<T>& kernel, Index n, Index step, T* out) {
  using P = Pack<T>;
  const Index radius = kernel.radius();
  const T* const weight = kernel.half.data();
  for (Index j = 0; j < n; j += 2 * P::size) {
    const T* const centre = in + j;
    P sum{}, next{};
    if (kernel.centre) {
      sum = P::scaled(P::load(centre), weight[0]);
      next = P::scaled(P::load(centre + P::size), weight[0]);
    }
    for (Index t = radius; t > 0; --t) {
      const T *const before = centre - t * step, *const after = centre + t * step;
      sum.template add_pair<odd>(P::load(before), P::load(after), weight[t]);
      next.template add_pair<odd>(P::load(before + P::size), P::load(after + P::size), weight[t]);
    }
    sum.store(out + j);
    next.store(out + j + P::size);
  }
}

// Where rows of the result go: to their place in an array, or to a function with their position.
template <class T>
struct Rows {
  T* out;
  std::function<void(const T*, Index position, Index n)> store;
};

template <class T>
class Tiled {
 public:
  // `kernels`: of each axis that without a derivative and the other.
  Tiled(const Plan& plan, const std::vector<Kernel<T>>& kernels, const Source<T>& source,
        const Tile& tile, const Rows<T>& result)
      : plan_(plan),
        kernels_(kernels),
        source_(source),
        tile_(tile),
        last_(plan.ndim() - 1),
        cval_(static_cast<T>(plan.filter.cval)),
        result_(result),
        row_size_(padded((end(last_) - begin(last_) + 2 * plan.axes[last_].radius) * plan.step) +
                  lanes<T>) {
    Index longest = 0, size = 0;
    for (int k = 0; k < last_; ++k) {
      const Index step = plan.block_step(k, slice(k) * sizeof(T));
      step_.push_back(std::min(step, end(k) - begin(k)));
      block_.push_back(size);
      size += static_cast<Index>(plan.streams[k + 1].size()) * step_[k] * pitch(k) + lanes<T>;
      longest = std::max(longest, std::min(piece(k), step_[k]) + 2 * plan.axes[k].radius);
    }
    const Index rows = static_cast<Index>(plan.streams.back().size()) + 2;
    memory_.resize(size + (longest + 1) * lanes<T> + rows * row_size_);
    strip_ = memory_.data() + size;
    row_ = strip_ + (longest + 1) * lanes<T>;
    level_ = row_ + row_size_;
    terms_ = level_ + row_size_;
  }

  void run() { descend(0, {nullptr}, 0); }

 private:
  Index begin(int k) const { return k < 2 ? tile_.begin[k] : 0; }
  Index end(int k) const { return k < 2 ? tile_.end[k] : plan_.axes[k].extent; }
  Index first(int k) const { return k == 1 ? tile_.low : 0; }  // position that a block begins with
  Index slice(int k) const {                                   // elements of one position
    Index n = plan_.step;
    for (int i = k + 1; i <= last_; ++i)
      n *= i == 1 ? tile_.high - tile_.low : plan_.axes[i].extent;
    return n;
  }
  static Index padded(Index n) { return (n + lanes<T> - 1) / lanes<T> * lanes<T>; }
  Index pitch(int k) const { return padded(slice(k)); }
  Index piece(int k) const { return std::max(longest_strip, 4 * plan_.axes[k].radius); }
  T outside(int term) const { return term < 0 || !plan_.filter.surround ? cval_ : cval_ - cval_; }

  // Axis k and those after it, of one slice of each stream. (GCC would make a copy for each k.)
  [[gnu::noinline, gnu::noclone]] void descend(int k, const std::vector<const T*>& in,
                                               Index position) {
    const Index n = slice(k);
    for (Index from = begin(k); from < end(k); from += step_[k]) {
      const Index count = std::min(step_[k], end(k) - from);
      for (Index column = 0; column < n; column += lanes<T>)
        for (Index done = 0; done < count; done += piece(k)) {
          poll();
          const Index lines = std::min(piece(k), count - done);
          for (std::size_t s = 0; s < in.size(); ++s) {
            load(k, in[s], outside(plan_.streams[k][s]), from + done, lines, column,
                 std::min(lanes<T>, n - column));
            for (const Pass& pass : plan_.passes[k])
              if (pass.from == s)
                filter_strip(k, pass, lines, std::min(lanes<T>, n - column),
                             block(k, pass.to) + done * pitch(k) + column);
          }
        }
      for (Index i = 0; i < count; ++i) {
        std::vector<const T*> slices;
        for (std::size_t s = 0; s < plan_.streams[k + 1].size(); ++s)
          slices.push_back(block(k, s) + i * pitch(k));
        const Index at = position + (from + i) * plan_.stride(k);
        k + 1 == last_ ? finish(slices, at) : descend(k + 1, slices, at);
      }
    }
  }

  T* block(int k, std::size_t stream) {
    return memory_.data() + block_[k] + stream * step_[k] * pitch(k);
  }
  T* term(std::size_t stream) const { return terms_ + stream * row_size_; }

  // Extended positions [e, e + lines + 2 * radius) of axis k, `width` columns, to the strip.
  void load(int k, const T* in, T fill, Index e, Index lines, Index column, Index width) {
    T* to = strip_;
    const Axis& axis = plan_.axes[k];
    const Index count = lines + 2 * axis.radius;
    const Index start = tile_.low * plan_.stride(1) + column, stride = plan_.stride(0);
    for (Index i = 0; i < count; ++i, to += lanes<T>) {
      const Index at = axis.source[e + i];
      // Lines are far apart: no hardware prefetcher follows.
      if (const Index next = axis.source[e + std::min(i + prefetched, count - 1)]; next >= 0) {
        if (k == 0)
          source_.prefetch(next * stride + start, lanes<T>);
        else
          stencil::prefetch(in + (next - first(k)) * slice(k) + column, line_bytes);
      }
      if (at < 0)
        std::fill_n(to, lanes<T>, fill);
      else if (k > 0)
        copy_line(in + (at - first(k)) * slice(k) + column, to);
      else if (width == lanes<T>)
        copy_line(source_.row(at * stride + start, width, to), to);
      else
        source_.load(at * stride + start, width, to);
    }
  }

  // In place of a call.
  static void copy_line(const T* from, T* to) {
    if (from == to) return;
    using P = Pack<T>;
    P parts[lanes<T> / P::size];
    for (Index i = 0; i < lanes<T> / P::size; ++i) parts[i] = P::load(from + i * P::size);
    for (Index i = 0; i < lanes<T> / P::size; ++i) parts[i].store(to + i * P::size);
  }

  void filter_strip(int k, const Pass& pass, Index lines, Index width, T* out) {
    const Kernel<T>& kernel = kernels_[2 * k + pass.derive];
    const T* const in = strip_ + plan_.axes[k].radius * lanes<T>;
    const Index packs = (width + Pack<T>::size - 1) / Pack<T>::size;
    kernel.odd ? filter_lines<true>(in, kernel, lines, packs, out, pitch(k))
               : filter_lines<false>(in, kernel, lines, packs, out, pitch(k));
    if (!plan_.filter.round) return;
    for (Index i = 0; i < lines; ++i, out += pitch(k))
      for (Index j = 0; j < width; ++j) out[j] = static_cast<float>(out[j]);
  }

  // The last axis of one row, and the result from its terms.
  void finish(const std::vector<const T*>& in, Index position) {
    poll();
    const Index n = (end(last_) - begin(last_)) * plan_.step;
    const Index at = position + begin(last_) * plan_.step;
    if (!result_.store) return finish(in, n, result_.out + at);
    finish(in, n, level_);
    result_.store(level_, at, n);
  }

  void finish(const std::vector<const T*>& in, Index n, T* out) {
    const Axis& axis = plan_.axes[last_];
    const Index step = plan_.step;
    if (in.size() == 1 && plan_.passes[last_].size() == 1 && !plan_.filter.magnitude && step == 1)
      return finish_inside(in[0], out);
    for (std::size_t s = 0; s < in.size(); ++s) {
      extend(in[s], outside(plan_.streams[last_][s]));
      const T* const centre = row_ + axis.radius * step;
      for (const Pass& pass : plan_.passes[last_])
        if (pass.from == s) filter_last(pass, centre, n, term(pass.to));
    }
    combine(n, out);
  }

  void filter_last(const Pass& pass, const T* centre, Index n, T* to) const {
    const Kernel<T>& kernel = kernels_[2 * last_ + pass.derive];
    kernel.odd ? filter_row<true>(centre, kernel, n, plan_.step, to)
               : filter_row<false>(centre, kernel, n, plan_.step, to);
  }

  // A single term: pixels out of the border's reach are read and written where they are.
  void finish_inside(const T* in, T* out) {
    const Pass& pass = plan_.passes[last_][0];
    const Axis& axis = plan_.axes[last_];
    const Index from = begin(last_), to = end(last_), r = axis.radius, low = first(last_);
    const Index left = std::clamp(r, from, to), right = std::clamp(axis.extent - r, left, to);
    constexpr Index block = 2 * Pack<T>::size;
    const Index whole = (right - left) / block * block;
    const auto piece = [&](Index begin, Index end, const T* centre) {
      filter_last(pass, centre, end - begin, term(0));
      std::copy_n(term(0), end - begin, out + begin - from);
    };
    const auto border = [&](Index begin, Index end) {
      if (begin == end) return;
      const T fill = outside(plan_.streams[last_][0]);
      for (Index e = begin; e < end + 2 * r; ++e) {
        const Index at = axis.source[e];
        row_[e - begin] = at < 0 ? fill : in[at - low];
      }
      piece(begin, end, row_ + r);
    };
    border(from, left);
    filter_last(pass, in + left - low, whole, out + left - from);
    if (left + whole < right) piece(left + whole, right, in + left + whole - low);
    border(right, to);
  }

  // A row of the last axis with its border.
  void extend(const T* in, T fill) {
    const Axis& axis = plan_.axes[last_];
    const Index step = plan_.step, e = begin(last_), reach = end(last_) - e + 2 * axis.radius;
    const Index from = std::clamp<Index>(axis.radius - e, 0, reach);
    const Index to = std::clamp<Index>(axis.radius + axis.extent - e, from, reach);
    const auto border = [&](Index i) {
      const Index at = axis.source[e + i];
      for (Index c = 0; c < step; ++c)
        row_[i * step + c] = at < 0 ? fill : in[(at - first(last_)) * step + c];
    };
    for (Index i = 0; i < from; ++i) border(i);
    std::copy_n(in + (e + from - axis.radius - first(last_)) * step, (to - from) * step,
                row_ + from * step);
    for (Index i = to; i < reach; ++i) border(i);
  }

  void combine(Index n, T* __restrict out) const {
    const T share = static_cast<T>(1 / std::sqrt(plan_.filter.over));
    const bool magnitude = plan_.filter.magnitude;
    for (std::size_t i = 0; i < plan_.result.size(); ++i) {
      const T* __restrict values = term(plan_.result[i]);
      if (i == 0 && !magnitude)
        std::copy_n(values, n, out);
      else if (i == 0)
        for (Index j = 0; j < n; ++j) out[j] = values[j] * values[j];
      else if (!magnitude)
        for (Index j = 0; j < n; ++j) out[j] += values[j];
      else
        for (Index j = 0; j < n; ++j) out[j] += values[j] * values[j];
    }
    if (magnitude)
      for (Index j = 0; j < n; ++j) out[j] = std::sqrt(out[j]) * share;
  }

  const Plan& plan_;
  const std::vector<Kernel<T>>& kernels_;
  const Source<T>& source_;
  const Tile& tile_;
  const int last_;
  const T cval_;
  const Rows<T>& result_;

  std::vector<Index> step_;   // positions of a block, by axis
  std::vector<Index> block_;  // by axis, where in memory_: stream, position, slice
  const Index row_size_;
  std::vector<T> memory_;
  T *strip_, *row_, *level_, *terms_;
};

template <class T>
void run(const Array& image, double scale, const Separable& filter, const Rows<T>& result) {
  const Plan plan(image, filter);
  if (plan.empty()) return;
  const Source<T> source(image, scale);
  std::vector<Kernel<T>> kernels;
  for (const Axis& axis : plan.axes)
    for (const Taps* taps : {axis.smooth, axis.derive ? axis.derive : axis.smooth})
      kernels.emplace_back(*taps, filter.skip_centre);
  separable::for_tiles(plan, sizeof(T), [&](const Tile& tile) {
    Tiled<T>(plan, kernels, source, tile, result).run();
  });
}

}  // namespace

void long_filter(const Array& image, double scale, const Separable& filter,
                 const MutableArray& out) {
  out.dtype == DType::float32 ? run<float>(image, scale, filter, {out.as<float>(), {}})
                              : run<double>(image, scale, filter, {out.as<double>(), {}});
}

void separable_filter(const Array& image, double scale, const Separable& filter,
                      const MutableArray& out) {
  if (!byte_gradient(image, scale, filter, out) && !short_gradient(image, scale, filter, out))
    long_filter(image, scale, filter, out);
}

void local_gaussian(const Array& image, const std::vector<std::vector<double>>& half_weights,
                    BorderMode border, double cval, double offset, const MutableArray& out) {
  Separable filter;
  for (const auto& half : half_weights) filter.smooth.push_back({half});
  filter.border.assign(half_weights.size(), border);
  filter.cval = cval;
  filter.round = image.dtype == DType::float16 || image.dtype == DType::float32;
  const local::Result result(image, offset, out);
  run<double>(image, 1, filter, {nullptr, [&](const double* level, Index position, Index n) {
                                   result.store(level, position, n);
                                 }});
}

}  // namespace msf
