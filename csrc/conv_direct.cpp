// Direct convolution: the products of dot_panel over a block's packed input.
//
// A pixel's inputs are a few runs of consecutive floats in the packed block: its channels at each
// tap, or at a whole row of taps where those touch. So any kernel, stride and dilation is the same
// loop, with other addresses.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

// Bytes of weights that the blocks of an image stream in turn, so that they find them in cache.
constexpr std::int64_t most_streamed = 8 << 20;

class Direct final : public Convolution {
 public:
  Direct(const ConvolutionSpec& spec, const float* weight, const float* bias, bool lines)
      : spec_(spec),
        panels_((spec.out_channels + panel - 1) / panel),
        taps_(spec.kernel[0] * spec.kernel[1] * spec.kernel[2]),
        pitch_(spec.in_channels < lanes ? spec.in_channels : round_up(spec.in_channels, lanes)),
        weights_(aligned_floats(packed_floats())),
        bias_(static_cast<std::size_t>(panels_ * panel)) {
    const std::int64_t channels = spec.in_channels;
    parallel_tasks(panels_, [&](std::int64_t p) {
      float* to = weights_.get() + p * taps_ * channels * panel;
      const std::int64_t count = std::min(panel, spec.out_channels - p * panel);
      for (std::int64_t tap = 0; tap < taps_; ++tap)
        for (std::int64_t c = 0; c < channels; ++c, to += panel) {
          const float* const from = weight + (p * panel * channels + c) * taps_ + tap;
          for (std::int64_t o = 0; o < panel; ++o)
            to[o] = o < count ? from[o * channels * taps_] : 0.0f;
        }
    });
    if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
    if (PixelDots::worthwhile(spec)) dots_.emplace(spec, weight, bias);
    if (PlanarConvolution::worthwhile(spec)) planar_.emplace(spec, weight, bias, lines);
  }

  std::int64_t packed_bytes() const override {
    return (packed_floats() + panels_ * panel) * static_cast<std::int64_t>(sizeof(float));
  }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    if (dots_ && PixelDots::takes(in, out)) return dots_->run(in, out);
    if (planar_ && PlanarConvolution::takes(in, out)) return planar_->run(in, out);
    const Size3 full = spec_.full_size(in.size);
    const Blocks blocks(spec_, full, block_size(full));
    const std::vector<Portion> portions =
        portions_of(runs_in(spec_, blocks.packed, pitch_, spec_.in_channels));
    const Finish finish{spec_, bias_.data(), out, full};
    const std::int64_t rows = round_up(blocks.pixels(), dot_rows);
    TaskGrid grid(in.batch * blocks.total(), panels_, 4);
    grid.groups = std::max(grid.groups, std::min(panels_, packed_bytes() / most_streamed + 1));
    parallel_tasks(grid.count(), [&](std::int64_t task) {
      const std::int64_t number = grid.block(task), n = number / blocks.total();
      const Box to = blocks.output(number % blocks.total()), from = blocks.input(spec_, to);
      float* const input = task_scratch(from.pixels() * pitch_ + 3 * rows * panel + 16);
      float* const sums = input + round_up(from.pixels() * pitch_, 16);
      pack_box(in, n, 0, spec_.in_channels, from, input, pitch_);
      const auto address = blocks.addresses<float>(spec_, input, pitch_, rows);
      std::int64_t work = 0;
      for (std::int64_t p = grid.first_panel(task); p < grid.last_panel(task); ++p) {
        const float* const weights = weights_.get() + p * taps_ * spec_.in_channels * panel;
        const bool one = spec_.out_channels - p * panel <= lanes;
        const auto dot = one ? &dot_panel<dot_rows, 1> : &dot_panel<dot_rows, 2>;
        for (const Portion& some : portions)
          for (std::int64_t r = 0; r < rows; r += dot_rows)
            dot(&address[static_cast<std::size_t>(r)], some.runs.data(),
                static_cast<std::int64_t>(some.runs.size()), weights + some.first * panel,
                sums + r * panel, panel, some.first > 0);
        if ((work += taps_ * spec_.in_channels * rows) > 1 << 20) {
          work = 0;
          poll();
        }
        finish(sums, sums + rows * panel, n, p * panel, to);
      }
    });
  }

 private:
  std::int64_t packed_floats() const { return panels_ * taps_ * spec_.in_channels * panel; }

  // Some 200 pixels, so that weights are loaded for many, and packed input within 200 kB.
  Size3 block_size(const Size3& full) const {
    const std::int64_t steps = spec_.stride[0] * spec_.stride[1] * spec_.stride[2];
    return block_of(spec_, full, std::clamp<std::int64_t>(50000 / (pitch_ * steps), 48, 192));
  }

  ConvolutionSpec spec_;
  std::int64_t panels_, taps_, pitch_;
  AlignedFloats weights_;
  std::vector<float> bias_;
  std::optional<PixelDots> dots_;            // for channels side by side
  std::optional<PlanarConvolution> planar_;  // for features in planes, where that is quicker
};

}  // namespace

std::unique_ptr<Convolution> make_direct(const ConvolutionSpec& spec, const float* weight,
                                         const float* bias, bool lines) {
  return std::make_unique<Direct>(spec, weight, bias, lines);
}

}  // namespace msf
