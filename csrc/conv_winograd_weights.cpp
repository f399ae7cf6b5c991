// Transforming and rounding of weights; see conv_winograd_weights.hpp.
#include "conv_winograd_weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "conv_lanes.hpp"
#include "conv_words.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

constexpr std::int64_t pack_chunk = 16;      // filters that are transformed together
constexpr std::int64_t least_lean = 130000;  // filters

}  // namespace

WinogradWeights::WinogradWeights(const ConvolutionSpec& spec, const WinogradTransform& transform,
                                 const float* weight, bool fixed)
    : transform(transform),
      in_channels(spec.in_channels),
      out_channels(spec.out_channels),
      depth(spec.kernel[0]),
      panels((spec.out_channels + panel - 1) / panel),
      fixed(fixed),
      lean(!fixed && taps() * spec.out_channels >= least_lean),
      unit(fixed ? std::min(fixed_run, round_up(spec.in_channels, lanes)) : panel),
      units((spec.in_channels + unit - 1) / unit),
      most(std::min(32766.0f, 113500 / std::sqrt(static_cast<float>(unit)))),
      values_(aligned_floats(value_floats())),
      scales_(static_cast<std::size_t>(fixed ? panels * transform.places() * depth * units * panel
                                             : 0)) {
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
  if (fixed) return panels * depth * round_up(in_channels, 2) * transform.places() * panel / 2;
  return panels * taps() * (lean ? area() : transform.places()) * panel;
}

std::int64_t WinogradWeights::bytes() const {
  return (value_floats() + static_cast<std::int64_t>(scales_.size())) *
         static_cast<std::int64_t>(sizeof(float));
}

const float* WinogradWeights::floats(std::int64_t p, std::int64_t place) const {
  return values_.get() + (p * transform.places() + place) * taps() * panel;
}

const std::int16_t* WinogradWeights::words(std::int64_t p, std::int64_t place) const {
  return reinterpret_cast<const std::int16_t*>(values_.get()) +
         (p * transform.places() + place) * depth * round_up(in_channels, 2) * panel;
}

const float* WinogradWeights::scales_of(std::int64_t p, std::int64_t place) const {
  return scales_.data() + (p * transform.places() + place) * depth * units * panel;
}

const float* WinogradWeights::filters(std::int64_t p, std::int64_t k) const {
  return values_.get() + (p * taps() + k) * area() * panel;
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

// Run `some` of a panel: the channels [first, first + count) of a plane.
void WinogradWeights::pack_fixed(const float* weight, std::int64_t p, std::int64_t some) {
  const std::int64_t z = some / units, first = some % units * unit;
  const std::int64_t count = std::min(unit, in_channels - first), even = round_up(in_channels, 2);
  std::vector<float> chunk(static_cast<std::size_t>(count * area() * panel));
  std::vector<float> found(static_cast<std::size_t>(transform.places() * count * panel));
  gather(weight, p, z * in_channels + first, count, chunk.data());
  transform.filters(chunk.data(), count, found.data(), count * panel);
  for (int place = 0; place < transform.places(); ++place) {
    const std::int64_t at = p * transform.places() + place;
    round(found.data() + place * count * panel, count, transform.gain(place),
          reinterpret_cast<std::int16_t*>(values_.get()) +
              (at * depth * even + z * even + first) * panel,
          scales_.data() + (at * depth * units + some) * panel);
  }
}

// `count` weights of a place, a panel each, times its gain: integers in pairs, multiples of
// `scale`. So small that neither one nor a sum of `most` times all of them leaves its integer,
// however they are rounded.
void WinogradWeights::round(const float* from, std::int64_t count, float gain, std::int16_t* to,
                            float* scale) const {
  const float room = 2147483000.0f / most - static_cast<float>(count);
  for (std::int64_t j = 0; j < panel; j += lanes) {
    Lanes largest{}, sum{};
    for (std::int64_t i = 0; i < count; ++i) {
      const Lanes value = load_lanes(from + i * panel + j), size = value < 0 ? -value : value;
      largest = size > largest ? size : largest;
      sum += size;
    }
    const Lanes by_most = largest * (gain / 32766), by_sum = sum * (gain / room);
    const Lanes step = by_sum > by_most ? by_sum : by_most;
    store_lanes(scale + j, step + (sum - sum));  // NaN of a weight that is not finite
    const Lanes inverse = step > 1e-30f ? gain / step : Lanes{};
    const auto word = [&](std::int64_t i) {
      return i < count ? rounded_bits(load_lanes(from + i * panel + j) * inverse) : IntLanes{};
    };
    for (std::int64_t i = 0; i < count; i += 2) {
      const IntLanes pair = (word(i) & 0xffff) | (word(i + 1) << 16);
      std::memcpy(to + (i * panel + 2 * j), &pair, sizeof pair);
    }
  }
}

}  // namespace msf
