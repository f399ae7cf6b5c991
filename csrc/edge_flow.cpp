// Edge flow vectors: W.-Y. Ma, B. S. Manjunath, "EdgeFlow: a technique for boundary detection and
// image segmentation", IEEE Trans. Image Processing 9 (2000) 1375-1388.
//
// From each pixel s and for each direction t of 2H around the circle, and for every attribute of
// the image (a channel, the texture), there is an energy, the slope along t of the smoothed maps,
//   E(s, t) = sum of weight * |dm / dt|,
// an error of predicting what lies d = 4 sigma ahead from what is here,
//   Err(s, t) = sum of weight * |m(s + d t) - m(s)|,
// and the probability that the nearest boundary is ahead rather than behind,
//   P(s, t) = Err(s, t) / (Err(s, t) + Err(s, t + pi)).
// Energies and probabilities of the attributes are added by their weights. The flow goes into the
// half circle [T, T + pi) of the largest summed probability; it is the sum of E(s, t) e^(it) there.
//
// As E is the same for t and t + pi, and P is one minus the other, one half circle gives the next:
//   sum P(T + 1) = sum P(T) + 1 - 2 P(T)    and    F(T + 1) = F(T) - 2 E(T) e^(iT),
// and the half circle opposite to T has -F(T) and as much less than the mean as T has more.
//
// Where the paper leaves room or we depart from it:
// - Slopes are central differences of the smoothed maps instead of the maps convolved with the
//   derivative of the Gaussian: a third of the work, and less steep by a factor 1 - 1 / (6 sigma^2)
//   at most where it counts.
// - The point ahead is rounded to a pixel, opposite ones alike, so that P does not feel it; outside
//   the image it is the pixel at the border, so that flow turns inwards.
// - F is divided by H / 2: the flow of one channel is then as long as its gradient.
// - In the middle of a symmetric edge all probabilities are 1/2 and any half circle is as good,
//   also one along the edge. The sum therefore gets a bonus for a long F, 1/1000 at most, a
//   probability being 1 at most: F leads across the edge.
#include <algorithm>
#include <cmath>

#include "kernels/edge_flow.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

constexpr Index chunk = 256;  // pixels whose errors of all directions stay in the L1 and L2 cache
constexpr Index lanes = 16;   // pixels whose half circles are compared at once
constexpr float bonus = 1e-3f;

class FlowRow {
 public:
  FlowRow(const Array& maps, const FlowAttributes& attributes,
          const std::vector<std::array<Index, 2>>& offsets,
          const std::vector<std::array<double, 2>>& directions,
          const std::array<double, 2>& spacing)
      : attributes_(attributes),
        offsets_(offsets),
        maps_(maps.as<float>()),
        rows_(maps.shape[1]),
        columns_(maps.shape[2]),
        half_(static_cast<Index>(offsets.size())),
        per_row_(static_cast<float>(0.5 / spacing[0])),
        per_column_(static_cast<float>(0.5 / spacing[1])),
        error_(2 * half_ * chunk),
        energy_(half_ * chunk),
        all_energy_(half_ * chunk),
        lead_(half_ * chunk) {
    for (const auto& d : directions) {
      down_.push_back(static_cast<float>(d[0]));
      right_.push_back(static_cast<float>(d[1]));
    }
  }

  // Flow of the pixels [begin, end) of a row, at most `chunk`.
  void run(Index row, Index begin, Index end, float* down, float* right) {
    row_ = row, begin_ = begin, end_ = end;
    std::fill(all_energy_.begin(), all_energy_.end(), 0.f);
    std::fill(lead_.begin(), lead_.end(), 0.f);
    const std::size_t n = attributes_.of_map.size();
    for (std::size_t i = 0; i < n;) {
      std::fill(energy_.begin(), energy_.end(), 0.f);
      std::fill(error_.begin(), error_.end(), 0.f);
      const int attribute = attributes_.of_map[i];
      for (; i < n && attributes_.of_map[i] == attribute; ++i)
        add_map(static_cast<Index>(i), static_cast<float>(attributes_.map[i]));
      add_attribute(static_cast<float>(attributes_.attribute[attribute]));
    }
    for (Index x = 0; x < end - begin; x += lanes) choose(x, down, right);
  }

 private:
  const float* line(Index map, Index row) const {
    return maps_ + (map * rows_ + std::clamp<Index>(row, 0, rows_ - 1)) * columns_;
  }

  void add_map(Index map, float weight) {
    const Index n = end_ - begin_;
    const float* const here = line(map, row_);
    const float *const above = line(map, row_ - 1) + begin_, *const below = line(map, row_ + 1);
    float slope_down[chunk], slope_right[chunk];
    for (Index x = 0; x < n; ++x)
      slope_down[x] = (below[begin_ + x] - above[x]) * (per_row_ * weight);
    for (Index x = 0; x < n; ++x) {
      const Index c = begin_ + x;
      slope_right[x] = (here[std::min(c + 1, columns_ - 1)] - here[std::max<Index>(c - 1, 0)]) *
                       (per_column_ * weight);
    }
    for (Index k = 0; k < half_; ++k) {
      float* const energy = energy_.data() + k * chunk;
      const float down = down_[k], right = right_[k];
      for (Index x = 0; x < n; ++x)
        energy[x] += std::fabs(slope_down[x] * down + slope_right[x] * right);
      const auto [rows, columns] = offsets_[k];
      add_error(here, line(map, row_ + rows), columns, weight, error_.data() + k * chunk);
      add_error(here, line(map, row_ - rows), -columns, weight,
                error_.data() + (half_ + k) * chunk);
    }
  }

  void add_error(const float* here, const float* there, Index columns, float weight,
                 float* error) const {
    const Index from = std::clamp(-columns, begin_, end_);
    const Index to = std::clamp(columns_ - columns, from, end_);
    const float first = there[0], last = there[columns_ - 1];
    here += begin_;
    for (Index x = 0; x < from - begin_; ++x) error[x] += weight * std::fabs(first - here[x]);
    const float* const shifted = there + begin_ + columns;
    for (Index x = from - begin_; x < to - begin_; ++x)
      error[x] += weight * std::fabs(shifted[x] - here[x]);
    for (Index x = to - begin_; x < end_ - begin_; ++x)
      error[x] += weight * std::fabs(last - here[x]);
  }

  // P - 1/2 of each direction, times the weight.
  void add_attribute(float weight) {
    for (Index i = 0; i < half_ * chunk; ++i) {
      const float ahead = error_[i], behind = error_[half_ * chunk + i], sum = ahead + behind;
      const float part = (ahead - behind) / (sum > 0 ? sum : 1);
      lead_[i] += 0.5f * weight * part;
      all_energy_[i] += weight * energy_[i];
    }
  }

  void choose(Index x, float* down, float* right) const {
    float sum[lanes] = {}, total[lanes] = {}, flow_down[lanes] = {}, flow_right[lanes] = {};
    for (Index k = 0; k < half_; ++k) {
      const float *const energy = all_energy_.data() + k * chunk + x, *const lead = lead_.data() +
                                                                                    k * chunk + x;
      for (Index i = 0; i < lanes; ++i) {
        sum[i] += lead[i];
        total[i] += energy[i];
        flow_down[i] += energy[i] * down_[k];
        flow_right[i] += energy[i] * right_[k];
      }
    }
    float best[lanes], best_down[lanes], best_right[lanes], scale[lanes];
    for (Index i = 0; i < lanes; ++i) {
      scale[i] = bonus / (total[i] > 0 ? total[i] * total[i] : 1);
      best[i] = -INFINITY, best_down[i] = 0, best_right[i] = 0;
    }
    for (Index k = 0; k < half_; ++k) {
      const float *const energy = all_energy_.data() + k * chunk + x, *const lead = lead_.data() +
                                                                                    k * chunk + x;
      for (Index i = 0; i < lanes; ++i) {
        const float length = flow_down[i] * flow_down[i] + flow_right[i] * flow_right[i];
        const float score = std::fabs(sum[i]) + scale[i] * length;
        const bool better = score > best[i];
        const float sign = sum[i] < 0 ? -1.f : 1.f;
        best[i] = better ? score : best[i];
        best_down[i] = better ? sign * flow_down[i] : best_down[i];
        best_right[i] = better ? sign * flow_right[i] : best_right[i];
        sum[i] -= 2 * lead[i];
        flow_down[i] -= 2 * energy[i] * down_[k];
        flow_right[i] -= 2 * energy[i] * right_[k];
      }
    }
    const float norm = 2.f / static_cast<float>(half_);
    for (Index i = 0; i < std::min(lanes, end_ - begin_ - x); ++i) {
      const bool known = std::isfinite(total[i]) && std::isfinite(best[i]);
      down[x + i] = known ? best_down[i] * norm : 0;
      right[x + i] = known ? best_right[i] * norm : 0;
    }
  }

  const FlowAttributes& attributes_;
  const std::vector<std::array<Index, 2>>& offsets_;
  const float* const maps_;
  const Index rows_, columns_, half_;
  const float per_row_, per_column_;
  std::vector<float> down_, right_;  // directions
  // By direction, `chunk` pixels each; the second half of error_ is behind.
  std::vector<float> error_, energy_, all_energy_, lead_;
  Index row_ = 0, begin_ = 0, end_ = 0;
};

}  // namespace

void edge_flow_vectors(const Array& maps, const FlowAttributes& attributes,
                       const std::vector<std::array<Index, 2>>& offsets,
                       const std::vector<std::array<double, 2>>& directions,
                       const std::array<double, 2>& spacing, const MutableArray& flow) {
  const Index rows = maps.shape[1], columns = maps.shape[2];
  if (rows * columns == 0) return;
  float *const down = flow.as<float>(), *const right = down + rows * columns;
  parallel_for(rows, 8, [&](Index begin, Index end) {
    FlowRow line(maps, attributes, offsets, directions, spacing);
    for (Index r = begin; r < end; ++r)
      for (Index c = 0; c < columns; c += chunk) {
        poll();
        const Index at = r * columns + c;
        line.run(r, c, std::min(columns, c + chunk), down + at, right + at);
      }
  });
}

void unit_flow(const MutableArray& flow) {
  const Index size = flow.shape[1] * flow.shape[2];
  float *const down = flow.as<float>(), *const right = down + size;
  parallel_for(size, 1 << 16, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const float length = std::sqrt(down[i] * down[i] + right[i] * right[i]);
      const float scale = length > 0 ? length : 1;
      down[i] /= scale;
      right[i] /= scale;
    }
  });
}

}  // namespace msf
