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
  struct Move {
    double length;
    std::array<float, directions + 1> angle;  // of the step with each direction, 0 to pi
  };
  float weight;
  std::vector<Move> moves;
  std::vector<std::uint8_t> direction;

  double step(double, double to, std::int64_t v, std::int64_t w, std::int16_t k) const {
    constexpr float pi = std::numbers::pi_v<float>;
    const Move& move = moves[k];
    const float at_start = move.angle[direction[v]], sum = at_start + move.angle[direction[w]];
    const float turn = at_start <= pi / 2 ? sum : 2 * pi - sum;  // the edge taken the other way
    return move.length * (to + static_cast<double>(weight * turn));
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
  EdgeCosts model{static_cast<float>(weight * 2 / (3 * std::numbers::pi)), {}, {}};
  for (const auto& move : moves) {
    EdgeCosts::Move made{std::hypot(move[0], move[1]), {}};
    for (int d = 0; d < directions; ++d) {
      // The edge runs across the gradient.
      const double turn = 2 * std::numbers::pi * d / directions;
      const double along = (std::cos(turn) * move[0] - std::sin(turn) * move[1]) / made.length;
      made.angle[d] = static_cast<float>(std::acos(std::clamp(along, -1.0, 1.0)));
    }
    made.angle[no_direction] = std::numbers::pi_v<float> / 2;
    model.moves.push_back(made);
  }
  const SearchRules rules{.least = 0};
  auto search = std::make_unique<ModelSearch<EdgeCosts>>(local, offsets, rules, std::move(model));
  auto& direction = search->model().direction;
  direction.assign(search->grid().size(), no_direction);
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
