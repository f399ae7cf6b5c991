// Direct convolution of numbers narrower than a float, sums in 32 bits.
//
// As conv_direct.cpp, with a block's input rounded while it is packed, so that one instruction
// multiplies and adds up several channels: pairs of bfloat16 (AVX-512 BF16), fours of 8-bit
// integers (AVX-512 VNNI), or pairs of those kept as 16 bits (pmaddwd, in every build; half as many
// instructions as multiply-adds of floats, and no sum saturates).
//
// Inputs and weights: see conv_operands.hpp.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_operands.hpp"
#include "conv_parts.hpp"
#include "conv_words.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

// Integers as 16 bits.
struct Integers : Words {
  using Input = std::int16_t;
  using Weight = std::int16_t;
  using Sums = IntLanes;
  static constexpr std::int64_t depth = 2;
  static Packing<Input> packing(const Quantisation& steps) { return Packing<Input>(steps); }
};

struct Pairs : Halves {
  using Sums = Lanes;
  static constexpr std::int64_t depth = 2;
};

#if defined(__AVX512F__)
// The instructions of the two below are spelt out as intrinsics would need the whole source
// compiled for CPUs that have them.

struct Fours : Bytes {
  using Sums = IntLanes;
  static constexpr std::int64_t depth = 4;

  static void add_products(IntLanes& sum, IntLanes x, IntLanes w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
  }
};

struct HardwarePairs : Pairs {
  static void add_products(Lanes& sum, IntLanes x, IntLanes w) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
  }
};
#endif

// In plain code, slowly: for tests where a CPU has no such instruction.
struct EmulatedPairs : Pairs {
  static void add_products(Lanes& sum, IntLanes x, IntLanes w) {
    constexpr std::int32_t upper = -0x10000;
    const auto high = [](IntLanes v) { return std::bit_cast<Lanes>(v & upper); };
    const auto low = [](IntLanes v) { return std::bit_cast<Lanes>(v << 16); };
    sum += low(x) * low(w);
    sum += high(x) * high(w);
  }
};

// dot_panel of such values: runs are a multiple of `depth` long. Sums of integers stay integers.
template <class A, int halves>
[[gnu::noinline]] void dot_narrow(const typename A::Input* const* rows, const Run* runs,
                                  std::int64_t run_count, const typename A::Weight* weights,
                                  float* to, bool accumulate) {
  typename A::Sums sum[dot_rows][2] = {};
  if (accumulate) {
#pragma GCC unroll 12
    for (int r = 0; r < dot_rows; ++r)
      for (int half = 0; half < 2; ++half)
        sum[r][half] = std::bit_cast<typename A::Sums>(load_lanes(to + r * panel + half * lanes));
  }
  for (std::int64_t i = 0; i < run_count; ++i) {
    const typename A::Input* row[dot_rows];
    for (int r = 0; r < dot_rows; ++r) row[r] = rows[r] + runs[i].offset;
    add_run<A, A::depth, halves>(row, runs[i].length, weights, sum);
  }
#pragma GCC unroll 12
  for (int r = 0; r < dot_rows; ++r)
    for (int half = 0; half < 2; ++half)
      store_lanes(to + r * panel + half * lanes, std::bit_cast<Lanes>(sum[r][half]));
}

template <class A>
class Narrow final : public Convolution {
  using Input = typename A::Input;
  using Weight = typename A::Weight;
  static constexpr std::int64_t most_pixels = 192;  // of a block

 public:
  Narrow(const ConvolutionSpec& spec, const float* weight, const float* bias,
         const Quantisation& steps)
      : spec_(spec),
        panels_((spec.out_channels + panel - 1) / panel),
        taps_(spec.kernel[0] * spec.kernel[1] * spec.kernel[2]),
        pitch_(round_up(spec.in_channels, A::depth)),
        weights_(aligned_floats(panels_ * panel_weights() / A::depth)),
        packing_(A::packing(steps)),
        rounding_(panels_ * panel, steps),
        bias_(static_cast<std::size_t>(panels_ * panel)) {
    if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
    parallel_tasks(panels_, [&](std::int64_t p) { pack(weight, p); });
  }

  std::int64_t packed_bytes() const override {
    return panels_ * panel_weights() * static_cast<std::int64_t>(sizeof(Weight)) +
           rounding_.bytes() + static_cast<std::int64_t>(bias_.size() * sizeof(float));
  }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    const Size3 full = spec_.full_size(in.size);
    const bool as_they_are = unpacked(in);
    const Blocks blocks(spec_, full,
                        as_they_are ? block_of(spec_, full, most_pixels) : block_size(full));
    const Size3& packed = blocks.packed;
    const std::vector<Portion> portions = portions_of(runs_in(spec_, packed, pitch_, pitch_));
    const Finish finish{spec_, bias_.data(), out, full};
    const std::int64_t rows = round_up(blocks.pixels(), dot_rows);
    const std::int64_t input_floats =
        round_up(packed[0] * packed[1] * packed[2] * pitch_ / A::depth, 16);
    const TaskGrid grid(in.batch * blocks.total(), panels_, 4);
    parallel_tasks(grid.count(), [&](std::int64_t task) {
      const std::int64_t number = grid.block(task), n = number / blocks.total();
      const Box to = blocks.output(number % blocks.total()), from = blocks.input(spec_, to);
      float* const scratch = task_scratch(input_floats + 3 * rows * panel + 16);
      float* const sums = scratch + input_floats;
      std::vector<const Input*> address;
      if (as_they_are) {
        address = addresses(in, n, to, rows);
      } else {
        auto* const input = reinterpret_cast<Input*>(scratch);
        pack_box(in, n, 0, spec_.in_channels, from, input, pitch_, packing_);
        address = blocks.addresses<Input>(spec_, input, pitch_, rows);
      }
      std::int64_t work = 0;
      for (std::int64_t p = grid.first_panel(task); p < grid.last_panel(task); ++p) {
        const bool one = spec_.out_channels - p * panel <= lanes;
        const auto dot = one ? &dot_narrow<A, 1> : &dot_narrow<A, 2>;
        for (const Portion& some : portions)
          for (std::int64_t r = 0; r < rows; r += dot_rows)
            dot(&address[static_cast<std::size_t>(r)], some.runs.data(),
                static_cast<std::int64_t>(some.runs.size()), weights_of(p) + some.first * panel,
                sums + r * panel, some.first > 0);
        rounding_.scale(sums, rows, p * panel);
        if ((work += taps_ * pitch_ * rows) > 1 << 21) {
          work = 0;
          poll();
        }
        finish(sums, sums + rows * panel, n, p * panel, to);
      }
    });
  }

 private:
  std::int64_t panel_weights() const { return taps_ * pitch_ * panel; }
  Weight* weights_of(std::int64_t p) const {
    return reinterpret_cast<Weight*>(weights_.get()) + p * panel_weights();
  }

  // Whether the channels of an output pixel's inputs lie in memory as they would be packed.
  bool unpacked(const Features& in) const {
    if constexpr (!std::is_same_v<Input, BFloat16>) return false;
    return !in.more && in.dtype == DType::bfloat16 && in.channel_stride == 1 && taps_ == 1 &&
           pitch_ == spec_.in_channels && spec_.before == Size3{} && spec_.after == Size3{};
  }

  // Those of a block, its first pixel's for what lies beyond the image.
  std::vector<const Input*> addresses(const Features& in, std::int64_t n, const Box& to,
                                      std::int64_t rows) const {
    const auto* const data = static_cast<const Input*>(in.data);
    const auto at = [&](const Size3& pixel) {
      Size3 from = pixel;
      for (int a = 0; a < 3; ++a) from[a] *= spec_.stride[a];
      return data + in.offset(n, 0, from);
    };
    std::vector<const Input*> found(static_cast<std::size_t>(rows), at(to.at));
    const Size3 full = spec_.full_size(in.size);
    for (std::int64_t z = 0, i = 0; z < to.size[0]; ++z)
      for (std::int64_t y = 0; y < to.size[1]; ++y)
        for (std::int64_t x = 0; x < to.size[2]; ++x, ++i) {
          const Size3 pixel{to.at[0] + z, to.at[1] + y, to.at[2] + x};
          if (pixel[0] < full[0] && pixel[1] < full[1] && pixel[2] < full[2])
            found[static_cast<std::size_t>(i)] = at(pixel);
        }
    return found;
  }

  // Taps, `depth` channels, output channels, the channels of a word.
  void pack(const float* weight, std::int64_t p) {
    const std::int64_t of_one = spec_.in_channels * taps_;
    Weight* const to = weights_of(p);
    std::fill_n(to, panel_weights(), Weight{});
    for (std::int64_t o = 0; o < std::min(panel, spec_.out_channels - p * panel); ++o) {
      const float* const from = weight + (p * panel + o) * of_one;
      const auto place = [&](std::int64_t i) -> Weight& {
        const std::int64_t c = i / taps_, tap = i % taps_;
        return to[((tap * pitch_ + c) / A::depth * panel + o) * A::depth + c % A::depth];
      };
      rounding_.round(p * panel + o, from, of_one, packing_, place);
    }
  }

  // As conv_direct.cpp: packed input within 400 kB.
  Size3 block_size(const Size3& full) const {
    const std::int64_t steps = spec_.stride[0] * spec_.stride[1] * spec_.stride[2];
    const std::int64_t most = 100000 * A::depth / (pitch_ * steps);
    return block_of(spec_, full, std::clamp<std::int64_t>(most, 48, most_pixels));
  }

  ConvolutionSpec spec_;
  std::int64_t panels_, taps_, pitch_;
  AlignedFloats weights_;  // of type Weight
  Packing<Input> packing_;
  Rounding<Weight> rounding_;
  std::vector<float> bias_;
};

}  // namespace

bool have_byte_products() {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

bool have_pair_products() {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

std::unique_ptr<Convolution> make_bytes(const ConvolutionSpec& spec, const float* weight,
                                        const float* bias, const Quantisation& steps) {
#if defined(__AVX512F__)
  if (have_byte_products()) return std::make_unique<Narrow<Fours>>(spec, weight, bias, steps);
#endif
  return std::make_unique<Narrow<Integers>>(spec, weight, bias, steps);
}

std::unique_ptr<Convolution> make_pairs(const ConvolutionSpec& spec, const float* weight,
                                        const float* bias) {
#if defined(__AVX512F__)
  if (have_pair_products())
    return std::make_unique<Narrow<HardwarePairs>>(spec, weight, bias, Quantisation{});
#endif
  return std::make_unique<Narrow<EmulatedPairs>>(spec, weight, bias, Quantisation{});
}

}  // namespace msf
