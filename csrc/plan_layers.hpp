// The layers of a plan (plan.hpp) beside its convolutions, on features in any place of memory.
//
// Channels are the innermost axis (channel_stride 1) but where a function says otherwise. Features
// in and out are of one type, float32 or bfloat16, but for `gather`. Results do not depend on the
// number of threads.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "convolution.hpp"

namespace msf {

// What a plan can do to every value. The first are those of a convolution.
enum class Pointwise : std::uint8_t {
  none,
  relu,
  leaky_relu,  // a: slope
  elu,         // a: alpha
  sigmoid,
  tanh,   // b * tanh(a x)
  clamp,  // a: low, b: high
  prelu,  // slopes
  silu
};

enum class Second : std::uint8_t { none, add, multiply };

// out = activation(in * scale + shift (+ or * second)).
struct PointwiseSpec {
  std::vector<float> scale, shift, slopes;  // one a channel; empty: 1, 0, unused
  Second with = Second::none;
  Pointwise activation = Pointwise::none;
  float a = 0, b = 0;
};
// `second` may have strides of 0, and channel_stride 0 or 1.
void pointwise(const PointwiseSpec& spec, const Features& in, const Features& second,
               const Features& out);

// Windows along each axis, as in pooling; padding is left out of maxima, and of averages it is a
// part unless `exclude_padding`.
struct PoolSpec {
  Size3 kernel, stride, padding, dilation;
  bool maximum = true, exclude_padding = false;
};
// indices: of the maxima in the input's volume, channels last, or null.
void pool(const PoolSpec& spec, const Features& in, const Features& out, std::int64_t* indices);

// The inverse of pooling by windows of `step` side by side, whose indices these are.
void unpool(const Size3& step, const Features& in, const std::int64_t* indices,
            const Features& out);

// Output o of an axis lies between inputs low[o] and high[o], by `far` from the first.
struct Stretch {
  std::vector<std::int64_t> low, high;
  std::vector<float> far;
};
// Linear interpolation. The output's channels may be any axis.
void resize(const std::array<Stretch, 3>& axes, const Features& in, const Features& out);

// out at o = in at maps[axis][o], `fill` where one is -1. Any order of axes and types; an empty map
// is the axis as it is.
void gather(const std::array<std::vector<std::int64_t>, 3>& maps, float fill, const Features& in,
            const Features& out);

// Means over the cells of a grid of the output's size, as PyTorch's adaptive pooling.
void adaptive_means(const Features& in, const Features& out);

// Of an image's values in each group of channels: mean 0, variance 1; then `after`.
void normalise(std::int64_t groups, float eps, const PointwiseSpec& after, const Features& in,
               const Features& out);

// Each pixel of `out` is a mean of the pixels of `values`, weighted by the softmax of `scale` times
// the products of its `queries` with all `keys`, for each head (an equal part of the channels) on
// its own. queries and out have one size, keys and values another; all have the same channels.
void attention(std::int64_t heads, float scale, const Features& queries, const Features& keys,
               const Features& values, const Features& out);

// Over the channels.
void softmax(const Features& in, const Features& out);

}  // namespace msf
