// Inputs and weights of a convolution as integers of 8 bits, and their sums as floats again.
//
// Inputs are multiples of a scale, weights 127 steps of each output channel's largest (per-channel,
// symmetric; Jacob et al., "Quantization and training of neural networks for efficient
// integer-arithmetic-only inference", CVPR 2018). Sums are exact until they are scaled, hence the
// same by whatever instruction.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "conv_words.hpp"

namespace msf {

// Inputs in steps, `zero` of them added; NaN becomes the lowest.
template <std::integral To>
struct Packing<To> {
  float per_step, low, high;
  To zero;

  explicit Packing(const Quantisation& steps, std::int32_t zero = 0)
      : per_step(1 / steps.scale), low(steps.low), high(steps.high), zero(static_cast<To>(zero)) {}

  // To even, as nearbyint does: adding 1.5 * 2^23 leaves no fraction. In scalars: compilers make
  // better vectors of narrow integers from a loop over these.
  To operator()(float v) const {
    constexpr float magic = 12582912.0f;
    v *= per_step;
    v = v > low ? v : low;
    v = v < high ? v : high;
    v += magic;
    return static_cast<To>(std::bit_cast<std::int32_t>(v) - std::bit_cast<std::int32_t>(magic) +
                           zero);
  }
  void store(To* to, Lanes v, std::int64_t n) const {
    float each[lanes];
    store_lanes(each, v);
    pack(each, std::min(n, lanes), to);
  }
  template <class From>
  void pack(const From* __restrict from, std::int64_t n, To* __restrict to) const {
    const Packing known = *this;  // what is written is no part of it
    for (std::int64_t i = 0; i < n; ++i) to[i] = known(static_cast<float>(from[i]));
  }
};

// As instructions want one of the factors.
inline Packing<std::uint8_t> without_sign(const Quantisation& steps) {
  return Packing<std::uint8_t>(steps, steps.low < 0 ? 128 : 0);
}

// Weights in steps, and what makes sums floats again.
class Quantiser {
 public:
  // channels: of the output, in whole panels.
  Quantiser(std::int64_t channels, const Quantisation& steps)
      : input_scale_(steps.scale),
        scale_(static_cast<std::size_t>(channels)),
        excess_(scale_.size()) {}

  std::int64_t bytes() const {
    return static_cast<std::int64_t>(scale_.size() * (sizeof(float) + sizeof(std::int32_t)));
  }

  // Of an output channel, place(i) for the i-th; zero: as of its inputs' packing.
  template <class F>
  void round_weights(std::int64_t channel, const float* weights, std::int64_t count,
                     std::int32_t zero, F&& place) {
    float largest = 0;
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(weights[i]));
    const float step = largest > 0 ? largest / 127 : 1.0f;
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto steps = static_cast<std::int8_t>(std::nearbyint(weights[i] / step));
      sum += steps;
      place(i) = steps;
    }
    scale_[static_cast<std::size_t>(channel)] = step * input_scale_;
    excess_[static_cast<std::size_t>(channel)] = sum * zero;
  }

  // Sums of a panel of output channels from `channel` on, integers, become floats.
  void scale(float* sums, std::int64_t rows, std::int64_t channel) const {
    const float* const scales = scale_.data() + channel;
    const std::int32_t* const excess = excess_.data() + channel;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t o = 0; o < panel; o += lanes, sums += lanes) {
        const IntLanes found = load_word_lanes(sums) - load_word_lanes(excess + o);
        store_lanes(sums, __builtin_convertvector(found, Lanes) * load_lanes(scales + o));
      }
  }

 private:
  float input_scale_;
  std::vector<float> scale_;          // of a sum
  std::vector<std::int32_t> excess_;  // of a sum, as inputs of 0 are the packing's zero
};

}  // namespace msf
