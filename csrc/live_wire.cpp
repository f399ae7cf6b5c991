// Intelligent scissors: paths that follow edges (Mortensen and Barrett 1995, SIGGRAPH, 191-198;
// 1998, Graphical Models and Image Processing 60(5):349-384).
//
// Deviations: a pixel keeps the direction of its edge as one of 255, so that the two angles of a
// step come from a table; the whole cost of a step is multiplied by its length, where the papers
// scale the gradient's part alone, so that paths through nothing are straight.
#include <cmath>
#include <numbers>

#include "cost_search.hpp"
#include "kernels/cost_search.hpp"

namespace msf {
namespace {

constexpr int directions = 255, no_direction = 255;

struct EdgeCosts {
  using Value = float;
  static constexpr bool labelled = false;
  // What a step adds to the turn at the pixel it leaves: where it runs against the edge, that is
  // taken the other way, and both angles count from there.
  struct Start {
    float angle, constant, sign;
  };
  float weight;
  std::vector<double> length;           // of each step
  std::vector<std::uint8_t> direction;  // of each pixel
  // For each direction, for each step: those of a pixel's steps are in one line of cache.
  std::vector<Start> start;
  std::vector<float> end;  // the angle between the two, 0 to pi

  double step(double, double to, std::int64_t v, std::int64_t w, std::int16_t k) const {
    const std::size_t steps = length.size();
    const Start& s = start[direction[v] * steps + k];
    const float turn = s.constant + s.sign * (s.angle + end[direction[w] * steps + k]);
    return length[k] * (to + static_cast<double>(weight * turn));
  }
};

std::uint8_t direction_of(double along_rows, double along_columns) {
  if (!(along_rows != 0 || along_columns != 0)) return no_direction;
  const double turns = std::atan2(along_rows, along_columns) / (2 * std::numbers::pi);
  if (!(turns == turns)) return no_direction;
  return static_cast<std::uint8_t>(
      (static_cast<int>(std::lround(turns * directions)) + directions) % directions);
}

}  // namespace

std::unique_ptr<CostSearch> search_live_wire(const Array& local, const Array& gradient,
                                             const Offsets& offsets,
                                             const std::vector<std::vector<double>>& moves,
                                             double weight) {
  EdgeCosts model{static_cast<float>(weight * 2 / (3 * std::numbers::pi)), {}, {}, {}, {}};
  for (const auto& move : moves) model.length.push_back(std::hypot(move[0], move[1]));
  constexpr float pi = std::numbers::pi_v<float>;
  for (int d = 0; d <= no_direction; ++d)
    for (std::size_t k = 0; k < moves.size(); ++k) {
      // The edge runs across the gradient.
      const double turn = 2 * std::numbers::pi * d / directions;
      const double along =
          (std::cos(turn) * moves[k][0] - std::sin(turn) * moves[k][1]) / model.length[k];
      const auto angle = static_cast<float>(std::acos(std::clamp(along, -1.0, 1.0)));
      model.end.push_back(d == no_direction ? pi / 2 : angle);
      const bool along_edge = model.end.back() <= pi / 2;
      model.start.push_back(
          {model.end.back(), along_edge ? 0.0f : 2 * pi, along_edge ? 1.0f : -1.0f});
    }
  const SearchRules rules{.least = 0};
  auto search = std::make_unique<ModelSearch<EdgeCosts>>(local, offsets, rules, std::move(model));
  auto& direction = search->model().direction;
  direction.assign(search->grid().size(), no_direction);
  search->read_beside(direction.data());
  const std::int64_t n = local.size();
  const auto fill = [&](const auto* g) {
    search->grid().rows([&](std::int64_t flat, std::int64_t v, std::int64_t length) {
      for (std::int64_t i = 0; i < length; ++i)
        direction[v + i] = direction_of(g[flat + i], g[n + flat + i]);
      poll();
    });
  };
  if (gradient.dtype == DType::float32)
    fill(gradient.as<float>());
  else
    fill(gradient.as<double>());
  return search;
}

}  // namespace msf
