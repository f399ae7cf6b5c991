// Convolution of single pixels whose channels lie side by side, to few output channels: the last
// layer of most networks.
//
// As many products as channels, for a vector of output channels that is mostly empty, or channels
// turned into planes first: either takes longer than to read the pixels. Here a vector holds
// channels of one pixel; its products with an output channel's weights are added up vector by
// vector, and the vectors of `lanes` pixels are summed up together, by halves.
#include <algorithm>
#include <cstdint>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

constexpr std::int64_t most_columns = 512;  // of a task's row

// The sum of each vector, in order.
inline Lanes sums_of(Lanes (&v)[lanes]) {
  constexpr auto order = std::make_integer_sequence<int, static_cast<int>(lanes)>{};
#pragma GCC unroll 4
  for (int count = lanes / 2; count > 0; count /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) {
      Lanes low, high;
      detail::interleave(v[i], v[i + count], low, high, order);
      v[i] = low + high;
    }
  return v[0];
}

// The products of `lanes` pixels with one output channel's weights, summed up. The channels beyond
// whole vectors are the end of a vector whose beginning has been counted: `last` tells which.
template <class T>
[[gnu::noinline]] Lanes dots(const T* const (&pixels)[lanes], std::int64_t channels,
                             const float* weights, IntLanes last) {
  Lanes sum[lanes] = {};
  std::int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    const Lanes w = load_lanes(weights + c);
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) sum[i] += load_floats(pixels[i] + c) * w;
  }
  if (c < channels) {
    const Lanes w = load_lanes(weights + c);
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i)
      sum[i] += (last ? load_floats(pixels[i] + channels - lanes) : Lanes{}) * w;
  }
  return sums_of(sum);
}

}  // namespace

PixelDots::PixelDots(const ConvolutionSpec& spec, const float* weight, const float* bias)
    : spec_(spec),
      pitch_(round_up(spec.in_channels, lanes)),
      weights_(aligned_floats(spec.out_channels * pitch_)),
      bias_(static_cast<std::size_t>(spec.out_channels)) {
  const std::int64_t channels = spec.in_channels, whole = channels / lanes * lanes;
  for (std::int64_t o = 0; o < spec.out_channels; ++o) {
    float* const to = std::fill_n(weights_.get() + o * pitch_, pitch_, 0.0f);
    std::copy_n(weight + o * channels, whole, to - pitch_);
    std::copy_n(weight + o * channels + whole, channels - whole, to - (channels - whole));
  }
  if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
}

bool PixelDots::worthwhile(const ConvolutionSpec& spec) {
  constexpr Size3 one{1, 1, 1}, none{};
  const std::int64_t most = spec.in_channels < 32 ? 0 : spec.in_channels < 64 ? 2 : 4;
  return spec.out_channels <= most && spec.kernel == one && spec.stride == one &&
         spec.before == none && spec.after == none && spec.pooling == Pooling::none;
}

bool PixelDots::takes(const Features& in, const ConvolutionOutputs& out) {
  return in.channel_stride == 1 && !in.more && !out.phases;
}

void PixelDots::run(const Features& in, const ConvolutionOutputs& out) const {
  const std::int64_t pieces = (in.size[2] + most_columns - 1) / most_columns;
  const std::int64_t lines = in.batch * in.size[0] * in.size[1];
  parallel_for(lines * pieces, 4, [&](std::int64_t begin, std::int64_t end) {
    float* const rows = task_scratch(spec_.out_channels * most_columns);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t line = i / pieces, x = i % pieces * most_columns;
      const std::int64_t n = line / (in.size[0] * in.size[1]);
      const Size3 at{line / in.size[1] % in.size[0], line % in.size[1], x};
      const std::int64_t from = in.offset(n, 0, at), count = std::min(most_columns, in.size[2] - x);
      if (in.dtype == DType::bfloat16)
        sum_row(static_cast<const BFloat16*>(in.data) + from, in.stride[2], count, rows);
      else
        sum_row(static_cast<const float*>(in.data) + from, in.stride[2], count, rows);
      for (std::int64_t o = 0; o < spec_.out_channels; ++o) {
        float* const row = rows + o * most_columns;
        activate_row(row, count, spec_.activation, spec_.slope);
        write_channel(row, count, *out.full, n, o, at);
      }
    }
  });
}

// `count` pixels, for all output channels; rows: most_columns of each.
template <class T>
void PixelDots::sum_row(const T* from, std::int64_t stride, std::int64_t count, float* rows) const {
  IntLanes last;
  for (std::int64_t i = 0; i < lanes; ++i) last[i] = i >= pitch_ - spec_.in_channels ? -1 : 0;
  for (std::int64_t x = 0; x < count; x += lanes) {
    const T* pixels[lanes];
    for (std::int64_t i = 0; i < lanes; ++i) pixels[i] = from + std::min(x + i, count - 1) * stride;
    for (std::int64_t o = 0; o < spec_.out_channels; ++o)
      store_lanes(rows + o * most_columns + x,
                  dots(pixels, spec_.in_channels, weights_.get() + o * pitch_, last) +
                      bias_[static_cast<std::size_t>(o)]);
  }
}

}  // namespace msf
