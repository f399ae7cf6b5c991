// Normalisation by batch or by image, and the rectifier after it, as training needs them.
//
// Forward reads the features twice and writes once; backward reads features and gradient twice and
// writes once, as what the rectifier blocked is told from the features. Apart, norm and rectifier
// take two passes more each way, and keep a map more.
//
// Sums are of chunks of pixels that depend on the shape alone: a chunk's mean and squared
// deviations from it in float32, while it is in cache; chunks are joined in float64, in order
// (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
// variances", 1979). So neither a large mean costs digits, nor does the number of threads change a
// bit.
#include "kernels/norm_activation.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "conv_lanes.hpp"
#include "parallel.hpp"
#include "plan_rows.hpp"

namespace msf {

namespace {

constexpr std::int64_t chunk_values = 1 << 14;
constexpr int together = 4;  // vectors of channels: a cache line or two of each pixel

// f.operator()<count>(c) for every `count` <= together vectors of channels, from channel c on.
template <class F>
void for_vectors(std::int64_t channels, F&& f) {
  std::int64_t c = 0;
  for (; c + together * lanes <= channels; c += together * lanes)
    f.template operator()<together>(c);
  for (; c < channels; c += lanes) f.template operator()<1>(c);
}

struct Chunks {
  std::int64_t batch, pixels, channels, length, count;  // pixels of a chunk, chunks of an image

  explicit Chunks(const Array& input)
      : batch(input.shape[0]),
        pixels(input.shape[1]),
        channels(input.shape[2]),
        length(std::max<std::int64_t>(chunk_values / channels, 1)),
        count((pixels + length - 1) / length) {}

  // f(number, image, first pixel, pixels)
  template <class F>
  void run(F&& f) const {
    parallel_tasks(batch * count, [&](std::int64_t i) {
      const std::int64_t first = i % count * length;
      f(i, i / count, first, std::min(length, pixels - first));
    });
  }
  std::int64_t groups(bool by_image) const { return by_image ? batch : 1; }
  std::int64_t in_group(bool by_image) const { return by_image ? count : batch * count; }
};

// Of each channel of a chunk: its mean, and the sum of squared deviations from that.
template <class T>
void measure(const T* x, std::int64_t n, std::int64_t channels, float* means, float* squares) {
  for_vectors(channels, [&]<int count>(std::int64_t c) {
    const std::int64_t left = channels - c;
    Lanes sum[count] = {}, square[count] = {};
    for (std::int64_t i = 0; i < n; ++i)
      for (int v = 0; v < count; ++v) sum[v] += load_some(x + i * channels + c + v * lanes, left);
    Lanes rest[count] = {};  // what the sum's rounding left
    for (int v = 0; v < count; ++v) sum[v] /= static_cast<float>(n);
    for (std::int64_t i = 0; i < n; ++i)
      for (int v = 0; v < count; ++v) {
        const Lanes d = load_some(x + i * channels + c + v * lanes, left) - sum[v];
        rest[v] += d;
        square[v] += d * d;
      }
    for (int v = 0; v < count; ++v) {
      rest[v] /= static_cast<float>(n);
      square[v] -= rest[v] * rest[v] * static_cast<float>(n);
      store_some(means + c + v * lanes, sum[v] + rest[v], left);
      store_some(squares + c + v * lanes, square[v], left);
    }
  });
}

template <class T>
void forward(const Array& input, const float* scale, const float* shift, const NormSpec& spec,
             T* output, float* mean, float* inverse) {
  const T* const x = input.as<T>();
  const Chunks chunks(input);
  const std::int64_t channels = chunks.channels, by_image = chunks.pixels * channels;
  std::vector<float> found(static_cast<std::size_t>(2 * chunks.batch * chunks.count * channels));
  chunks.run([&](std::int64_t i, std::int64_t n, std::int64_t first, std::int64_t length) {
    float* const means = found.data() + 2 * i * channels;
    measure(x + n * by_image + first * channels, length, channels, means, means + channels);
  });

  const std::int64_t groups = chunks.groups(spec.by_image),
                     in_group = chunks.in_group(spec.by_image);
  for (std::int64_t g = 0; g < groups; ++g)
    for (std::int64_t c = 0; c < channels; ++c) {
      double total = 0, average = 0, squares = 0;
      for (std::int64_t i = g * in_group; i < (g + 1) * in_group; ++i) {
        const float* const of = found.data() + 2 * i * channels + c;
        const auto length = static_cast<double>(
            std::min(chunks.length, chunks.pixels - i % chunks.count * chunks.length));
        const double apart = of[0] - average;
        squares += of[channels] + apart * apart * total * length / (total + length);
        total += length;
        average += apart * length / total;
      }
      mean[g * channels + c] = static_cast<float>(average);
      inverse[g * channels + c] = static_cast<float>(1 / std::sqrt(squares / total + spec.epsilon));
    }

  chunks.run([&](std::int64_t, std::int64_t n, std::int64_t first, std::int64_t length) {
    const std::int64_t at = n * by_image + first * channels, g = spec.by_image ? n : 0;
    for_vectors(channels, [&]<int count>(std::int64_t c) {
      const std::int64_t left = channels - c;
      Lanes middle[count], by[count], plus[count];
      for (int v = 0; v < count; ++v) {
        const std::int64_t k = c + v * lanes;
        middle[v] = load_some(mean + g * channels + k, left);
        by[v] = load_some(scale + k, left) * load_some(inverse + g * channels + k, left);
        plus[v] = load_some(shift + k, left);
      }
      for (std::int64_t i = 0; i < length; ++i)
        for (int v = 0; v < count; ++v) {
          const std::int64_t k = at + i * channels + c + v * lanes;
          const Lanes y = (load_some(x + k, left) - middle[v]) * by[v] + plus[v];
          store_some(output + k, y < 0 ? y * spec.slope : y, left);
        }
    });
  });
}

template <class T>
class Backward {
 public:
  Backward(const Array& input, const T* gradient, const float* scale, const float* shift,
           const float* mean, const float* inverse, const NormSpec& spec)
      : chunks_(input),
        channels_(chunks_.channels),
        x_(input.as<T>()),
        dy_(gradient),
        scale_(scale),
        shift_(shift),
        mean_(mean),
        inverse_(inverse),
        spec_(spec) {}

  void run(T* by_input, float* by_scale, float* by_shift) const {
    const std::int64_t groups = chunks_.groups(spec_.by_image),
                       in_group = chunks_.in_group(spec_.by_image);
    // Of each chunk: the sums of gradients, and of gradients times normalised values.
    std::vector<float> found(
        static_cast<std::size_t>(2 * chunks_.batch * chunks_.count * channels_));
    chunks_.run([&](std::int64_t i, std::int64_t n, std::int64_t first, std::int64_t length) {
      sum_up(n, first, length, found.data() + 2 * i * channels_);
    });
    std::vector<float> means(static_cast<std::size_t>(2 * groups * channels_));
    const auto count = static_cast<double>(chunks_.pixels * (spec_.by_image ? 1 : chunks_.batch));
    for (std::int64_t c = 0; c < channels_; ++c) {
      double all[2] = {};
      for (std::int64_t g = 0; g < groups; ++g)
        for (std::int64_t k = 0; k < 2; ++k) {
          double sum = 0;
          for (std::int64_t i = g * in_group; i < (g + 1) * in_group; ++i)
            sum += found[static_cast<std::size_t>((2 * i + k) * channels_ + c)];
          means[static_cast<std::size_t>((2 * g + k) * channels_ + c)] =
              static_cast<float>(sum / count);
          all[k] += sum;
        }
      by_shift[c] = static_cast<float>(all[0]);
      by_scale[c] = static_cast<float>(all[1]);
    }
    chunks_.run([&](std::int64_t, std::int64_t n, std::int64_t first, std::int64_t length) {
      const std::int64_t g = spec_.by_image ? n : 0;
      subtract(n, first, length, means.data() + 2 * g * channels_, by_input);
    });
  }

 private:
  // A vector of channels of a group, and what becomes of a pixel's.
  struct Channel {
    Lanes mean, inverse, scale, shift;
    void load(const Backward& of, std::int64_t g, std::int64_t c) {
      const std::int64_t left = of.channels_ - c;
      mean = load_some(of.mean_ + g * of.channels_ + c, left);
      inverse = load_some(of.inverse_ + g * of.channels_ + c, left);
      scale = load_some(of.scale_ + c, left);
      shift = load_some(of.shift_ + c, left);
    }
  };

  // f(pixel, vector, normalised value, gradient before the rectifier) over `count` vectors.
  template <int count, class F>
  [[gnu::always_inline]] void each(std::int64_t n, std::int64_t first, std::int64_t length,
                                   std::int64_t c, F&& f) const {
    const std::int64_t g = spec_.by_image ? n : 0, left = channels_ - c;
    Channel channel[count];
    for (int v = 0; v < count; ++v) channel[v].load(*this, g, c + v * lanes);
    const std::int64_t pixel = n * chunks_.pixels + first;
    for (std::int64_t i = pixel; i < pixel + length; ++i)
      for (int v = 0; v < count; ++v) {
        const Channel& k = channel[v];
        const Lanes normalised =
            (load_some(x_ + i * channels_ + c + v * lanes, left) - k.mean) * k.inverse;
        const Lanes dy = load_some(dy_ + i * channels_ + c + v * lanes, left);
        f(i, v, normalised, normalised * k.scale + k.shift < 0 ? dy * spec_.slope : dy);
      }
  }

  void sum_up(std::int64_t n, std::int64_t first, std::int64_t length, float* to) const {
    for_vectors(channels_, [&]<int count>(std::int64_t c) {
      Lanes sum[2][count] = {};
      each<count>(n, first, length, c, [&](std::int64_t, int v, Lanes normalised, Lanes gradient) {
        sum[0][v] += gradient;
        sum[1][v] += gradient * normalised;
      });
      for (int k = 0; k < 2; ++k)
        for (int v = 0; v < count; ++v)
          store_some(to + k * channels_ + c + v * lanes, sum[k][v], channels_ - c);
    });
  }

  // What the gradient has along the mean and along the values changes neither: it goes.
  void subtract(std::int64_t n, std::int64_t first, std::int64_t length, const float* means,
                T* to) const {
    for_vectors(channels_, [&]<int count>(std::int64_t c) {
      const std::int64_t g = spec_.by_image ? n : 0, left = channels_ - c;
      Lanes along[2][count], by[count];
      for (int v = 0; v < count; ++v) {
        const std::int64_t k = c + v * lanes;
        for (int i = 0; i < 2; ++i) along[i][v] = load_some(means + i * channels_ + k, left);
        by[v] = load_some(scale_ + k, left) * load_some(inverse_ + g * channels_ + k, left);
      }
      each<count>(n, first, length, c,
                  [&](std::int64_t i, int v, Lanes normalised, Lanes gradient) {
                    store_some(to + i * channels_ + c + v * lanes,
                               (gradient - along[0][v] - normalised * along[1][v]) * by[v], left);
                  });
    });
  }

  const Chunks chunks_;
  const std::int64_t channels_;
  const T *x_, *dy_;
  const float *scale_, *shift_, *mean_, *inverse_;
  const NormSpec spec_;
};

}  // namespace

void norm_activation(const Array& input, const Array& scale, const Array& shift,
                     const NormSpec& spec, const MutableArray& output, const MutableArray& mean,
                     const MutableArray& inverse) {
  visit_features(input.dtype, [&]<class T>(Type<T>) {
    forward(input, scale.as<float>(), shift.as<float>(), spec, output.as<T>(), mean.as<float>(),
            inverse.as<float>());
  });
}

void norm_activation_gradient(const Array& input, const Array& gradient, const Array& scale,
                              const Array& shift, const Array& mean, const Array& inverse,
                              const NormSpec& spec, const MutableArray& by_input,
                              const MutableArray& by_scale, const MutableArray& by_shift) {
  visit_features(input.dtype, [&]<class T>(Type<T>) {
    Backward<T>(input, gradient.as<T>(), scale.as<float>(), shift.as<float>(), mean.as<float>(),
                inverse.as<float>(), spec)
        .run(by_input.as<T>(), by_scale.as<float>(), by_shift.as<float>());
  });
}

}  // namespace msf
