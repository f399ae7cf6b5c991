// A convolution's description as Python passes it.
#pragma once

#include <array>
#include <cstdint>

#include "convolution.hpp"

namespace msf {

using Channels = std::array<std::int64_t, 2>;  // in, out
// Kernel, stride, zeros before and after, dilation, pooling window.
using Sizes = std::array<Size3, 6>;

inline ConvolutionSpec spec_of(const Channels& channels, const Sizes& s, Activation activation,
                               float slope, Pooling pooling) {
  return {channels[0], channels[1], s[0], s[1], s[2], s[3], s[4], activation, slope, pooling, s[5]};
}

}  // namespace msf
