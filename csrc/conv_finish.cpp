// Finishing of a convolution's output: bias, activation, pooling, writes; see conv_parts.hpp.
//
// Max pooling follows torch: the first of equal maxima, in raster order, and NaN wins.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "stream.hpp"

namespace msf {

namespace {

alignas(64) constexpr float zeros[panel] = {};

// A row of `n` pixels of panels into `count` channels, which lie side by side there; `made`: of a
// vector and its place in the panel.
template <class T, class F>
void write_pixels(const float* from, std::int64_t count, std::int64_t n, T* to,
                  std::int64_t pixel_stride, F&& made) {
  for (std::int64_t x = 0; x < n; ++x)
    for (std::int64_t c = 0; c < count; c += lanes)
      store_some(to + x * pixel_stride + c, made(load_lanes(from + x * panel + c), c / lanes),
                 count - c);
}

// The same as it is, channels lie anyhow.
template <class T>
void write_row(const float* from, std::int64_t count, std::int64_t n, T* to,
               std::int64_t channel_stride, std::int64_t pixel_stride) {
  if (channel_stride == 1 && count >= least_vector)
    return write_pixels(from, count, n, to, pixel_stride, [](Lanes v, std::int64_t) { return v; });
  std::int64_t c = 0;
  if (channel_stride == 1 && pixel_stride == count) {
    // Whole vectors, over which the next pixels are written, as long as these are in the row.
    const std::int64_t values = n * count;
    for (std::int64_t x = 0; x < n; ++x)
      store_some(to + x * count, load_lanes(from + x * panel),
                 x * count + lanes <= values ? lanes : count);
    c = count;
  } else if (pixel_stride == 1) {
    for (; c + lanes <= count && n >= lanes; c += lanes)
      turn_channels(from + c, panel, n, to + c * channel_stride, channel_stride);
  }
  for (; c < count; ++c)
    for (std::int64_t x = 0; x < n; ++x)
      to[c * channel_stride + x * pixel_stride] = static_cast<T>(from[x * panel + c]);
}

// A box of panels.
struct Panels {
  const float* data;
  std::int64_t row_pixels, plane_pixels;
};

// f(row, to) for each row of the panels and its place in the features.
template <class F>
void for_each_row(const Panels& from, const Features& to, std::int64_t n, std::int64_t c0,
                  const Box& box, F&& f) {
  void* const data = const_cast<void*>(to.data);
  for (std::int64_t z = 0; z < box.size[0]; ++z)
    for (std::int64_t y = 0; y < box.size[1]; ++y) {
      const float* const row = from.data + (z * from.plane_pixels + y * from.row_pixels) * panel;
      const std::int64_t at = to.offset(n, c0, {box.at[0] + z, box.at[1] + y, box.at[2]});
      if (to.dtype == DType::bfloat16)
        f(row, static_cast<BFloat16*>(data) + at);
      else
        f(row, static_cast<float*>(data) + at);
    }
}

// A box of panels into features.
void write_box(const Panels& from, const Features& to, std::int64_t n, std::int64_t c0,
               const Box& box) {
  const std::int64_t count = std::min(panel, to.channels - c0);
  for_each_row(from, to, n, c0, box, [&](const float* row, auto* target) {
    write_row(row, count, box.size[2], target, to.channel_stride, to.stride[2]);
  });
}

// What is added to sums, and what is made of them then.
struct Activated {
  const float* bias;  // a panel
  Activation activation;
  float slope;

  // f(made): made(v, i) of the i-th vector of a panel. NaN stays NaN.
  template <class F>
  void operator()(F&& f) const {
    const Lanes biases[2] = {load_lanes(bias), load_lanes(bias + lanes)};
    with_activation(activation, [&]<Activation known>() {
      f([&](Lanes v, std::int64_t i) { return activated(v + biases[i], known, slope); });
    });
  }
};

// `channels` of each panel, rounded up to whole vectors.
void activate(float* sums, std::int64_t pixels, std::int64_t channels, const Activated& by) {
  by([&](auto&& made) {
    for (std::int64_t i = 0; i < pixels; ++i, sums += panel) {
      store_lanes(sums, made(load_lanes(sums), 0));
      if (channels > lanes) store_lanes(sums + lanes, made(load_lanes(sums + lanes), 1));
    }
  });
}

// Whether write_activated can: whole vectors of channels that lie side by side.
bool side_by_side(const Features& to, std::int64_t c0) {
  return to.channel_stride == 1 && to.channels - c0 >= least_vector;
}

// What `activate` makes of a box of panels into features; the panels stay as they are.
void write_activated(const Panels& from, const Features& to, std::int64_t n, std::int64_t c0,
                     const Box& box, const Activated& by) {
  const std::int64_t count = std::min(panel, to.channels - c0);
  by([&](auto&& made) {
    for_each_row(from, to, n, c0, box, [&](const float* row, auto* target) {
      write_pixels(row, count, box.size[2], target, to.stride[2], made);
    });
  });
}

// Where the pixels of pooling windows are in a block's sums, in panels.
struct Windows {
  Size3 count, step;  // windows along an axis, panels from one to the next
  // Of a window's pixels, in raster order: in panels and, if indices are wanted, in the full map.
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> places;
};

template <class F>
void for_each_window(const Windows& windows, const float* sums, F&& f) {
  for (std::int64_t z = 0; z < windows.count[0]; ++z)
    for (std::int64_t y = 0; y < windows.count[1]; ++y) {
      const float* corner = sums + (z * windows.step[0] + y * windows.step[1]) * panel;
      for (std::int64_t x = 0; x < windows.count[2]; ++x, corner += windows.step[2] * panel)
        for (int half = 0; half < 2; ++half) f(corner + half * lanes, half);
    }
}

// `pixels`: of a window, 0 if only known at run time.
template <int pixels>
void max_values(const Windows& windows, const float* sums, float* to) {
  const auto count = pixels ? pixels : static_cast<std::int64_t>(windows.offsets.size());
  const std::int64_t* const offsets = windows.offsets.data();
  for_each_window(windows, sums, [&](const float* corner, int) {
    Lanes best = load_lanes(corner);
    auto nan = best != best;
    Lanes any = best;
#pragma GCC unroll 8
    for (std::int64_t i = 1; i < count; ++i) {
      const Lanes v = load_lanes(corner + offsets[i] * panel);
      best = v > best ? v : best;
      any = v != v ? v : any;
      nan |= v != v;
    }
    store_lanes(to, nan ? any : best);
    to += lanes;
  });
}

// Where in the full map the maximum is as well, from the window's corner on: the first of those
// that bias and activation make equal.
template <int pixels>
void max_places(const Windows& windows, const float* sums, const Activated& by, float* to,
                std::int32_t* places) {
  const auto count = pixels ? pixels : static_cast<std::int64_t>(windows.offsets.size());
  const std::int64_t* const offsets = windows.offsets.data();
  const std::int32_t* const places_of = windows.places.data();
  by([&](auto&& made) {
    for_each_window(windows, sums, [&](const float* corner, int half) {
      const auto value = [&](std::int64_t i) {
        return made(load_lanes(corner + offsets[i] * panel), half);
      };
      Lanes best = value(0);
      IntLanes place{};
#pragma GCC unroll 8
      for (std::int64_t i = 1; i < count; ++i) {
        const Lanes v = value(i);
        const auto better = (v > best) | (v != v);
        best = better ? v : best;
        place = better ? places_of[i] - IntLanes{} : place;
      }
      store_lanes(to, best);
      std::memcpy(places, &place, sizeof place);
      to += lanes;
      places += lanes;
    });
  });
}

void averages(const Windows& windows, const float* sums, float* to) {
  const float share = 1.0f / static_cast<float>(windows.offsets.size());
  for_each_window(windows, sums, [&](const float* corner, int) {
    Lanes sum = load_lanes(corner);
    for (std::size_t i = 1; i < windows.offsets.size(); ++i)
      sum += load_lanes(corner + windows.offsets[i] * panel);
    store_lanes(to, sum * share);
    to += lanes;
  });
}

// Places from windows' corners on into flat indices of the full map.
void write_indices(const ConvolutionSpec& spec, const ConvolutionOutputs& out, const Size3& full,
                   const std::int32_t* places, std::int64_t n, std::int64_t c0, const Box& pooled) {
  const Size3& pool = spec.pool;
  const Size3 total{full[0] / pool[0], full[1] / pool[1], full[2] / pool[2]};
  const std::int64_t all = total[0] * total[1] * total[2], channels = spec.out_channels;
  const std::int64_t count = std::min(panel, channels - c0);
  for (std::int64_t z = pooled.at[0]; z < pooled.at[0] + pooled.size[0]; ++z)
    for (std::int64_t y = pooled.at[1]; y < pooled.at[1] + pooled.size[1]; ++y) {
      const std::int64_t pixel = (z * total[1] + y) * total[2] + pooled.at[2];
      const std::int64_t corner =
          (z * pool[0] * full[1] + y * pool[1]) * full[2] + pooled.at[2] * pool[2];
      const auto place = [&](std::int64_t x, std::int64_t c) {
        return corner + x * pool[2] + places[x * panel + c];
      };
      std::int64_t* const image = out.indices + n * channels * all;
      if (out.indices_channels_last) {
        std::int64_t* to = image + pixel * channels + c0;
        for (std::int64_t x = 0; x < pooled.size[2]; ++x, to += channels)
          for (std::int64_t c = 0; c < count; ++c) to[c] = place(x, c);
      } else {
        std::int64_t* to = image + c0 * all + pixel;
        for (std::int64_t c = 0; c < count; ++c, to += all)
          for (std::int64_t x = 0; x < pooled.size[2]; ++x) to[x] = place(x, c);
      }
      places += pooled.size[2] * panel;
    }
}

}  // namespace

void Finish::operator()(float* sums, float* scratch, std::int64_t n, std::int64_t c0,
                        const Box& box) const {
  const bool pools = spec.pooling != Pooling::none;
  const std::int64_t channels = spec.out_channels - c0;
  Features to;
  if (out.full) {
    to = *out.full;
    if (out.phases) {
      to.data = static_cast<const std::byte*>(to.data) +
                (*out.phases)[static_cast<std::size_t>(c0 / to.channels)] * item_size(to.dtype);
    }
  }
  const bool on_the_way = out.full && side_by_side(to, c0 % to.channels);
  // Bias and activation rise with their argument, so that they may follow the maximum; of places
  // they are part, as values that they make equal have the first one's.
  const bool later =
      spec.pooling == Pooling::max && (!out.full || on_the_way) && (out.indices || spec.slope >= 0);
  Activated by{bias + c0, spec.activation, spec.slope};
  const std::int64_t row = box.size[2], plane = box.size[1] * row;
  Box inside = box;
  for (int a = 0; a < 3; ++a) inside.size[a] = std::min(box.size[a], full[a] - box.at[a]);
  const Panels panels{sums, row, plane};
  if (on_the_way) write_activated(panels, to, n, c0 % to.channels, inside, by);
  if (pools ? !later : !on_the_way) {
    activate(sums, box.pixels(), channels, by);
    by = {zeros, Activation::none, 0};
  }
  if (out.full && !on_the_way) write_box(panels, to, n, c0 % to.channels, inside);
  if (!pools) return;

  const Size3& pool = spec.pool;
  Box pooled;
  for (int a = 0; a < 3; ++a) {
    pooled.at[a] = box.at[a] / pool[a];
    pooled.size[a] = inside.size[a] / pool[a];
  }
  const std::int64_t reach = ((pool[0] - 1) * full[1] + pool[1]) * full[2];
  if (out.indices && reach > std::numeric_limits<std::int32_t>::max())
    throw std::invalid_argument(
        "conv_pool: x must have planes below 2^31 pixels for indices, got " +
        std::to_string(full[1]) + " x " + std::to_string(full[2]));
  Windows windows{pooled.size, {pool[0] * plane, pool[1] * row, pool[2]}, {}, {}};
  for (std::int64_t z = 0; z < pool[0]; ++z)
    for (std::int64_t y = 0; y < pool[1]; ++y)
      for (std::int64_t x = 0; x < pool[2]; ++x) {
        windows.offsets.push_back(z * plane + y * row + x);
        if (out.indices)
          windows.places.push_back(static_cast<std::int32_t>((z * full[1] + y) * full[2] + x));
      }
  const auto count = windows.offsets.size();
  auto* const places = reinterpret_cast<std::int32_t*>(scratch + pooled.pixels() * panel);
  if (spec.pooling == Pooling::average) {
    averages(windows, sums, scratch);
  } else if (out.indices) {
    (count == 4   ? max_places<4>
     : count == 8 ? max_places<8>
                  : max_places<0>)(windows, sums, by, scratch, places);
  } else {
    (count == 4   ? max_values<4>
     : count == 8 ? max_values<8>
                  : max_values<0>)(windows, sums, scratch);
    if (later) activate(scratch, pooled.pixels(), channels, by);
  }
  if (out.pooled)
    write_box({scratch, pooled.size[2], pooled.size[1] * pooled.size[2]}, *out.pooled, n, c0,
              pooled);
  if (out.indices) write_indices(spec, out, full, places, n, c0, pooled);
}

void activate_row(float* row, std::int64_t count, Activation activation, float slope) {
  if (activation == Activation::none) return;
  with_activation(activation, [&]<Activation known>() {
    for (std::int64_t x = 0; x < count; x += lanes)
      store_lanes(row + x, activated(load_lanes(row + x), known, slope));
  });
}

void write_channel(const float* row, std::int64_t count, const Features& to, std::int64_t n,
                   std::int64_t c, const Size3& at) {
  constexpr std::int64_t item = sizeof(float);
  const bool streamed =
      to.batch * to.channels * to.size[0] * to.size[1] * to.size[2] * item >= much_for_caches;
  const auto write = [&](auto* target) {
    const auto narrowed = [](float x) {
      return static_cast<std::remove_pointer_t<decltype(target)>>(x);
    };
    target += to.offset(n, c, at);
    if (to.stride[2] == 1)
      std::transform(row, row + count, target, narrowed);
    else
      for (std::int64_t x = 0; x < count; ++x) target[x * to.stride[2]] = narrowed(row[x]);
  };
  void* const data = const_cast<void*>(to.data);
  if (to.dtype == DType::bfloat16)
    write(static_cast<BFloat16*>(data));
  else if (to.stride[2] == 1 && streamed)
    stream(row, count * item, static_cast<float*>(data) + to.offset(n, c, at));
  else
    write(static_cast<float*>(data));
}

}  // namespace msf
