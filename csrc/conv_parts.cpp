// Packing of a convolution's input and finishing of its output; see convolution.hpp.
//
// Max pooling follows torch: the first of equal maxima, in raster order, and NaN wins.
#include "conv_parts.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "conv_lanes.hpp"
#include "parallel.hpp"
#include "stream.hpp"

namespace msf {

namespace {

alignas(64) constexpr float zeros[panel] = {};
constexpr std::int64_t least_vector = lanes / 2;  // channels that are worth a vector of their own

// `count` channels of a row of `n` pixels.
template <class T>
void pack_row(const T* from, std::int64_t channel_stride, std::int64_t pixel_stride,
              std::int64_t count, std::int64_t n, float* to, std::int64_t pitch) {
  std::int64_t c = 0;
  if (channel_stride == 1 && count >= least_vector) {
    for (std::int64_t x = 0; x < n; ++x)
      for (c = 0; c < count; c += lanes) {
        const std::int64_t left = count - c;
        store_some(to + x * pitch + c, load_some(from + x * pixel_stride + c, left), left);
      }
  } else if (pixel_stride == 1) {
    for (; c + lanes <= count && n >= lanes; c += lanes)
      for (std::int64_t begin = 0; begin < n; begin += lanes) {
        const std::int64_t x = std::min(begin, n - lanes);  // the last step may repeat some
        Lanes v[lanes];
        for (std::int64_t i = 0; i < lanes; ++i)
          v[i] = load_floats(from + (c + i) * channel_stride + x);
        transpose_lanes(v);
        for (std::int64_t j = 0; j < lanes; ++j) store_lanes(to + (x + j) * pitch + c, v[j]);
      }
  }
  for (; c < count; ++c)
    for (std::int64_t x = 0; x < n; ++x)
      to[x * pitch + c] = from[c * channel_stride + x * pixel_stride];
}

// A planar block is short pieces of rows far apart, which no hardware prefetcher follows.
void prefetch_row(const Features& in, std::int64_t from, std::int64_t count, std::int64_t n) {
  constexpr std::int64_t ahead = 3;
  const std::int64_t item = item_size(in.dtype);
  const char* row = static_cast<const char*>(in.data) + (from + ahead * in.stride[1]) * item;
  for (std::int64_t c = 0; c < std::min(count, panel); ++c, row += in.channel_stride * item)
    for (std::int64_t x = 0; x < n * item; x += 64) __builtin_prefetch(row + x);
}

// The reverse, from panels.
template <class T>
void write_row(const float* from, std::int64_t count, std::int64_t n, T* to,
               std::int64_t channel_stride, std::int64_t pixel_stride) {
  std::int64_t c = 0;
  if (channel_stride == 1 && count >= least_vector) {
    for (std::int64_t x = 0; x < n; ++x)
      for (c = 0; c < count; c += lanes)
        store_some(to + x * pixel_stride + c, load_lanes(from + x * panel + c), count - c);
  } else if (pixel_stride == 1) {
    for (; c + lanes <= count && n >= lanes; c += lanes)
      turn_channels(from + c, panel, n, to + c * channel_stride, channel_stride);
  }
  for (; c < count; ++c)
    for (std::int64_t x = 0; x < n; ++x)
      to[c * channel_stride + x * pixel_stride] = static_cast<T>(from[x * panel + c]);
}

// A box of panels into features.
void write_box(const float* from, std::int64_t row_pixels, std::int64_t plane_pixels,
               const Features& to, std::int64_t n, std::int64_t c0, const Box& box) {
  const std::int64_t count = std::min(panel, to.channels - c0);
  for (std::int64_t z = 0; z < box.size[0]; ++z)
    for (std::int64_t y = 0; y < box.size[1]; ++y) {
      const float* const row = from + (z * plane_pixels + y * row_pixels) * panel;
      const std::int64_t at = to.offset(n, c0, {box.at[0] + z, box.at[1] + y, box.at[2]});
      void* const data = const_cast<void*>(to.data);
      if (to.dtype == DType::bfloat16)
        write_row(row, count, box.size[2], static_cast<BFloat16*>(data) + at, to.channel_stride,
                  to.stride[2]);
      else
        write_row(row, count, box.size[2], static_cast<float*>(data) + at, to.channel_stride,
                  to.stride[2]);
    }
}

// What is added to sums, and what is made of them then.
struct Activated {
  const float* bias;  // a panel
  Activation activation;
  float slope;
};

// `channels` of each panel, rounded up to whole vectors. NaN stays NaN.
void activate(float* sums, std::int64_t pixels, std::int64_t channels, const Activated& by) {
  const Lanes b0 = load_lanes(by.bias), b1 = load_lanes(by.bias + lanes);
  with_activation(by.activation, [&]<Activation known>() {
    for (std::int64_t i = 0; i < pixels; ++i, sums += panel) {
      store_lanes(sums, activated(load_lanes(sums) + b0, known, by.slope));
      if (channels > lanes)
        store_lanes(sums + lanes, activated(load_lanes(sums + lanes) + b1, known, by.slope));
    }
  });
}

// pack_box of one map; `room`: of the pitch, for what follows the channels.
void pack_map(const Features& in, std::int64_t n, std::int64_t c0, std::int64_t count,
              const Box& box, float* to, std::int64_t pitch, std::int64_t room) {
  const std::int64_t width = box.size[2];
  const std::int64_t left = std::clamp<std::int64_t>(-box.at[2], 0, width);
  const std::int64_t right = std::clamp<std::int64_t>(in.size[2] - box.at[2], left, width);
  const std::int64_t whole = std::min((count + lanes - 1) / lanes * lanes, room);
  const auto blank = [&](float* row, std::int64_t from, std::int64_t end) {
    for (std::int64_t x = from; x < end; ++x) std::fill_n(row + x * pitch, whole, 0.0f);
  };
  for (std::int64_t z = box.at[0]; z < box.at[0] + box.size[0]; ++z)
    for (std::int64_t y = box.at[1]; y < box.at[1] + box.size[1]; ++y, to += width * pitch) {
      if (z < 0 || z >= in.size[0] || y < 0 || y >= in.size[1] || left == right) {
        blank(to, 0, width);
        continue;
      }
      blank(to, 0, left);
      blank(to, right, width);
      const std::int64_t from = in.offset(n, c0, {z, y, box.at[2] + left});
      if (in.stride[2] == 1) prefetch_row(in, from, count, right - left);
      if (in.dtype == DType::bfloat16)
        pack_row(static_cast<const BFloat16*>(in.data) + from, in.channel_stride, in.stride[2],
                 count, right - left, to + left * pitch, pitch);
      else
        pack_row(static_cast<const float*>(in.data) + from, in.channel_stride, in.stride[2], count,
                 right - left, to + left * pitch, pitch);
      if (count < whole)
        for (std::int64_t x = left; x < right; ++x)
          std::fill(to + x * pitch + count, to + x * pitch + whole, 0.0f);
    }
}

}  // namespace

void pack_box(const Features& in, std::int64_t n, std::int64_t c0, std::int64_t count,
              const Box& box, float* to, std::int64_t pitch) {
  std::int64_t done = 0;
  for_each_map(in, c0, count, [&](const Features& map, std::int64_t c, std::int64_t here) {
    pack_map(map, n, c, here, box, to + done, pitch, pitch - done);
    done += here;
  });
}

namespace {

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
  const Lanes bias[2] = {load_lanes(by.bias), load_lanes(by.bias + lanes)};
  with_activation(by.activation, [&]<Activation known>() {
    for_each_window(windows, sums, [&](const float* corner, int half) {
      const auto value = [&](std::int64_t i) {
        return activated(load_lanes(corner + offsets[i] * panel) + bias[half], known, by.slope);
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

Size3 block_of(const ConvolutionSpec& spec, const Size3& full, std::int64_t pixels) {
  const Size3& pool = spec.pool;
  Size3 block = pool;
  const std::int64_t least_rows =
      std::max<std::int64_t>(pool[1], std::min<std::int64_t>(full[1], 2));
  const std::int64_t widest = pixels / (pool[0] * least_rows);
  const std::int64_t most = std::max<std::int64_t>(widest, 1);
  const std::int64_t columns = std::max<std::int64_t>(full[2], 1);
  const std::int64_t across = (columns + most - 1) / most;
  block[2] = round_up((columns + across - 1) / across, pool[2]);
  const std::int64_t height = std::max<std::int64_t>(full[1], 1);
  const std::int64_t most_rows =
      std::clamp<std::int64_t>(pixels / (block[0] * block[2]), 1, round_up(height, pool[1]));
  // As many rows as cost least: pixels are computed dot_rows at a time, beyond the image too, and a
  // block costs about as much as dot_rows of them besides.
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t rows = pool[1]; rows <= round_up(most_rows, pool[1]); rows += pool[1]) {
    const std::int64_t blocks = (height + rows - 1) / rows;
    const std::int64_t cost = blocks * (round_up(block[0] * rows * block[2], dot_rows) + dot_rows);
    if (cost > least) continue;
    least = cost;
    block[1] = rows;
  }
  return block;
}

Blocks::Blocks(const ConvolutionSpec& spec, const Size3& full, const Size3& size) : size(size) {
  for (int a = 0; a < 3; ++a) {
    count[a] = (full[a] + size[a] - 1) / size[a];
    packed[a] = (size[a] - 1) * spec.stride[a] + (spec.kernel[a] - 1) * spec.dilation[a] + 1;
  }
}

Box Blocks::output(std::int64_t b) const {
  const Size3 place{b / (count[1] * count[2]), b / count[2] % count[1], b % count[2]};
  Box to{{}, size};
  for (int a = 0; a < 3; ++a) to.at[a] = place[a] * size[a];
  return to;
}

Box Blocks::input(const ConvolutionSpec& spec, const Box& output) const {
  Box from{{}, packed};
  for (int a = 0; a < 3; ++a) from.at[a] = output.at[a] * spec.stride[a] - spec.before[a];
  return from;
}

std::vector<Portion> portions_of(const std::vector<Run>& runs) {
  constexpr std::int64_t portion_length = 1024;
  std::vector<Portion> found(1);
  std::int64_t length = 0;
  for (Run run : runs)
    while (run.length > 0) {
      if (length == portion_length) {
        found.push_back({found.back().first + length, {}});
        length = 0;
      }
      const std::int64_t some = std::min(run.length, portion_length - length);
      found.back().runs.push_back({run.offset, some});
      run.offset += some;
      run.length -= some;
      length += some;
    }
  return found;
}

std::vector<Run> runs_in(const ConvolutionSpec& spec, const Size3& packed, std::int64_t pitch,
                         std::int64_t length) {
  std::vector<Run> runs;
  for (std::int64_t z = 0; z < spec.kernel[0]; ++z)
    for (std::int64_t y = 0; y < spec.kernel[1]; ++y)
      for (std::int64_t x = 0; x < spec.kernel[2]; ++x) {
        const std::int64_t offset =
            ((z * spec.dilation[0] * packed[1] + y * spec.dilation[1]) * packed[2] +
             x * spec.dilation[2]) *
            pitch;
        if (!runs.empty() && runs.back().offset + runs.back().length == offset)
          runs.back().length += length;
        else
          runs.push_back({offset, length});
      }
  return runs;
}

void Finish::operator()(float* sums, float* scratch, std::int64_t n, std::int64_t c0,
                        const Box& box) const {
  const bool pools = spec.pooling != Pooling::none;
  // Bias and activation rise with their argument, so that they may follow the maximum; of places
  // they are part, as values that they make equal have the first one's.
  const bool later = spec.pooling == Pooling::max && !out.full && (out.indices || spec.slope >= 0);
  const std::int64_t channels = spec.out_channels - c0;
  Activated by{bias + c0, spec.activation, spec.slope};
  if (!later) {
    activate(sums, box.pixels(), channels, by);
    by = {zeros, Activation::none, 0};
  }
  const std::int64_t row = box.size[2], plane = box.size[1] * row;
  Box inside = box;
  for (int a = 0; a < 3; ++a) inside.size[a] = std::min(box.size[a], full[a] - box.at[a]);
  if (out.full) {
    Features to = *out.full;
    if (out.phases) {
      to.data = static_cast<const std::byte*>(to.data) +
                (*out.phases)[static_cast<std::size_t>(c0 / to.channels)] * item_size(to.dtype);
    }
    write_box(sums, row, plane, to, n, c0 % to.channels, inside);
  }
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
    write_box(scratch, pooled.size[2], pooled.size[1] * pooled.size[2], *out.pooled, n, c0, pooled);
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

// Asks for large pages where memory fills them: some hundred thousand first touches of small ones
// took most of the time to load a plan, and rows of V are a page apart.
AlignedFloats aligned_floats(std::int64_t count) {
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  auto* const floats = static_cast<float*>(::operator new[](bytes, std::align_val_t{64}));
#if defined(__linux__)
  constexpr std::uintptr_t page = 1u << 21;
  const auto begin = reinterpret_cast<std::uintptr_t>(floats);
  const std::uintptr_t first = (begin + page - 1) / page * page,
                       end = (begin + bytes) / page * page;
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#endif
  return AlignedFloats(floats);
}

namespace {
struct Scratch {
  AlignedFloats kept;
  std::int64_t size = 0;

  float* get(std::int64_t floats) {
    if (floats > size) {
      size = 0;
      kept.reset();
      kept = aligned_floats(floats);
      size = floats;
    }
    return kept.get();
  }
};
}  // namespace

float* task_scratch(std::int64_t floats) {
  thread_local Scratch scratch;
  return scratch.get(floats);
}

float* stage_scratch(std::int64_t floats) {
  thread_local Scratch scratch;
  return scratch.get(floats);
}

TaskGrid::TaskGrid(std::int64_t blocks, std::int64_t panels, std::int64_t least_panels)
    : blocks(blocks), panels(panels), groups(1) {
  const std::int64_t wanted = (4 * num_threads() + blocks - 1) / std::max<std::int64_t>(blocks, 1);
  if (num_threads() > 1) groups = std::clamp<std::int64_t>(panels / least_panels, 1, wanted);
}

}  // namespace msf
