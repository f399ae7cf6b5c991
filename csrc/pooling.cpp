// Max pooling that remembers where each maximum was, and its inverse.
//
// Pooling goes by rows of the output: each tap of the window is a pass over the row, which keeps
// the largest value so far and the number of its tap. Only the finished row turns taps to indices.
// The first tap inside the input is where a window starts, so that a window of -inf alone has an
// index, as in PyTorch.
//
// Unpooling expects a row of values (a plane in 3D) in the rows it was pooled from: it puts them
// into a window of zeros in the cache, and streams that to memory. Where an index is elsewhere the
// plane is cleared and filled in any order.
#include "kernels/pooling.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "parallel.hpp"
#include "stream.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

// What lies of a window along one axis inside the input.
struct Taps {
  Index begin, end, at;  // taps [begin, end); input of tap 0, maybe outside
};

Taps taps_of(const Windows& w, Index inputs, Index o) {
  const Index at = o * w.stride - w.padding;
  const Index begin = at >= 0 ? 0 : (-at + w.dilation - 1) / w.dilation;
  const Index end = std::min(w.kernel, (inputs - at + w.dilation - 1) / w.dilation);
  return {begin, std::max(begin, end), at};
}

template <class T>
class Pool {
  using I = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

 public:
  Pool(const Array& input, const std::array<Windows, 3>& windows, const MutableArray& values,
       const MutableArray& indices)
      : input_(input.as<T>()),
        windows_(windows),
        values_(values.as<T>()),
        indices_(indices.as<Index>()),
        planes_(values.shape[0]) {
    std::copy_n(input.shape.begin() + 1, 3, in_.begin());
    std::copy_n(values.shape.begin() + 1, 3, out_.begin());
    for (Index z = 0; z < windows[0].kernel; ++z)
      for (Index y = 0; y < windows[1].kernel; ++y)
        for (Index x = 0; x < windows[2].kernel; ++x)
          offsets_.push_back((z * windows[0].dilation * in_[1] + y * windows[1].dilation) * in_[2] +
                             x * windows[2].dilation);
    for (Index x = 0; x < out_[2]; ++x)
      first_.push_back(static_cast<I>(taps_of(windows[2], in_[2], x).begin));
  }

  void run() const {
    const Index rows = planes_ * out_[0] * out_[1];
    const Index work = out_[2] * static_cast<Index>(offsets_.size());
    parallel_for(rows, std::max<Index>(1, 20000 / std::max<Index>(1, work)),
                 [&](Index begin, Index end) {
                   std::vector<I> taps(out_[2]);
                   for (Index row = begin; row < end; ++row) {
                     poll();
                     pool_row(row, taps.data());
                   }
                 });
  }

 private:
  void pool_row(Index row, I* __restrict taps) const {
    const Index y_out = row % out_[1], z_out = row / out_[1] % out_[0];
    const Taps z = taps_of(windows_[0], in_[0], z_out), y = taps_of(windows_[1], in_[1], y_out);
    const Windows& across = windows_[2];
    const T* const plane = input_ + row / (out_[0] * out_[1]) * in_[0] * in_[1] * in_[2];
    T* const best = values_ + row * out_[2];
    const I before = static_cast<I>((z.begin * windows_[1].kernel + y.begin) * across.kernel);
    for (Index x = 0; x < out_[2]; ++x) taps[x] = before + first_[x];
    std::fill_n(best, out_[2], -std::numeric_limits<T>::infinity());
    for (Index kz = z.begin; kz < z.end; ++kz)
      for (Index ky = y.begin; ky < y.end; ++ky) {
        const Index at =
            (z.at + kz * windows_[0].dilation) * in_[1] + y.at + ky * windows_[1].dilation;
        for (Index kx = 0; kx < across.kernel; ++kx) {
          // Windows whose tap kx is inside: those from `from` on whose input is below the width.
          const Index shift = kx * across.dilation - across.padding;
          const Index from = shift >= 0 ? 0 : (-shift + across.stride - 1) / across.stride;
          const Index fit = (in_[2] - shift + across.stride - 1) / across.stride;
          const Index to = std::min(out_[2], in_[2] > shift ? fit : 0);
          const I tap = static_cast<I>((kz * windows_[1].kernel + ky) * across.kernel + kx);
          const T* const in = plane + at * in_[2] + shift;
          if (across.stride == 1)
            take<1>(in, from, to, tap, best, taps);
          else if (across.stride == 2)
            take<2>(in, from, to, tap, best, taps);
          else
            take<0>(in, from, to, tap, best, taps);
        }
      }
    const Index origin = (z.at * in_[1] + y.at) * in_[2] - across.padding;
    Index* __restrict indices = indices_ + row * out_[2];
    for (Index x = 0; x < out_[2]; ++x) indices[x] = origin + x * across.stride + offsets_[taps[x]];
  }

  // The row's windows [from, to) meet their value number `tap`. `fixed`: the stride if it is known.
  template <Index fixed>
  void take(const T* in, Index from, Index to, I tap, T* __restrict best,
            I* __restrict taps) const {
    const Index stride = fixed ? fixed : windows_[2].stride;
    for (Index x = from; x < to; ++x) {
      const T value = in[x * stride];
      const bool better = (value > best[x]) | (value != value);
      best[x] = better ? value : best[x];
      taps[x] = better ? tap : taps[x];
    }
  }

  const T* input_;
  std::array<Windows, 3> windows_;
  T* values_;
  Index* indices_;
  Index planes_;
  std::array<Index, 3> in_{}, out_{};
  std::vector<Index> offsets_;  // of a tap from the window's start
  std::vector<I> first_;        // tap inside the input, of each column of windows
};

// Windows up to this size are made in the cache and then streamed to memory, which saves reading
// what is to be overwritten; smaller results stay in the cache anyway.
constexpr Index most_staged = 256 << 10, least_streamed = 4 << 20;

}  // namespace

void max_pool(const Array& input, const std::array<Windows, 3>& windows, const MutableArray& values,
              const MutableArray& indices) {
  if (values.size() == 0) return;
  if (input.dtype == DType::float64)
    Pool<double>(input, windows, values, indices).run();
  else
    Pool<float>(input, windows, values, indices).run();
}

namespace {

// Zeros to a plane of m, then values at their places.
template <class T>
void unpool_plane(const T* values, const Index* at, Index n, Index m, T* to) {
  constexpr Index piece = 1 << 16;
  for (Index i = 0; i < m; i += piece) {
    poll();
    std::memset(to + i, 0, std::min(piece, m - i) * sizeof(T));
  }
  for (Index begin = 0; begin < n; begin += piece) {
    poll();
    for (Index i = begin; i < std::min(n, begin + piece); ++i) {
      if (static_cast<std::uint64_t>(at[i]) >= static_cast<std::uint64_t>(m))
        throw std::invalid_argument("max_unpool: indices must be from 0 to " +
                                    std::to_string(m - 1) + ", got " + std::to_string(at[i]));
      to[at[i]] = values[i];
    }
  }
}

// Values to their places in the window [begin, begin + size) of the plane; false if one is outside.
template <class T>
bool unpool_window(const T* values, const Index* at, Index n, Index begin, Index size, T* to) {
  for (Index i = 0; i < n; ++i) {
    const std::uint64_t place = static_cast<std::uint64_t>(at[i] - begin);
    if (place >= static_cast<std::uint64_t>(size)) return false;
    to[place] = values[i];
  }
  return true;
}

}  // namespace

void max_unpool(const Array& values, const Array& indices, const MutableArray& output) {
  const Index planes = output.shape[0], rows = values.shape[1], columns = values.shape[2];
  const Index n = rows * columns, m = output.shape[1];
  visit_bits(values.dtype, [&]<class T>(Type<T>) {
    constexpr Index item = sizeof(T);
    const Index row = rows == 0 ? 0 : m / rows;  // of the window that a row of values goes to
    const Index at_once = row == 0 ? 0 : std::max<Index>(1, 8192 / (row * item));
    const bool staged =
        row * rows == m && row * item <= most_staged && m * planes * item >= least_streamed;
    parallel_for(
        planes, std::max<Index>(1, 8192 / std::max<Index>(1, m)), [&](Index first, Index last) {
          std::unique_ptr<T[]> window(staged ? new T[at_once * row]() : nullptr);
          for (Index plane = first; plane < last; ++plane) {
            const T* const from = values.as<T>() + plane * n;
            const Index* const at = indices.as<Index>() + plane * n;
            T* const to = output.as<T>() + plane * m;
            bool in_place = staged;
            for (Index r = 0; r < rows && in_place; r += at_once) {
              poll();
              const Index count = std::min(at_once, rows - r);
              in_place = unpool_window(from + r * columns, at + r * columns, count * columns,
                                       r * row, count * row, window.get());
              if (in_place) stream(window.get(), count * row * item, to + r * row);
              std::memset(window.get(), 0, count * row * item);
            }
            if (!in_place) unpool_plane(from, at, n, m, to);
          }
          finish_streams();
        });
  });
}

}  // namespace msf
