// Transforming and rounding of weights; see conv_winograd_weights.hpp.
#include "conv_winograd_weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "conv_words.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

constexpr std::int64_t pack_chunk = 16;  // filters that are transformed together
// Filters that are lean. Integers take half the time to read that floats take: more of them stay.
constexpr std::int64_t least_lean_floats = 130000, least_lean_integers = 250000;

// Of `count` values, a panel each.
struct Sizes {
  Lanes largest{}, sum{}, squares{};

  Sizes(const float* from, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const Lanes value = load_lanes(from + i * panel), size = value < 0 ? -value : value;
      largest = size > largest ? size : largest;
      sum += size;
      squares += value * value;
    }
  }
};

}  // namespace

WinogradWeights::WinogradWeights(const ConvolutionSpec& spec, const WinogradTransform& transform,
                                 const float* weight, bool fixed)
    : transform(transform),
      in_channels(spec.in_channels),
      out_channels(spec.out_channels),
      depth(spec.kernel[0]),
      panels((spec.out_channels + panel - 1) / panel),
      fixed(fixed),
      lean(taps() * spec.out_channels >= (fixed ? least_lean_integers : least_lean_floats)),
      unit(fixed ? std::min(fixed_run, round_up(spec.in_channels, lanes)) : panel),
      units((spec.in_channels + unit - 1) / unit),
      values_(aligned_floats(value_floats())),
      scales_(static_cast<std::size_t>(fixed ? panels * transform.places() * depth * units * panel
                                             : 0)),
      steps_(static_cast<std::size_t>(fixed ? panels * depth * units * panel : 0)) {
  if (fixed) {
    parallel_tasks(panels * depth * units, [&](std::int64_t i) {
      pack_fixed(weight, i / (depth * units), i % (depth * units));
    });
    return;
  }
  const std::int64_t chunks = (taps() + pack_chunk - 1) / pack_chunk;
  parallel_tasks(panels * chunks,
                 [&](std::int64_t i) { pack(weight, i / chunks, i % chunks * pack_chunk); });
}

std::int64_t WinogradWeights::value_floats() const {
  const std::int64_t each = (lean ? area() : transform.places()) * panel;
  return fixed ? panels * depth * even() * each / 2 : panels * taps() * each;
}

std::int64_t WinogradWeights::bytes() const {
  return (value_floats() + static_cast<std::int64_t>(scales_.size() + steps_.size())) *
         static_cast<std::int64_t>(sizeof(float));
}

const float* WinogradWeights::floats(std::int64_t p, std::int64_t place) const {
  return values_.get() + (p * transform.places() + place) * taps() * panel;
}

const std::int16_t* WinogradWeights::words(std::int64_t p, std::int64_t place) const {
  return integers() + (p * transform.places() + place) * depth * even() * panel;
}

const float* WinogradWeights::scales_of(std::int64_t p, std::int64_t place) const {
  return scales_.data() + scale_at(p, place);
}

void WinogradWeights::transformed(std::int64_t p, std::int64_t k, std::int64_t count, float* to,
                                  std::int64_t by_place) const {
  transform.filters(values_.get() + (p * taps() + k) * area() * panel, count, to, by_place);
}

void WinogradWeights::transformed(std::int64_t p, std::int64_t k, std::int64_t count,
                                  std::int16_t* to, std::int64_t by_place) const {
  const std::int64_t z = k / in_channels, c = k % in_channels;
  transform_fixed(integers_of(p, z, c), p, z * units + c / unit, count, to, by_place);
}

// `count` filters of a panel of output channels, planes outside, input channels inside, from
// `first` on: a panel for each tap. What lies beyond the output channels stays as it is.
void WinogradWeights::gather(const float* weight, std::int64_t p, std::int64_t first,
                             std::int64_t count, float* to) const {
  for (std::int64_t j = 0; j < std::min(panel, out_channels - p * panel); ++j)
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t c = (first + i) % in_channels, z = (first + i) / in_channels;
      const float* const from = weight + (((p * panel + j) * in_channels + c) * depth + z) * area();
      for (std::int64_t t = 0; t < area(); ++t) to[(i * area() + t) * panel + j] = from[t];
    }
}

// A chunk of a panel's filters, from `first` on: transformed or, lean, as they are.
void WinogradWeights::pack(const float* weight, std::int64_t p, std::int64_t first) {
  const std::int64_t count = std::min(pack_chunk, taps() - first);
  alignas(64) float chunk[pack_chunk * 25 * panel] = {};
  gather(weight, p, first, count, chunk);
  if (lean)
    std::copy_n(chunk, count * area() * panel,
                values_.get() + (p * taps() + first) * area() * panel);
  else
    transform.filters(chunk, count,
                      values_.get() + (p * transform.places() * taps() + first) * panel,
                      taps() * panel);
}

// Run `some` of a panel: the channels [first, first + count) of a plane, as integers in steps of
// each output channel's largest tap; transformed, if they are not to stay as they are.
void WinogradWeights::pack_fixed(const float* weight, std::int64_t p, std::int64_t some) {
  const std::int64_t z = some / units, first = some % units * unit;
  const std::int64_t count = std::min(unit, in_channels - first), pairs = round_up(count, 2);
  std::vector<float> filters(static_cast<std::size_t>(count * area() * panel));
  gather(weight, p, z * in_channels + first, count, filters.data());

  std::vector<std::int16_t> own(static_cast<std::size_t>(lean ? 0 : pairs * area() * panel));
  std::int16_t* const rounded = lean ? integers_of(p, z, first) : own.data();
  std::fill_n(rounded, pairs * area() * panel, std::int16_t{});
  for (std::int64_t j = 0; j < panel; j += lanes) {
    const Sizes sizes(filters.data() + j, count * area());
    const Lanes step = sizes.largest * (1 / 32767.0f);
    // NaN of a weight that is not finite
    store_lanes(steps_.data() + step_at(p, some) + j, step + (sizes.sum - sizes.sum));
    const Lanes inverse = step > 1e-30f ? 1.0f / step : Lanes{};
    for (std::int64_t i = 0; i < count * area(); ++i) {
      float* const tap = filters.data() + i * panel + j;
      const Ints16 words = rounded_words(load_lanes(tap) * inverse);
      std::memcpy(rounded + i * panel + j, &words, sizeof words);
      store_lanes(tap, __builtin_convertvector(words, Lanes));
    }
  }
  set_scales(filters.data(), p, some, count);
  if (lean) return;
  transform_fixed(
      rounded, p, some, count,
      integers() + (p * transform.places() * depth * even() + z * even() + first) * panel,
      depth * even() * panel);
}

// The scales of a run, given its filters in steps: so large that, however they are rounded, neither
// a transformed filter nor its product with V leaves its integer.
void WinogradWeights::set_scales(const float* filters, std::int64_t p, std::int64_t some,
                                 std::int64_t count) {
  const int places = transform.places();
  std::vector<float> found(static_cast<std::size_t>(places * count * panel));
  transform.filters(filters, count, found.data(), count * panel);
  // Rounding moves each of the values by a half at most.
  const float moved = 0.5f * std::sqrt(static_cast<float>(unit));
  const float room = 2147400000.0f / (most_fixed_norm + moved) - moved;
  for (int place = 0; place < places; ++place)
    for (std::int64_t j = 0; j < panel; j += lanes) {
      const Sizes sizes(found.data() + place * count * panel + j, count);
      const float gain = transform.gain(place);
      const Lanes by_most = sizes.largest * (gain / most_fixed);
      Lanes by_norm;
      for (std::int64_t i = 0; i < lanes; ++i)
        by_norm[i] = std::sqrt(sizes.squares[i]) * (gain / room);
      store_lanes(scales_.data() + scale_at(p, place) + some * panel + j,
                  (by_norm > by_most ? by_norm : by_most) *
                      load_lanes(steps_.data() + step_at(p, some) + j));
    }
}

void WinogradWeights::transform_fixed(const std::int16_t* filters, std::int64_t p,
                                      std::int64_t some, std::int64_t count, std::int16_t* to,
                                      std::int64_t by_place) const {
  const int places = transform.places();
  const float* const steps = steps_.data() + step_at(p, some);
  alignas(64) float by[64 * panel];
  for (int place = 0; place < places; ++place) {
    const float factor = transform.gain(place) * transform.share(place);
    const float* const scales = scales_of(p, place) + some * panel;
    for (std::int64_t j = 0; j < panel; j += lanes) {
      const Lanes scale = load_lanes(scales + j);
      store_lanes(by + place * panel + j,
                  scale > 0 ? factor * load_lanes(steps + j) / scale : Lanes{});
    }
  }
  transform.filters_fixed(filters, round_up(count, 2), by, to, by_place);
}

}  // namespace msf
