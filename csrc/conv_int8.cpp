// Direct convolution of 8-bit integers, sums in 32 bits: exact until they are scaled.
//
// As conv_direct.cpp, with a block's input rounded to multiples of `scale` while it is packed, and
// weights to 127 steps of each output channel's largest (per-channel, symmetric; Jacob et al.,
// "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
// CVPR 2018). Both are kept as 16 bits: the product of two pairs and their sum is one instruction
// (pmaddwd) in every build, half as many as multiply-adds of floats, and cannot saturate.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

typedef std::int16_t Halves __attribute__((vector_size(register_bytes)));

// Sums of the products of pairs.
inline IntLanes multiply_pairs(Halves a, Halves b) {
#if defined(__AVX512BW__)
  return (IntLanes)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (IntLanes)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (IntLanes)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  IntLanes r;
  for (std::int64_t i = 0; i < lanes; ++i) r[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return r;
#endif
}

inline Halves load_halves(const std::int16_t* from) {
  Halves v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// One pair for all lanes.
inline Halves spread_pair(const std::int16_t* from) {
  std::int32_t pair;
  std::memcpy(&pair, from, sizeof pair);
  return (Halves)(pair - IntLanes{});
}

// dot_panel of pairs: runs and weights are in 16-bit values, an even number of each.
[[gnu::noinline]] void dot_pairs(const std::int16_t* const* rows, const Run* runs,
                                 std::int64_t run_count, const std::int16_t* weights,
                                 std::int32_t* to) {
  IntLanes sum[dot_rows][2] = {};
  for (std::int64_t i = 0; i < run_count; ++i) {
    const std::int16_t* row[dot_rows];
    for (int r = 0; r < dot_rows; ++r) row[r] = rows[r] + runs[i].offset;
    const std::int64_t length = runs[i].length;
    for (std::int64_t k = 0; k < length; k += 2) {
      const Halves w0 = load_halves(weights), w1 = load_halves(weights + panel);
      weights += 2 * panel;
#pragma GCC unroll 12
      for (int r = 0; r < dot_rows; ++r) {
        const Halves x = spread_pair(row[r] + k);
        sum[r][0] += multiply_pairs(x, w0);
        sum[r][1] += multiply_pairs(x, w1);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < dot_rows; ++r) {
    std::memcpy(to + r * panel, &sum[r][0], sizeof(IntLanes));
    std::memcpy(to + r * panel + lanes, &sum[r][1], sizeof(IntLanes));
  }
}

std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

class Int8 final : public Convolution {
 public:
  Int8(const ConvolutionSpec& spec, const float* weight, const float* bias,
       const Quantisation& steps)
      : spec_(spec),
        steps_(steps),
        panels_((spec.out_channels + panel - 1) / panel),
        taps_(spec.kernel[0] * spec.kernel[1] * spec.kernel[2]),
        pitch_(round_up(spec.in_channels, 2)),
        weights_(aligned_floats((panels_ * panel_weights() + 1) / 2)),
        scale_(static_cast<std::size_t>(panels_ * panel)),
        bias_(static_cast<std::size_t>(panels_ * panel)) {
    if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
    parallel_tasks(panels_, [&](std::int64_t p) { pack(weight, p); });
  }

  std::int64_t packed_bytes() const override {
    return panels_ * (panel_weights() * static_cast<std::int64_t>(sizeof(std::int16_t)) +
                      2 * panel * static_cast<std::int64_t>(sizeof(float)));
  }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    const Size3 full = spec_.full_size(in.size), block = block_size(full);
    Size3 count, packed;
    for (int a = 0; a < 3; ++a) {
      count[a] = (full[a] + block[a] - 1) / block[a];
      packed[a] = (block[a] - 1) * spec_.stride[a] + (spec_.kernel[a] - 1) * spec_.dilation[a] + 1;
    }
    const std::vector<Run> runs = runs_in(spec_, packed, pitch_, pitch_);
    const Finish finish{spec_, bias_.data(), out, full};
    const std::int64_t blocks = count[0] * count[1] * count[2];
    const std::int64_t pixels = block[0] * block[1] * block[2];
    const std::int64_t rows = round_up(pixels, dot_rows);
    const std::int64_t input_floats =
        round_up((packed[0] * packed[1] * packed[2] * pitch_) / 2, 16);
    const std::int64_t line = packed[2] * round_up(spec_.in_channels, lanes);
    const TaskGrid grid(in.batch * blocks, panels_, 4);
    parallel_tasks(grid.count(), [&](std::int64_t task) {
      const std::int64_t number = grid.block(task), n = number / blocks, b = number % blocks;
      const Size3 place{b / (count[1] * count[2]), b / count[2] % count[1], b % count[2]};
      Box to{{}, block}, from{{}, packed};
      for (int a = 0; a < 3; ++a) {
        to.at[a] = place[a] * block[a];
        from.at[a] = to.at[a] * spec_.stride[a] - spec_.before[a];
      }
      float* const scratch = task_scratch(input_floats + 3 * rows * panel + line + 16);
      float* const sums = scratch + input_floats;
      auto* const input = reinterpret_cast<std::int16_t*>(scratch);
      pack_input(in, n, from, sums + 3 * rows * panel, input);
      std::vector<const std::int16_t*> address(static_cast<std::size_t>(rows), input);
      auto next = address.begin();
      for (std::int64_t z = 0; z < block[0]; ++z)
        for (std::int64_t y = 0; y < block[1]; ++y)
          for (std::int64_t x = 0; x < block[2]; ++x)
            *next++ = input + ((z * spec_.stride[0] * packed[1] + y * spec_.stride[1]) * packed[2] +
                               x * spec_.stride[2]) *
                                  pitch_;
      std::int64_t work = 0;
      for (std::int64_t p = grid.first_panel(task); p < grid.last_panel(task); ++p) {
        for (std::int64_t r = 0; r < rows; r += dot_rows) {
          std::int32_t whole[dot_rows * panel];
          dot_pairs(&address[static_cast<std::size_t>(r)], runs.data(),
                    static_cast<std::int64_t>(runs.size()), weights_of(p), whole);
          const float* const scale = scale_.data() + p * panel;
          for (std::int64_t i = 0; i < dot_rows; ++i)
            for (std::int64_t o = 0; o < panel; ++o)
              sums[(r + i) * panel + o] = static_cast<float>(whole[i * panel + o]) * scale[o];
        }
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
  std::int16_t* weights_of(std::int64_t p) const {
    return reinterpret_cast<std::int16_t*>(weights_.get()) + p * panel_weights();
  }

  // Taps, pairs of channels, output channels, the two of a pair.
  void pack(const float* weight, std::int64_t p) {
    const std::int64_t of_one = spec_.in_channels * taps_;
    std::int16_t* const to = weights_of(p);
    std::fill_n(to, panel_weights(), std::int16_t{0});
    for (std::int64_t o = 0; o < std::min(panel, spec_.out_channels - p * panel); ++o) {
      const float* const from = weight + (p * panel + o) * of_one;
      float largest = 0;
      for (std::int64_t i = 0; i < of_one; ++i) largest = std::max(largest, std::abs(from[i]));
      const float step = largest > 0 ? largest / 127 : 1.0f;
      scale_[static_cast<std::size_t>(p * panel + o)] = step * steps_.scale;
      for (std::int64_t c = 0; c < spec_.in_channels; ++c)
        for (std::int64_t tap = 0; tap < taps_; ++tap)
          to[((tap * pitch_ + c) / 2 * panel + o) * 2 + c % 2] =
              static_cast<std::int16_t>(std::nearbyint(from[c * taps_ + tap] / step));
    }
  }

  // As conv_direct.cpp: some 200 pixels, packed input within 200 kB.
  Size3 block_size(const Size3& full) const {
    const std::int64_t steps = spec_.stride[0] * spec_.stride[1] * spec_.stride[2];
    return block_of(spec_, full, std::clamp<std::int64_t>(100000 / (pitch_ * steps), 48, 192));
  }

  // pack_box row by row, rounded to steps. row: room for one of floats.
  void pack_input(const Features& in, std::int64_t n, const Box& box, float* row,
                  std::int16_t* to) const {
    const std::int64_t channels = spec_.in_channels, wide = round_up(channels, lanes);
    const float per_step = 1 / steps_.scale, low = steps_.low, high = steps_.high;
    Box one{box.at, {1, 1, box.size[2]}};
    for (std::int64_t z = 0; z < box.size[0]; ++z)
      for (std::int64_t y = 0; y < box.size[1]; ++y) {
        one.at[0] = box.at[0] + z;
        one.at[1] = box.at[1] + y;
        pack_box(in, n, 0, channels, one, row, wide);
        for (std::int64_t x = 0; x < box.size[2]; ++x, to += pitch_) {
          const float* const from = row + x * wide;
          for (std::int64_t c = 0; c < channels; ++c) {
            // Rounds to even as nearbyint, in vectors: adding 1.5 * 2^23 leaves no fraction.
            constexpr float magic = 12582912.0f;
            float v = from[c] * per_step;
            v = v > low ? v : low;  // NaN becomes the lowest
            v = v < high ? v : high;
            v += magic;
            to[c] = static_cast<std::int16_t>(std::bit_cast<std::int32_t>(v) -
                                              std::bit_cast<std::int32_t>(magic));
          }
          if (channels < pitch_) to[channels] = 0;
        }
      }
  }

  ConvolutionSpec spec_;
  Quantisation steps_;
  std::int64_t panels_, taps_, pitch_;
  AlignedFloats weights_;  // 16 bits
  std::vector<float> scale_, bias_;
};

}  // namespace

std::unique_ptr<Convolution> make_int8(const ConvolutionSpec& spec, const float* weight,
                                       const float* bias, const Quantisation& steps) {
  return std::make_unique<Int8>(spec, weight, bias, steps);
}

}  // namespace msf
