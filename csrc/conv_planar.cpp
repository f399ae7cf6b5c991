// Convolution of few channels, or to few, of features in planes: the first and the last layer of a
// network. Vectors run along a row of pixels, so that results are written as they are, without
// turning channels and pixels about, which takes longer there than the few products. Products are
// added in the order of conv_direct.cpp: both give the same bytes.
//
// A task copies its block of the input with its padding, plane by plane; with a stride along rows,
// the columns of each remainder side by side, so that a tap always meets consecutive floats. Sums
// of two rows, two vectors of columns and a few output channels stay in registers over all taps,
// whose results a strip of rows is activated and pooled from while it is in the cache.
#include <algorithm>
#include <utility>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "parallel.hpp"
#include "stream.hpp"

namespace msf {

namespace {

// Output channels computed together: 12 sums in 16 registers, 24 in 32.
constexpr std::int64_t together = register_bytes == 64 ? 6 : 3;
constexpr std::int64_t columns = 2 * lanes;

Lanes larger(Lanes a, Lanes b) {  // NaN wins
  const Lanes most = a > b ? a : b;
  return a != a ? a : most;
}

template <int... i>
Lanes pooled(Lanes a, Lanes b, std::integer_sequence<int, i...>) {
  return larger(__builtin_shufflevector(a, b, (2 * i)...),
                __builtin_shufflevector(a, b, (2 * i + 1)...));
}

Lanes pooled(Lanes a, Lanes b) {  // maxima of neighbours
  return pooled(a, b, std::make_integer_sequence<int, static_cast<int>(lanes)>{});
}

// Maxima of 2 x 2 pixels of two rows; whole vectors, and at least `count` of them.
void pool_rows(const float* above, const float* below, std::int64_t count, float* to) {
  for (std::int64_t x = 0; x < count; x += lanes, above += columns, below += columns)
    store_lanes(to + x, pooled(larger(load_lanes(above), load_lanes(below)),
                               larger(load_lanes(above + lanes), load_lanes(below + lanes))));
}

void activate_row(float* row, std::int64_t count, Activation activation, float slope) {
  const auto apply = [&](auto f) {
    for (std::int64_t x = 0; x < count; x += lanes) store_lanes(row + x, f(load_lanes(row + x)));
  };
  if (activation == Activation::relu)
    apply([](Lanes v) { return activated(v, Activation::relu, 0); });
  else if (activation != Activation::none)
    apply([&](Lanes v) { return activated(v, activation, slope); });
}

void write_row(const float* row, std::int64_t count, const Features& to, std::int64_t n,
               std::int64_t c, const Size3& at) {
  const bool streamed = to.batch * to.channels * to.size[0] * to.size[1] * to.size[2] *
                            static_cast<std::int64_t>(sizeof(float)) >=
                        much_for_caches;
  void* const data = const_cast<void*>(to.data);
  const std::int64_t first = to.offset(n, c, at);
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(float));
  if (to.dtype == DType::float32 && streamed)
    stream(row, bytes, static_cast<float*>(data) + first);
  else if (to.dtype == DType::float32)
    std::memcpy(static_cast<float*>(data) + first, row, static_cast<std::size_t>(bytes));
  else
    std::transform(row, row + count, static_cast<BFloat16*>(data) + first,
                   [](float x) { return BFloat16(x); });
}

// Sums over the taps, `offsets` after `from` in its block; `below`: from one row to the next.
// Channels and rows of the result are so many floats apart. If `pools`, their maxima of 2 x 2.
template <bool pools>
[[gnu::noinline]] void sum_taps(const float* from, std::int64_t below, const std::int64_t* offsets,
                                std::int64_t count, const float* weights, const float* bias,
                                float* to, std::int64_t by_channel, std::int64_t by_row) {
  Lanes sums[together][2][2] = {};
  for (std::int64_t k = 0; k < count; ++k, weights += together) {
    const float* const at = from + offsets[k];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Lanes x = load_lanes(at + i / 2 * below + i % 2 * lanes);
#pragma GCC unroll 6
      for (int o = 0; o < together; ++o) sums[o][i / 2][i % 2] += x * weights[o];
    }
  }
#pragma GCC unroll 6
  for (int o = 0; o < together; ++o) {
    const auto& s = sums[o];
    if constexpr (pools)
      store_lanes(to + o * by_channel,
                  pooled(larger(s[0][0], s[1][0]), larger(s[0][1], s[1][1])) + bias[o]);
    else
      for (int i = 0; i < 4; ++i)
        store_lanes(to + o * by_channel + i / 2 * by_row + i % 2 * lanes,
                    s[i / 2][i % 2] + bias[o]);
  }
}

}  // namespace

PlanarConvolution::PlanarConvolution(const ConvolutionSpec& spec, const float* weight,
                                     const float* bias)
    : spec_(spec), taps_(spec.in_channels * spec.kernel[0] * spec.kernel[1] * spec.kernel[2]) {
  const std::int64_t groups = (spec.out_channels + together - 1) / together;
  weights_.resize(static_cast<std::size_t>(groups * taps_ * together));
  pack_panels(
      spec.out_channels, taps_, together,
      [&](std::int64_t o, std::int64_t k) {
        const std::int64_t c = k % spec.in_channels, tap = k / spec.in_channels;
        return weight[o * taps_ + c * (taps_ / spec.in_channels) + tap];
      },
      weights_.data());
  bias_.resize(static_cast<std::size_t>(groups * together));
  if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
}

bool PlanarConvolution::worthwhile(const ConvolutionSpec& spec) {
  const Size3& k = spec.kernel;
  return (spec.in_channels * k[0] * k[1] * k[2] <= 160 || spec.out_channels <= 6) &&
         (spec.pooling == Pooling::none ||
          (spec.pooling == Pooling::max && spec.pool == Size3{1, 2, 2}));
}

bool PlanarConvolution::takes(const Features& in, const ConvolutionOutputs& out) {
  const auto planar = [](const Features* f) { return !f || f->stride[2] == 1; };
  return !in.more && planar(out.full) && planar(out.pooled) && !out.indices && !out.phases;
}

// A block of the output, and where its input is in the packed planes.
struct PlanarConvolution::Block {
  Size3 size, packed;       // packed: planes, rows and floats of a row, of all remainders
  std::int64_t remainder;   // floats of those columns of a row that have the same remainder
  std::int64_t plane, row;  // floats; a plane of all channels comes first
  std::vector<std::int64_t> offsets;

  Block(const ConvolutionSpec& spec, const Size3& full, std::int64_t taps) {
    const Size3 &k = spec.kernel, &s = spec.stride, &d = spec.dilation;
    const auto reach = [&](int a, std::int64_t n) {
      return (n - 1) * s[a] + (k[a] - 1) * d[a] + 1;
    };
    constexpr std::int64_t most_floats = 40000;  // in the second-level cache beside the output
    size = {1, 8, std::min<std::int64_t>((full[2] + columns - 1) / columns * columns, 512)};
    const auto measure = [&] {
      remainder = size[2] + (k[2] - 1) * d[2] / s[2] + 1;
      packed = {reach(0, 1), reach(1, size[1]), remainder * s[2]};
      return spec.in_channels * packed[0] * packed[1] * packed[2];
    };
    while (measure() > most_floats && (size[1] > 2 || size[2] > 4 * columns))
      size[size[1] > 2 && size[2] <= 8 * columns ? 1 : 2] /= 2;
    size[2] = (size[2] + columns - 1) / columns * columns;
    measure();
    row = packed[2];
    plane = packed[1] * row;
    offsets.reserve(static_cast<std::size_t>(taps));
    for (std::int64_t z = 0; z < k[0]; ++z)
      for (std::int64_t y = 0; y < k[1]; ++y)
        for (std::int64_t x = 0; x < k[2]; ++x)
          for (std::int64_t c = 0; c < spec.in_channels; ++c)
            offsets.push_back((c * packed[0] + z * d[0]) * plane + y * d[1] * row +
                              x * d[2] % s[2] * remainder + x * d[2] / s[2]);
  }
};

void PlanarConvolution::run(const Features& in, const ConvolutionOutputs& out) const {
  const Size3 full = spec_.full_size(in.size);
  const Block block(spec_, full, taps_);
  Size3 count;
  for (int a = 0; a < 3; ++a) count[a] = (full[a] + block.size[a] - 1) / block.size[a];
  const std::int64_t blocks = count[0] * count[1] * count[2];
  const TaskGrid grid(in.batch * blocks, (spec_.out_channels + together - 1) / together, 4);
  parallel_tasks(grid.count(), [&](std::int64_t task) {
    const std::int64_t number = grid.block(task), n = number / blocks, b = number % blocks;
    const Size3 at{b / (count[1] * count[2]), b / count[2] % count[1] * block.size[1],
                   b % count[2] * block.size[2]};
    const std::int64_t planes =
        (spec_.in_channels * block.packed[0] * block.plane + columns) / 16 * 16 + 16;
    float* const packed = task_scratch(planes + together * 2 * block.size[2]);
    pack(in, n, at, block, packed);
    for (std::int64_t g = grid.first_panel(task); g < grid.last_panel(task); ++g) {
      poll();
      for (std::int64_t y = 0; y < std::min(block.size[1], full[1] - at[1]); y += 2)
        convolve_rows(block, packed + y * spec_.stride[1] * block.row, packed + planes, out, full,
                      n, g, {at[0], at[1] + y, at[2]});
    }
  });
}

// Two rows of a block for a group of output channels. scratch: those rows, and pooled ones.
void PlanarConvolution::convolve_rows(const Block& block, const float* packed, float* scratch,
                                      const ConvolutionOutputs& out, const Size3& full,
                                      std::int64_t n, std::int64_t group, const Size3& at) const {
  const bool late = !out.full && spec_.slope >= 0 && spec_.pooling != Pooling::none;  // see Finish
  const std::int64_t c0 = group * together, channels = std::min(together, spec_.out_channels - c0);
  const std::int64_t width = std::min(block.size[2], full[2] - at[2]);
  const int rows = at[1] + 1 < full[1] ? 2 : 1;
  const std::int64_t by_row = block.size[2], by_channel = 2 * by_row;
  for (std::int64_t x = 0; x < width; x += columns)
    (late ? sum_taps<true>
          : sum_taps<false>)(packed + x, spec_.stride[1] * block.row, block.offsets.data(), taps_,
                             weights_.data() + group * taps_ * together, bias_.data() + c0,
                             scratch + (late ? x / 2 : x), by_channel, by_row);
  for (std::int64_t o = 0; o < channels; ++o, scratch += by_channel) {
    if (!late) activate_row(scratch, by_channel, spec_.activation, spec_.slope);
    if (out.full)
      for (int r = 0; r < rows; ++r)
        write_row(scratch + r * by_row, width, *out.full, n, c0 + o, {at[0], at[1] + r, at[2]});
    if (spec_.pooling == Pooling::none || !out.pooled || rows < 2) continue;
    if (!late) pool_rows(scratch, scratch + by_row, width / 2, scratch);
    if (late) activate_row(scratch, width / 2, spec_.activation, spec_.slope);
    write_row(scratch, width / 2, *out.pooled, n, c0 + o, {at[0], at[1] / 2, at[2] / 2});
  }
}

// The input of a block, zeros around it.
void PlanarConvolution::pack(const Features& in, std::int64_t n, const Size3& at,
                             const Block& block, float* to) const {
  Size3 from;
  for (int a = 0; a < 3; ++a) from[a] = at[a] * spec_.stride[a] - spec_.before[a];
  const std::int64_t step = spec_.stride[2];
  for (std::int64_t c = 0; c < spec_.in_channels; ++c)
    for (std::int64_t z = from[0]; z < from[0] + block.packed[0]; ++z)
      for (std::int64_t y = from[1]; y < from[1] + block.packed[1]; ++y)
        for (std::int64_t r = 0; r < step; ++r, to += block.remainder) {
          // Columns begin, begin + step ... of the input are inside.
          const std::int64_t start = from[2] + r;
          const auto index = [&](std::int64_t x) {  // of the first column from x on
            return std::clamp<std::int64_t>((x - start + step - 1) / step, 0, block.remainder);
          };
          const bool blank = z < 0 || z >= in.size[0] || y < 0 || y >= in.size[1];
          const std::int64_t begin = blank || start >= 0 ? 0 : index(0);
          const std::int64_t end = blank || start >= in.size[2] ? 0 : index(in.size[2]);
          std::fill(to, to + begin, 0.0f);
          std::fill(to + std::max(begin, end), to + block.remainder, 0.0f);
          if (begin >= end) continue;
          const std::int64_t first = in.offset(n, c, {z, y, start + begin * step});
          const std::int64_t stride = in.stride[2] * step;
          const auto copy = [&](const auto* source) {
            for (std::int64_t i = 0; i < end - begin; ++i) to[begin + i] = source[i * stride];
          };
          if (in.dtype == DType::bfloat16)
            copy(static_cast<const BFloat16*>(in.data) + first);
          else if (stride == 1)
            std::copy_n(static_cast<const float*>(in.data) + first, end - begin, to + begin);
          else
            copy(static_cast<const float*>(in.data) + first);
        }
}

}  // namespace msf
