// Direct convolution of bfloat16 on AMX tiles, sums in float32.
//
// As conv_direct.cpp, with a block's input packed as bfloat16, channels last, in whole rows of 32
// channels: 16 pixels side by side in a row of the image are then a tile, whatever the tap, with
// the stride as the distance of its rows. Two such tiles by two of 16 output channels stay in
// registers over all taps and channels.
//
// Weights are rounded to bfloat16. Where a CPU has no tiles the same loops run on EmulatedTiles,
// slowly: for tests. What runs on tiles was never timed by us.
#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "conv_tiles.hpp"
#include "parallel.hpp"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace msf {

namespace {

// Output channels of a tile, and those computed together: one panel of AVX-512, two of AVX2.
constexpr std::int64_t columns = 16, together = 2 * columns;
constexpr std::int64_t panels_together = std::max<std::int64_t>(together / panel, 1);

// Two rows of tiles by two columns of them. from: where the pixels of each are at the first tap;
// second: where the second column's results are, after those of the first.
template <class T>
void multiply_tiles(T& tiles, const BFloat16* const (&from)[2], std::int64_t row_bytes,
                    const std::vector<std::int64_t>& taps, std::int64_t depth,
                    const BFloat16* weights, float* to, std::int64_t second) {
  constexpr std::int64_t weight_tile = tile_depth * columns;
  tiles.template zero<0>();
  tiles.template zero<1>();
  tiles.template zero<2>();
  tiles.template zero<3>();
  for (const std::int64_t tap : taps)
    for (std::int64_t k = 0; k < depth; k += tile_depth, weights += 2 * weight_tile) {
      tiles.template load<4>(from[0] + tap + k, row_bytes);
      tiles.template load<6>(weights, 64);
      tiles.template multiply<0, 4, 6>();
      tiles.template load<5>(from[1] + tap + k, row_bytes);
      tiles.template multiply<1, 5, 6>();
      tiles.template load<7>(weights + weight_tile, 64);
      tiles.template multiply<2, 4, 7>();
      tiles.template multiply<3, 5, 7>();
    }
  constexpr auto bytes = static_cast<std::int64_t>(panel * sizeof(float));
  tiles.template store<0>(to, bytes);
  tiles.template store<1>(to + tile_rows * panel, bytes);
  tiles.template store<2>(to + second, bytes);
  tiles.template store<3>(to + second + tile_rows * panel, bytes);
}

class Tiled final : public Convolution {
 public:
  Tiled(const ConvolutionSpec& spec, const float* weight, const float* bias)
      : spec_(spec),
        groups_((spec.out_channels + together - 1) / together),
        taps_(spec.kernel[0] * spec.kernel[1] * spec.kernel[2]),
        depth_(round_up(spec.in_channels, tile_depth)),
        weights_(aligned_floats(groups_ * group_weights() / 2)),
        bias_(static_cast<std::size_t>(groups_ * together)) {
    if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
    parallel_tasks(groups_, [&](std::int64_t g) { pack(weight, g); });
  }

  std::int64_t packed_bytes() const override {
    return groups_ * (group_weights() * static_cast<std::int64_t>(sizeof(BFloat16)) +
                      together * static_cast<std::int64_t>(sizeof(float)));
  }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    if (have_tiles())
      run_on<Tiles>(in, out);
    else
      run_on<EmulatedTiles>(in, out);
  }

 private:
  std::int64_t group_weights() const { return taps_ * depth_ * together; }
  BFloat16* weights_of(std::int64_t g) const {
    return reinterpret_cast<BFloat16*>(weights_.get()) + g * group_weights();
  }

  // In the order of multiply_tiles: taps, 32 channels of them, tiles of columns; in a tile 16 pairs
  // of channels.
  void pack(const float* weight, std::int64_t g) const {
    BFloat16* to = weights_of(g);
    for (std::int64_t tap = 0; tap < taps_; ++tap)
      for (std::int64_t k = 0; k < depth_; k += tile_depth)
        for (std::int64_t o = g * together; o < (g + 1) * together; o += columns)
          for (std::int64_t i = 0; i < tile_depth * columns; ++i) {
            const std::int64_t c = k + i / (2 * columns) * 2 + i % 2, n = o + i / 2 % columns;
            const bool inside = c < spec_.in_channels && n < spec_.out_channels;
            *to++ = BFloat16(inside ? weight[(n * spec_.in_channels + c) * taps_ + tap] : 0.0f);
          }
  }

  // Whole tiles along rows; some 256 pixels.
  Size3 block_size(const Size3& full) const {
    const Size3& pool = spec_.pool;
    const std::int64_t step = std::lcm(tile_rows, pool[2]);
    Size3 block{pool[0], pool[1], round_up(std::min<std::int64_t>(full[2], 64), step)};
    const std::int64_t rows = std::max<std::int64_t>(256 / (block[0] * block[2]), 1);
    block[1] = round_up(std::min(rows, full[1]), pool[1]);
    return block;
  }

  template <class T>
  void run_on(const Features& in, const ConvolutionOutputs& out) const {
    const Size3 full = spec_.full_size(in.size), block = block_size(full);
    const Blocks blocks(spec_, full, block);
    const Size3& packed = blocks.packed;
    const Finish finish{spec_, bias_.data(), out, full};
    const std::int64_t tiles_of_rows = blocks.pixels() / tile_rows;
    const std::int64_t pixels = round_up(tiles_of_rows, 2) * tile_rows;
    const std::int64_t input_floats = round_up(packed[0] * packed[1] * packed[2] * depth_ / 2, 16);
    const std::int64_t row_bytes =
        spec_.stride[2] * depth_ * static_cast<std::int64_t>(sizeof(BFloat16));
    const std::vector<std::int64_t> taps = taps_in(packed);
    const TaskGrid grid(in.batch * blocks.total(), groups_, 2);
    const std::int64_t group_floats = pixels * panel * panels_together;
    const std::int64_t second = panels_together == 1 ? columns : pixels * panel;
    parallel_tasks(grid.count(), [&](std::int64_t task) {
      const std::int64_t number = grid.block(task), n = number / blocks.total();
      const Box to = blocks.output(number % blocks.total()), from = blocks.input(spec_, to);
      float* const scratch =
          task_scratch(input_floats + group_floats + 2 * pixels * panel + packed[2] * depth_);
      float* const sums = scratch + input_floats;
      auto* const input = reinterpret_cast<BFloat16*>(scratch);
      pack_input(in, n, from, sums + group_floats + 2 * pixels * panel, input);
      const auto first_pixel = [&](std::int64_t tile) {
        const std::int64_t pixel = std::min(tile, tiles_of_rows - 1) * tile_rows;
        const std::int64_t x = pixel % block[2], y = pixel / block[2] % block[1];
        const std::int64_t z = pixel / (block[1] * block[2]);
        return input + ((z * spec_.stride[0] * packed[1] + y * spec_.stride[1]) * packed[2] +
                        x * spec_.stride[2]) *
                           depth_;
      };
      for (std::int64_t g = grid.first_panel(task); g < grid.last_panel(task); ++g) {
        poll();
        {
          T tiles;
          for (std::int64_t i = 0; i < tiles_of_rows; i += 2)
            multiply_tiles(tiles, {first_pixel(i), first_pixel(i + 1)}, row_bytes, taps, depth_,
                           weights_of(g), sums + i * tile_rows * panel, second);
        }
        for (std::int64_t i = 0; i < panels_together; ++i)
          if (const std::int64_t c = g * together + i * panel; c < spec_.out_channels)
            finish(sums + i * pixels * panel, sums + group_floats, n, c, to);
      }
    });
  }

  std::vector<std::int64_t> taps_in(const Size3& packed) const {
    std::vector<std::int64_t> taps;
    for (std::int64_t z = 0; z < spec_.kernel[0]; ++z)
      for (std::int64_t y = 0; y < spec_.kernel[1]; ++y)
        for (std::int64_t x = 0; x < spec_.kernel[2]; ++x)
          taps.push_back(((z * spec_.dilation[0] * packed[1] + y * spec_.dilation[1]) * packed[2] +
                          x * spec_.dilation[2]) *
                         depth_);
    return taps;
  }

  // pack_box row by row, rounded to bfloat16. row: room for one of floats.
  void pack_input(const Features& in, std::int64_t n, const Box& box, float* row,
                  BFloat16* to) const {
    const std::int64_t floats = box.size[2] * depth_;
    std::fill_n(row, floats, 0.0f);  // pack_box leaves channels beyond whole vectors
    Box one{box.at, {1, 1, box.size[2]}};
    for (std::int64_t z = 0; z < box.size[0]; ++z)
      for (std::int64_t y = 0; y < box.size[1]; ++y, to += floats) {
        one.at[0] = box.at[0] + z;
        one.at[1] = box.at[1] + y;
        pack_box(in, n, 0, spec_.in_channels, one, row, depth_);
        std::transform(row, row + floats, to, [](float x) { return BFloat16(x); });
      }
  }

  ConvolutionSpec spec_;
  std::int64_t groups_, taps_, depth_;
  AlignedFloats weights_;  // bfloat16
  std::vector<float> bias_;
};

#if defined(__x86_64__) && defined(__linux__)
// CPUID's leaf 7 names AMX-TILE and AMX-BF16; Linux saves tiles only of a process that asked to.
bool ask_for_tiles() {
  unsigned a, b, c, d;
  constexpr unsigned bf16 = 1u << 22, tile = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (bf16 | tile)) != (bf16 | tile))
    return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

// Whether tiles multiply as the emulation does. Small integers, so that no sum is rounded.
bool multiply_as_emulated() {
  BFloat16 a[tile_rows * tile_depth], b[tile_rows * tile_depth];
  for (int i = 0; i < tile_rows * tile_depth; ++i) {
    a[i] = BFloat16(static_cast<float>(i % 13 - 6));
    b[i] = BFloat16(static_cast<float>(i % 11 - 5));
  }
  float results[2][tile_rows * columns];
  const auto product = [&](auto& tiles, float* to) {
    tiles.template zero<0>();
    tiles.template load<4>(a, 64);
    tiles.template load<6>(b, 64);
    tiles.template multiply<0, 4, 6>();
    tiles.template store<0>(to, 64);
  };
  {
    Tiles tiles;
    product(tiles, results[0]);
  }
  EmulatedTiles emulated;
  product(emulated, results[1]);
  return std::equal(results[0], results[0] + tile_rows * columns, results[1]);
}
#endif

}  // namespace

bool have_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  static const bool have = ask_for_tiles() && multiply_as_emulated();
  return have;
#else
  return false;
#endif
}

std::unique_ptr<Convolution> make_tiled(const ConvolutionSpec& spec, const float* weight,
                                        const float* bias) {
  if constexpr (panel < columns)  // a tile would be several panels
    return make_direct(spec, weight, bias);
  else
    return std::make_unique<Tiled>(spec, weight, bias);
}

}  // namespace msf
