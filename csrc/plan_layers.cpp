// Layers that look at several pixels; see plan_layers.hpp. Those of single pixels are in
// plan_pointwise.cpp.
//
// All go by rows of the output, with loops over channels inside, which vectorise.
#include "plan_layers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "conv_lanes.hpp"
#include "parallel.hpp"
#include "plan_rows.hpp"

namespace msf {

namespace {

using Index = std::int64_t;

// Inputs that a window covers along an axis: `count` from `first` on, `dilation` apart.
struct Taps {
  Index first, count, number;  // number: of the first one within the window
  Taps(const PoolSpec& spec, int axis, Index size, Index o) {
    const Index at = o * spec.stride[axis] - spec.padding[axis], d = spec.dilation[axis];
    number = at >= 0 ? 0 : (-at + d - 1) / d;
    first = at + number * d;
    const Index fit = first < size ? (size - first + d - 1) / d : 0;
    count = std::max<Index>(std::min(spec.kernel[axis] - number, fit), 0);
  }
};

// The largest of some pixels, or the last NaN among them, by channel.
template <class T>
void max_of(const std::vector<const T*>& pixels, Index channels, T* to) {
  Index c = 0;
  for (; c + lanes <= channels; c += lanes) {
    Lanes best = load_floats(pixels[0] + c);
    for (std::size_t i = 1; i < pixels.size(); ++i) {
      const Lanes v = load_floats(pixels[i] + c);
      best = (v > best) | (v != v) ? v : best;
    }
    store_floats(to + c, best);
  }
  for (; c < channels; ++c) {
    float best = pixels[0][c];
    for (const T* const from : pixels) {
      const float v = from[c];
      if ((v > best) | (v != v)) best = v;
    }
    to[c] = T(best);
  }
}

template <class T>
void mean_of(const std::vector<const T*>& pixels, float share, Index channels, T* to) {
  Index c = 0;
  for (; c + lanes <= channels; c += lanes) {
    Lanes sum = load_floats(pixels[0] + c);
    for (std::size_t i = 1; i < pixels.size(); ++i) sum += load_floats(pixels[i] + c);
    store_floats(to + c, sum * share);
  }
  for (; c < channels; ++c) {
    float sum = pixels[0][c];
    for (std::size_t i = 1; i < pixels.size(); ++i) sum += pixels[i][c];
    to[c] = T(sum * share);
  }
}

// As max_of, one pixel more, with its place.
template <class T>
void max_pixel(const T* from, Index channels, Index place, T* __restrict best,
               Index* __restrict places) {
  for (Index c = 0; c < channels; ++c) {
    const float v = from[c], b = best[c];
    const bool better = (v > b) | (v != v);
    best[c] = better ? from[c] : best[c];
    places[c] = better ? place : places[c];
  }
}

}  // namespace

void pool(const PoolSpec& spec, const Features& in, const Features& out, Index* indices) {
  const Index channels = out.channels, area = spec.kernel[0] * spec.kernel[1] * spec.kernel[2];
  visit_features(in.dtype, [&]<class T>(Type<T>) {
    for_each_row(out, channels * area, [&](Index n, Index z, Index y) {
      const Taps taps_z(spec, 0, in.size[0], z), taps_y(spec, 1, in.size[1], y);
      thread_local std::vector<const T*> inside;  // of a window
      thread_local std::vector<Index> numbers;    // of these pixels, for indices
      for (Index x = 0; x < out.size[2]; ++x) {
        const Taps taps_x(spec, 2, in.size[2], x);
        inside.clear();
        numbers.clear();
        for (Index i = 0; i < taps_z.count; ++i)
          for (Index j = 0; j < taps_y.count; ++j)
            for (Index k = 0; k < taps_x.count; ++k) {
              const Size3 at{taps_z.first + i * spec.dilation[0],
                             taps_y.first + j * spec.dilation[1],
                             taps_x.first + k * spec.dilation[2]};
              inside.push_back(pixel<T>(in, n, at));
              if (indices) numbers.push_back((at[0] * in.size[1] + at[1]) * in.size[2] + at[2]);
            }
        if (inside.empty()) continue;
        T* const to = pixel<T>(out, n, {z, y, x});
        if (!spec.maximum) {
          const auto count = spec.exclude_padding ? static_cast<Index>(inside.size()) : area;
          mean_of(inside, 1.0f / static_cast<float>(count), channels, to);
        } else if (indices) {
          const Index number = ((n * out.size[0] + z) * out.size[1] + y) * out.size[2] + x;
          Index* const places = indices + number * channels;
          std::copy_n(inside[0], channels, to);
          std::fill_n(places, channels, numbers[0]);
          for (std::size_t i = 1; i < inside.size(); ++i)
            max_pixel(inside[i], channels, numbers[i], to, places);
        } else {
          max_of(inside, channels, to);
        }
      }
    });
  });
}

void unpool(const Size3& step, const Features& in, const Index* indices, const Features& out) {
  const Index channels = in.channels;
  visit_features(in.dtype, [&]<class T>(Type<T>) {
    for_each_row(out, channels, [&](Index n, Index z, Index y) {
      const Index from_z = z / step[0], from_y = y / step[1];
      const bool outside = from_z >= in.size[0] || from_y >= in.size[1];
      for (Index x = 0; x < out.size[2]; ++x) {
        T* __restrict const to = pixel<T>(out, n, {z, y, x});
        const Index from_x = x / step[2];
        if (outside || from_x >= in.size[2]) {
          std::fill_n(to, channels, T(0.0f));
          continue;
        }
        const T* const from = pixel<T>(in, n, {from_z, from_y, from_x});
        const Index number =
            ((n * in.size[0] + from_z) * in.size[1] + from_y) * in.size[2] + from_x;
        const Index* const at = indices + number * channels;
        const Index place = (z * out.size[1] + y) * out.size[2] + x;
        for (Index c = 0; c < channels; ++c) to[c] = at[c] == place ? from[c] : T(0.0f);
      }
    });
  });
}

namespace {

// A mix of the (up to four) rows around an output row, pixel after pixel, channels last.
template <class T>
void mix_rows(const std::array<Stretch, 3>& axes, const Features& in, Index n, Index z, Index y,
              float* mixed) {
  const Index channels = in.channels;
  const float far_z = axes[0].far[z], far_y = axes[1].far[y];
  bool first = true;
  for (int k = 0; k < 4; ++k) {
    const float weight = (k & 2 ? far_z : 1 - far_z) * (k & 1 ? far_y : 1 - far_y);
    if (weight == 0) continue;
    const Index from_z = (k & 2 ? axes[0].high : axes[0].low)[z];
    const Index from_y = (k & 1 ? axes[1].high : axes[1].low)[y];
    for (Index x = 0; x < in.size[2]; ++x) {
      const T* const from = pixel<T>(in, n, {from_z, from_y, x});
      float* __restrict const to = mixed + x * channels;
      if (first)
        for (Index c = 0; c < channels; ++c) to[c] = weight * from[c];
      else
        for (Index c = 0; c < channels; ++c) to[c] += weight * from[c];
    }
    first = false;
  }
}

}  // namespace

void resize(const std::array<Stretch, 3>& axes, const Features& in, const Features& out) {
  const Index channels = in.channels;
  const Stretch& across = axes[2];
  visit_features(in.dtype, [&]<class T>(Type<T>) {
    for_each_row(out, 4 * channels, [&](Index n, Index z, Index y) {
      thread_local std::vector<float> mixed;
      mixed.resize(static_cast<std::size_t>(in.size[2] * channels));
      mix_rows<T>(axes, in, n, z, y, mixed.data());
      const float* const row = mixed.data();
      if (out.channel_stride == 1) {
        for (Index x = 0; x < out.size[2]; ++x) {
          const float far = across.far[x], near = 1 - far;
          const float* const a = row + across.low[x] * channels;
          const float* const b = row + across.high[x] * channels;
          T* __restrict const to = pixel<T>(out, n, {z, y, x});
          for (Index c = 0; c < channels; ++c) to[c] = static_cast<T>(near * a[c] + far * b[c]);
        }
        return;
      }
      T* to = pixel<T>(out, n, {z, y, 0});
      for (Index c = 0; c < channels; ++c, to += out.channel_stride)
        for (Index x = 0; x < out.size[2]; ++x) {
          const float far = across.far[x], near = 1 - far;
          to[x * out.stride[2]] = static_cast<T>(near * row[across.low[x] * channels + c] +
                                                 far * row[across.high[x] * channels + c]);
        }
    });
  });
}

namespace {

template <class From, class To>
void gather_row(const std::vector<Index>& map, float fill, const Features& in, const From* from,
                const Features& out, To* to) {
  const Index channels = out.channels;
  const auto source = [&](Index x) { return map.empty() ? x : map[x]; };
  if (in.channel_stride == 1 && out.channel_stride == 1) {
    for (Index x = 0; x < out.size[2]; ++x, to += out.stride[2]) {
      const Index at = source(x);
      if (at < 0) {
        std::fill_n(to, channels, To(fill));
        continue;
      }
      const From* const pixel = from + at * in.stride[2];
      for (Index c = 0; c < channels; ++c) to[c] = static_cast<To>(pixel[c]);
    }
    return;
  }
  for (Index c = 0; c < channels; ++c, from += in.channel_stride, to += out.channel_stride)
    for (Index x = 0; x < out.size[2]; ++x) {
      const Index at = source(x);
      to[x * out.stride[2]] = at < 0 ? To(fill) : static_cast<To>(from[at * in.stride[2]]);
    }
}

}  // namespace

void gather(const std::array<std::vector<Index>, 3>& maps, float fill, const Features& in,
            const Features& out) {
  visit_features(in.dtype, [&]<class From>(Type<From>) {
    visit_features(out.dtype, [&]<class To>(Type<To>) {
      for_each_row(out, out.channels, [&](Index n, Index z, Index y) {
        const Index from_z = maps[0].empty() ? z : maps[0][z];
        const Index from_y = maps[1].empty() ? y : maps[1][y];
        To* const to = pixel<To>(out, n, {z, y, 0});
        if (from_z >= 0 && from_y >= 0) {
          gather_row(maps[2], fill, in, pixel<From>(in, n, {from_z, from_y, 0}), out, to);
          return;
        }
        for (Index c = 0; c < out.channels; ++c)
          for (Index x = 0; x < out.size[2]; ++x)
            to[c * out.channel_stride + x * out.stride[2]] = To(fill);
      });
    });
  });
}

void adaptive_means(const Features& in, const Features& out) {
  constexpr Index block = 128;  // channels of a task
  const Index blocks = (in.channels + block - 1) / block;
  const Index cells = out.batch * out.size[0] * out.size[1] * out.size[2];
  visit_features(in.dtype, [&]<class T>(Type<T>) {
    parallel_tasks(cells * blocks, [&](Index task) {
      const Index c0 = task / cells * block, count = std::min(block, in.channels - c0);
      Index rest = task % cells;
      Size3 cell, begin, end;
      for (int a = 2; a >= 0; --a) {
        cell[a] = rest % out.size[a];
        rest /= out.size[a];
        begin[a] = cell[a] * in.size[a] / out.size[a];
        end[a] = ((cell[a] + 1) * in.size[a] + out.size[a] - 1) / out.size[a];
      }
      double sums[block] = {};
      float row[block];
      for (Index z = begin[0]; z < end[0]; ++z)
        for (Index y = begin[1]; y < end[1]; ++y) {
          poll();
          std::fill_n(row, count, 0.0f);
          for (Index x = begin[2]; x < end[2]; ++x) {
            const T* const from = pixel<T>(in, rest, {z, y, x}) + c0;
            for (Index c = 0; c < count; ++c) row[c] += from[c];
          }
          for (Index c = 0; c < count; ++c) sums[c] += row[c];
        }
      const auto pixels =
          static_cast<double>((end[0] - begin[0]) * (end[1] - begin[1]) * (end[2] - begin[2]));
      T* const to = pixel<T>(out, rest, cell) + c0;
      for (Index c = 0; c < count; ++c) to[c] = T(static_cast<float>(sums[c] / pixels));
    });
  });
}

}  // namespace msf
