// The gradient of a convolution's weights: the transpose of Winograd's F(4 x 4, r x r).
//
// Of the algorithm in conv_winograd.cpp, output = A(V * U), where V are transformed tiles of the
// input and U transformed weights, each step is linear. So the gradient of U at a place is the sum
// over tiles of V times E, the gradient of the output's tiles spread by the transpose of A: a
// product of matrices, channels x tiles x channels, 4 times fewer products than there are taps to
// sum for r = 3; and what U was made of gets it by the transpose of the filters' transform.
//
// A stage is as many rows of tiles as have V and E in the last-level cache, of one or more images;
// all threads transform them, then multiply place by place. Sums stay in memory from stage to
// stage. How the tiles are cut does not depend on the number of threads, and neither do the sums'
// orders.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "conv_lanes.hpp"
#include "conv_parts.hpp"
#include "conv_winograd.hpp"
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
        v_pitch_(round_up(spec.in_channels, 16) + 16),
        e_pitch_(panels_ * panel + 16),
        down_((gradient.size[1] + transform_.m - 1) / transform_.m),
        across_((gradient.size[2] + transform_.m - 1) / transform_.m),
        sums_(aligned_floats(depth_ * places_ * panels_ * rows_ * panel)),
        totals_(static_cast<std::size_t>(panels_ * panel)) {}

  // weight: (out, in, planes, rows, columns); bias: (out), or null.
  void run(float* weight, float* bias) {
    // With one plane a kernel's rows of tiles are all alike; with more, a stage is whole planes of
    // an image, and some of V is of planes that the next stage needs again.
    const std::int64_t planes = gradient_.size[0], whole = depth_ > 1 ? down_ : 1;
    const std::int64_t limit = depth_ > 1 ? planes * down_ : in_.batch * planes * down_;
    const std::int64_t fit = most_floats / (places_ * across_ * (v_pitch_ + e_pitch_));
    const std::int64_t most = std::max<std::int64_t>(fit / whole, 1) * whole;
    for (std::int64_t begin = 0; begin < in_.batch * planes * down_; begin += limit)
      for (std::int64_t done = 0; done < limit; done += most)
        run_stage(begin + done, std::min(most, limit - done));
    finish(weight);
    if (bias) std::copy_n(totals_.begin(), spec_.out_channels, bias);
  }

 private:
  static constexpr std::int64_t most_floats = 1500000;

  // `count` rows of tiles of the gradient from `first` on, and the input's that they meet.
  void run_stage(std::int64_t first, std::int64_t count) {
    const std::int64_t v_count = count + (depth_ - 1) * down_;
    // Off powers of two, which would put all places of a vector into one set of a cache.
    const std::int64_t v_stride = v_count * across_ * v_pitch_ + 16,
                       e_stride = count * across_ * e_pitch_ + 16;
    float* const v = stage_scratch(places_ * (v_stride + e_stride));
    float* const e = v + places_ * v_stride;
    const std::int64_t v_groups = (spec_.in_channels + panel - 1) / panel;
    const std::int64_t v_tasks = v_count * v_groups;
    std::vector<float> by_row(static_cast<std::size_t>(count * panels_ * panel));
    parallel_tasks(v_tasks + count * panels_, [&](std::int64_t i) {
      if (i < v_tasks)
        transform_input(first, i / v_groups, i % v_groups * panel, v, v_stride);
      else
        transform_gradient(first, (i - v_tasks) / panels_, (i - v_tasks) % panels_ * panel, e,
                           e_stride, by_row.data() + (i - v_tasks) * panel);
    });
    for (std::size_t i = 0; i < by_row.size(); ++i) totals_[i % totals_.size()] += by_row[i];
    const std::int64_t tiles = count * across_;
    parallel_tasks(depth_ * places_ * panels_, [&](std::int64_t i) {
      const std::int64_t p = i % panels_, place = i / panels_ % places_, z = i / panels_ / places_;
      const float* const from = v + place * v_stride + z * down_ * across_ * v_pitch_;
      const float* const by = e + place * e_stride + p * panel;
      float* const to = sums_of(z, p, place);
      for (std::int64_t c = 0; c < spec_.in_channels; c += dot_rows) {
        const auto add = for_rows(spec_.in_channels - c, [&]<int n>() {
          return halves(p) == 1 ? &add_products<n, 1> : &add_products<n, 2>;
        });
        add(from + c, v_pitch_, by, e_pitch_, tiles, to + c * panel, first > 0);
      }
    });
  }

  // A panel of channels, from c on, of the stage's row `row` of tiles.
  void transform_input(std::int64_t first, std::int64_t row, std::int64_t c, float* v,
                       std::int64_t by_place) const {
    const Place at(*this, first, row);
    const std::int64_t count = std::min(panel, spec_.in_channels - c);
    transform(
        in_, at.n, c, count,
        {{at.plane - spec_.before[0], at.row * transform_.m - spec_.before[1], -spec_.before[2]},
         {1, transform_.n(), across_ * transform_.m + transform_.r - 1}},
        transform_.input, v + row * across_ * v_pitch_ + c, v_pitch_, by_place);
  }

  // The same of the gradient; sum: of the row's pixels, a panel.
  void transform_gradient(std::int64_t first, std::int64_t row, std::int64_t c, float* e,
                          std::int64_t by_place, float* sum) const {
    const Place at(*this, first, row);
    const Box box{{at.plane, at.row * transform_.m, 0}, {1, transform_.m, across_ * transform_.m}};
    const float* const packed =
        transform(gradient_, at.n, c, std::min(panel, spec_.out_channels - c), box,
                  transform_.spread, e + row * across_ * e_pitch_ + c, e_pitch_, by_place);
    for (int h = 0; h < halves(c / panel); ++h) {
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
    Place(const WeightGradient& of, std::int64_t first, std::int64_t i) {
      const std::int64_t planes = of.gradient_.size[0];
      const std::int64_t plane_of_all = (first + i) / of.down_;
      n = (of.depth_ > 1 ? first / of.down_ : plane_of_all) / planes;
      plane = plane_of_all - n * planes;
      row = (first + i) % of.down_;
    }
  };

  // Vectors of a panel that hold channels.
  int halves(std::int64_t p) const { return spec_.out_channels - p * panel <= lanes ? 1 : 2; }

  float* sums_of(std::int64_t z, std::int64_t p, std::int64_t place) const {
    return sums_.get() + ((z * panels_ + p) * places_ + place) * rows_ * panel;
  }

  void finish(float* weight) const {
    const std::int64_t area = transform_.r * transform_.r, inputs = spec_.in_channels;
    parallel_for(panels_ * inputs, 16, [&](std::int64_t begin, std::int64_t end) {
      alignas(64) float taps[25 * panel];
      for (std::int64_t i = begin; i < end; ++i)
        for (std::int64_t z = 0; z < depth_; ++z) {
          const std::int64_t p = i / inputs, c = i % inputs;
          transform_.gather(sums_of(z, p, 0) + c * panel, 1, taps, rows_ * panel);
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
  AlignedFloats sums_;                // (planes, panels, places, inputs) panels
  std::vector<double> totals_;        // of the gradient's pixels, by channel
};

}  // namespace

void convolution_weight_gradient(const ConvolutionSpec& spec, const Features& in,
                                 const Features& gradient, float* weight, float* bias) {
  WeightGradient(spec, in, gradient).run(weight, bias);
}

}  // namespace msf
