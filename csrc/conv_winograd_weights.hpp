// Weights of Winograd's algorithm, in the order in which conv_winograd.cpp multiplies them.
#pragma once

#include <cstdint>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "conv_winograd.hpp"

namespace msf {

// Floats, or in fixed point 16-bit integers with scales.
struct WinogradWeights {
  WinogradWeights(const ConvolutionSpec& spec, const WinogradTransform& transform,
                  const float* weight, bool fixed);

  // Of a panel of output channels at a place: a panel for each input channel of each plane of the
  // kernel, planes outside.
  const float* floats(std::int64_t panel, std::int64_t place) const;
  // The same in fixed point: runs of `unit` channels, in them pairs of channels, output channels,
  // the channels of a pair. And what they are multiples of: a panel for each run.
  const std::int16_t* words(std::int64_t panel, std::int64_t place) const;
  const float* scales_of(std::int64_t panel, std::int64_t place) const;
  // If `lean`: those of `count` input channels of a panel, from k % in_channels on, in plane
  // k / in_channels, at all places, by_place apart. In fixed point they are a whole run.
  void transformed(std::int64_t panel, std::int64_t k, std::int64_t count, float* to,
                   std::int64_t by_place) const;
  void transformed(std::int64_t panel, std::int64_t k, std::int64_t count, std::int16_t* to,
                   std::int64_t by_place) const;
  std::int64_t bytes() const;

  const WinogradTransform& transform;
  std::int64_t in_channels, out_channels, depth, panels;
  bool fixed;
  // Filters from so many on are kept as they are, in fixed point as 16-bit integers, and
  // transformed when they are used: transformed they would take four times the memory, and as long
  // to read as that saves.
  bool lean;
  std::int64_t unit, units;  // input channels packed at once, and how often a plane has so many

 private:
  std::int64_t taps() const { return depth * in_channels; }
  std::int64_t area() const { return transform.r * transform.r; }
  std::int64_t even() const { return round_up(in_channels, 2); }
  std::int64_t value_floats() const;
  std::int64_t scale_at(std::int64_t p, std::int64_t place) const {
    return (p * transform.places() + place) * depth * units * panel;
  }
  std::int64_t step_at(std::int64_t p, std::int64_t some) const {
    return (p * depth * units + some) * panel;
  }
  // If `lean`: of a panel, those of input channels from c on.
  std::int16_t* integers_of(std::int64_t p, std::int64_t z, std::int64_t c) const {
    return integers() + ((p * depth + z) * even() + c) * area() * panel;
  }
  std::int16_t* integers() const { return reinterpret_cast<std::int16_t*>(values_.get()); }
  void gather(const float* weight, std::int64_t p, std::int64_t first, std::int64_t count,
              float* to) const;
  void pack(const float* weight, std::int64_t p, std::int64_t first);
  void pack_fixed(const float* weight, std::int64_t p, std::int64_t some);
  void set_scales(const float* filters, std::int64_t p, std::int64_t some, std::int64_t count);
  void transform_fixed(const std::int16_t* filters, std::int64_t p, std::int64_t some,
                       std::int64_t count, std::int16_t* to, std::int64_t by_place) const;

  AlignedFloats values_;               // floats or 16-bit integers
  std::vector<float> scales_, steps_;  // in fixed point: of V's products, and of the filters
};

}  // namespace msf
