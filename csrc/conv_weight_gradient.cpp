// The gradient of a convolution's weights: the transpose of Winograd's F(4 x 4, r x r).
//
// Of the algorithm in conv_winograd.cpp, output = A(V * U), where V are transformed tiles of the
// input and U transformed weights, each step is linear. So the gradient of U at a place is the sum
// over tiles of V times E, the gradient of the output's tiles spread by the transpose of A: a
// product of matrices, channels x tiles x channels, 4 times fewer products than there are taps to
// sum for r = 3; and what U was made of gets it by the transpose of the filters' transform.
//
// A stage is a box of tiles, planes by rows. With few channels the sums and a stage's V and E stay
// together in the second-level cache: each thread takes stages of its own, into sums of a fixed
// number of parts of all stages, which are added up at the end. With more channels the sums are
// larger than that cache, but so are the products of each value: a stage is what the last-level
// cache holds, and all threads first transform, then multiply it, place by place. How tiles are cut
// does not depend on the number of threads, and neither do the sums' orders.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "conv_winograd.hpp"
#include "kept_memory.hpp"
#include "parallel.hpp"

namespace msf {

namespace {

// to[r] (+)= sums over tiles of v[r] times a panel of e; of its vectors, as of to's, the first
// alone if there is one of `halves`.
template <int count, int halves>
[[gnu::noinline]] void add_products(const float* v, std::int64_t v_pitch, const float* e,
                                    std::int64_t e_pitch, std::int64_t tiles, float* to,
                                    bool accumulate) {
  Lanes sum[count][halves] = {};
  if (accumulate) {
#pragma GCC unroll 12
    for (int r = 0; r < count; ++r)
      for (int h = 0; h < halves; ++h) sum[r][h] = load_lanes(to + r * panel + h * lanes);
  }
  for (std::int64_t t = 0; t < tiles; ++t, v += v_pitch, e += e_pitch) {
    Lanes w[halves];
    for (int h = 0; h < halves; ++h) w[h] = load_lanes(e + h * lanes);
#pragma GCC unroll 12
    for (int r = 0; r < count; ++r)
      for (int h = 0; h < halves; ++h) sum[r][h] += v[r] * w[h];
  }
#pragma GCC unroll 12
  for (int r = 0; r < count; ++r)
    for (int h = 0; h < halves; ++h) store_lanes(to + r * panel + h * lanes, sum[r][h]);
}

class WeightGradient {
 public:
  WeightGradient(const ConvolutionSpec& spec, const Features& in, const Features& gradient)
      : spec_(spec),
        in_(in),
        gradient_(gradient),
        transform_(winograd_transform(4, static_cast<int>(spec.kernel[1]))),
        places_(transform_.places()),
        depth_(spec.kernel[0]),
        panels_((spec.out_channels + panel - 1) / panel),
        rows_(round_up(spec.in_channels, 4)),
        v_pitch_(round_up(spec.in_channels, lanes)),
        e_pitch_(panels_ * panel),
        down_((gradient.size[1] + transform_.m - 1) / transform_.m),
        across_((gradient.size[2] + transform_.m - 1) / transform_.m),
        sum_floats_(depth_ * places_ * panels_ * rows_ * panel),
        shared_(sum_floats_ > most_private_sums),
        stages_(cut()) {}

  // weight: (out, in, planes, rows, columns); bias: (out), or null.
  void run(float* weight, float* bias) {
    const auto count = static_cast<std::int64_t>(stages_.size());
    const std::int64_t parts = shared_ ? 1 : std::clamp<std::int64_t>(count / 2, 1, most_parts);
    const auto bytes = static_cast<std::size_t>(parts * sum_floats_) * sizeof(float);
    const std::unique_ptr<std::byte, void (*)(std::byte*)> memory(
        take_memory(bytes).data, [](std::byte* p) { give_memory(p); });
    auto* const sums = reinterpret_cast<float*>(memory.get());
    std::vector<double> totals(static_cast<std::size_t>(parts * panels_ * panel));
    tasks(parts, !shared_, [&](std::int64_t part) {
      const std::int64_t first = count * part / parts;
      for (std::int64_t i = first; i < count * (part + 1) / parts; ++i)
        run_stage(stages_[static_cast<std::size_t>(i)], i > first, sums + part * sum_floats_,
                  totals.data() + part * panels_ * panel);
    });
    finish(sums, parts, weight);
    for (std::int64_t c = 0; bias && c < spec_.out_channels; ++c) {
      double total = 0;
      for (std::int64_t part = 0; part < parts; ++part)
        total += totals[static_cast<std::size_t>(part * panels_ * panel + c)];
      bias[c] = static_cast<float>(total);
    }
  }

 private:
  static constexpr std::int64_t most_private_sums = 150000;  // floats
  static constexpr std::int64_t most_parts = 16;
  static constexpr std::int64_t most_private_floats = 130000, most_shared_floats = 1500000;  // V, E

  // `planes` by `rows` of tiles of the gradient; with kernels of one plane those of all images are
  // counted as one image's.
  struct Stage {
    std::int64_t image, plane, row, planes, rows;
  };

  std::vector<Stage> cut() const {
    const bool flat = depth_ == 1;
    const std::int64_t images = flat ? 1 : in_.batch;
    const std::int64_t planes = gradient_.size[0] * (flat ? in_.batch : 1);
    const std::int64_t limit =
        (shared_ ? most_shared_floats : most_private_floats) / (places_ * across_);
    const auto fits = [&](std::int64_t z, std::int64_t y) {
      return y * ((z + depth_ - 1) * v_pitch_ + z * e_pitch_) <= limit;
    };
    // V of depth_ - 1 more planes is needed: some planes share them, before rows are added.
    std::int64_t z = std::min<std::int64_t>(planes, flat ? 1 : 8), y = 1;
    while (z > 1 && !fits(z, y)) --z;
    while (y < down_ && fits(z, y + 1)) ++y;
    while (y == down_ && z < planes && fits(z + 1, y)) ++z;
    std::vector<Stage> stages;
    for (std::int64_t n = 0; n < images; ++n)
      for (std::int64_t p = 0; p < planes; p += z)
        for (std::int64_t r = 0; r < down_; r += y)
          stages.push_back({n, p, r, std::min(z, planes - p), std::min(y, down_ - r)});
    return stages;
  }

  void run_stage(const Stage& s, bool accumulate, float* sums, double* totals) const {
    const std::int64_t e_count = s.planes * s.rows, v_count = e_count + (depth_ - 1) * s.rows;
    // Off powers of two, which would put all places of a vector into one set of a cache.
    const std::int64_t v_stride = v_count * across_ * v_pitch_ + 16,
                       e_stride = e_count * across_ * e_pitch_ + 16;
    float* const v = stage_scratch(places_ * (v_stride + e_stride));
    float* const e = v + places_ * v_stride;
    const std::int64_t v_groups = (spec_.in_channels + panel - 1) / panel;
    const std::int64_t v_tasks = v_count * v_groups;
    std::vector<float> by_row(static_cast<std::size_t>(e_count * panels_ * panel));
    tasks(v_tasks + e_count * panels_, shared_, [&](std::int64_t i) {
      if (i < v_tasks)
        transform_input(s, i / v_groups, i % v_groups * panel, v, v_stride);
      else
        transform_gradient(s, (i - v_tasks) / panels_, (i - v_tasks) % panels_ * panel, e, e_stride,
                           by_row.data() + (i - v_tasks) * panel);
    });
    for (std::size_t i = 0; i < by_row.size(); ++i)
      totals[i % static_cast<std::size_t>(panels_ * panel)] += by_row[i];
    const std::int64_t tiles = e_count * across_;
    tasks(depth_ * places_ * panels_, shared_, [&](std::int64_t i) {
      const std::int64_t p = i % panels_, place = i / panels_ % places_, z = i / panels_ / places_;
      const float* const from = v + place * v_stride + z * s.rows * across_ * v_pitch_;
      const float* const by = e + place * e_stride + p * panel;
      float* const to = sums + sums_at(z, p, place);
      for (std::int64_t c = 0; c < spec_.in_channels; c += dot_rows) {
        const auto add = for_rows(spec_.in_channels - c, [&]<int n>() {
          return vectors_of(p, spec_.out_channels) == 1 ? &add_products<n, 1> : &add_products<n, 2>;
        });
        add(from + c, v_pitch_, by, e_pitch_, tiles, to + c * panel, accumulate);
      }
    });
  }

  // A panel of channels, from c on, of the stage's row `row` of tiles.
  void transform_input(const Stage& s, std::int64_t row, std::int64_t c, float* v,
                       std::int64_t by_place) const {
    const Place at(*this, s, row);
    const std::int64_t count = std::min(panel, spec_.in_channels - c);
    transform(
        in_, at.n, c, count,
        {{at.plane - spec_.before[0], at.row * transform_.m - spec_.before[1], -spec_.before[2]},
         {1, transform_.n(), across_ * transform_.m + transform_.r - 1}},
        transform_.input, v + row * across_ * v_pitch_ + c, v_pitch_, by_place);
  }

  // The same of the gradient; sum: of the row's pixels, a panel.
  void transform_gradient(const Stage& s, std::int64_t row, std::int64_t c, float* e,
                          std::int64_t by_place, float* sum) const {
    const Place at(*this, s, row);
    const Box box{{at.plane, at.row * transform_.m, 0}, {1, transform_.m, across_ * transform_.m}};
    const float* const packed =
        transform(gradient_, at.n, c, std::min(panel, spec_.out_channels - c), box,
                  transform_.spread, e + row * across_ * e_pitch_ + c, e_pitch_, by_place);
    for (int h = 0; h < vectors_of(c / panel, spec_.out_channels); ++h) {
      Lanes all{};
      for (std::int64_t i = 0; i < box.pixels(); ++i)
        all += load_lanes(packed + i * panel + h * lanes);
      store_lanes(sum + h * lanes, all);
    }
  }

  // Returns the packed pixels.
  template <class F>
  const float* transform(const Features& from, std::int64_t n, std::int64_t c, std::int64_t count,
                         const Box& box, F&& places, float* to, std::int64_t by_tile,
                         std::int64_t by_place) const {
    const std::int64_t pixels = box.pixels(), width = box.size[2];
    float* const packed = task_scratch(pixels * panel + transform_.n() * width * lanes);
    pack_box(from, n, c, count, box, packed, panel);
    for (std::int64_t i = 0; i < count; i += lanes)
      places(packed + i, width, across_, packed + pixels * panel, to + i, by_tile, by_place);
    return packed;
  }

  // Where a stage's row of tiles is: further planes of a kernel are those after the image's first.
  struct Place {
    std::int64_t n, plane, row;
    Place(const WeightGradient& of, const Stage& s, std::int64_t i)
        : n(s.image), plane(s.plane + i / s.rows), row(s.row + i % s.rows) {
      if (of.depth_ > 1) return;
      n = plane / of.gradient_.size[0];
      plane %= of.gradient_.size[0];
    }
  };

  std::int64_t sums_at(std::int64_t z, std::int64_t p, std::int64_t place) const {
    return ((z * panels_ + p) * places_ + place) * rows_ * panel;
  }

  void finish(const float* sums, std::int64_t parts, float* weight) const {
    const std::int64_t area = transform_.r * transform_.r, inputs = spec_.in_channels;
    parallel_for(panels_ * inputs, 16, [&](std::int64_t begin, std::int64_t end) {
      alignas(64) float taps[25 * panel], all[64 * panel];
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t z = 0; z < depth_; ++z) {
          const std::int64_t p = i / inputs, c = i % inputs;
          for (std::int64_t place = 0; place < places_; ++place) {
            const float* const from = sums + sums_at(z, p, place) + c * panel;
            std::copy_n(from, panel, all + place * panel);
            for (std::int64_t part = 1; part < parts; ++part)
              for (std::int64_t k = 0; k < panel; ++k)
                all[place * panel + k] += from[part * sum_floats_ + k];
          }
          transform_.gather(all, 1, taps, panel);
          for (std::int64_t k = 0; k < std::min(panel, spec_.out_channels - p * panel); ++k) {
            float* const to = weight + (((p * panel + k) * inputs + c) * depth_ + z) * area;
            for (std::int64_t t = 0; t < area; ++t) to[t] = taps[t * panel + k];
          }
        }
    });
  }

  const ConvolutionSpec& spec_;
  const Features &in_, &gradient_;
  const WinogradTransform& transform_;
  const std::int64_t places_, depth_, panels_, rows_, v_pitch_, e_pitch_;
  const std::int64_t down_, across_;  // tiles of a plane of the output
  const std::int64_t sum_floats_;     // of (planes, panels, places, inputs) panels
  const bool shared_;                 // a stage by all threads
  const std::vector<Stage> stages_;
};

}  // namespace

void convolution_weight_gradient(const ConvolutionSpec& spec, const Features& in,
                                 const Features& gradient, float* weight, float* bias) {
  WeightGradient(spec, in, gradient).run(weight, bias);
}

}  // namespace msf
