// Costs of cutting an image: between neighbours by their contrast, of each pixel by its intensity.
// Boykov and Jolly (2001), "Interactive graph cuts for optimal boundary & region segmentation of
// objects in N-D images", ICCV.
//
// Rows of the image are converted as they are needed; nothing wider than the result is stored.
#include "kernels/contrast.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "load_values.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// exp(x) for x <= 0 to 2e-7 of its value, as a loop of it vectorises: 2^n times a polynomial of
// the rest (Taylor's, of degree 6, within half a step of 2). 0 below the smallest normal number.
float exp_of_negative(float x) {
  const float y = std::max(x, -87.0f) * 1.44269504f;
  const auto n = static_cast<std::int32_t>(y - 0.5f);
  const float r = (y - static_cast<float>(n)) * 0.69314718f;
  const float p =
      1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r / 720.f)))));
  const float power = std::bit_cast<float>((n + 127) << 23);
  return x < -87.0f ? 0.0f : p * power;
}

class Pairs {
 public:
  Pairs(const Array& image, const std::array<int, 3>& offset)
      : image_(image), offset_(offset), channels_(image.shape[3]), length_(image.shape[2]) {}

  std::int64_t rows() const { return image_.shape[0] * image_.shape[1]; }
  std::int64_t length() const { return length_; }
  std::int64_t grain() const {
    return std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(1, length_ * channels_));
  }

  struct Scratch {
    std::vector<double> here, there;
    std::vector<float> squares;
  };
  Scratch scratch() const {
    return {std::vector<double>(length_ * channels_), std::vector<double>(length_ * channels_),
            std::vector<float>(length_)};
  }

  // |difference|^2 of a row in scratch.squares, for columns from `first` up to `last`; false if its
  // neighbours are outside.
  bool row(std::int64_t row, Scratch& scratch, std::int64_t& first, std::int64_t& last) const {
    const std::int64_t z = row / image_.shape[1], y = row % image_.shape[1];
    const std::int64_t z1 = z + offset_[0], y1 = y + offset_[1];
    first = std::max(0, -offset_[2]);
    last = length_ - std::max(0, offset_[2]);
    if (z1 < 0 || z1 >= image_.shape[0] || y1 < 0 || y1 >= image_.shape[1] || first >= last)
      return false;
    const std::int64_t values = length_ * channels_;
    load_values(image_, row * values, values, 1, -HUGE_VAL, scratch.here.data());
    const double* there = scratch.here.data();
    if (z1 != z || y1 != y) {
      load_values(image_, (z1 * image_.shape[1] + y1) * values, values, 1, -HUGE_VAL,
                  scratch.there.data());
      there = scratch.there.data();
    }
    const double* const here = scratch.here.data();
    there += offset_[2] * channels_;
    float* const __restrict squares = scratch.squares.data();
    if (channels_ == 1) {
      for (std::int64_t x = first; x < last; ++x) {
        const double d = here[x] - there[x];
        squares[x] = static_cast<float>(d * d);
      }
      return true;
    }
    if (channels_ == 3) {
      for (std::int64_t x = first; x < last; ++x) {
        const double d[3] = {here[3 * x] - there[3 * x], here[3 * x + 1] - there[3 * x + 1],
                             here[3 * x + 2] - there[3 * x + 2]};
        squares[x] = static_cast<float>(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
      }
      return true;
    }
    for (std::int64_t x = first; x < last; ++x) {
      double sum = 0;
      for (std::int64_t c = x * channels_; c < (x + 1) * channels_; ++c)
        sum += (here[c] - there[c]) * (here[c] - there[c]);
      squares[x] = static_cast<float>(sum);
    }
    return true;
  }

 private:
  const Array& image_;
  std::array<int, 3> offset_;
  std::int64_t channels_, length_;
};

// Sums by pair of labels, in the order pairs come: open addressing, at most half full.
class SumsByPair {
 public:
  explicit SumsByPair(RegionEdges& edges) : edges_(edges), slots_(1 << 10, none) {}

  void add(std::int64_t i, std::int64_t j, double weight) {
    if (i > j) std::swap(i, j);
    if (last_ != none && edges_.i[last_] == i && edges_.j[last_] == j) {  // along a boundary
      edges_.weight[last_] += weight;
      return;
    }
    if (2 * edges_.i.size() >= slots_.size()) grow();
    std::int64_t& slot = slots_[place(i, j)];
    if (slot == none) {
      slot = static_cast<std::int64_t>(edges_.i.size());
      edges_.i.push_back(i);
      edges_.j.push_back(j);
      edges_.weight.push_back(0);
    }
    last_ = slot;
    edges_.weight[slot] += weight;
  }

 private:
  static constexpr std::int64_t none = -1;

  std::size_t place(std::int64_t i, std::int64_t j) const {
    const auto key = static_cast<std::uint64_t>(i) << 32 | static_cast<std::uint64_t>(j);
    std::size_t at = (key * 0x9E3779B97F4A7C15u) >> 20 & (slots_.size() - 1);
    while (slots_[at] != none && (edges_.i[slots_[at]] != i || edges_.j[slots_[at]] != j))
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void grow() {
    slots_.assign(2 * slots_.size(), none);
    for (std::size_t e = 0; e < edges_.i.size(); ++e)
      slots_[place(edges_.i[e], edges_.j[e])] = static_cast<std::int64_t>(e);
  }

  RegionEdges& edges_;
  std::vector<std::int64_t> slots_;
  std::int64_t last_ = none;
};

}  // namespace

RegionEdges region_edges(const Array& image, const Array& labels,
                         const std::vector<std::array<int, 3>>& offsets,
                         const std::vector<double>& strengths, double sharpness) {
  RegionEdges edges;
  SumsByPair sums(edges);
  const auto scale = static_cast<float>(-sharpness);
  const auto* const label = labels.as<std::int32_t>();
  for (std::size_t k = 0; k < offsets.size(); ++k) {
    const Pairs pairs(image, offsets[k]);
    const std::int64_t length = pairs.length();
    const std::int64_t shift =
        (offsets[k][0] * image.shape[1] + offsets[k][1]) * length + offsets[k][2];
    auto scratch = pairs.scratch();
    for (std::int64_t row = 0; row < pairs.rows(); ++row) {
      poll();
      std::int64_t first = 0, last = 0;
      if (!pairs.row(row, scratch, first, last)) continue;
      for (std::int64_t x = first; x < last; ++x) {
        const std::int64_t p = row * length + x;
        if (label[p] != label[p + shift])
          sums.add(label[p], label[p + shift],
                   strengths[k] * exp_of_negative(scratch.squares[x] * scale));
      }
    }
  }
  return edges;
}

void contrast_weights(const Array& image, const std::array<int, 3>& offset, double strength,
                      double sharpness, const MutableArray& out) {
  const Pairs pairs(image, offset);
  const auto scale = static_cast<float>(-sharpness), most = static_cast<float>(strength);
  parallel_for(pairs.rows(), pairs.grain(), [&](std::int64_t begin, std::int64_t end) {
    auto scratch = pairs.scratch();
    for (std::int64_t row = begin; row < end; ++row) {
      float* const __restrict w = out.as<float>() + row * pairs.length();
      std::int64_t first = 0, last = 0;
      if (!pairs.row(row, scratch, first, last)) {
        std::fill_n(w, pairs.length(), 0.0f);
        continue;
      }
      const float* const squares = scratch.squares.data();
      std::fill_n(w, first, 0.0f);
      for (std::int64_t x = first; x < last; ++x) w[x] = most * exp_of_negative(squares[x] * scale);
      std::fill(w + last, w + pairs.length(), 0.0f);
    }
  });
}

double squared_differences(const Array& image, const std::array<int, 3>& offset) {
  const Pairs pairs(image, offset);
  std::vector<double> sums(pairs.rows(), 0.0);
  parallel_for(pairs.rows(), pairs.grain(), [&](std::int64_t begin, std::int64_t end) {
    auto scratch = pairs.scratch();
    for (std::int64_t row = begin; row < end; ++row) {
      std::int64_t first = 0, last = 0;
      if (!pairs.row(row, scratch, first, last)) continue;
      double sum = 0;
      for (std::int64_t x = first; x < last; ++x) sum += scratch.squares[x];
      sums[row] = sum;
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

void table_costs(const Array& image, const Array& first, const Array& step, const Array& table,
                 const MutableArray& out) {
  const std::int64_t channels = image.shape[3], bins = table.shape[1];
  const std::int64_t grain =
      std::max<std::int64_t>(1, (1 << 12) / std::max<std::int64_t>(1, channels));
  const double *const low = first.as<double>(), *const width = step.as<double>();
  parallel_for(out.size(), grain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> values((end - begin) * channels);
    load_values(image, begin * channels, (end - begin) * channels, 1, -HUGE_VAL, values.data());
    for (std::int64_t i = begin; i < end; ++i) {
      float cost = 0;
      for (std::int64_t c = 0; c < channels; ++c) {
        const double at = (values[(i - begin) * channels + c] - low[c]) / width[c];
        const auto bin =
            static_cast<std::int64_t>(std::clamp(at, 0.0, static_cast<double>(bins - 1)));
        cost += table.as<float>()[c * bins + bin];
      }
      out.as<float>()[i] = cost;
    }
  });
}

}  // namespace msf
