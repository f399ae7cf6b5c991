// Direct convolution on AMX tiles: of bfloat16, sums in float32, or of 8-bit integers.
//
// As conv_direct.cpp, with a block's input packed as such, channels last, in whole rows of a tile:
// 16 pixels side by side in a row of the image are then a tile, whatever the tap, with the stride
// as the distance of its rows. Two such tiles by two of 16 output channels stay in registers over
// all taps and channels.
//
// Inputs and weights: see conv_operands.hpp. Where a CPU has no tiles the same loops run on
// EmulatedTiles, slowly: for tests. What runs on tiles was never timed by us.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_operands.hpp"
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

// Output channels computed together: one panel of AVX-512, two of AVX2.
constexpr std::int64_t columns = tile_columns, together = 2 * columns;
constexpr std::int64_t panels_together = std::max<std::int64_t>(together / panel, 1);
// The baseline has no kernels for tiles: one would be several panels.
constexpr bool built = panel >= columns;

// Values of a tile's row, and of its words.
template <class Value>
constexpr std::int64_t in_row = tile_bytes / static_cast<std::int64_t>(sizeof(Value));
template <class Value>
constexpr std::int64_t in_word = in_row<Value> / columns;

// Two rows of tiles by two columns of them. from: where the pixels of each are at the first tap;
// second: where the second column's results are, after those of the first.
template <class T, class Input, class Weight>
void multiply_tiles(T& tiles, const Input* const (&from)[2], std::int64_t row_bytes,
                    const std::vector<std::int64_t>& taps, std::int64_t depth,
                    const Weight* weights, float* to, std::int64_t second) {
  constexpr std::int64_t weight_tile = in_row<Weight> * columns;
  tiles.template zero<0>();
  tiles.template zero<1>();
  tiles.template zero<2>();
  tiles.template zero<3>();
  for (const std::int64_t tap : taps)
    for (std::int64_t k = 0; k < depth; k += in_row<Input>, weights += 2 * weight_tile) {
      tiles.template load<4>(from[0] + tap + k, row_bytes);
      tiles.template load<6>(weights, tile_bytes);
      tiles.template multiply<Input, 0, 4, 6>();
      tiles.template load<5>(from[1] + tap + k, row_bytes);
      tiles.template multiply<Input, 1, 5, 6>();
      tiles.template load<7>(weights + weight_tile, tile_bytes);
      tiles.template multiply<Input, 2, 4, 7>();
      tiles.template multiply<Input, 3, 5, 7>();
    }
  constexpr auto bytes = static_cast<std::int64_t>(panel * sizeof(float));
  tiles.template store<0>(to, bytes);
  tiles.template store<1>(to + tile_rows * panel, bytes);
  tiles.template store<2>(to + second, bytes);
  tiles.template store<3>(to + second + tile_rows * panel, bytes);
}

template <class A>
class Tiled final : public Convolution {
  using Input = typename A::Input;
  using Weight = typename A::Weight;

 public:
  Tiled(const ConvolutionSpec& spec, const float* weight, const float* bias,
        const Quantisation& steps)
      : spec_(spec),
        groups_((spec.out_channels + together - 1) / together),
        taps_(spec.kernel[0] * spec.kernel[1] * spec.kernel[2]),
        depth_(round_up(spec.in_channels, in_row<Input>)),
        weights_(aligned_floats(floats_of<Weight>(groups_ * group_weights()))),
        packing_(A::packing(steps)),
        rounding_(groups_ * together, steps),
        bias_(static_cast<std::size_t>(groups_ * together)) {
    if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
    parallel_tasks(groups_, [&](std::int64_t g) { pack(weight, g); });
  }

  std::int64_t packed_bytes() const override {
    return groups_ * (group_weights() * static_cast<std::int64_t>(sizeof(Weight)) +
                      together * static_cast<std::int64_t>(sizeof(float))) +
           rounding_.bytes();
  }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    if (std::is_same_v<A, Bytes> ? have_byte_tiles() : have_tiles())
      run_on<Tiles>(in, out);
    else
      run_on<EmulatedTiles>(in, out);
  }

 private:
  template <class Value>
  static std::int64_t floats_of(std::int64_t count) {
    return count * static_cast<std::int64_t>(sizeof(Value)) /
           static_cast<std::int64_t>(sizeof(float));
  }
  std::int64_t group_weights() const { return taps_ * depth_ * together; }
  Weight* weights_of(std::int64_t g) const {
    return reinterpret_cast<Weight*>(weights_.get()) + g * group_weights();
  }

  // In the order of multiply_tiles: taps, a tile's channels of them, tiles of columns; in a tile
  // the words of each column.
  void pack(const float* weight, std::int64_t g) {
    constexpr std::int64_t word = in_word<Weight>, row = in_row<Weight>, tile = row * columns;
    const std::int64_t of_one = spec_.in_channels * taps_, first = g * together;
    Weight* const to = weights_of(g);
    std::fill_n(to, group_weights(), Weight{});
    for (std::int64_t o = 0; o < std::min(together, spec_.out_channels - first); ++o) {
      const float* const from = weight + (first + o) * of_one;
      const auto place = [&](std::int64_t i) -> Weight& {
        const std::int64_t c = i / taps_, tap = i % taps_;
        const std::int64_t number = ((tap * depth_ + c) / row * together + o) / columns;
        return to[number * tile + (c % row / word * columns + o % columns) * word + c % word];
      };
      rounding_.round(first + o, from, of_one, packing_, place);
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
    const std::int64_t input_floats =
        round_up(floats_of<Input>(packed[0] * packed[1] * packed[2] * depth_), 16);
    const std::int64_t row_bytes =
        spec_.stride[2] * depth_ * static_cast<std::int64_t>(sizeof(Input));
    const std::vector<std::int64_t> taps = taps_in(packed);
    const TaskGrid grid(in.batch * blocks.total(), groups_, 2);
    const std::int64_t group_floats = pixels * panel * panels_together;
    const std::int64_t second = panels_together == 1 ? columns : pixels * panel;
    parallel_tasks(grid.count(), [&](std::int64_t task) {
      const std::int64_t number = grid.block(task), n = number / blocks.total();
      const Box to = blocks.output(number % blocks.total()), from = blocks.input(spec_, to);
      float* const scratch = task_scratch(input_floats + group_floats + 2 * pixels * panel);
      float* const sums = scratch + input_floats;
      auto* const input = reinterpret_cast<Input*>(scratch);
      pack_input(in, n, from, input);
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
          if (const std::int64_t c = g * together + i * panel; c < spec_.out_channels) {
            float* const of_panel = sums + i * pixels * panel;
            rounding_.scale(of_panel, blocks.pixels(), c);
            finish(of_panel, sums + group_floats, n, c, to);
          }
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

  void pack_input(const Features& in, std::int64_t n, const Box& box, Input* to) const {
    const std::int64_t channels = spec_.in_channels;
    if (depth_ > channels)
      for (std::int64_t i = 0; i < box.pixels(); ++i)
        std::fill(to + i * depth_ + channels, to + (i + 1) * depth_, packing_.zero);
    pack_box(in, n, 0, channels, box, to, depth_, packing_);
  }

  ConvolutionSpec spec_;
  std::int64_t groups_, taps_, depth_;
  AlignedFloats weights_;  // of type Weight
  Packing<Input> packing_;
  Rounding<Weight> rounding_;
  std::vector<float> bias_;
};

#if defined(__x86_64__) && defined(__linux__)
// Whether CPUID's leaf 7 names AMX-TILE and this besides; Linux saves tiles only of a process that
// asked to.
bool ask_for_tiles(unsigned kind) {
  unsigned a, b, c, d;
  const unsigned needed = kind | 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & needed) != needed) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

// Whether tiles multiply as the emulation does. Integers of which no sum is rounded, some of them
// beyond a signed byte's.
template <class A>
bool multiply_as_emulated() {
  constexpr std::int64_t count = in_row<typename A::Input> * tile_rows;
  typename A::Input a[count];
  typename A::Weight b[count];
  for (int i = 0; i < count; ++i) {
    a[i] = static_cast<typename A::Input>(static_cast<float>(i % 13 * 20));
    b[i] = static_cast<typename A::Weight>(static_cast<float>(i % 11 - 5));
  }
  float results[2][tile_rows * columns];
  const auto product = [&](auto& tiles, float* to) {
    tiles.template zero<0>();
    tiles.template load<4>(a, tile_bytes);
    tiles.template load<6>(b, tile_bytes);
    tiles.template multiply<typename A::Input, 0, 4, 6>();
    tiles.template store<0>(to, tile_bytes);
  };
  {
    Tiles tiles;
    product(tiles, results[0]);
  }
  EmulatedTiles emulated;
  product(emulated, results[1]);
  return std::memcmp(results[0], results[1], sizeof results[0]) == 0;
}

template <class A>
bool have(unsigned kind) {
  static const bool have = built && ask_for_tiles(kind) && multiply_as_emulated<A>();
  return have;
}
#else
template <class A>
bool have(unsigned) {
  return false;
}
#endif

template <class A>
std::unique_ptr<Convolution> make(const ConvolutionSpec& spec, const float* weight,
                                  const float* bias, const Quantisation& steps) {
  if constexpr (built)
    return std::make_unique<Tiled<A>>(spec, weight, bias, steps);
  else
    return nullptr;
}

}  // namespace

bool have_tiles() { return have<Halves>(1u << 22); }
bool have_byte_tiles() { return have<Bytes>(1u << 25); }

std::unique_ptr<Convolution> make_tiled(const ConvolutionSpec& spec, const float* weight,
                                        const float* bias) {
  auto layer = make<Halves>(spec, weight, bias, {});
  return layer ? std::move(layer) : make_direct(spec, weight, bias);
}

std::unique_ptr<Convolution> make_tiled_bytes(const ConvolutionSpec& spec, const float* weight,
                                              const float* bias, const Quantisation& steps) {
  auto layer = make<Bytes>(spec, weight, bias, steps);
  return layer ? std::move(layer) : make_bytes(spec, weight, bias, steps);
}

}  // namespace msf
