// The last layer of Mask R-CNN's mask head (He et al., ICCV 2017) has an output channel for each
// class, of which one is wanted: a region's pixels are multiplied with that one's weights.
#include "kernels/class_masks.hpp"

#include <algorithm>
#include <cstdint>

#include "bfloat16.hpp"
#include "exponential.hpp"
#include "pack.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

// The order of the sum depends on the register's width alone.
template <class T>
float dot(const T* pixel, const float* weights, std::int64_t channels) {
  Floats sum{};
  std::int64_t c = 0;
  for (; c + floats_in_register <= channels; c += floats_in_register)
    sum += load_floats(pixel + c) * load_floats(weights + c);
  float total = 0;
  for (; c < channels; ++c) total += static_cast<float>(pixel[c]) * weights[c];
  float parts[floats_in_register];
  store_floats(parts, sum);
#pragma GCC unroll 4
  for (std::int64_t half = floats_in_register / 2; half > 0; half /= 2)
    for (std::int64_t i = 0; i < half; ++i) parts[i] += parts[i + half];
  return total + parts[0];
}

template <class T>
void masks_of(const T* features, const std::int64_t* labels, const float* weight, const float* bias,
              std::int64_t pixels, std::int64_t channels, std::int64_t regions, float* out) {
  parallel_for(regions * pixels, 256, [&](std::int64_t i, std::int64_t end) {
    while (i < end) {
      const std::int64_t label = labels[i / pixels];
      const std::int64_t last = std::min(end, (i / pixels + 1) * pixels);
      for (std::int64_t p = i; p < last; ++p)
        out[p] = dot(features + p * channels, weight + label * channels, channels) + bias[label];
      for (std::int64_t p = i; p < last; ++p) out[p] = 1.0f / (1.0f + exponential(-out[p]));
      i = last;
    }
  });
}

}  // namespace

void class_masks(const Array& features, const Array& labels, const Array& weight, const Array& bias,
                 const MutableArray& out) {
  const auto run = [&]<class T>(Type<T>) {
    masks_of(features.as<T>(), labels.as<std::int64_t>(), weight.as<float>(), bias.as<float>(),
             features.shape[1] * features.shape[2], features.shape[3], features.shape[0],
             out.as<float>());
  };
  if (features.dtype == DType::bfloat16)
    run(Type<BFloat16>{});
  else
    run(Type<float>{});
}

}  // namespace msf
