// See conv_winograd_plan.hpp.
#include "conv_winograd_plan.hpp"

#include <algorithm>
#include <numeric>

#include "parallel.hpp"

namespace msf {

namespace {

constexpr std::int64_t most_private_floats = 100000;  // of V: the second level holds it
constexpr std::int64_t least_private_rows = 8;        // fewer wait for their weights
constexpr std::int64_t most_shared_floats = 2500000;  // of V and M: the last one does
constexpr std::int64_t most_products = 600000;        // of M at once: it is memory as well
// Of the input of a tile, beside its products.
constexpr double input_cost = 0.4;

}  // namespace

WinogradPlan::WinogradPlan(const ConvolutionSpec& spec, const WinogradTransform& transform,
                           bool fixed, bool lean, const Features& in)
    : full(spec.full_size(in.size)), fixed(fixed) {
  pitch = round_up(spec.in_channels, 16) + 16;
  // Up to 24 or 32 rows of a product: enough that its weights, streamed from the last-level cache,
  // are not what it waits for, and so few that V fits the second level. A block of a deep kernel
  // has half as many rows of V again.
  const bool deep = spec.kernel[0] > 1;
  const std::int64_t row_floats = transform.places() * pitch / (fixed ? 2 : 1);
  const std::int64_t fit = most_private_floats / row_floats * 2 / (deep ? 3 : 2);
  cut(spec, transform, std::min<std::int64_t>(std::max(fit, least_private_rows), deep ? 32 : 24));
  shared =
      lean || v_rows * row_floats > most_private_floats || blocks * in.batch < 4 * num_threads();
  group = 1;
  together = 1;
  if (!shared) return;
  group = (spec.out_channels + panel - 1) / panel;
  const std::int64_t floats =
      transform.places() * (pitch / (fixed ? 2 : 1) + group * panel);  // of V and M, a tile
  const std::int64_t most_tiles = std::clamp<std::int64_t>(most_shared_floats / floats, 64, 256);
  cut(spec, transform, deep ? 128 : 64);
  together = std::max<std::int64_t>(most_tiles / rows, 1);
  const std::int64_t panel_floats = transform.places() * together * rows * panel;  // of M
  const std::int64_t groups = (group * panel_floats + most_products - 1) / most_products;
  group = (group + groups - 1) / groups;
}

void WinogradPlan::cut(const ConvolutionSpec& spec, const WinogradTransform& transform,
                       std::int64_t most_tiles) {
  const int m = transform.m;
  const Size3& pool = spec.pool;
  const std::int64_t planes =
      spec.kernel[0] > 1 ? round_up(std::min(full[0], 2 * spec.kernel[0] - 2), pool[0]) : pool[0];
  const std::int64_t area = std::max<std::int64_t>(most_tiles / planes, 1);
  const std::int64_t step_y = pool[1] / std::gcd<std::int64_t>(m, pool[1]);
  const std::int64_t step_x = pool[2] / std::gcd<std::int64_t>(m, pool[2]);
  const std::int64_t tiles_y = std::max<std::int64_t>((full[1] + m - 1) / m, 1);
  const std::int64_t tiles_x = std::max<std::int64_t>((full[2] + m - 1) / m, 1);
  // The block whose products, of what it covers beyond the image too, and input cost least.
  tiles = {planes, step_y, step_x};
  double least = 1e300;
  for (std::int64_t x = step_x; x <= std::min<std::int64_t>(8, round_up(tiles_x, step_x));
       x += step_x)
    for (std::int64_t y = step_y; x * y <= area && y <= round_up(tiles_y, step_y); y += step_y) {
      const std::int64_t count = ((tiles_y + y - 1) / y) * ((tiles_x + x - 1) / x);
      const auto pixels =
          static_cast<double>((y * m + transform.r - 1) * (x * m + transform.r - 1));
      const auto products = static_cast<double>(round_up(planes * y * x, dot_rows / 3));
      const double cost = static_cast<double>(count) *
                          (products + input_cost * static_cast<double>(planes) * pixels / (m * m));
      if (cost > least) continue;
      least = cost;
      tiles = {planes, y, x};
    }
  block = {planes, tiles[1] * m, tiles[2] * m};
  packed = {(planes - 1) * spec.stride[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1,
            block[1] + spec.kernel[1] - 1, block[2] + spec.kernel[2] - 1};
  for (int a = 0; a < 3; ++a) count[a] = (full[a] + block[a] - 1) / block[a];
  blocks = count[0] * count[1] * count[2];
  rows = tiles[0] * tiles[1] * tiles[2];
  v_rows = packed[0] * tiles[1] * tiles[2];
}

}  // namespace msf
