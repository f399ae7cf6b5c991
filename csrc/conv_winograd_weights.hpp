// Weights of Winograd's algorithm, in the order in which conv_winograd.cpp multiplies them.
#pragma once

#include <cstdint>
#include <vector>

#include "conv_parts.hpp"
#include "conv_winograd.hpp"

namespace msf {

// Channels of V of one scale, in fixed point.
inline constexpr std::int64_t fixed_run = 128;

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
  // Of a panel, if `lean`: the taps of input channel k % in_channels in plane k / in_channels, and
  // of those after it, as they are, a panel for each.
  const float* filters(std::int64_t panel, std::int64_t k) const;
  std::int64_t bytes() const;

  const WinogradTransform& transform;
  std::int64_t in_channels, out_channels, depth, panels;
  bool fixed;
  // Filters from so many on are kept as they are, and transformed when they are used: transformed
  // they would take up to four times the memory, and as long to read as that saves.
  bool lean;
  std::int64_t unit, units;  // input channels packed at once, and how often a plane has so many
  float most;                // of V in fixed point: the larger, the smaller weights must be

 private:
  std::int64_t taps() const { return depth * in_channels; }
  std::int64_t area() const { return transform.r * transform.r; }
  std::int64_t value_floats() const;
  void gather(const float* weight, std::int64_t p, std::int64_t first, std::int64_t count,
              float* to) const;
  void pack(const float* weight, std::int64_t p, std::int64_t first);
  void pack_fixed(const float* weight, std::int64_t p, std::int64_t some);
  void round(const float* from, std::int64_t count, float gain, std::int16_t* to,
             float* scale) const;

  AlignedFloats values_;  // floats or 16-bit integers
  std::vector<float> scales_;
};

}  // namespace msf
