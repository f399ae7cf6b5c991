// Intelligent scissors: paths that follow edges (Mortensen and Barrett 1995, SIGGRAPH, 191-198;
// 1998, Graphical Models and Image Processing 60(5):349-384).
//
// Deviations: a pixel keeps the direction of its edge as one of 255, so that the two angles of a
// step come from a table; the whole cost of a step is multiplied by its length, where the papers
// scale the gradient's part alone, so that paths through nothing are straight.
#include <array>
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
  static constexpr std::size_t n = SearchStep::together;  // all that there are in 2D
  // What a step adds to the turn at the pixel it leaves: where it runs against the edge, that is
  // taken the other way, and both angles count from there.
  struct Start {
    float angle[n], constant[n], sign[n];
  };
  float weight;
  double length[n];                     // of each step
  std::vector<std::uint8_t> direction;  // of each pixel
  // For each direction, for each step.
  std::vector<Start> start;
  std::vector<std::array<float, n>> end;  // the angle between the two, 0 to pi

  void steps(double, const double* to, std::int64_t v, const SearchStep* steps,
             double* costs) const {
    const Start& s = start[direction[v]];
    float angle[n];
    for (std::size_t i = 0; i < n; ++i) angle[i] = end[direction[v + steps[i].flat]][i];
    for (std::size_t i = 0; i < n; ++i) {
      const float turn = s.constant[i] + s.sign[i] * (s.angle[i] + angle[i]);
      costs[i] = length[i] * (to[i] + static_cast<double>(weight * turn));
    }
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
  const SearchRules rules{.least = 0};
  auto search = std::make_unique<ModelSearch<EdgeCosts>>(local, offsets, rules, EdgeCosts{});
  EdgeCosts& model = search->model();
  const std::vector<SearchStep>& steps = search->used();
  if (steps.size() > EdgeCosts::n) throw std::invalid_argument("search_live_wire: 2D only");
  model.weight = static_cast<float>(weight * 2 / (3 * std::numbers::pi));
  model.start.resize(directions + 1);
  model.end.resize(directions + 1);
  constexpr float pi = std::numbers::pi_v<float>;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto& move = moves[steps[i].k];
    const double length = model.length[i] = std::hypot(move[0], move[1]);
    for (int d = 0; d <= no_direction; ++d) {
      // The edge runs across the gradient.
      const double turn = 2 * std::numbers::pi * d / directions;
      const double along = (std::cos(turn) * move[0] - std::sin(turn) * move[1]) / length;
      const auto angle = static_cast<float>(std::acos(std::clamp(along, -1.0, 1.0)));
      const float end = model.end[d][i] = d == no_direction ? pi / 2 : angle;
      const bool along_edge = end <= pi / 2;
      EdgeCosts::Start& start = model.start[d];
      start.angle[i] = end;
      start.constant[i] = along_edge ? 0.0f : 2 * pi;
      start.sign[i] = along_edge ? 1.0f : -1.0f;
    }
  }
  auto& direction = model.direction;
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
