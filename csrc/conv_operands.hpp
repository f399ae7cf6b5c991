// What products of numbers narrower than a float multiply, and their sums as floats again.
//
// Integers of 8 bits: inputs are multiples of a scale, weights 127 steps of each output channel's
// largest (per-channel, symmetric; Jacob et al., "Quantization and training of neural networks for
// efficient integer-arithmetic-only inference", CVPR 2018). Sums are exact until they are scaled,
// hence the same by whatever instruction.
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

  // To even, as nearbyint does. In scalars: compilers make better vectors of narrow integers from a
  // loop over these.
  To operator()(float v) const {
    v *= per_step;
    v = v > low ? v : low;
    v = v < high ? v : high;
    return static_cast<To>(std::bit_cast<std::int32_t>(v + no_fraction) -
                           std::bit_cast<std::int32_t>(no_fraction) + zero);
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

// Weights of output channels, and what makes sums of their products floats again: of bfloat16,
// which are rounded, nothing.
template <class Weight>
struct Rounding {
  Rounding(std::int64_t, const Quantisation&) {}
  static std::int64_t bytes() { return 0; }

  // Of an output channel: place(i) for the i-th; packing: of its inputs.
  template <class Input, class F>
  void round(std::int64_t, const float* weights, std::int64_t count, const Packing<Input>&,
             F&& place) {
    for (std::int64_t i = 0; i < count; ++i) place(i) = Weight(weights[i]);
  }

  // Of a panel of output channels from `channel` on.
  void scale(float* /* sums */, std::int64_t /* rows */, std::int64_t /* channel */) const {}
};

template <std::integral Weight>
class Rounding<Weight> {
 public:
  // channels: of the output, in whole panels.
  Rounding(std::int64_t channels, const Quantisation& steps)
      : input_scale_(steps.scale),
        scale_(static_cast<std::size_t>(channels)),
        excess_(scale_.size()) {}

  std::int64_t bytes() const {
    return static_cast<std::int64_t>(scale_.size() * (sizeof(float) + sizeof(std::int32_t)));
  }

  template <class Input, class F>
  void round(std::int64_t channel, const float* weights, std::int64_t count,
             const Packing<Input>& packing, F&& place) {
    float largest = 0;
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(weights[i]));
    const float step = largest > 0 ? largest / 127 : 1.0f;
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto steps = static_cast<Weight>(std::nearbyint(weights[i] / step));
      sum += steps;
      place(i) = steps;
    }
    scale_[static_cast<std::size_t>(channel)] = step * input_scale_;
    excess_[static_cast<std::size_t>(channel)] = sum * packing.zero;
  }

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

// Inputs and weights, and how the former are packed.
struct Halves {
  using Input = BFloat16;
  using Weight = BFloat16;
  static Packing<Input> packing(const Quantisation&) { return {}; }
};

// Instructions want one of the factors without a sign.
struct Bytes {
  using Input = std::uint8_t;
  using Weight = std::int8_t;
  static Packing<Input> packing(const Quantisation& steps) {
    return Packing<Input>(steps, steps.low < 0 ? 128 : 0);
  }
};

}  // namespace msf
