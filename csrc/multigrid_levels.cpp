#include "multigrid_levels.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace msf {
namespace {

constexpr float quality = 8;    // stiffness over the weight of an edge within a group, at most
constexpr float grounded = 4;   // excess over the sum of edges: the smoother alone will do
constexpr float most_of = 0.5;  // of a row's diagonal: it may follow that edge into any group
constexpr std::uint32_t most_in_group = 4;
constexpr int pairings = 3;
constexpr std::int64_t direct_rows = 32;

std::vector<float> inverse_diagonal(const WeightedGraph& graph) {
  std::vector<float> inverse(graph.rows());
  blocks(graph, [&](std::int64_t, std::uint32_t begin, std::uint32_t end) {
    for (std::uint32_t i = begin; i < end; ++i) {
      float sum = graph.excess[i];
      for (std::uint32_t e = graph.first[i]; e < graph.first[i + 1]; ++e) sum += graph.weight[e];
      inverse[i] = sum > 0 ? 1 / sum : 0;
    }
  });
  return inverse;
}

// Groups of rows of a block along heavy edges; returns their number. `group` numbers them in order,
// and `block` gets the first group of each block. `stiffness` is the sum of the diagonal over the
// rows of the level that the next one is made for: what the smoother cannot make of a group, the
// edge within it must be heavy enough for.
std::uint32_t match(const WeightedGraph& graph, const std::vector<float>& stiffness, float kappa,
                    bool drop_grounded, std::vector<std::uint32_t>& group,
                    std::vector<std::uint32_t>& block) {
  const auto count = graph.block.size() - 1;
  group.assign(graph.rows(), nowhere);
  std::vector<std::uint32_t> groups(count);
  blocks(graph, [&](std::int64_t b, std::uint32_t begin, std::uint32_t end) {
    std::vector<std::uint32_t> size;
    size.reserve((end - begin) / 2);
    for (std::uint32_t i = begin; i < end; ++i) {
      if (group[i] != nowhere) continue;
      const float own = stiffness[i];
      if (drop_grounded && graph.excess[i] >= grounded * (own - graph.excess[i])) continue;
      std::uint32_t free = nowhere, taken = nowhere;
      float most_free = 0, most_taken = 0;
      for (std::uint32_t e = graph.first[i]; e < graph.first[i + 1]; ++e) {
        const std::uint32_t j = graph.column[e];
        const float w = graph.weight[e];
        if (j < begin || j >= end) continue;
        if (group[j] == nowhere) {
          if (w > most_free && kappa * w >= std::min(own, stiffness[j])) most_free = w, free = j;
        } else if (w > most_taken && kappa * w >= own &&
                   (size[group[j]] < most_in_group || w > most_of * own)) {
          most_taken = w, taken = j;
        }
      }
      if (free != nowhere && most_taken <= most_of * own) {
        group[i] = group[free] = static_cast<std::uint32_t>(size.size());
        size.push_back(2);
      } else if (taken != nowhere) {
        group[i] = group[taken];
        ++size[group[i]];
      } else {
        group[i] = static_cast<std::uint32_t>(size.size());
        size.push_back(1);
      }
    }
    groups[b] = static_cast<std::uint32_t>(size.size());
  });
  block.assign(count + 1, 0);
  std::partial_sum(groups.begin(), groups.end(), block.begin() + 1);
  blocks(graph, [&](std::int64_t b, std::uint32_t begin, std::uint32_t end) {
    for (std::uint32_t i = begin; i < end; ++i)
      if (group[i] != nowhere) group[i] += block[b];
  });
  return block.back();
}

// The graph of the groups.
WeightedGraph coarsened(const WeightedGraph& graph, const std::vector<std::uint32_t>& group,
                        std::vector<std::uint32_t> block) {
  struct Edge {
    std::uint32_t column;
    float weight;
  };
  WeightedGraph coarse;
  const std::uint32_t rows = block.back();
  coarse.block = std::move(block);
  coarse.excess.assign(rows, 0.0f);
  coarse.first.assign(rows + 1, 0);
  const auto count = static_cast<std::int64_t>(coarse.block.size()) - 1;
  std::vector<std::vector<Edge>> edges(count);
  blocks(graph, [&](std::int64_t b, std::uint32_t begin, std::uint32_t end) {
    const std::uint32_t first = coarse.block[b], size = coarse.block[b + 1] - first;
    std::vector<std::uint32_t> start(size + 1, 0), member(end - begin);
    for (std::uint32_t i = begin; i < end; ++i)
      if (group[i] != nowhere) ++start[group[i] - first + 1];
    std::partial_sum(start.begin(), start.end(), start.begin());
    for (std::uint32_t i = begin; i < end; ++i)
      if (group[i] != nowhere) member[start[group[i] - first]++] = i;
    std::vector<Edge> row;
    auto& out = edges[b];
    out.reserve(2 * (end - begin));
    for (std::uint32_t c = 0; c < size; ++c) {
      row.clear();
      float excess = 0;
      for (std::uint32_t m = c > 0 ? start[c - 1] : 0; m < start[c]; ++m) {
        const std::uint32_t i = member[m];
        excess += graph.excess[i];
        for (std::uint32_t e = graph.first[i]; e < graph.first[i + 1]; ++e) {
          const std::uint32_t other = group[graph.column[e]];
          if (other == nowhere) {
            excess += graph.weight[e];
          } else if (other != c + first) {
            std::size_t k = row.size();
            while (k > 0 && row[k - 1].column > other) --k;
            if (k > 0 && row[k - 1].column == other) {
              row[k - 1].weight += graph.weight[e];
            } else {
              row.insert(row.begin() + static_cast<std::ptrdiff_t>(k), {other, graph.weight[e]});
            }
          }
        }
      }
      coarse.excess[c + first] = excess;
      coarse.first[c + first + 1] = static_cast<std::uint32_t>(row.size());
      out.insert(out.end(), row.begin(), row.end());
    }
  });
  std::partial_sum(coarse.first.begin(), coarse.first.end(), coarse.first.begin());
  coarse.column.resize(coarse.first.back());
  coarse.weight.resize(coarse.first.back());
  blocks(coarse, [&](std::int64_t b, std::uint32_t begin, std::uint32_t) {
    std::uint32_t at = coarse.first[begin];
    for (const Edge& edge : edges[b]) {
      coarse.column[at] = edge.column;
      coarse.weight[at++] = edge.weight;
    }
  });
  return coarse;
}

// Joins neighbouring blocks until they have at least `least` rows.
void merge_blocks(std::vector<std::uint32_t>& block, std::uint32_t least) {
  std::vector<std::uint32_t> merged{0};
  for (std::size_t b = 1; b < block.size(); ++b)
    if (block[b] - merged.back() >= least || b + 1 == block.size()) merged.push_back(block[b]);
  block = std::move(merged);
}

// The next level, and in `level` the way there: up to eight rows a
// group.
WeightedGraph next_level(Level& level, float kappa) {
  WeightedGraph coarse;
  std::vector<float> stiffness(level.rows());
  for (std::int64_t i = 0; i < level.rows(); ++i)
    stiffness[i] = level.inverse[i] > 0 ? 1 / level.inverse[i] : 0;
  for (int pass = 0; pass < pairings; ++pass) {
    const WeightedGraph& finer = pass == 0 ? level.graph : coarse;
    std::vector<std::uint32_t> group, block;
    std::vector<float> sums(match(finer, stiffness, kappa, pass == 0, group, block), 0.0f);
    for (std::int64_t i = 0; i < finer.rows(); ++i)
      if (group[i] != nowhere) sums[group[i]] += stiffness[i];
    stiffness = std::move(sums);
    coarse = coarsened(finer, group, std::move(block));
    if (pass == 0) {
      level.group = std::move(group);
    } else {
      for (auto& c : level.group)
        if (c != nowhere) c = group[c];
    }
  }
  merge_blocks(coarse.block, 1 << 10);
  return coarse;
}

}  // namespace

std::vector<Level> coarser_levels(WeightedGraph graph) {
  std::vector<Level> levels;
  levels.push_back({std::move(graph), {}, {}});
  for (;;) {
    Level& level = levels.back();
    level.inverse = inverse_diagonal(level.graph);
    if (level.rows() <= direct_rows) return levels;
    const auto rows = static_cast<std::uint32_t>(level.rows());
    if (rows < few_rows) level.graph.block = {0, rows};
    WeightedGraph coarse = next_level(level, quality);
    if (4 * coarse.rows() >
        3 * level.rows()) {  // hardly coarser: any edge must do, at any distance
      level.graph.block = {0, rows};
      coarse = next_level(level, HUGE_VALF);
    }
    levels.push_back({std::move(coarse), {}, {}});
  }
}

std::vector<double> inverse_of(const WeightedGraph& graph) {
  const std::int64_t n = graph.rows();
  std::vector<double> a(n * n, 0.0), inverse(n * n, 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = graph.excess[i];
    for (std::uint32_t e = graph.first[i]; e < graph.first[i + 1]; ++e) {
      sum += graph.weight[e];
      a[i * n + graph.column[e]] = -static_cast<double>(graph.weight[e]);
    }
    a[i * n + i] = sum;
    inverse[i * n + i] = 1;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    if (!(a[i * n + i] > 0)) continue;
    const double scale = 1 / a[i * n + i];
    for (std::int64_t k = 0; k < n; ++k) a[i * n + k] *= scale, inverse[i * n + k] *= scale;
    for (std::int64_t j = 0; j < n; ++j) {
      const double f = a[j * n + i];
      if (j == i || f == 0) continue;
      for (std::int64_t k = 0; k < n; ++k) {
        a[j * n + k] -= f * a[i * n + k];
        inverse[j * n + k] -= f * inverse[i * n + k];
      }
    }
  }
  return inverse;
}

}  // namespace msf
