// Winograd's minimal filtering F(m x m, 3 x 3): Lavin & Gray, "Fast Algorithms for Convolutional
// Neural Networks", CVPR 2016, with their points 0, 1, -1 (2, -2), infinity.
//
// An m x m tile of the output needs (m + 2)^2 products instead of 9 m^2: 2.25 times fewer for m =
// 2, 4 times for m = 4. A task transforms the tiles of its block, channel vector by channel vector;
// each of the (m + 2)^2 places is then a product of matrices, tiles x channels; the results are
// transformed back. Unlike the usual three passes over all of memory, V (transformed input) and M
// (products) of a block stay in the second-level cache.
//
// A kernel of several planes sums over them in the transformed domain: each input plane is
// transformed once, for all output planes of the block that it reaches.
//
// The transforms' constants cost accuracy: m = 4 has an error below 1e-4 of the output's largest
// value (tested), m = 2 about that of the direct sum.
#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

template <int m>
struct Tile;

template <>
struct Tile<2> {
  static void input(const Lanes (&d)[4], Lanes (&t)[4]) {
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[1] - d[3];
  }
  static void output(const Lanes (&t)[4], Lanes (&o)[2]) {
    o[0] = t[0] + t[1] + t[2];
    o[1] = t[1] - t[2] - t[3];
  }
  static void weight(const double (&g)[3], double (&u)[4]) {
    u[0] = g[0];
    u[1] = (g[0] + g[1] + g[2]) / 2;
    u[2] = (g[0] - g[1] + g[2]) / 2;
    u[3] = g[2];
  }
};

template <>
struct Tile<4> {
  static void input(const Lanes (&d)[6], Lanes (&t)[6]) {
    const Lanes even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
    const Lanes far = d[4] - d[2], near = 2.0f * (d[3] - d[1]);
    t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    t[1] = even + odd;
    t[2] = even - odd;
    t[3] = far + near;
    t[4] = far - near;
    t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
  }
  static void output(const Lanes (&t)[6], Lanes (&o)[4]) {
    const Lanes sum1 = t[1] + t[2], sum2 = t[3] + t[4];
    const Lanes difference1 = t[1] - t[2], difference2 = t[3] - t[4];
    o[0] = t[0] + sum1 + sum2;
    o[1] = difference1 + 2.0f * difference2;
    o[2] = sum1 + 4.0f * sum2;
    o[3] = difference1 + 8.0f * difference2 + t[5];
  }
  static void weight(const double (&g)[3], double (&u)[6]) {
    u[0] = g[0] / 4;
    u[1] = -(g[0] + g[1] + g[2]) / 6;
    u[2] = -(g[0] - g[1] + g[2]) / 6;
    u[3] = g[0] / 24 + g[1] / 12 + g[2] / 6;
    u[4] = g[0] / 24 - g[1] / 12 + g[2] / 6;
    u[5] = g[2];
  }
};

std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

template <int m>
class Winograd final : public Convolution {
 public:
  static constexpr int n = m + 2, places = n * n;

  Winograd(const ConvolutionSpec& spec, const float* weight, const float* bias)
      : spec_(spec),
        panels_((spec.out_channels + panel - 1) / panel),
        depth_(spec.kernel[0]),
        weights_(aligned_floats(packed_floats())),
        bias_(static_cast<std::size_t>(panels_ * panel)) {
    if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
    parallel_tasks(panels_, [&](std::int64_t p) { pack(weight, p); });
  }

  std::int64_t packed_bytes() const override {
    return (packed_floats() + panels_ * panel) * static_cast<std::int64_t>(sizeof(float));
  }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    const Plan plan(*this, in.size);
    const Finish finish{spec_, bias_.data(), out, plan.full};
    const TaskGrid grid(in.batch * plan.blocks, panels_, 8);
    parallel_tasks(grid.count(), [&](std::int64_t task) {
      const std::int64_t number = grid.block(task), b = number % plan.blocks;
      run_block(in, plan, finish, number / plan.blocks,
                {b / (plan.count[1] * plan.count[2]), b / plan.count[2] % plan.count[1],
                 b % plan.count[2]},
                grid.first_panel(task), grid.last_panel(task));
    });
  }

 private:
  // How the output is cut into blocks, and a task's scratch memory.
  struct Plan {
    Size3 full, tiles, block, packed, count;  // tiles: (planes, tiles, tiles) of a block
    std::int64_t blocks, rows, pitch, place_stride, group;

    Plan(const Winograd& layer, const Size3& in) : full(layer.spec_.full_size(in)) {
      const ConvolutionSpec& spec = layer.spec_;
      const Size3& pool = spec.pool;
      // 24 rows of a product: enough that its weights, streamed from the last-level cache, are not
      // what it waits for, and so few that V fits the second level up to some 100 channels.
      const std::int64_t planes =
          spec.kernel[0] > 1 ? round_up(std::min<std::int64_t>(full[0], 2), pool[0]) : pool[0];
      // Weights of many channels are larger than caches: more rows, so that they are read less
      // often.
      const std::int64_t most_tiles = spec.in_channels >= 256 ? 64 : 24;
      const std::int64_t area = std::max<std::int64_t>(most_tiles / planes, 1);
      const std::int64_t step_y = pool[1] / std::gcd<std::int64_t>(m, pool[1]);
      const std::int64_t step_x = pool[2] / std::gcd<std::int64_t>(m, pool[2]);
      const std::int64_t tiles_y = (full[1] + m - 1) / m, tiles_x = (full[2] + m - 1) / m;
      std::int64_t across = 1, waste = tiles_x + 8;
      for (std::int64_t c = 1; c <= std::min<std::int64_t>(8, tiles_x); ++c)
        if (area % c == 0 && round_up(tiles_x, c) <= waste) {
          across = c;
          waste = round_up(tiles_x, c);
        }
      tiles = {planes, round_up(std::min(area / across, tiles_y), step_y),
               round_up(across, step_x)};
      block = {planes, tiles[1] * m, tiles[2] * m};
      packed = {(planes - 1) * spec.stride[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1,
                block[1] + 2, block[2] + 2};
      for (int a = 0; a < 3; ++a) count[a] = (full[a] + block[a] - 1) / block[a];
      blocks = count[0] * count[1] * count[2];
      rows = round_up(tiles[0] * tiles[1] * tiles[2], dot_rows);
      pitch = round_up(spec.in_channels, lanes);
      // Off powers of two, which would put all places of a vector into one set of the cache.
      place_stride = packed[0] * tiles[1] * tiles[2] * pitch + 16;
      group = spec.in_channels >= 256 ? 2 : 1;
    }
    std::int64_t packed_floats() const { return packed[0] * packed[1] * packed[2] * panel; }
    std::int64_t strip_floats() const { return packed_floats() + n * packed[2] * lanes; }
    std::int64_t product_floats() const { return group * places * rows * panel; }
    std::int64_t block_floats() const { return block[0] * block[1] * block[2] * panel; }
    std::int64_t scratch_floats() const {
      return places * place_stride + std::max(strip_floats(), product_floats()) +
             3 * block_floats();
    }
  };

  std::int64_t taps() const { return depth_ * spec_.in_channels; }
  std::int64_t packed_floats() const { return panels_ * places * taps() * panel; }

  // For each panel of output channels and each place: dot_panel's weights, planes of the kernel
  // outside, input channels inside.
  void pack(const float* weight, std::int64_t p) {
    const std::int64_t in = spec_.in_channels, k_count = taps();
    float* const to = weights_.get() + p * places * k_count * panel;
    for (std::int64_t j = 0; j < panel; ++j) {
      const std::int64_t o = p * panel + j;
      for (std::int64_t k = 0; k < k_count; ++k) {
        double u[n][n] = {};
        if (o < spec_.out_channels) {
          const float* const g = weight + ((o * in + k % in) * depth_ + k / in) * 9;
          double half[3][n];
          for (int y = 0; y < 3; ++y)
            Tile<m>::weight({g[3 * y], g[3 * y + 1], g[3 * y + 2]}, half[y]);
          for (int x = 0; x < n; ++x) {
            double column[n];
            Tile<m>::weight({half[0][x], half[1][x], half[2][x]}, column);
            for (int y = 0; y < n; ++y) u[y][x] = column[y];
          }
        }
        for (int place = 0; place < places; ++place)
          to[(place * k_count + k) * panel + j] = static_cast<float>(u[place / n][place % n]);
      }
    }
  }

  void run_block(const Features& in, const Plan& plan, const Finish& finish, std::int64_t image,
                 const Size3& place, std::int64_t first_panel, std::int64_t last_panel) const {
    Box to{{}, plan.block}, from{{}, plan.packed};
    for (int a = 0; a < 3; ++a) {
      to.at[a] = place[a] * plan.block[a];
      from.at[a] = to.at[a] * spec_.stride[a] - spec_.before[a];
    }
    float* const v = task_scratch(plan.scratch_floats());
    float* const products = v + places * plan.place_stride;
    float* const sums = products + std::max(plan.strip_floats(), plan.product_floats());
    float* const strip = products + plan.packed_floats();
    // Two vectors of channels at a time: whole cache lines of features that are channels-last.
    for (std::int64_t c = 0; c < spec_.in_channels; c += panel) {
      pack_box(in, image, c, std::min(panel, spec_.in_channels - c), from, products, panel);
      for (std::int64_t i = 0; i < panel && c + i < spec_.in_channels; i += lanes)
        transform_input(plan, products + i, strip, v + c + i);
    }

    const std::int64_t tiles = plan.tiles[1] * plan.tiles[2], k_count = taps();
    std::vector<const float*> address(static_cast<std::size_t>(plan.rows), v);
    for (std::int64_t r = 0; r < plan.tiles[0] * tiles; ++r)
      address[static_cast<std::size_t>(r)] =
          v + (r / tiles * spec_.stride[0] * tiles + r % tiles) * plan.pitch;
    std::vector<Run> runs(static_cast<std::size_t>(depth_));
    for (std::int64_t p = first_panel; p < last_panel; p += plan.group) {
      const std::int64_t group = std::min(plan.group, last_panel - p);
      poll();
      for (std::int64_t i = 0; i < places; ++i) {
        for (std::int64_t d = 0; d < depth_; ++d)
          runs[static_cast<std::size_t>(d)] = {
              i * plan.place_stride + d * spec_.dilation[0] * tiles * plan.pitch,
              spec_.in_channels};
        for (std::int64_t g = 0; g < group; ++g)
          for (std::int64_t r = 0; r < plan.rows; r += dot_rows)
            dot_panel(&address[static_cast<std::size_t>(r)], runs.data(), depth_,
                      weights_.get() + ((p + g) * places + i) * k_count * panel,
                      products + ((g * places + i) * plan.rows + r) * panel, panel);
      }
      for (std::int64_t g = 0; g < group; ++g) {
        transform_output(plan, products + g * places * plan.rows * panel, sums);
        finish(sums, sums + plan.block_floats(), image, (p + g) * panel, to);
      }
    }
  }

  // packed: a panel of channels for each pixel, of which a vector is transformed into v.
  [[gnu::noinline]] void transform_input(const Plan& plan, const float* packed, float* strip,
                                         float* v) const {
    const std::int64_t width = plan.packed[2];
    for (std::int64_t z = 0; z < plan.packed[0]; ++z)
      for (std::int64_t ty = 0; ty < plan.tiles[1]; ++ty) {
        const float* const rows = packed + (z * plan.packed[1] + ty * m) * width * panel;
        for (std::int64_t x = 0; x < width; ++x) {
          Lanes d[n], t[n];
          for (int y = 0; y < n; ++y) d[y] = load_lanes(rows + (y * width + x) * panel);
          Tile<m>::input(d, t);
          for (int y = 0; y < n; ++y) store_lanes(strip + (y * width + x) * lanes, t[y]);
        }
        for (std::int64_t tx = 0; tx < plan.tiles[2]; ++tx) {
          float* const to = v + ((z * plan.tiles[1] + ty) * plan.tiles[2] + tx) * plan.pitch;
          for (int y = 0; y < n; ++y) {
            Lanes d[n], t[n];
            for (int x = 0; x < n; ++x) d[x] = load_lanes(strip + (y * width + tx * m + x) * lanes);
            Tile<m>::input(d, t);
            for (int x = 0; x < n; ++x) store_lanes(to + (y * n + x) * plan.place_stride, t[x]);
          }
        }
      }
  }

  [[gnu::noinline]] void transform_output(const Plan& plan, const float* products,
                                          float* sums) const {
    const std::int64_t width = plan.block[2], stride = plan.rows * panel;
    std::int64_t r = 0;
    for (std::int64_t z = 0; z < plan.tiles[0]; ++z)
      for (std::int64_t ty = 0; ty < plan.tiles[1]; ++ty)
        for (std::int64_t tx = 0; tx < plan.tiles[2]; ++tx, ++r)
          for (int half = 0; half < 2; ++half) {
            const float* const from = products + r * panel + half * lanes;
            float* const to =
                sums + ((z * plan.block[1] + ty * m) * width + tx * m) * panel + half * lanes;
            Lanes columns[m][n];
            for (int x = 0; x < n; ++x) {
              Lanes t[n], o[m];
              for (int y = 0; y < n; ++y) t[y] = load_lanes(from + (y * n + x) * stride);
              Tile<m>::output(t, o);
              for (int y = 0; y < m; ++y) columns[y][x] = o[y];
            }
            for (int y = 0; y < m; ++y) {
              Lanes o[m];
              Tile<m>::output(columns[y], o);
              for (int x = 0; x < m; ++x) store_lanes(to + (y * width + x) * panel, o[x]);
            }
          }
  }

  ConvolutionSpec spec_;
  std::int64_t panels_, depth_;
  AlignedFloats weights_;
  std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<Convolution> make_winograd(const ConvolutionSpec& spec, const float* weight,
                                           const float* bias, int m) {
  if (m == 2) return std::make_unique<Winograd<2>>(spec, weight, bias);
  return std::make_unique<Winograd<4>>(spec, weight, bias);
}

}  // namespace msf
