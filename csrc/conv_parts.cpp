// Packing of a convolution's input, and how its work is cut; see conv_parts.hpp.
#include "conv_parts.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "conv_lanes.hpp"
#include "conv_operands.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

// `count` channels of a row of `n` pixels.
template <class To, class From>
void pack_row(const From* from, std::int64_t channel_stride, std::int64_t pixel_stride,
              std::int64_t count, std::int64_t n, To* to, std::int64_t pitch,
              const Packing<To>& packing) {
  if (channel_stride == 1 && pixel_stride == count && pitch == count)
    return packing.pack(from, n * count, to);
  if (channel_stride == 1 && count >= least_vector) {
    for (std::int64_t x = 0; x < n; ++x)
      packing.pack(from + x * pixel_stride, count, to + x * pitch);
    return;
  }
  std::int64_t c = 0;
  if (pixel_stride == 1)
    for (; c + lanes <= count && n >= lanes; c += lanes)
      for (std::int64_t begin = 0; begin < n; begin += lanes) {
        const std::int64_t x = std::min(begin, n - lanes);  // the last step may repeat some
        Lanes v[lanes];
        for (std::int64_t i = 0; i < lanes; ++i)
          v[i] = load_floats(from + (c + i) * channel_stride + x);
        transpose_lanes(v);
        for (std::int64_t j = 0; j < lanes; ++j)
          packing.store(to + (x + j) * pitch + c, v[j], lanes);
      }
  for (; c < count; ++c)
    for (std::int64_t x = 0; x < n; ++x)
      to[x * pitch + c] = packing(static_cast<float>(from[c * channel_stride + x * pixel_stride]));
}

// A block is short pieces of rows far apart, of planes or of some channels of each pixel, which no
// hardware prefetcher follows: asks for those of a row further down.
void prefetch_row(const Features& in, std::int64_t from, std::int64_t count, std::int64_t n) {
  constexpr std::int64_t ahead = 3;
  const std::int64_t item = item_size(in.dtype);
  const char* row = static_cast<const char*>(in.data) + (from + ahead * in.stride[1]) * item;
  const bool planes = in.stride[2] == 1;
  const std::int64_t pieces = planes ? std::min(count, panel) : n;
  const std::int64_t step = planes ? in.channel_stride : in.stride[2];
  const std::int64_t bytes = (planes ? n : count) * item;
  for (std::int64_t i = 0; i < pieces; ++i, row += step * item)
    for (std::int64_t x = 0; x < bytes; x += 64) __builtin_prefetch(row + x);
}

// pack_box of one map; `room`: of the pitch, for what follows the channels.
template <class To>
void pack_map(const Features& in, std::int64_t n, std::int64_t c0, std::int64_t count,
              const Box& box, To* to, std::int64_t pitch, std::int64_t room,
              const Packing<To>& packing) {
  const std::int64_t width = box.size[2];
  const std::int64_t left = std::clamp<std::int64_t>(-box.at[2], 0, width);
  const std::int64_t right = std::clamp<std::int64_t>(in.size[2] - box.at[2], left, width);
  const std::int64_t whole = std::min((count + lanes - 1) / lanes * lanes, room);
  const auto blank = [&](To* row, std::int64_t from, std::int64_t end) {
    for (std::int64_t x = from; x < end; ++x) std::fill_n(row + x * pitch, whole, packing.zero);
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
      if (in.stride[2] == 1 || (in.channel_stride == 1 && in.stride[2] > count))
        prefetch_row(in, from, count, right - left);
      if (in.dtype == DType::bfloat16)
        pack_row(static_cast<const BFloat16*>(in.data) + from, in.channel_stride, in.stride[2],
                 count, right - left, to + left * pitch, pitch, packing);
      else
        pack_row(static_cast<const float*>(in.data) + from, in.channel_stride, in.stride[2], count,
                 right - left, to + left * pitch, pitch, packing);
      if (count < whole)
        for (std::int64_t x = left; x < right; ++x)
          std::fill(to + x * pitch + count, to + x * pitch + whole, packing.zero);
    }
}

}  // namespace

template <class To>
void pack_box(const Features& in, std::int64_t n, std::int64_t c0, std::int64_t count,
              const Box& box, To* to, std::int64_t pitch, const Packing<To>& packing) {
  std::int64_t done = 0;
  for_each_map(in, c0, count, [&](const Features& map, std::int64_t c, std::int64_t here) {
    pack_map(map, n, c, here, box, to + done, pitch, pitch - done, packing);
    done += here;
  });
}

#define MSF_PACKED_AS(To)                                                                       \
  template void pack_box(const Features&, std::int64_t, std::int64_t, std::int64_t, const Box&, \
                         To*, std::int64_t, const Packing<To>&)
MSF_PACKED_AS(float);
MSF_PACKED_AS(BFloat16);
MSF_PACKED_AS(std::uint8_t);
MSF_PACKED_AS(std::int16_t);
#undef MSF_PACKED_AS

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
