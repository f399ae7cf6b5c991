// Convolution of few channels, or to few, of features in planes: the first and the last layer of a
// network. Vectors run along a row of pixels, so that results are written as they are, without
// turning channels and pixels about, which takes longer there than the few products.
//
// A task copies its block of the input with its padding, plane by plane; with a stride along rows,
// the columns of each remainder side by side, so that a tap always meets consecutive floats. Sums
// of a few rows, columns and output channels stay in registers over all taps, whose results a strip
// of rows is activated and pooled from while it is in the cache.
//
// Three taps along columns may be Winograd's F(4, 3) along them, half the products: six rows of the
// input become six others, whose sums become four rows of the output. Along rows too it would take
// a quarter of the products, but turn pixels about. Else products are added in the order of
// conv_direct.cpp: both give the same bytes.
#include <algorithm>
#include <utility>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "conv_winograd_lines.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

// Output channels computed together: 12 sums in 16 registers, 24 in 32, of two rows and two vectors
// of columns, or, in 32, of Winograd's six rows and a vector.
constexpr std::int64_t together = register_bytes == 64 ? 6 : 3;
constexpr std::int64_t together_lines = 4;
constexpr std::int64_t columns = 2 * lanes;
constexpr int line_in = 6, line_out = 4;
constexpr std::int64_t rows_together(bool lines) { return lines ? line_out : 2; }
constexpr std::int64_t least_lines = 12;  // output channels that a transformed input is worth

// NaN wins. A maximum is one instruction unless the compiler joins it with the next line.
Lanes larger(Lanes a, Lanes b) {
  const Lanes most = rounded(a > b ? a : b);
  return a != a ? a : most;
}

// Of each four lanes the maxima of a's two pairs, then of b's, which takes an instruction where a
// shuffle across them takes three; then those of a before those of b.
template <int... i>
Lanes pooled(Lanes a, Lanes b, std::integer_sequence<int, i...>) {
  constexpr int n = sizeof...(i), half = n / 2;
  constexpr auto from = [](int k) { return k / 4 * 4 + k % 2 * 2 + (k % 4 < 2 ? 0 : n); };
  constexpr auto place = [](int k) { return k % half / 2 * 4 + k % 2 + (k < half ? 0 : 2); };
  const Lanes mixed = larger(__builtin_shufflevector(a, b, from(i)...),
                             __builtin_shufflevector(a, b, (from(i) + 1)...));
  return __builtin_shufflevector(mixed, mixed, place(i)...);
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

// Where those maxima are in a map of so many columns, where row `above` begins at `first`: the
// first of equal ones.
void pool_places(const float* above, const float* below, std::int64_t count, std::int64_t first,
                 std::int64_t map_columns, std::int64_t* to) {
  for (std::int64_t x = 0; x < count; ++x) {
    const float values[] = {above[2 * x], above[2 * x + 1], below[2 * x], below[2 * x + 1]};
    int best = 0;
    for (int i = 1; i < 4; ++i)
      if (values[i] > values[best] || values[i] != values[i]) best = i;
    to[x] = first + best / 2 * map_columns + 2 * x + best % 2;
  }
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

// The same of four rows and a vector of columns, from Winograd's six rows, `below` apart.
template <bool pools>
[[gnu::noinline]] void sum_lines(const float* from, std::int64_t below, const std::int64_t* offsets,
                                 std::int64_t count, const float* weights, const float* bias,
                                 float* to, std::int64_t by_channel, std::int64_t by_row) {
  Lanes sums[together_lines][line_in] = {};
  for (std::int64_t k = 0; k < count; ++k) {
    const float* const at = from + offsets[k];
#pragma GCC unroll 6
    for (int p = 0; p < line_in; ++p, weights += together_lines) {
      const Lanes x = load_lanes(at + p * below);
#pragma GCC unroll 4
      for (int o = 0; o < together_lines; ++o) sums[o][p] += x * weights[o];
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < together_lines; ++o, to += by_channel) {
    Lanes rows[line_out];
    transform_sums(sums[o], rows);
    if constexpr (pools) {
      constexpr std::size_t half = lanes * sizeof(float) / 2;
      const Lanes both = pooled(larger(rows[0], rows[1]), larger(rows[2], rows[3])) + bias[o];
      std::memcpy(to, &both, half);
      std::memcpy(to + 2 * by_row, reinterpret_cast<const char*>(&both) + half, half);
    } else {
      for (int r = 0; r < line_out; ++r) store_lanes(to + r * by_row, rows[r] + bias[o]);
    }
  }
}

// Rows of a plane, `row` floats each, for so many rows of the output: six for each four.
void transform_lines(const float* plane, std::int64_t row, std::int64_t outputs, float* to) {
  for (std::int64_t y = 0; y < outputs; y += line_out, to += line_in * row)
    for (std::int64_t x = 0; x < row; x += lanes) {
      Lanes pixels[line_in], values[line_in];
      for (int r = 0; r < line_in; ++r) pixels[r] = load_lanes(plane + (y + r) * row + x);
      transform_pixels(pixels, values);
      for (int p = 0; p < line_in; ++p) store_lanes(to + p * row + x, values[p]);
    }
}

}  // namespace

PlanarConvolution::PlanarConvolution(const ConvolutionSpec& spec, const float* weight,
                                     const float* bias, bool lines)
    : spec_(spec),
      lines_(lines && has_lines(spec)),
      together_(lines_ ? together_lines : together),
      taps_(spec.in_channels * spec.kernel[0] * spec.kernel[2] * (lines_ ? 1 : spec.kernel[1])) {
  const std::int64_t groups = (spec.out_channels + together_ - 1) / together_;
  const Size3& kernel = spec.kernel;
  const auto at = [&](std::int64_t o, std::int64_t c, std::int64_t z, std::int64_t y,
                      std::int64_t x) {
    if (o >= spec.out_channels) return 0.0f;
    return weight[(((o * spec.in_channels + c) * kernel[0] + z) * kernel[1] + y) * kernel[2] + x];
  };
  weights_.reserve(static_cast<std::size_t>(groups * taps_ * together_ * (lines_ ? line_in : 1)));
  for (std::int64_t first = 0; first < groups * together_; first += together_)
    for (std::int64_t z = 0; z < kernel[0]; ++z)
      for (std::int64_t y = 0; y < (lines_ ? 1 : kernel[1]); ++y)
        for (std::int64_t x = 0; x < kernel[2]; ++x)
          for (std::int64_t c = 0; c < spec.in_channels; ++c) {
            if (!lines_) {
              for (std::int64_t o = 0; o < together_; ++o)
                weights_.push_back(at(first + o, c, z, y, x));
              continue;
            }
            Lanes taps[3], values[line_in];
            for (std::int64_t o = 0; o < together_; ++o)
              for (int tap = 0; tap < 3; ++tap) taps[tap][o] = at(first + o, c, z, tap, x);
            transform_taps(taps, values);
            for (const Lanes& value : values)
              for (std::int64_t o = 0; o < together_; ++o) weights_.push_back(value[o]);
          }
  bias_.resize(static_cast<std::size_t>(groups * together_));
  if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
}

bool PlanarConvolution::worthwhile(const ConvolutionSpec& spec) {
  const Size3& k = spec.kernel;
  return (spec.in_channels * k[0] * k[1] * k[2] <= 160 || spec.out_channels <= 6) &&
         (spec.pooling == Pooling::none ||
          (spec.pooling == Pooling::max && spec.pool == Size3{1, 2, 2}));
}

bool PlanarConvolution::has_lines(const ConvolutionSpec& spec) {
  // In 16 registers a product takes two loads, which hides that there are half as many.
  return register_bytes == 64 && worthwhile(spec) && spec.kernel[1] == 3 && spec.stride[1] == 1 &&
         spec.dilation[1] == 1 && spec.out_channels >= least_lines;
}

bool PlanarConvolution::takes(const Features& in, const ConvolutionOutputs& out) {
  const auto planar = [](const Features* f) { return !f || f->stride[2] == 1; };
  return !in.more && planar(out.full) && planar(out.pooled) && !out.phases &&
         (!out.indices || !out.indices_channels_last);
}

// A block of the output, and where its input is in the packed planes.
struct PlanarConvolution::Block {
  Size3 size, packed;       // packed: planes, rows and floats of a row, of all remainders
  std::int64_t remainder;   // floats of those columns of a row that have the same remainder
  std::int64_t plane, row;  // floats, from one to the next; a plane of all channels comes first
  std::vector<std::int64_t> offsets;  // of the inputs of an output's taps

  Block(const ConvolutionSpec& spec, const Size3& full, bool lines) {
    const Size3 &k = spec.kernel, &s = spec.stride, &d = spec.dilation;
    const auto reach = [&](int a, std::int64_t n) {
      return (n - 1) * s[a] + (k[a] - 1) * d[a] + 1;
    };
    constexpr std::int64_t most_floats = 40000;  // in the second-level cache beside the output
    const std::int64_t least_rows = rows_together(lines);
    size = {1, std::clamp<std::int64_t>(round_up(full[1], least_rows), least_rows, 8),
            std::min<std::int64_t>(round_up(full[2], columns), 512)};
    const auto measure = [&] {
      remainder = size[2] + (k[2] - 1) * d[2] / s[2] + 1;
      packed = {reach(0, 1), reach(1, size[1]), remainder * s[2]};
      row = lines ? round_up(packed[2], lanes) : packed[2];
      plane = (lines ? size[1] / line_out * line_in : packed[1]) * row;
      return spec.in_channels * packed[0] * plane;
    };
    while (measure() > most_floats && (size[1] > least_rows || size[2] > 4 * columns))
      if (size[1] > least_rows && size[2] <= 8 * columns)
        size[1] = round_up(size[1] / 2, least_rows);
      else
        size[2] = round_up(size[2] / 2, columns);
    for (std::int64_t z = 0; z < k[0]; ++z)
      for (std::int64_t y = 0; y < (lines ? 1 : k[1]); ++y)
        for (std::int64_t x = 0; x < k[2]; ++x)
          for (std::int64_t c = 0; c < spec.in_channels; ++c)
            offsets.push_back((c * packed[0] + z * d[0]) * plane + y * d[1] * row +
                              x * d[2] % s[2] * remainder + x * d[2] / s[2]);
  }

  std::int64_t floats(std::int64_t channels) const { return channels * packed[0] * plane; }
};

void PlanarConvolution::run(const Features& in, const ConvolutionOutputs& out) const {
  const Size3 full = spec_.full_size(in.size);
  const Block block(spec_, full, lines_);
  Size3 count;
  for (int a = 0; a < 3; ++a) count[a] = (full[a] + block.size[a] - 1) / block.size[a];
  const std::int64_t blocks = count[0] * count[1] * count[2];
  const TaskGrid grid(in.batch * blocks, (spec_.out_channels + together_ - 1) / together_, 4);
  const bool turned = in.channel_stride == 1 && spec_.stride[2] == 1 && !lines_;
  parallel_tasks(grid.count(), [&](std::int64_t task) {
    const std::int64_t number = grid.block(task), n = number / blocks, b = number % blocks;
    const Size3 at{b / (count[1] * count[2]), b / count[2] % count[1] * block.size[1],
                   b % count[2] * block.size[2]};
    const std::int64_t planes = round_up(block.floats(spec_.in_channels) + columns, 16);
    const std::int64_t rows = rows_together(lines_);
    float* const packed = task_scratch(planes + together_ * rows * block.size[2] +
                                       (lines_ ? block.packed[1] * block.row : 0));
    float* const scratch = packed + planes;
    for (std::int64_t c = 0, some; c < spec_.in_channels; c += some) {
      some = turned && c + lanes <= spec_.in_channels ? lanes : 1;
      for (std::int64_t z = 0; z < block.packed[0]; ++z) {
        float* const to = packed + (c * block.packed[0] + z) * block.plane;
        float* const plane = lines_ ? scratch + together_ * rows * block.size[2] : to;
        pack(in, n, c, some, at, z, block, plane);
        if (lines_) transform_lines(plane, block.row, block.size[1], to);
      }
    }
    for (std::int64_t g = grid.first_panel(task); g < grid.last_panel(task); ++g) {
      poll();
      for (std::int64_t y = 0; y < std::min(block.size[1], full[1] - at[1]); y += rows)
        convolve_rows(block,
                      packed + (lines_ ? y / line_out * line_in : y * spec_.stride[1]) * block.row,
                      scratch, out, full, n, g, {at[0], at[1] + y, at[2]});
    }
  });
}

// Two rows of a block, or Winograd's four, for a group of output channels. scratch: those rows,
// over which pooled ones are written.
void PlanarConvolution::convolve_rows(const Block& block, const float* packed, float* scratch,
                                      const ConvolutionOutputs& out, const Size3& full,
                                      std::int64_t n, std::int64_t group, const Size3& at) const {
  const bool pools = spec_.pooling != Pooling::none && (out.pooled || out.indices);
  const bool late = pools && !out.full && !out.indices && spec_.slope >= 0;  // see Finish
  const std::int64_t c0 = group * together_;
  const std::int64_t channels = std::min(together_, spec_.out_channels - c0);
  const std::int64_t width = std::min(block.size[2], full[2] - at[2]);
  const std::int64_t most = rows_together(lines_), rows = std::min(most, full[1] - at[1]);
  const std::int64_t by_row = block.size[2], by_channel = most * by_row;
  const auto sum = lines_ ? late ? sum_lines<true> : sum_lines<false>
                   : late ? sum_taps<true>
                          : sum_taps<false>;
  const float* const weights = weights_.data() + weights_.size() / bias_.size() * c0;
  for (std::int64_t x = 0; x < width; x += lines_ ? lanes : columns)
    sum(packed + x, (lines_ ? 1 : spec_.stride[1]) * block.row, block.offsets.data(), taps_,
        weights, bias_.data() + c0, scratch + (late ? x / 2 : x), by_channel, by_row);
  for (std::int64_t o = 0; o < channels; ++o, scratch += by_channel) {
    if (!late) activate_row(scratch, by_channel, spec_.activation, spec_.slope);
    if (out.full)
      for (std::int64_t r = 0; r < rows; ++r)
        write_channel(scratch + r * by_row, width, *out.full, n, c0 + o, {at[0], at[1] + r, at[2]});
    if (!pools) continue;
    for (std::int64_t r = 0; r + 1 < rows; r += 2) {
      float* const row = scratch + r * by_row;
      const Size3 to{at[0], (at[1] + r) / 2, at[2] / 2};
      if (out.indices)
        pool_places(
            row, row + by_row, width / 2, (at[0] * full[1] + at[1] + r) * full[2] + at[2], full[2],
            out.indices +
                (((n * spec_.out_channels + c0 + o) * full[0] + to[0]) * (full[1] / 2) + to[1]) *
                    (full[2] / 2) +
                to[2]);
      if (!late) pool_rows(row, row + by_row, width / 2, row);
      if (late) activate_row(row, width / 2, spec_.activation, spec_.slope);
      if (out.pooled) write_channel(row, width / 2, *out.pooled, n, c0 + o, to);
    }
  }
}

// A plane of the input of a block, of a channel or of `lanes` that lie side by side; zeros around.
void PlanarConvolution::pack(const Features& in, std::int64_t n, std::int64_t c, std::int64_t count,
                             const Size3& at, std::int64_t plane, const Block& block,
                             float* to) const {
  Size3 from;
  for (int a = 0; a < 3; ++a) from[a] = at[a] * spec_.stride[a] - spec_.before[a];
  const std::int64_t step = spec_.stride[2], z = from[0] + plane, by_channel = block.floats(1);
  for (std::int64_t y = from[1]; y < from[1] + block.packed[1]; ++y, to += block.row)
    for (std::int64_t r = 0; r < step; ++r) {
      // Columns begin, begin + step ... of the input are inside.
      const std::int64_t start = from[2] + r;
      const auto index = [&](std::int64_t x) {  // of the first column from x on
        return std::clamp<std::int64_t>((x - start + step - 1) / step, 0, block.remainder);
      };
      const bool blank = z < 0 || z >= in.size[0] || y < 0 || y >= in.size[1];
      const std::int64_t begin = blank || start >= 0 ? 0 : index(0);
      const std::int64_t end = blank || start >= in.size[2] ? 0 : index(in.size[2]);
      float* const row = to + r * block.remainder;
      for (float* one = row; one < row + count * by_channel; one += by_channel) {
        std::fill(one, one + begin, 0.0f);
        std::fill(one + std::max(begin, end), one + block.remainder, 0.0f);
      }
      if (begin >= end) continue;
      const std::int64_t first = in.offset(n, c, {z, y, start + begin * step});
      const std::int64_t stride = in.stride[2] * step;
      const auto copy = [&](const auto* source) {
        if (count == lanes && end - begin >= lanes)
          return turn_channels(source, stride, end - begin, row + begin, by_channel);
        for (std::int64_t o = 0; o < count; ++o)
          for (std::int64_t i = 0; i < end - begin; ++i)
            row[o * by_channel + begin + i] = source[i * stride + o];
      };
      if (in.dtype == DType::bfloat16)
        copy(static_cast<const BFloat16*>(in.data) + first);
      else if (stride == 1 && count == 1)
        std::copy_n(static_cast<const float*>(in.data) + first, end - begin, row + begin);
      else
        copy(static_cast<const float*>(in.data) + first);
    }
}

}  // namespace msf
