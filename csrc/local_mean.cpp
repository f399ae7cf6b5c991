// Local mean, and the thresholds of Niblack (1986) and Sauvola and Pietikainen (2000), from sums
// over windows: O(1) per pixel and axis, whatever the window.
//
// Axis by axis: the sums over a window along the first axis are kept for one position of that axis
// at a time, the next axis slides over them, and so on; the last axis turns a row of column sums
// into results while it is in the cache. Nothing of the image's size is written but the result.
//
// Integer images: exact integer sums, one slice added and one subtracted per step. A pixel equal to
// its local mean is therefore never above it by rounding.
// Float images: no subtraction at all. Each axis is cut into blocks of the window's size at fixed
// positions; a window is the end of one block and the start of the next, so its sum is a suffix sum
// plus a prefix sum, three additions per pixel (van Herk 1992 does this for maxima). The rounding
// error is that of adding up the window alone, and NaN or infinity reaches just the windows that
// hold it, where running sums would carry both through the rest of the image.
//
// W. Niblack, An Introduction to Digital Image Processing, Prentice-Hall, 1986.
// J. Sauvola, M. Pietikainen, Adaptive document image binarization, Pattern Recognition 33(2),
// 2000. M. van Herk, A fast algorithm for local minimum and maximum filters on rectangular and
// octagonal kernels, Pattern Recognition Letters 13(7), 1992.
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>

#include "local.hpp"
#include "pack.hpp"

namespace msf {
namespace {

using local::Index;
using local::Result;
using local::Tile;
using local::Window;

using int128 = __int128;

// Slices of `n` elements of one type enter sums, as their power 1 or 2, and leave them.
template <class Acc>
struct Ops {
  Index item;  // bytes of an element
  void (*add)(const void* in, Acc* sum, int power, Index n);
  void (*move)(const void* in, const void* out, Acc* sum, int power, Index n);  // if exact
};

template <class Acc>
constexpr bool exact = !std::is_same_v<Acc, double>;

// row[j] += row[j - 1], in order.
template <class Acc>
void prefix_sums(Acc* row, Index n) {
  for (Index j = 1; j < n; ++j) row[j] += row[j - 1];
}

// The sums that one register holds.
constexpr int per_register = register_bytes / sizeof(std::int32_t);
using Register = std::int32_t __attribute__((vector_size(register_bytes)));

// v moved up by `step` lanes, with 0 below; for step >= per_register the highest lane everywhere.
template <int step>
Register moved_up(Register v) {
  Register from{};
  for (int i = 0; i < per_register; ++i)
    from[i] = step >= per_register ? 2 * per_register - 1 : i < step ? 0 : per_register + i - step;
  return __builtin_shuffle(Register{}, v, from);
}

// The same for the most frequent type, a register at a time: a chain of single additions would take
// a third of the time of the whole operation.
template <>
void prefix_sums(std::int32_t* row, Index n) {
  Register before{};
  Index j = 0;
  for (; j + per_register <= n; j += per_register) {
    Register v;
    std::memcpy(&v, row + j, sizeof v);
    v += moved_up<1>(v);
    v += moved_up<2>(v);
    if constexpr (per_register > 4) v += moved_up<4>(v);
    if constexpr (per_register > 8) v += moved_up<8>(v);
    v += before;
    before = moved_up<per_register>(v);
    std::memcpy(row + j, &v, sizeof v);
  }
  for (j = std::max<Index>(j, 1); j < n; ++j) row[j] += row[j - 1];
}

template <class S, class Acc>
void add(const void* from, Acc* __restrict sum, int power, Index n) {
  const S* __restrict in = static_cast<const S*>(from);
  if (power == 2)
    for (Index j = 0; j < n; ++j) sum[j] += static_cast<Acc>(in[j]) * static_cast<Acc>(in[j]);
  else
    for (Index j = 0; j < n; ++j) sum[j] += static_cast<Acc>(in[j]);
}

template <class S, class Acc>
void move(const void* from, const void* to, Acc* __restrict sum, int power, Index n) {
  const S* __restrict in = static_cast<const S*>(from);
  const S* __restrict out = static_cast<const S*>(to);
  if (power == 2)
    for (Index j = 0; j < n; ++j) {
      const Acc a = static_cast<Acc>(in[j]), b = static_cast<Acc>(out[j]);
      sum[j] += (a - b) * (a + b);
    }
  else
    for (Index j = 0; j < n; ++j) sum[j] += static_cast<Acc>(in[j]) - static_cast<Acc>(out[j]);
}

template <class S, class Acc>
constexpr Ops<Acc> make_ops() {
  if constexpr (exact<Acc>)
    return {sizeof(S), add<S, Acc>, move<S, Acc>};
  else
    return {sizeof(S), add<S, Acc>, nullptr};
}
template <class S, class Acc>
constexpr Ops<Acc> ops = make_ops<S, Acc>();

// Sums of the first `powers` powers of the pixels over the windows of one tile.
template <class Acc>
class Sums {
 public:
  using Sink =
      std::function<void(const Acc* sums, Index lead, Index first, Index count, Index position)>;

  Sums(const Window& w, const void* image, const Ops<Acc>& pixels, int powers, const Tile& tile)
      : w_(w),
        image_(static_cast<const char*>(image)),
        pixels_(pixels),
        tile_(tile),
        powers_(powers),
        last_(w.ndim() - 1),
        levels_(last_) {
    extent_ = w.shape;
    extent_[1] = tile.high - tile.low;
    for (int k = 0; k < last_; ++k) {
      levels_[k].sum.reset(new Acc[powers * slice(k)]);
      if (exact<Acc>) continue;
      levels_[k].suffix.reset(new Acc[powers * slice(k) * w.block[k]]);
      levels_[k].prefix.reset(new Acc[powers * slice(k)]);
    }
    if (exact<Acc>) nothing_.reset(new Acc[slice(0)]());
    extended_.reset(new Acc[end(last_) - begin(last_) + 3 * w.block[last_]]);
    if (!exact<Acc>) suffix_.reset(new Acc[w.block[last_]]);
    window_.reset(new Acc[powers * (end(last_) - begin(last_))]);
  }

  // sink(sums, lead, first, count, position) for every row of the tile: the sums of `count` windows
  // from position `first` of the last axis on, those of the next power after them; `lead` is how
  // many positions of their leading axes lie in the image.
  void run(const Sink& sink) {
    slide(0, image_ + tile_.low * w_.stride(1) * pixels_.item, nullptr, pixels_, 1, 0, sink);
  }

 private:
  struct Level {
    std::unique_ptr<Acc[]> sum, suffix, prefix;  // one power after the other
  };

  Index begin(int k) const { return k < 2 ? tile_.begin[k] : 0; }
  Index end(int k) const { return k < 2 ? tile_.end[k] : w_.shape[k]; }
  Index slice(int k) const {
    Index n = 1;
    for (int i = k + 1; i <= last_; ++i) n *= extent_[i];
    return n;
  }

  // Slice at extended position e of axis k; null outside the image.
  const char* at(int k, const char* source, Index item, Index e) const {
    const Index i = w_.source[k][e];
    if (i < 0) return nullptr;
    return source + item * (k == 0 ? i * w_.stride(0) : (i - (k == 1 ? tile_.low : 0)) * slice(k));
  }

  Index inside(int k, Index i) const {
    if (w_.border != BorderMode::constant) return w_.block[k];
    const Index radius = w_.block[k] / 2;
    return std::min(i + radius + 1, w_.shape[k]) - std::max<Index>(i - radius, 0);
  }

  // Axis k and those after it. The first axis takes powers of the pixels in `source`, the others
  // the sums of the axis before.
  void slide(int k, const char* source, const Level* before, const Ops<Acc>& op, Index lead,
             Index position, const Sink& sink) {
    const Index n = slice(k), b = w_.block[k];
    Level& level = levels_[k];
    for (Index i = begin(k); i < end(k); ++i) {
      poll();
      for (int m = 0; m < powers_; ++m) {
        const char* const from =
            before ? reinterpret_cast<const char*>(&before->sum[m * slice(k - 1)]) : source;
        const auto slice_at = [&](Index e) { return at(k, from, op.item, e); };
        const int power = before ? 1 : m + 1;
        if constexpr (exact<Acc>)
          step_exact(slice_at, op, power, i, i == begin(k), n, b, &level.sum[m * n]);
        else
          step_blocks(slice_at, op, power, i, i == begin(k), n, b, &level.suffix[m * n * b],
                      &level.prefix[m * n], &level.sum[m * n]);
      }
      const Index place = position + i * w_.stride(k);
      if (k + 1 == last_)
        row(level, lead * inside(k, i), place, sink);
      else
        slide(k + 1, nullptr, &level, ops<Acc, Acc>, lead * inside(k, i), place, sink);
    }
  }

  template <class SliceAt>
  void step_exact(SliceAt&& slice_at, const Ops<Acc>& op, int power, Index i, bool first, Index n,
                  Index b, Acc* sum) const {
    if (first) {
      std::fill_n(sum, n, Acc{0});
      for (Index e = i; e < i + b; ++e)
        if (const char* in = slice_at(e)) op.add(in, sum, power, n);
      return;
    }
    const char *const in = slice_at(i + b - 1), *const out = slice_at(i - 1);
    const void* const nothing = nothing_.get();
    if (in || out) op.move(in ? in : nothing, out ? out : nothing, sum, power, n);
  }

  template <class SliceAt>
  static void step_blocks(SliceAt&& slice_at, const Ops<Acc>& op, int power, Index i, bool first,
                          Index n, Index b, Acc* suffix, Acc* prefix, Acc* sum) {
    const Index offset = i % b, block = i - offset;
    if (first || offset == 0) {
      for (Index t = b - 1; t >= 0; --t) {
        Acc* const to = suffix + t * n;
        if (t == b - 1)
          std::fill_n(to, n, Acc{0});
        else
          std::copy_n(to + n, n, to);
        if (const char* in = slice_at(block + t)) op.add(in, to, power, n);
      }
      std::fill_n(prefix, n, Acc{0});
    }
    for (Index e = first ? block + b : i + b - 1; e >= block + b && e < i + b; ++e)
      if (const char* in = slice_at(e)) op.add(in, prefix, power, n);
    const Acc* __restrict tail = suffix + offset * n;
    for (Index j = 0; j < n; ++j) sum[j] = tail[j] + prefix[j];
  }

  void row(const Level& level, Index lead, Index position, const Sink& sink) {
    const Index b = w_.block[last_], c0 = begin(last_), c1 = end(last_);
    const Index first = last_ == 1 ? tile_.low : 0;
    Acc* const e = extended_.get();
    for (int m = 0; m < powers_; ++m) {
      const Index from = exact<Acc> ? c0 : c0 / b * b, count = c1 + b - 1 - from;
      Acc* const window = &window_[m * (c1 - c0)];
      local::extend_row(w_, last_, &level.sum[m * slice(last_ - 1)], first, from, count, Acc{0}, e);
      if constexpr (exact<Acc>)
        scan_exact(e, b, c1 - c0, window);
      else
        scan_blocks(e, count, b, c0 - from, c1 - from, window);
    }
    sink(window_.get(), lead, c0, c1 - c0, position + c0);
  }

  static void scan_exact(const Acc* __restrict e, Index b, Index n, Acc* __restrict out) {
    Acc sum{0};
    for (Index t = 0; t < b; ++t) sum += e[t];
    out[0] = sum;
    for (Index j = 1; j < n; ++j) out[j] = e[j + b - 1] - e[j - 1];
    prefix_sums(out, n);
  }

  void scan_blocks(const Acc* __restrict e, Index count, Index b, Index from, Index to,
                   Acc* __restrict out) {
    Acc* __restrict const suffix = suffix_.get();
    for (Index block = 0; block < to; block += b) {
      Acc tail{0}, head{0};
      for (Index t = b - 1; t >= 0; --t) suffix[t] = tail += e[block + t];
      for (Index t = 0; t < b && block + t < to; ++t) {
        if (block + t >= from) out[block + t - from] = suffix[t] + head;
        if (block + b + t < count) head += e[block + b + t];
      }
    }
  }

  const Window& w_;
  const char* image_;
  const Ops<Acc>& pixels_;
  const Tile& tile_;
  const int powers_, last_;
  std::vector<Index> extent_;
  std::vector<Level> levels_;
  std::unique_ptr<Acc[]> nothing_, extended_, suffix_, window_;  // nothing: a slice of zeros
};

// Scratch of a task stays within a core's L2 cache where the image allows it.
constexpr Index scratch_bytes = 256 << 10;

template <class Acc>
void run(const Window& w, const Array& image, const Ops<Acc>& pixels, int powers,
         const typename Sums<Acc>::Sink& sink) {
  const Index inner = std::max<Index>(w.stride(1), 1);
  const Index slices = exact<Acc> ? 1 : w.block[0];
  const Index fit = scratch_bytes / (Index{sizeof(Acc)} * powers * slices * inner) - w.block[1];
  Index columns = std::max({fit, w.block[1], Index{32}});
  if (!exact<Acc>) columns -= columns % w.block[1];  // no block begins before its tile
  const Index rows =
      std::clamp<Index>(w.shape[0] / (4 * num_threads()), 2 * w.block[0], 8 * w.block[0] + 64);
  local::for_tiles(w, rows, columns, [&](const Tile& tile) {
    Sums<Acc>(w, image.data, pixels, powers, tile).run(sink);
  });
}

// How many positions outside the image the window at position j of the last axis holds, when
// `lead` positions of the leading axes are inside.
Index outside(const Window& w, Index lead, Index j) {
  const int last = w.ndim() - 1;
  const Index radius = w.block[last] / 2;
  const Index inside = std::min(j + radius + 1, w.shape[last]) - std::max<Index>(j - radius, 0);
  return w.volume() - lead * inside;
}

// x > sum / volume - offset as integers: x * volume + offset * volume > sum. It is exact, so the
// same as in float64 where that cannot round across a tie: with short offsets and windows.
template <class T>
void mask_8bit(const T* __restrict x, const std::int32_t* __restrict sum, int volume, int shift,
               std::uint8_t* __restrict mask, Index n) {
  for (Index j = 0; j < n; ++j) mask[j] = x[j] * volume + shift > sum[j];
}

bool decides_in_integers(const Array& image, const Window& w, const Result& result) {
  const double offset = result.offset();
  return item_size(image.dtype) == 1 && result.is_mask() && !w.has_cval() && w.volume() <= 65536 &&
         std::abs(offset) <= 16384 && std::floor(offset * 256) == offset * 256;
}

template <class Acc>
void mean_of(const Window& w, const Array& image, const Ops<Acc>& pixels, const Result& result) {
  const double volume = static_cast<double>(w.volume());
  run<Acc>(w, image, pixels, 1,
           [&](const Acc* __restrict sum, Index lead, Index first, Index n, Index position) {
             if constexpr (sizeof(Acc) == 4)
               if (decides_in_integers(image, w, result)) {
                 const int factor = static_cast<int>(volume);
                 const int shift = static_cast<int>(std::ceil(result.offset() * volume));
                 std::uint8_t* const mask = result.mask() + position;
                 image.dtype == DType::int8
                     ? mask_8bit(image.as<std::int8_t>() + position, sum, factor, shift, mask, n)
                     : mask_8bit(image.as<std::uint8_t>() + position, sum, factor, shift, mask, n);
                 return;
               }
             std::vector<double> level(n);
             double* __restrict mean = level.data();
             if (w.has_cval())
               for (Index j = 0; j < n; ++j) {
                 const Index missing = outside(w, lead, first + j);
                 mean[j] =
                     (static_cast<double>(sum[j]) + (missing ? missing * w.cval : 0)) / volume;
               }
             else
               for (Index j = 0; j < n; ++j) mean[j] = static_cast<double>(sum[j]) / volume;
             result.store(mean, position, n);
           });
}

// mean - k * std, or mean * (1 + k * (std / r - 1)). The variance is (n * sum of squares - sum^2) /
// n^2, whose numerator is exact for integers while it is below 2^53.
template <class Acc>
void mean_and_std(const Window& w, const Array& image, const Ops<Acc>& pixels, double k, double r,
                  bool sauvola, const Result& result) {
  const double volume = static_cast<double>(w.volume());
  run<Acc>(w, image, pixels, 2,
           [&](const Acc* __restrict sum, Index, Index, Index n, Index position) {
             const Acc* __restrict squares = sum + n;
             std::vector<double> level(n);
             double* __restrict t = level.data();
             for (Index j = 0; j < n; ++j) {
               const double s = static_cast<double>(sum[j]), mean = s / volume;
               const double spread = volume * static_cast<double>(squares[j]) - s * s;
               const double std = std::sqrt(spread < 0 ? 0 : spread) / volume;
               t[j] = sauvola ? mean * (1 + k * (std / r - 1)) : mean - k * std;
             }
             result.store(t, position, n);
           });
}

// Bits that all values need, without a sign: 64-bit images seldom hold values that long, and sums
// of 128 bits take twice the time.
template <class T>
int bits_of(const T* image, Index n) {
  std::atomic<std::uint64_t> used{0};
  parallel_for(n, 1 << 18, [&](Index begin, Index end) {
    std::uint64_t any = 0;
    for (Index i = begin; i < end; ++i)
      any |= static_cast<std::uint64_t>(image[i] < T{0} ? static_cast<T>(~image[i]) : image[i]);
    used.fetch_or(any, std::memory_order_relaxed);
  });
  return std::bit_width(used.load());
}

}  // namespace

void local_mean(const Array& image, const std::vector<std::int64_t>& block, BorderMode border,
                double cval, double offset, const MutableArray& out) {
  const Window w(image, block, border, cval);
  const Result result(image, offset, out);
  visit(image.dtype, [&]<class T>(Type<T>) {
    const auto with = [&]<class Acc>(Type<Acc>) { mean_of<Acc>(w, image, ops<T, Acc>, result); };
    if constexpr (is_float<T>) {
      with(Type<double>{});
    } else if constexpr (sizeof(T) <= 2) {
      const bool fits = w.volume() <= std::numeric_limits<std::int32_t>::max() >> (8 * sizeof(T));
      fits ? with(Type<std::int32_t>{}) : with(Type<std::int64_t>{});
    } else if constexpr (sizeof(T) == 4) {
      w.volume() < (Index{1} << 31) ? with(Type<std::int64_t>{}) : with(Type<int128>{});
    } else {
      const int bits = bits_of(image.as<T>(), image.size()) +
                       std::bit_width(static_cast<std::uint64_t>(w.volume()));
      bits < 64 ? with(Type<std::int64_t>{}) : with(Type<int128>{});
    }
  });
}

void local_mean_std(const Array& image, const std::vector<std::int64_t>& block, double k, double r,
                    bool sauvola, const MutableArray& out) {
  const Window w(image, block, BorderMode::mirror, 0);
  const Result result(image, 0, out);
  visit(image.dtype, [&]<class T>(Type<T>) {
    using Acc = std::conditional_t<is_float<T> || (sizeof(T) > 2), double, std::int64_t>;
    mean_and_std<Acc>(w, image, ops<T, Acc>, k, r, sauvola, result);
  });
}

}  // namespace msf
