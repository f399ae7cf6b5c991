// Winograd's minimal filtering F(m x m, r x r): Lavin & Gray, "Fast Algorithms for Convolutional
// Neural Networks", CVPR 2016; their transforms are in conv_winograd_tiles.cpp.
//
// An m x m tile of the output needs (m + r - 1)^2 products instead of (r m)^2: for r = 3, 2.25
// times fewer with m = 2, 4 times with m = 4; for r = 5, 2.8 and 6.25 times. Three steps: the
// input's tiles are transformed into V, channel vector by channel vector; each of the places is
// then a product of matrices, tiles x channels, into M; M is transformed back. A stage is as many
// tiles as take these steps together:
// - up to some 100 channels one block of the output, on one thread, whose V and a panel of M stay
//   in the second-level cache while the weights stream by;
// - beyond, several blocks, on all threads, one barrier a step. Place by place, so that weights,
//   now larger than caches, are read once a stage, each by one thread.
//
// A kernel of several planes sums over them in the transformed domain: each input plane is
// transformed once, for all output planes of the block that it reaches.
//
// The transforms' constants cost accuracy: F(4 x 4, 3 x 3) has an error below 1e-5 of the output's
// largest value (tested), m = 2 about that of the direct sum for 3 taps, below 2e-5 for 5.
// F(6 x 6, 3 x 3) takes 5 to 15 % less time than F(4 x 4, 3 x 3) where edges leave little over,
// with four times its error: it is for fixed point alone.
//
// In fixed point V and weights are 16-bit integers, of which one instruction multiplies and adds up
// pairs: V in multiples of a tile's own scale for each run of fixed_run channels, weights of one
// for each of those, place and output channel, so small that no sum overflows. Its error is 0.04 to
// 0.07 % of the outputs' deviation, or 0.15 to 0.25 % for m = 6, which is about that of features
// and weights rounded to bfloat16 (V and weights in bfloat16 would have 1 to 2 %).
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "conv_winograd.hpp"
#include "conv_winograd_plan.hpp"
#include "conv_winograd_weights.hpp"
#include "conv_words.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

// What V and weights are: floats, or integers multiplied by one of these.
struct FloatProducts {
  using Value = float;
};
template <class Products>
struct FixedProducts : Products {
  using Value = std::int16_t;
};

template <class A>
class Winograd final : public Convolution {
  using Value = typename A::Value;
  static constexpr bool fixed = std::is_same_v<Value, std::int16_t>;

 public:
  Winograd(const ConvolutionSpec& spec, const float* weight, const float* bias, int m)
      : spec_(spec),
        transform_(winograd_transform(m, static_cast<int>(spec.kernel[1]))),
        places_(transform_.places()),
        panels_((spec.out_channels + panel - 1) / panel),
        depth_(spec.kernel[0]),
        weights_(spec, transform_, weight, fixed),
        bias_(static_cast<std::size_t>(panels_ * panel)) {
    if (bias) std::copy_n(bias, spec.out_channels, bias_.begin());
  }

  std::int64_t packed_bytes() const override {
    return weights_.bytes() + static_cast<std::int64_t>(bias_.size() * sizeof(float));
  }

  void run(const Features& in, const ConvolutionOutputs& out) const override {
    const Plan plan(spec_, transform_, fixed, weights_.lean, in);
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
  static constexpr std::int64_t cached_taps = 256;  // whose weights the first level holds

  using Plan = WinogradPlan;

  // Where a stage's V and M are. Strides are off powers of two, which would put all places of a
  // vector into one set of a cache.
  struct Stage {
    const std::int64_t places, unit, units;
    const Features& in;
    const Plan& plan;
    const Finish& finish;
    std::int64_t first, count;  // blocks
    std::int64_t used = count * plan.rows, rows = round_up(used, dot_rows);
    std::int64_t v_stride = count * plan.v_rows * plan.pitch + 16, m_stride = rows * panel + 16;
    std::int64_t v_floats = round_up(places * v_stride / (fixed ? 2 : 1), 16);
    std::int64_t scale_floats = fixed ? round_up(count * plan.v_rows * units, 16) : 0;
    float* scales = stage_scratch(scale_floats + v_floats +
                                  std::max(plan.group * places * m_stride,
                                           plan.packed_floats(unit) + plan.strip_floats(unit)));
    Value* v = reinterpret_cast<Value*>(scales + scale_floats);
    float* products = scales + scale_floats + v_floats;
  };

  void run_stage(const Features& in, const Plan& plan, const Finish& finish, std::int64_t first,
                 std::int64_t count) const {
    const Stage s{places_, weights_.unit, weights_.units, in, plan, finish, first, count};
    tasks(count * weights_.units, plan.shared, [&](std::int64_t i) {
      transform_input(s, i / weights_.units, i % weights_.units * weights_.unit);
    });

    const std::int64_t tiles = plan.tiles[1] * plan.tiles[2];
    std::vector<const Value*> address(static_cast<std::size_t>(s.rows), s.v);
    std::vector<const float*> scales(static_cast<std::size_t>(fixed ? s.rows : 0), s.scales);
    for (std::int64_t r = 0; r < count * plan.rows; ++r) {
      const std::int64_t in_block = r % plan.rows;
      const std::int64_t row = r / plan.rows * plan.v_rows +
                               in_block / tiles * spec_.stride[0] * tiles + in_block % tiles;
      address[static_cast<std::size_t>(r)] = s.v + row * plan.pitch;
      if (fixed) scales[static_cast<std::size_t>(r)] = s.scales + row * weights_.units;
    }
    const Pieces pieces(*this, s);
    for (std::int64_t p = 0; p < panels_; p += plan.group) {
      const std::int64_t group = std::min(plan.group, panels_ - p);
      // Half a place's panels at least: fewer would load its V for too little.
      const std::int64_t shares = plan.shared && group > 7 ? 2 : 1;
      poll();
      const auto by_place = [&](auto&& multiply_place) {
        tasks(places_ * shares, plan.shared, [&](std::int64_t i) {
          const std::int64_t place = i / shares, share = i % shares;
          multiply_place(place, group * share / shares, group * (share + 1) / shares);
        });
      };
      if (weights_.lean)
        multiply_lean(s, address, scales, p, group);
      else
        by_place([&](std::int64_t place, std::int64_t begin, std::int64_t end) {
          if constexpr (fixed)
            multiply_fixed(s, address, scales, place, p, begin, end);
          else
            multiply(s, address, pieces, place, p, begin, end);
        });
      tasks(count * group, plan.shared, [&](std::int64_t i) {
        float* const sums = task_scratch(3 * plan.block_floats());
        const std::int64_t b = i / group, block = first + b;
        transform_output(plan, vectors_of(p + i % group, spec_.out_channels),
                         s.products + i % group * places_ * s.m_stride + b * plan.rows * panel,
                         s.m_stride, sums);
        finish(sums, sums + plan.block_floats(), block / plan.blocks, (p + i % group) * panel,
               plan.outputs(block % plan.blocks));
      });
    }
  }

  // From one place's weights of `count` channels to the next: off powers of two, see Stage.
  static std::int64_t apart(std::int64_t count) { return count * panel + 64 / sizeof(Value); }

  // A row of V at each place as runs, in pieces whose weights stay in the first-level cache for all
  // rows.
  struct Pieces {
    std::vector<Run> runs;             // of all places
    std::vector<std::int64_t> starts;  // of the pieces among a place's runs, and their end

    Pieces(const Winograd& layer, const Stage& s) {
      const ConvolutionSpec& spec = layer.spec_;
      const std::int64_t by_plane =
          spec.dilation[0] * s.plan.tiles[1] * s.plan.tiles[2] * s.plan.pitch;
      for (std::int64_t place = 0; place < layer.places_; ++place)
        for (std::int64_t d = 0; d < layer.depth_; ++d)
          for (std::int64_t c = 0; c < spec.in_channels; c += cached_taps)
            runs.push_back({place * s.v_stride + d * by_plane + c,
                            std::min(cached_taps, spec.in_channels - c)});
      const auto count = static_cast<std::int64_t>(runs.size()) / layer.places_;
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
      const float* weights = weights_.floats(p + g, place);
      float* const to = s.products + (g * places_ + place) * s.m_stride;
      for (std::size_t i = 0; i + 1 < pieces.starts.size(); ++i) {
        const Run *const first = runs + pieces.starts[i], *const last = runs + pieces.starts[i + 1];
        for (std::int64_t r = 0; r < s.used; r += dot_rows) {
          const auto dot = for_rows(s.used - r, [&]<int n>() {
            return vectors_of(p + g, spec_.out_channels) == 1 ? &dot_panel<n, 1> : &dot_panel<n>;
          });
          dot(&address[static_cast<std::size_t>(r)], first, last - first, weights, to + r * panel,
              panel, i > 0);
        }
        for (const Run* run = first; run < last; ++run) weights += run->length * panel;
      }
    }
  }

  void multiply_fixed(const Stage& s, const std::vector<const std::int16_t*>& address,
                      const std::vector<const float*>& scales, std::int64_t place, std::int64_t p,
                      std::int64_t begin, std::int64_t end) const {
    constexpr std::int64_t line = 32;  // words
    const std::int64_t even = round_up(spec_.in_channels, 2);
    const std::int64_t by_plane = spec_.dilation[0] * s.plan.tiles[1] * s.plan.tiles[2];
    for (std::int64_t g = begin; g < end; ++g) {
      const std::int16_t* weights = weights_.words(p + g, place);
      const float* columns = weights_.scales_of(p + g, place);
      float* const to = s.products + (g * places_ + place) * s.m_stride;
      for (std::int64_t z = 0; z < depth_; ++z)
        for (std::int64_t u = 0; u < weights_.units; ++u, columns += panel) {
          const std::int64_t c = u * weights_.unit, length = std::min(weights_.unit, even - c);
          const FixedRun some{{place * s.v_stride + z * by_plane * s.plan.pitch + c, length},
                              z * by_plane * weights_.units + u};
          // The next weights come from memory or the last-level cache: they are asked for bit by
          // bit during these products, as they would hold up the first rows of their own.
          const bool last = z + 1 == depth_ && u + 1 == weights_.units;
          const std::int16_t* next =
              last ? weights_.words(p + g + 1, place) : weights + length * panel;
          const std::int16_t* const none = last && g + 1 == end ? next : next + length * panel;
          const std::int64_t share = (length * panel / line * dot_rows + s.used - 1) / s.used;
          for (std::int64_t r = 0; r < s.used; r += dot_rows) {
            for (const std::int16_t* const stop = std::min(none, next + share * line); next < stop;
                 next += line)
              __builtin_prefetch(next, 0, 2);
            const auto dot = for_rows(s.used - r, [&]<int n>() {
              return vectors_of(p + g, spec_.out_channels) == 1 ? &dot_fixed<A, n, 1>
                                                                : &dot_fixed<A, n>;
            });
            dot(&address[static_cast<std::size_t>(r)], &scales[static_cast<std::size_t>(r)], some,
                weights, columns, to + r * panel, z + u > 0);
          }
          weights += length * panel;
        }
    }
  }

  // All places of M, of `group` panels from p on, panel by panel: its M stays in the second-level
  // cache while its filters are transformed, some input channels at a time. V comes from further
  // away, but is asked for in time.
  void multiply_lean(const Stage& s, const std::vector<const Value*>& address,
                     const std::vector<const float*>& scales, std::int64_t p,
                     std::int64_t group) const {
    constexpr std::int64_t together = fixed ? 1 : 2;
    const std::int64_t chunk = fixed ? weights_.unit : 32;
    tasks((group + together - 1) / together, s.plan.shared, [&](std::int64_t task) {
      const std::int64_t first = task * together, panels = std::min(together, group - first);
      auto* const filters = reinterpret_cast<Value*>(
          task_scratch(together * places_ * apart(chunk) * sizeof(Value) / sizeof(float)));
      for (std::int64_t z = 0; z < depth_; ++z)
        for (std::int64_t c = 0; c < spec_.in_channels; c += chunk) {
          poll();
          const std::int64_t count = std::min(chunk, spec_.in_channels - c);
          const std::int64_t by_place = apart(round_up(count, 2));
          for (std::int64_t g = 0; g < panels; ++g)
            weights_.transformed(p + first + g, z * spec_.in_channels + c, count,
                                 filters + g * places_ * by_place, by_place);
          for (std::int64_t i = 0; i < places_ * panels; ++i) {
            const std::int64_t place = i / panels, g = i % panels;
            multiply_some(s, address, scales, {p + first + g, place, z, c, count},
                          filters + (g * places_ + place) * by_place,
                          s.products + ((first + g) * places_ + place) * s.m_stride);
          }
        }
    });
  }

  // Of a place of a panel: some input channels, in a plane of the kernel.
  struct Some {
    std::int64_t panel, place, z, c, count;
  };

  // Adds their products, for all rows of V, to `to`.
  void multiply_some(const Stage& s, const std::vector<const Value*>& address,
                     const std::vector<const float*>& scales, const Some& some,
                     const Value* filters, float* to) const {
    constexpr std::int64_t line = 64 / sizeof(Value);
    const std::int64_t plane = some.z * spec_.dilation[0] * s.plan.tiles[1] * s.plan.tiles[2];
    const std::int64_t offset = some.place * s.v_stride + plane * s.plan.pitch + some.c;
    const bool more = some.z + some.c > 0;
    for (std::int64_t r = 0; r < s.used; r += dot_rows, to += dot_rows * panel) {
      const bool last = r + dot_rows >= s.used;
      for (std::int64_t i = last ? 0 : r + dot_rows, end = i + dot_rows; i < end; ++i)
        for (std::int64_t j = 0; j < some.count; j += line)
          __builtin_prefetch(address[static_cast<std::size_t>(i)] + offset +
                             (last ? s.v_stride : 0) + j);
      const Value* const* const rows = &address[static_cast<std::size_t>(r)];
      if constexpr (fixed) {
        const std::int64_t unit = some.c / weights_.unit;
        const auto dot = for_rows(s.used - r, []<int n>() { return &dot_fixed<A, n>; });
        dot(rows, &scales[static_cast<std::size_t>(r)],
            {{offset, round_up(some.count, 2)}, plane * weights_.units + unit}, filters,
            weights_.scales_of(some.panel, some.place) + (some.z * weights_.units + unit) * panel,
            to, more);
      } else {
        const Run run{offset, some.count};
        const auto dot = for_rows(s.used - r, []<int n>() { return &dot_panel<n>; });
        dot(rows, &run, 1, filters, to, panel, more);
      }
    }
  }

  // A unit of channels from c on, of block `b` of the stage.
  void transform_input(const Stage& s, std::int64_t b, std::int64_t c) const {
    const Plan& plan = s.plan;
    const std::int64_t block = s.first + b;
    Box from = plan.outputs(block % plan.blocks);
    for (int a = 0; a < 3; ++a) from.at[a] = from.at[a] * spec_.stride[a] - spec_.before[a];
    from.size = plan.packed;
    const std::int64_t channels = std::min(weights_.unit, spec_.in_channels - c);
    Value* const v = s.v + b * plan.v_rows * plan.pitch + c;
    // A private stage's products come after its input: they share their place in the cache.
    const std::int64_t floats = plan.packed_floats(weights_.unit);
    float* const packed =
        plan.shared ? task_scratch(floats + plan.strip_floats(weights_.unit)) : s.products;
    if constexpr (fixed) {
      std::array<PixelRows, fixed_run / lanes> maps;
      std::size_t count = maps_in_place(s.in, block / plan.blocks, c, channels, from, maps);
      if (count == 0) {
        pack_box(s.in, block / plan.blocks, c, channels, from, packed, weights_.unit);
        const std::int64_t by_row = plan.packed[2] * weights_.unit,
                           vectors = round_up(channels, lanes) / lanes;
        maps[count++] = {packed, DType::float32,          0,  vectors,    weights_.unit,
                         by_row, plan.packed[1] * by_row, {}, plan.packed};
      }
      transform_fixed(plan, {maps.data(), count}, packed + floats, v, s.v_stride,
                      s.scales + b * plan.v_rows * weights_.units + c / weights_.unit);
    } else {
      pack_box(s.in, block / plan.blocks, c, channels, from, packed, weights_.unit);
      for (std::int64_t i = 0; i < channels; i += lanes)
        transform_tiles(plan, packed + i, packed + floats, v + i, s.v_stride);
    }
  }

  // Where `channels` from c on of a box lie as whole vectors, map by map: how many maps that are, 0
  // if they do not all lie so.
  static std::size_t maps_in_place(const Features& in, std::int64_t n, std::int64_t c,
                                   std::int64_t channels, const Box& box,
                                   std::span<PixelRows> maps) {
    Size3 begin, end;
    for (std::size_t a = 0; a < 3; ++a) {
      begin[a] = std::max<std::int64_t>(-box.at[a], 0);
      end[a] = std::min(in.size[a] - box.at[a], box.size[a]);
    }
    std::size_t count = 0;
    bool all = true;
    for_each_map(in, c, channels, [&](const Features& map, std::int64_t at_c, std::int64_t here) {
      all = all && map.channel_stride == 1 && here % lanes == 0;
      if (!all) return;
      maps[count++] = {map.data,      map.dtype,     map.offset(n, at_c, box.at),
                       here / lanes,  map.stride[2], map.stride[1],
                       map.stride[0], begin,         end};
    });
    return all ? count : 0;
  }

  void transform_fixed(const Plan& plan, std::span<const PixelRows> maps, float* scratch,
                       std::int16_t* v, std::int64_t v_stride, float* scales) const {
    const std::int64_t across = plan.tiles[2];
    std::array<PixelRows, fixed_run / lanes> rows;
    for (std::int64_t z = 0; z < plan.packed[0]; ++z)
      for (std::int64_t ty = 0; ty < plan.tiles[1]; ++ty) {
        const std::int64_t row = (z * plan.tiles[1] + ty) * across;
        std::transform(maps.begin(), maps.end(), rows.begin(),
                       [&](const PixelRows& map) { return map.from(z, ty * transform_.m); });
        transform_.input_fixed({rows.data(), maps.size()}, plan.packed[2], across, scratch,
                               v + row * plan.pitch, plan.pitch, v_stride,
                               scales + row * weights_.units, weights_.units);
      }
  }

  // packed: a panel of channels for each pixel, of which a vector is transformed into v.
  void transform_tiles(const Plan& plan, const float* packed, float* strip, float* v,
                       std::int64_t v_stride) const {
    const std::int64_t width = plan.packed[2];
    for (std::int64_t z = 0; z < plan.packed[0]; ++z)
      for (std::int64_t ty = 0; ty < plan.tiles[1]; ++ty)
        transform_.input(
            packed + (z * plan.packed[1] + ty * transform_.m) * width * panel, width, plan.tiles[2],
            strip, v + (z * plan.tiles[1] + ty) * plan.tiles[2] * plan.pitch, plan.pitch, v_stride);
  }

  void transform_output(const Plan& plan, int vectors, const float* products, std::int64_t stride,
                        float* sums) const {
    const std::int64_t width = plan.block[2], across = plan.tiles[2];
    for (std::int64_t z = 0; z < plan.tiles[0]; ++z)
      for (std::int64_t ty = 0; ty < plan.tiles[1]; ++ty, products += across * panel)
        transform_.output(products, stride, across, vectors,
                          sums + (z * plan.block[1] + ty * transform_.m) * width * panel, width);
  }

  ConvolutionSpec spec_;
  const WinogradTransform& transform_;
  std::int64_t places_, panels_, depth_;
  WinogradWeights weights_;
  std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<Convolution> make_winograd(const ConvolutionSpec& spec, const float* weight,
                                           const float* bias, int m) {
  return std::make_unique<Winograd<FloatProducts>>(spec, weight, bias, m);
}

std::unique_ptr<Convolution> make_winograd_fixed(const ConvolutionSpec& spec, const float* weight,
                                                 const float* bias, int m) {
#if defined(__AVX512F__)
  if (have_byte_products())
    return std::make_unique<Winograd<FixedProducts<HardwareWords>>>(spec, weight, bias, m);
#endif
  return std::make_unique<Winograd<FixedProducts<Words>>>(spec, weight, bias, m);
}

}  // namespace msf
