#pragma once

#include "array.hpp"

namespace msf {

// Features (batch, pixels, channels), channels together; float32 or bfloat16. A group, whose
// deviations from its own mean are divided by its own deviation, is a channel of the whole batch,
// or of each image if `by_image`.
struct NormSpec {
  bool by_image;
  double epsilon;
  float slope;  // what values below 0 are multiplied by afterwards; 1: nothing
};

// output = scale * (input - mean) / sqrt(variance + epsilon) + shift, then sloped. mean, inverse
// (groups, channels): mean and 1 / sqrt(variance + epsilon). scale, shift: (channels,).
void norm_activation(const Array& input, const Array& scale, const Array& shift,
                     const NormSpec& spec, const MutableArray& output, const MutableArray& mean,
                     const MutableArray& inverse);

// The gradients of input, scale and shift, given that of the output.
void norm_activation_gradient(const Array& input, const Array& gradient, const Array& scale,
                              const Array& shift, const Array& mean, const Array& inverse,
                              const NormSpec& spec, const MutableArray& by_input,
                              const MutableArray& by_scale, const MutableArray& by_shift);

}  // namespace msf
