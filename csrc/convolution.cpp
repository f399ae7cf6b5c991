// Which algorithm carries a convolution, and the shapes of its results; see convolution.hpp.
#include "convolution.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <utility>

#include "conv_parts.hpp"

namespace msf {

Features features(const Array& array, bool channels_last) {
  Features f{array.data, array.dtype, array.shape[0], 0, {1, 1, 1}, 0, 0, {}};
  const int spatial = array.ndim - 2, first = channels_last ? 1 : 2;
  f.channels = array.shape[channels_last ? array.ndim - 1 : 1];
  std::int64_t stride = channels_last ? f.channels : 1;
  for (int a = 2; a >= 0; --a) {
    const int axis = first + a - (3 - spatial);
    if (axis >= first) f.size[a] = array.shape[axis];
    f.stride[a] = stride;
    stride *= f.size[a];
  }
  f.channel_stride = channels_last ? 1 : stride;
  f.batch_stride = channels_last ? stride : stride * f.channels;
  return f;
}

Size3 ConvolutionSpec::full_size(const Size3& in) const {
  Size3 out;
  for (int a = 0; a < 3; ++a)
    out[a] = (in[a] + before[a] + after[a] - dilation[a] * (kernel[a] - 1) - 1) / stride[a] + 1;
  return out;
}

Size3 ConvolutionSpec::pooled_size(const Size3& in) const {
  Size3 out = full_size(in);
  for (int a = 0; a < 3; ++a) out[a] /= pool[a];
  return out;
}

namespace {

// Rows and columns of 3 or of 5 taps, side by side.
bool has_tiles(const ConvolutionSpec& spec) {
  const std::int64_t taps = spec.kernel[2];
  if (spec.kernel[1] != taps || (taps != 3 && taps != 5)) return false;
  for (int a = 1; a < 3; ++a)
    if (spec.stride[a] != 1 || spec.dilation[a] != 1) return false;
  return true;
}

// Whether tiles of 6 x 6 outputs are worth their larger transforms: of 3 taps they save a fifth of
// the products, less what they cover beyond the edges.
bool six_pay(const Size3& out) {
  const auto products = [&](std::int64_t m) {
    return ((out[1] + m - 1) / m) * ((out[2] + m - 1) / m) * (m + 2) * (m + 2);
  };
  return 100 * products(6) <= 82 * products(4);
}

}  // namespace

bool carries(Algorithm algorithm, const ConvolutionSpec& spec) {
  switch (algorithm) {
    case Algorithm::winograd2:
    case Algorithm::winograd4:
    case Algorithm::fixed:
      return has_tiles(spec);
    case Algorithm::fixed6:
      return has_tiles(spec) && spec.kernel[1] == 3;
    default:
      return true;
  }
}

Algorithm choose_algorithm(const ConvolutionSpec& spec, const Size3& in, bool narrow, bool planar) {
  if (spec.in_channels < 16 || spec.out_channels < 16) {
    if (planar) return PlanarConvolution::has_lines(spec) ? Algorithm::lines : Algorithm::direct;
    // Pairs are quicker where sums are long and channels more than two. Other first layers see
    // their image in full.
    const std::int64_t inputs = spec.in_channels * spec.kernel[0] * spec.kernel[1] * spec.kernel[2];
    const bool pairs = narrow && spec.in_channels > 2 && inputs >= 128 && spec.out_channels >= 16;
    return pairs && have_pair_products() ? Algorithm::pairs : Algorithm::direct;
  }
  if (narrow && have_tiles()) return Algorithm::tiled;
  const Algorithm other = narrow && have_pair_products() ? Algorithm::pairs : Algorithm::direct;
  if (!has_tiles(spec)) return other;
  const Size3 out = spec.full_size(in);
  if (std::min(out[1], out[2]) < spec.kernel[2]) return Algorithm::winograd2;
  if (!narrow || !have_byte_products()) return Algorithm::winograd4;
  // Transforming weights, or reading transformed ones, takes too long for few pixels.
  const bool few = out[0] * out[1] * out[2] < 64;
  if (few && other == Algorithm::pairs) return other;
  const bool six = carries(Algorithm::fixed6, spec) && six_pay(out);
  return six ? Algorithm::fixed6 : Algorithm::fixed;
}

namespace {

// All pixels as two rows, or one if their number is odd, if they lie so in memory.
std::optional<Features> as_rows(const Features& f) {
  std::int64_t pixels = 1;
  for (int a = 2; a >= 0; --a) {
    if (f.size[a] > 1 && f.stride[a] != pixels * f.stride[2]) return std::nullopt;
    pixels *= f.size[a];
  }
  Features rows = f;
  const std::int64_t count = pixels % 2 ? 1 : 2, columns = pixels / count;
  rows.size = {1, count, columns};
  rows.stride = {pixels * f.stride[2], columns * f.stride[2], f.stride[2]};
  return rows;
}

// A layer that looks at single pixels: blocks cut from long rows leave nothing over.
class ByPixel final : public Convolution {
 public:
  explicit ByPixel(std::unique_ptr<Convolution> layer) : layer_(std::move(layer)) {}
  std::int64_t packed_bytes() const override { return layer_->packed_bytes(); }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    const auto from = as_rows(in), to = out.full ? as_rows(*out.full) : std::nullopt;
    if (in.more || !from || !to || out.phases) return layer_->run(in, out);
    layer_->run(*from, {.full = &*to});
  }

 private:
  std::unique_ptr<Convolution> layer_;
};

std::unique_ptr<Convolution> by_pixel(const ConvolutionSpec& spec,
                                      std::unique_ptr<Convolution> layer) {
  constexpr Size3 one{1, 1, 1}, none{};
  const bool single = spec.kernel == one && spec.stride == one && spec.before == none &&
                      spec.after == none && spec.pooling == Pooling::none;
  return single ? std::make_unique<ByPixel>(std::move(layer)) : std::move(layer);
}

}  // namespace

std::unique_ptr<Convolution> make_int8(const ConvolutionSpec& spec, const float* weight,
                                       const float* bias, const Quantisation& steps, bool tiled) {
  if (tiled) return make_tiled_bytes(spec, weight, bias, steps);
  return by_pixel(spec, make_bytes(spec, weight, bias, steps));
}

std::unique_ptr<Convolution> make_convolution(const ConvolutionSpec& spec, const float* weight,
                                              const float* bias, Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::winograd2:
      return make_winograd(spec, weight, bias, 2);
    case Algorithm::winograd4:
      return make_winograd(spec, weight, bias, 4);
    case Algorithm::tiled:
      return make_tiled(spec, weight, bias);
    case Algorithm::pairs:
      return by_pixel(spec, make_pairs(spec, weight, bias));
    case Algorithm::fixed:
      return make_winograd_fixed(spec, weight, bias, 4);
    case Algorithm::lines:
      return make_direct(spec, weight, bias, true);
    case Algorithm::fixed6:
      return make_winograd_fixed(spec, weight, bias, 6);
    default:
      return by_pixel(spec, make_direct(spec, weight, bias));
  }
}

}  // namespace msf
