// Layers of single pixels: scale, shift, second operand and activation in one pass; normalisation;
// softmax. See plan_layers.hpp.
//
// exp and tanh are polynomials without branches, which loops vectorise: within 2 units of the last
// place, where the library's functions take one value at a time.
#include <algorithm>
#include <bit>
#include <cmath>

#include "parallel.hpp"
#include "plan_layers.hpp"
#include "plan_rows.hpp"

namespace msf {

namespace {

using Index = std::int64_t;

// exp after Cody and Waite: 2^k times a polynomial of the rest. NaN stays NaN.
inline float exponential(float x) {
  const float y = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float k = std::floor(y * 1.44269504f + 0.5f);
  const float r = (y - k * 0.693359375f) + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto power =
      std::bit_cast<float>(static_cast<std::int32_t>((k != k ? 0.0f : k) + 127.0f) << 23);
  return p * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

inline float hyperbolic_tangent(float x) {
  const float s = x * x;
  float p = -5.70498872745e-3f;
  p = p * s + 2.06390887954e-2f;
  p = p * s - 5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s - 3.33332819422e-1f;
  const float near = p * s * x + x;
  const float size = x < 0 ? -x : x;
  const float far = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
  const float signed_far = x < 0 ? -far : far;
  return size < 0.625f ? near : signed_far;
}

// f(value, channel) with the activation.
template <class F>
void with_activation(const PointwiseSpec& spec, F&& f) {
  const float a = spec.a, b = spec.b;
  const float* const slopes = spec.slopes.data();
  switch (spec.activation) {
    case Pointwise::none:
      return f([](float v, Index) { return v; });
    case Pointwise::relu:
      return f([](float v, Index) { return v < 0 ? 0.0f : v; });
    case Pointwise::leaky_relu:
      return f([a](float v, Index) { return v < 0 ? v * a : v; });
    case Pointwise::elu:
      return f([a](float v, Index) { return v < 0 ? a * (exponential(v) - 1.0f) : v; });
    case Pointwise::sigmoid:
      return f([](float v, Index) { return sigmoid(v); });
    case Pointwise::clamp:
      return f([a, b](float v, Index) { return v < a ? a : v > b ? b : v; });
    case Pointwise::tanh:
      return f([a, b](float v, Index) { return b * hyperbolic_tangent(a * v); });
    case Pointwise::prelu:
      return f([slopes](float v, Index c) { return v < 0 ? v * slopes[c] : v; });
    case Pointwise::silu:
      return f([](float v, Index) { return v * sigmoid(v); });
  }
}

// A row of values: pixels of channels, or all values of dense pixels as one pixel's channels.
struct Row {
  Index pixels, channels;
};

template <class T, class Act>
void plain_row(const Row& row, const T* from, Index in_step, T* to, Index out_step, Act&& act) {
  for (Index x = 0; x < row.pixels; ++x, from += in_step, to += out_step)
    for (Index c = 0; c < row.channels; ++c) to[c] = static_cast<T>(act(from[c], c));
}

template <class T, class Act>
void scaled_row(const Row& row, const float* __restrict scale, const float* __restrict shift,
                const T* from, Index in_step, T* to, Index out_step, Act&& act) {
  for (Index x = 0; x < row.pixels; ++x, from += in_step, to += out_step)
    for (Index c = 0; c < row.channels; ++c)
      to[c] = static_cast<T>(act(from[c] * scale[c] + shift[c], c));
}

template <class T, class Act>
void second_row(const Row& row, const PointwiseSpec& spec, const float* scale, const float* shift,
                const T* from, Index in_step, const T* other, Index other_step, Index other_channel,
                T* to, Index out_step, Act&& act) {
  const bool adds = spec.with == Second::add, scales = scale != nullptr;
  for (Index x = 0; x < row.pixels; ++x, from += in_step, other += other_step, to += out_step) {
    if (adds && !scales && other_channel == 1) {
      for (Index c = 0; c < row.channels; ++c)
        to[c] = static_cast<T>(act(static_cast<float>(from[c]) + other[c], c));
      continue;
    }
    for (Index c = 0; c < row.channels; ++c) {
      const float v = scales ? from[c] * scale[c] + shift[c] : static_cast<float>(from[c]);
      const float w = other[c * other_channel];
      to[c] = static_cast<T>(act(adds ? v + w : v * w, c));
    }
  }
}

}  // namespace

void pointwise(const PointwiseSpec& spec, const Features& in, const Features& second,
               const Features& out) {
  const Index channels = in.channels, columns = in.size[2];
  const bool has_second = spec.with != Second::none;
  const bool scales = !spec.scale.empty();
  const auto dense = [&](const Features& f) {
    return f.stride[2] == channels && f.channel_stride == 1;
  };
  // Parameters of each channel keep pixels apart.
  const bool flat =
      !scales && spec.slopes.empty() && dense(in) && dense(out) && (!has_second || dense(second));
  const Row row = flat ? Row{1, columns * channels} : Row{columns, channels};
  const float *const scale = scales ? spec.scale.data() : nullptr, *const shift = spec.shift.data();
  visit_features(in.dtype, [&]<class T>(Type<T>) {
    with_activation(spec, [&](auto act) {
      for_each_row(in, 2 * channels, [&](Index n, Index z, Index y) {
        const Size3 at{z, y, 0};
        const T* const from = pixel<T>(in, n, at);
        T* const to = pixel<T>(out, n, at);
        if (has_second)
          second_row(row, spec, scale, shift, from, in.stride[2], pixel<T>(second, n, at),
                     second.stride[2], second.channel_stride, to, out.stride[2], act);
        else if (scales)
          scaled_row(row, scale, shift, from, in.stride[2], to, out.stride[2], act);
        else
          plain_row(row, from, in.stride[2], to, out.stride[2], act);
      });
    });
  });
}

void normalise(Index groups, float eps, const PointwiseSpec& after, const Features& in,
               const Features& out) {
  const Index channels = in.channels, rows = in.size[0] * in.size[1], each = channels / groups;
  constexpr Index piece = 16;  // rows of a partial sum: the same for any number of threads
  const Index pieces = (rows + piece - 1) / piece;
  visit_features(in.dtype, [&]<class T>(Type<T>) {
    for (Index n = 0; n < in.batch; ++n) {
      std::vector<double> sums(static_cast<std::size_t>(pieces * 2 * channels));
      parallel_tasks(pieces, [&](Index p) {
        double* __restrict const sum = sums.data() + p * 2 * channels;
        double* __restrict const squares = sum + channels;
        for (Index i = p * piece; i < std::min(rows, (p + 1) * piece); ++i) {
          poll();
          for (Index x = 0; x < in.size[2]; ++x) {
            const T* const from = pixel<T>(in, n, {i / in.size[1], i % in.size[1], x});
            for (Index c = 0; c < channels; ++c) {
              const double v = static_cast<float>(from[c]);
              sum[c] += v;
              squares[c] += v * v;
            }
          }
        }
      });
      PointwiseSpec spec = after;
      spec.scale.resize(static_cast<std::size_t>(channels));
      spec.shift.resize(static_cast<std::size_t>(channels));
      for (Index g = 0; g < groups; ++g) {
        double sum = 0, squares = 0;
        for (Index p = 0; p < pieces; ++p)
          for (Index c = g * each; c < (g + 1) * each; ++c) {
            sum += sums[static_cast<std::size_t>(p * 2 * channels + c)];
            squares += sums[static_cast<std::size_t>((p * 2 + 1) * channels + c)];
          }
        const auto count = static_cast<double>(rows * in.size[2] * each);
        const double mean = sum / count;
        const double variance = std::max(squares / count - mean * mean, 0.0);
        const double down = 1 / std::sqrt(variance + eps);
        for (auto c = static_cast<std::size_t>(g * each);
             c < static_cast<std::size_t>((g + 1) * each); ++c) {
          const double scale = after.scale.empty() ? down : after.scale[c] * down;
          spec.scale[c] = static_cast<float>(scale);
          spec.shift[c] =
              static_cast<float>((after.scale.empty() ? 0 : after.shift[c]) - mean * scale);
        }
      }
      Features from = in, to = out;
      from.batch = to.batch = 1;
      from.data = pixel<T>(in, n, {});
      to.data = pixel<T>(out, n, {});
      pointwise(spec, from, {}, to);
    }
  });
}

void softmax(const Features& in, const Features& out) {
  const Index channels = in.channels;
  visit_features(in.dtype, [&]<class T>(Type<T>) {
    for_each_row(in, 16 * channels, [&](Index n, Index z, Index y) {
      thread_local std::vector<float> powers;
      powers.resize(static_cast<std::size_t>(channels));
      for (Index x = 0; x < in.size[2]; ++x) {
        const T* const from = pixel<T>(in, n, {z, y, x});
        T* const to = pixel<T>(out, n, {z, y, x});
        float most = from[0];
        for (Index c = 1; c < channels; ++c) most = std::max<float>(most, from[c]);
        float* __restrict const power = powers.data();
        for (Index c = 0; c < channels; ++c) power[c] = exponential(from[c] - most);
        float sum = 0;
        for (Index c = 0; c < channels; ++c) sum += power[c];
        for (Index c = 0; c < channels; ++c) to[c] = static_cast<T>(power[c] / sum);
      }
    });
  });
}

}  // namespace msf
