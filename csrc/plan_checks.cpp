#include "plan_checks.hpp"

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace msf {

namespace {

constexpr std::int64_t most = std::int64_t{1} << 31;  // so that products of two do not overflow

bool all_of(const Size3& size, std::int64_t least) {
  return std::all_of(size.begin(), size.end(),
                     [&](std::int64_t n) { return n >= least && n < most; });
}

}  // namespace

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("plan: ") + what);
}

std::int64_t bytes_of(const View& view, std::int64_t item) {
  const Features& f = view.features;
  require(all_of({1, f.batch, f.channels}, 1) && all_of(f.size, 1),
          "a view is empty or larger than memory");
  std::int64_t last = 1;
  bool fits = view.slot >= 0 && view.slot <= 1000 && view.offset >= 0 && view.offset % item == 0;
  const auto reach = [&](std::int64_t count, std::int64_t stride) {
    std::int64_t distance;
    fits = fits && stride >= 0 && !__builtin_mul_overflow(count - 1, stride, &distance) &&
           !__builtin_add_overflow(last, distance, &last);
  };
  reach(f.batch, f.batch_stride);
  reach(f.channels, f.channel_stride);
  for (int a = 0; a < 3; ++a) reach(f.size[a], f.stride[a]);
  std::int64_t bytes = 0;
  fits = fits && !__builtin_mul_overflow(last, item, &bytes) &&
         !__builtin_add_overflow(bytes, view.offset, &bytes);
  require(fits, "a view is outside its memory");
  return bytes;
}

void check_packed(const View& indices) {
  const Features& f = indices.features;
  std::int64_t next = f.channels;
  bool packed = f.channel_stride == 1 || f.channels == 1;
  for (int a = 2; a >= 0; --a) {
    packed = packed && (f.stride[a] == next || f.size[a] == 1);
    packed = packed && !__builtin_mul_overflow(next, f.size[a], &next);
  }
  require(packed && (f.batch_stride == next || f.batch == 1), "indices must lie one after another");
}

void check_convolution(const ConvolutionSpec& spec, Algorithm algorithm, std::int64_t weights,
                       std::int64_t biases, const std::vector<View>& in,
                       const std::optional<View>& full, const std::optional<View>& pooled,
                       const std::optional<View>& indices, std::int64_t phases) {
  require(all_of(spec.kernel, 1) && all_of(spec.stride, 1) && all_of(spec.dilation, 1) &&
              all_of(spec.before, 0) && all_of(spec.after, 0) && all_of(spec.pool, 1) &&
              carries(algorithm, spec),
          "a convolution has sizes that there are none of");
  // Of a block of 200 pixels of the output, at least as many floats as its input has.
  double room = static_cast<double>(spec.in_channels) + 64;
  for (int a = 0; a < 3; ++a)
    room *= static_cast<double>(spec.kernel[a] - 1) * static_cast<double>(spec.dilation[a]) +
            200.0 * static_cast<double>(spec.stride[a]);
  require(room < 0x1p44, "a convolution reaches further than memory");
  std::int64_t count = spec.out_channels;
  bool fits = spec.in_channels >= 1 && biases == spec.out_channels;
  for (const std::int64_t n : {spec.in_channels, spec.kernel[0], spec.kernel[1], spec.kernel[2]})
    fits = fits && !__builtin_mul_overflow(count, n, &count);
  require(fits && weights == count, "the weights of a convolution do not fit its channels");

  std::int64_t channels = 0;
  for (const View& map : in) {
    require(map.features.batch == in.front().features.batch &&
                map.features.size == in.front().features.size,
            "maps that a convolution reads have different sizes");
    channels += map.features.channels;
  }
  require(!in.empty() && channels == spec.in_channels,
          "the maps that a convolution reads do not fit its channels");
  const Features& from = in.front().features;
  const auto writes = [&](const std::optional<View>& view, const Size3& size) {
    return !view ||
           (view->features.batch == from.batch && view->features.size == size &&
            view->features.channels * std::max<std::int64_t>(phases, 1) == spec.out_channels);
  };
  require(writes(full, spec.full_size(from.size)) && writes(pooled, spec.pooled_size(from.size)) &&
              writes(indices, spec.pooled_size(from.size)) &&
              (full || (pooled && spec.pooling != Pooling::none)),
          "the maps that a convolution writes do not fit its sizes");
  require(phases == 0 || (full && !pooled && !indices && full->features.channels % 32 == 0),
          "the phases of a convolution do not fit its channels");
}

void check_pool(const PoolSpec& spec) {
  require(all_of(spec.kernel, 1) && all_of(spec.stride, 1) && all_of(spec.dilation, 1) &&
              all_of(spec.padding, 0),
          "pooling has sizes that there are none of");
}

void check_channels_last(std::initializer_list<const View*> views) {
  for (const View* const view : views)
    require((view->features.channel_stride == 1 || view->features.channels == 1) &&
                view->features.dtype == (*views.begin())->features.dtype,
            "a layer's maps must have channels side by side, and one type");
}

void check_same(const View& a, const View& b, bool any_size) {
  require(a.features.batch == b.features.batch && a.features.channels == b.features.channels &&
              (any_size || a.features.size == b.features.size),
          "a layer's maps have different sizes");
}

void check_pointwise(const PointwiseSpec& spec, std::int64_t channels, bool second) {
  const auto each = static_cast<std::size_t>(channels);
  require((spec.scale.empty() || spec.scale.size() == each) &&
              spec.shift.size() == spec.scale.size() &&
              (spec.activation != Pointwise::prelu || spec.slopes.size() == each) &&
              (spec.with == Second::none || second),
          "a layer of single pixels has numbers of other channels, or lacks an operand");
}

void check_indices(const std::vector<std::int64_t>& indices, std::int64_t size, bool some) {
  require(std::all_of(indices.begin(), indices.end(),
                      [&](std::int64_t i) { return i < size && (some || i >= 0); }),
          "a map must stay inside");
}

}  // namespace msf
