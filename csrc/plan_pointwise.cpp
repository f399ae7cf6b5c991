// Layers of single pixels: scale, shift, second operand and activation in one pass; normalisation;
// softmax. See plan_layers.hpp.
#include <algorithm>
#include <cmath>

#include "exponential.hpp"
#include "parallel.hpp"
#include "plan_layers.hpp"
#include "plan_rows.hpp"

namespace msf {

namespace {

using Index = std::int64_t;

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

template <class F>
void each(float* values, Index n, F&& f) {
  for (Index i = 0; i < n; ++i) values[i] = f(values[i]);
}

void activate(const PointwiseSpec& spec, float* __restrict v, Index n) {
  const float a = spec.a, b = spec.b;
  switch (spec.activation) {
    case Pointwise::none:
      return;
    case Pointwise::relu:
      return each(v, n, [](float x) { return x < 0 ? 0.0f : x; });
    case Pointwise::leaky_relu:
      return each(v, n, [a](float x) { return x < 0 ? x * a : x; });
    case Pointwise::elu:
      return each(v, n, [a](float x) { return x < 0 ? a * (exponential(x) - 1.0f) : x; });
    case Pointwise::sigmoid:
      return each(v, n, [](float x) { return sigmoid(x); });
    case Pointwise::clamp:
      return each(v, n, [a, b](float x) { return x < a ? a : x > b ? b : x; });
    case Pointwise::tanh:
      return each(v, n, [a, b](float x) { return b * hyperbolic_tangent(a * x); });
    case Pointwise::prelu: {
      const float* const __restrict slopes = spec.slopes.data();
      for (Index c = 0; c < n; ++c) v[c] = v[c] < 0 ? v[c] * slopes[c] : v[c];
      return;
    }
    case Pointwise::silu:
      return each(v, n, [](float x) { return x * sigmoid(x); });
  }
}

// v = first(c), with the second operand. v may be any of the operands: each is read at c before.
template <class T, class First>
void with_second(const PointwiseSpec& spec, const T* other, Index step, float* v, Index n,
                 First&& first) {
  if (spec.with == Second::none) {
#pragma GCC ivdep
    for (Index c = 0; c < n; ++c) v[c] = first(c);
  } else if (spec.with == Second::add && step == 1) {  // a skip connection
#pragma GCC ivdep
    for (Index c = 0; c < n; ++c) v[c] = first(c) + static_cast<float>(other[c]);
  } else if (spec.with == Second::add) {
#pragma GCC ivdep
    for (Index c = 0; c < n; ++c) v[c] = first(c) + static_cast<float>(other[c * step]);
  } else {
#pragma GCC ivdep
    for (Index c = 0; c < n; ++c) v[c] = first(c) * static_cast<float>(other[c * step]);
  }
}

// Values times scale plus shift, where there are any, and the second operand.
template <class T>
void combine(const PointwiseSpec& spec, const T* from, const T* other, Index step, float* v,
             Index n) {
  const float *const scale = spec.scale.data(), *const shift = spec.shift.data();
  if (spec.scale.empty())
    with_second(spec, other, step, v, n, [=](Index c) { return static_cast<float>(from[c]); });
  else
    with_second(spec, other, step, v, n,
                [=](Index c) { return static_cast<float>(from[c]) * scale[c] + shift[c]; });
}

}  // namespace

// Value by value: loops of one kind of step each over pieces that stay in the first cache, instead
// of one of all steps for each type, activation and operand.
void pointwise(const PointwiseSpec& spec, const Features& in, const Features& second,
               const Features& out) {
  constexpr Index most = 1024;
  const Index channels = in.channels, columns = in.size[2];
  const bool has_second = spec.with != Second::none;
  const auto dense = [&](const Features& f) {
    return f.stride[2] == channels && f.channel_stride == 1;
  };
  // Parameters of each channel keep pixels apart.
  const bool flat = spec.scale.empty() && spec.slopes.empty() && dense(in) && dense(out) &&
                    (!has_second || dense(second));
  const Index pixels = flat ? (columns * channels + most - 1) / most : columns;
  const Index length = flat ? most : channels;
  visit_features(in.dtype, [&]<class T>(Type<T>) {
    for_each_row(in, 2 * channels, [&](Index n, Index z, Index y) {
      const Size3 at{z, y, 0};
      const T* from = pixel<T>(in, n, at);
      T* to = pixel<T>(out, n, at);
      const T* other = has_second ? pixel<T>(second, n, at) : nullptr;
      const Index other_step = has_second ? second.channel_stride : 0;
      thread_local std::vector<float> scratch;
      if constexpr (sizeof(T) < sizeof(float)) scratch.resize(static_cast<std::size_t>(length));
      for (Index x = 0; x < pixels; ++x) {
        const Index count = flat ? std::min(length, columns * channels - x * length) : length;
        float* v = scratch.data();
        if constexpr (std::is_same_v<T, float>) v = to;
        combine(spec, from, other, other_step, v, count);
        activate(spec, v, count);
        if constexpr (sizeof(T) < sizeof(float))
          for (Index c = 0; c < count; ++c) to[c] = static_cast<T>(v[c]);
        from += flat ? length : in.stride[2];
        to += flat ? length : out.stride[2];
        if (has_second) other += flat ? length : second.stride[2];
      }
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
