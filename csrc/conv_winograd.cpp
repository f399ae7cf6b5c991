// Winograd's minimal filtering F(m x m, 3 x 3): Lavin & Gray, "Fast Algorithms for Convolutional
// Neural Networks", CVPR 2016, with their points 0, 1, -1 (2, -2), infinity.
//
// An m x m tile of the output needs (m + 2)^2 products instead of 9 m^2: 2.25 times fewer for m =
// 2, 4 times for m = 4. Three steps: the input's tiles are transformed into V, channel vector by
// channel vector; each of the (m + 2)^2 places is then a product of matrices, tiles x channels,
// into M; M is transformed back. A stage is as many tiles as take these steps together:
// - up to some 100 channels one block of the output, on one thread, whose V and a panel of M stay
//   in the second-level cache while the weights stream by;
// - beyond, several blocks, on all threads, one barrier a step. Place by place, so that weights,
//   now larger than caches, are read once a stage, each by one thread.
//
// A kernel of several planes sums over them in the transformed domain: each input plane is
// transformed once, for all output planes of the block that it reaches.
//
// The transforms' constants cost accuracy: m = 4 has an error below 1e-4 of the output's largest
// value (tested), m = 2 about that of the direct sum.
#include <algorithm>
#include <array>
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
  static std::array<double, 4> weight(double a, double b, double c) {
    return {a, (a + b + c) / 2, (a - b + c) / 2, c};
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
  static std::array<double, 6> weight(double a, double b, double c) {
    const double near = -(a + c) / 6, far = a / 24 + c / 6;
    return {a / 4, near - b / 6, near + b / 6, far + b / 12, far - b / 12, c};
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
    const std::int64_t chunks = (taps() + pack_chunk - 1) / pack_chunk;
    parallel_tasks(panels_ * chunks,
                   [&](std::int64_t i) { pack(weight, i / chunks, i % chunks * pack_chunk); });
  }

  std::int64_t packed_bytes() const override {
    return (packed_floats() + panels_ * panel) * static_cast<std::int64_t>(sizeof(float));
  }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    const Plan plan(*this, in);
    const Finish finish{spec_, bias_.data(), out, plan.full};
    const std::int64_t blocks = in.batch * plan.blocks;
    const std::int64_t stages = (blocks + plan.together - 1) / plan.together;
    const auto stage = [&](std::int64_t i) {
      const std::int64_t first = i * plan.together;
      run_stage(in, plan, finish, first, std::min(blocks - first, plan.together));
    };
    if (plan.shared)
      for (std::int64_t i = 0; i < stages; ++i) stage(i);
    else
      parallel_tasks(stages, stage);
  }

 private:
  static constexpr std::int64_t pack_chunk = 16;
  static constexpr std::int64_t cached_taps = 256;  // whose weights the first level holds

  // How the output is cut into blocks, and these into stages.
  struct Plan {
    Size3 full, tiles, block, packed, count;   // tiles: (planes, tiles, tiles) of a block
    std::int64_t blocks, rows, v_rows, pitch;  // blocks of an image; rows of a block
    std::int64_t together, group;              // blocks of a stage, panels of M
    bool shared;                               // a stage by all threads

    Plan(const Winograd& layer, const Features& in) : full(layer.spec_.full_size(in.size)) {
      const ConvolutionSpec& spec = layer.spec_;
      pitch = round_up(spec.in_channels, lanes);
      // 24 rows of a product: enough that its weights, streamed from the last-level cache, are not
      // what it waits for, and so few that V fits the second level.
      cut(spec, 24);
      shared =
          places * v_rows * pitch > most_private_floats || blocks * in.batch < 4 * num_threads();
      group = 1;
      together = 1;
      if (!shared) return;
      group = layer.panels_;
      const std::int64_t floats = places * (pitch + group * panel);  // of V and M, a tile
      const std::int64_t most_tiles =
          std::clamp<std::int64_t>(most_shared_floats / floats, 64, 256);
      cut(spec, 64);
      together = std::max<std::int64_t>(most_tiles / rows, 1);
    }

    void cut(const ConvolutionSpec& spec, std::int64_t most_tiles) {
      const Size3& pool = spec.pool;
      const std::int64_t planes =
          spec.kernel[0] > 1 ? round_up(std::min<std::int64_t>(full[0], 2), pool[0]) : pool[0];
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
      rows = tiles[0] * tiles[1] * tiles[2];
      v_rows = packed[0] * tiles[1] * tiles[2];
    }

    std::int64_t packed_floats() const { return packed[0] * packed[1] * packed[2] * panel; }
    std::int64_t strip_floats() const { return n * packed[2] * lanes; }
    std::int64_t block_floats() const { return block[0] * block[1] * block[2] * panel; }
    Box outputs(std::int64_t b) const {
      return {{b / (count[1] * count[2]) * block[0], b / count[2] % count[1] * block[1],
               b % count[2] * block[2]},
              block};
    }
  };
  static constexpr std::int64_t most_private_floats = 120000;  // of V: the second level holds it
  static constexpr std::int64_t most_shared_floats = 2500000;  // of V and M: the last one does

  // Where a stage's V and M are. Strides are off powers of two, which would put all places of a
  // vector into one set of a cache.
  struct Stage {
    const Features& in;
    const Plan& plan;
    const Finish& finish;
    std::int64_t first, count;  // blocks
    std::int64_t rows = round_up(count * plan.rows, dot_rows);
    std::int64_t v_stride = count * plan.v_rows * plan.pitch + 16, m_stride = rows * panel + 16;
    std::int64_t v_floats = round_up(places * v_stride, 16);
    float* v = stage_scratch(v_floats + std::max(plan.group * places * m_stride,
                                                 plan.packed_floats() + plan.strip_floats()));
    float* products = v + v_floats;
  };

  std::int64_t taps() const { return depth_ * spec_.in_channels; }
  std::int64_t packed_floats() const { return panels_ * places * taps() * panel; }

  // For each panel of output channels and each place: dot_panel's weights, planes of the kernel
  // outside, input channels inside. A chunk of those from `first` on.
  void pack(const float* weight, std::int64_t p, std::int64_t first) {
    const std::int64_t in = spec_.in_channels, k_count = taps();
    const std::int64_t count = std::min(pack_chunk, k_count - first);
    alignas(64) float packed[places][pack_chunk][panel];
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t k = first + i;
      double g[9][panel] = {}, half[3][n][panel];
      for (std::int64_t j = 0; j < std::min(panel, spec_.out_channels - p * panel); ++j) {
        const float* const from = weight + (((p * panel + j) * in + k % in) * depth_ + k / in) * 9;
        for (int t = 0; t < 9; ++t) g[t][j] = from[t];
      }
      for (int y = 0; y < 3; ++y)
        for (std::int64_t j = 0; j < panel; ++j) {
          const auto u = Tile<m>::weight(g[3 * y][j], g[3 * y + 1][j], g[3 * y + 2][j]);
          for (int x = 0; x < n; ++x) half[y][x][j] = u[x];
        }
      for (int x = 0; x < n; ++x)
        for (std::int64_t j = 0; j < panel; ++j) {
          const auto u = Tile<m>::weight(half[0][x][j], half[1][x][j], half[2][x][j]);
          for (int y = 0; y < n; ++y) packed[y * n + x][i][j] = static_cast<float>(u[y]);
        }
    }
    for (int place = 0; place < places; ++place)
      std::copy_n(packed[place][0], count * panel,
                  weights_.get() + ((p * places + place) * k_count + first) * panel);
  }

  void run_stage(const Features& in, const Plan& plan, const Finish& finish, std::int64_t first,
                 std::int64_t count) const {
    const Stage s{in, plan, finish, first, count};
    const std::int64_t chunks = (spec_.in_channels + panel - 1) / panel;
    each(count * chunks, plan.shared,
         [&](std::int64_t i) { transform_input(s, i / chunks, i % chunks * panel); });

    const std::int64_t tiles = plan.tiles[1] * plan.tiles[2];
    std::vector<const float*> address(static_cast<std::size_t>(s.rows), s.v);
    for (std::int64_t r = 0; r < count * plan.rows; ++r) {
      const std::int64_t in_block = r % plan.rows;
      const std::int64_t row = r / plan.rows * plan.v_rows +
                               in_block / tiles * spec_.stride[0] * tiles + in_block % tiles;
      address[static_cast<std::size_t>(r)] = s.v + row * plan.pitch;
    }
    const Pieces pieces(*this, s);
    for (std::int64_t p = 0; p < panels_; p += plan.group) {
      const std::int64_t group = std::min(plan.group, panels_ - p);
      // Half a place's panels at least: fewer would load its V for too little.
      const std::int64_t shares = plan.shared && group > 7 ? 2 : 1;
      poll();
      each(places * shares, plan.shared, [&](std::int64_t i) {
        const std::int64_t place = i / shares, share = i % shares;
        multiply(s, address, pieces, place, p, group * share / shares,
                 group * (share + 1) / shares);
      });
      each(count * group, plan.shared, [&](std::int64_t i) {
        float* const sums = task_scratch(3 * plan.block_floats());
        const std::int64_t b = i / group, block = first + b;
        transform_output(plan, s.products + i % group * places * s.m_stride + b * plan.rows * panel,
                         s.m_stride, sums);
        finish(sums, sums + plan.block_floats(), block / plan.blocks, (p + i % group) * panel,
               plan.outputs(block % plan.blocks));
      });
    }
  }

  // A stage's tasks: by all threads, or one after the other on this one.
  template <class F>
  static void each(std::int64_t count, bool shared, F&& f) {
    if (shared) return parallel_tasks(count, f);
    for (std::int64_t i = 0; i < count; ++i) f(i);
  }

  // A row of V at each place as runs, in pieces whose weights stay in the first-level cache for all
  // rows.
  struct Pieces {
    std::vector<Run> runs;             // of all places
    std::vector<std::int64_t> starts;  // of the pieces among a place's runs, and their end

    Pieces(const Winograd& layer, const Stage& s) {
      const ConvolutionSpec& spec = layer.spec_;
      const std::int64_t by_plane =
          spec.dilation[0] * s.plan.tiles[1] * s.plan.tiles[2] * s.plan.pitch;
      for (int place = 0; place < places; ++place)
        for (std::int64_t d = 0; d < layer.depth_; ++d)
          for (std::int64_t c = 0; c < spec.in_channels; c += cached_taps)
            runs.push_back({place * s.v_stride + d * by_plane + c,
                            std::min(cached_taps, spec.in_channels - c)});
      const auto count = static_cast<std::int64_t>(runs.size()) / places;
      for (std::int64_t i = 0, length = cached_taps; i < count; ++i) {
        length += runs[static_cast<std::size_t>(i)].length;
        if (length <= cached_taps) continue;
        starts.push_back(i);
        length = runs[static_cast<std::size_t>(i)].length;
      }
      starts.push_back(count);
    }
  };

  // One place of M, panels [begin, end) of the group that starts at `p`.
  void multiply(const Stage& s, const std::vector<const float*>& address, const Pieces& pieces,
                std::int64_t place, std::int64_t p, std::int64_t begin, std::int64_t end) const {
    const Run* const runs = pieces.runs.data() + place * pieces.starts.back();
    for (std::int64_t g = begin; g < end; ++g) {
      const float* weights = weights_.get() + ((p + g) * places + place) * taps() * panel;
      float* const to = s.products + (g * places + place) * s.m_stride;
      for (std::size_t i = 0; i + 1 < pieces.starts.size(); ++i) {
        const Run *const first = runs + pieces.starts[i], *const last = runs + pieces.starts[i + 1];
        for (std::int64_t r = 0; r < s.rows; r += dot_rows)
          dot_panel(&address[static_cast<std::size_t>(r)], first, last - first, weights,
                    to + r * panel, panel, i > 0);
        for (const Run* run = first; run < last; ++run) weights += run->length * panel;
      }
    }
  }

  // A panel of channels from c on, of block `b` of the stage.
  void transform_input(const Stage& s, std::int64_t b, std::int64_t c) const {
    const Plan& plan = s.plan;
    const std::int64_t block = s.first + b;
    Box from = plan.outputs(block % plan.blocks);
    for (int a = 0; a < 3; ++a) from.at[a] = from.at[a] * spec_.stride[a] - spec_.before[a];
    from.size = plan.packed;
    // A private stage's products come after its input: they share their place in the cache.
    float* const packed =
        plan.shared ? task_scratch(plan.packed_floats() + plan.strip_floats()) : s.products;
    pack_box(s.in, block / plan.blocks, c, std::min(panel, spec_.in_channels - c), from, packed,
             panel);
    for (std::int64_t i = 0; i < panel && c + i < spec_.in_channels; i += lanes)
      transform_tiles(plan, packed + i, packed + plan.packed_floats(),
                      s.v + b * plan.v_rows * plan.pitch + c + i, s.v_stride);
  }

  // packed: a panel of channels for each pixel, of which a vector is transformed into v.
  [[gnu::noinline]] void transform_tiles(const Plan& plan, const float* packed, float* strip,
                                         float* v, std::int64_t v_stride) const {
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
            for (int x = 0; x < n; ++x) store_lanes(to + (y * n + x) * v_stride, t[x]);
          }
        }
      }
  }

  [[gnu::noinline]] void transform_output(const Plan& plan, const float* products,
                                          std::int64_t stride, float* sums) const {
    const std::int64_t width = plan.block[2];
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
