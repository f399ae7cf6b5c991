// How Winograd's algorithm cuts an output into blocks, and these into stages (conv_winograd.cpp).
#pragma once

#include <cstdint>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "conv_winograd.hpp"

namespace msf {

struct WinogradPlan {
  Size3 full, tiles, block, packed, count;   // tiles: (planes, tiles, tiles) of a block
  std::int64_t blocks, rows, v_rows, pitch;  // blocks of an image; rows of a block
  std::int64_t together, group;              // blocks of a stage, panels of M
  bool shared, fixed;                        // a stage by all threads; V of 16-bit integers

  // lean: filters are transformed for each stage, which then has to be a large one.
  WinogradPlan(const ConvolutionSpec& spec, const WinogradTransform& transform, bool fixed,
               bool lean, const Features& in);

  std::int64_t packed_floats(std::int64_t unit) const {
    return packed[0] * packed[1] * packed[2] * unit;
  }
  std::int64_t strip_floats(std::int64_t unit) const {
    return fixed ? 8 * unit * (packed[2] + 8) : 8 * packed[2] * lanes;
  }
  std::int64_t block_floats() const { return block[0] * block[1] * block[2] * panel; }
  Box outputs(std::int64_t b) const {
    return {{b / (count[1] * count[2]) * block[0], b / count[2] % count[1] * block[1],
             b % count[2] * block[2]},
            block};
  }

 private:
  void cut(const ConvolutionSpec& spec, const WinogradTransform& transform,
           std::int64_t most_tiles);
};

}  // namespace msf
