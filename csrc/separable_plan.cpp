#include "separable_plan.hpp"

namespace msf::separable {
namespace {

constexpr Index scratch_bytes = 1 << 19;  // of one level, about
constexpr Index short_axis = 64;          // elements of a last axis that is taken into its row

}  // namespace

Plan::Plan(const Array& image, const Separable& filter) : filter(filter) {
  static const Taps none{{1.0}, false};
  std::vector<int> terms = filter.terms;
  const auto add = [&](Index extent, const Taps& smooth, const Taps* derive, BorderMode border) {
    const std::size_t taps = std::max(smooth.half.size(), derive ? derive->half.size() : 1);
    const auto radius = static_cast<Index>(taps) - 1;
    axes.push_back({extent, radius, &smooth, derive, local::extended_axis(extent, radius, border)});
  };
  int last = image.ndim - 1;
  const bool derived = std::find(terms.begin(), terms.end(), last) != terms.end();
  if (last > 0 && !derived && image.shape[last] < short_axis &&
      filter.smooth[last].half == none.half && !filter.smooth[last].odd)
    step = image.shape[last--];
  const int missing = std::max(0, 1 - last);
  for (int k = 0; k < missing; ++k) add(1, none, nullptr, BorderMode::nearest);
  for (int k = 0; k <= last; ++k) {
    const bool used = std::find(terms.begin(), terms.end(), k) != terms.end();
    add(image.shape[k], filter.smooth[k], used ? &filter.derive[k] : nullptr, filter.border[k]);
  }
  for (int& term : terms) term += missing;
  streams.push_back({-1});
  for (int k = 0; k < ndim(); ++k) {
    std::vector<int> after;
    std::vector<Pass> todo;
    for (std::size_t s = 0; s < streams[k].size(); ++s) {
      const int term = streams[k][s];
      const bool more =
          terms.empty() || std::any_of(terms.begin(), terms.end(), [&](int t) { return t > k; });
      if (term >= 0 || more) {
        todo.push_back({s, after.size(), false});
        after.push_back(term);
      }
      if (term < 0 && axes[k].derive) {
        todo.push_back({s, after.size(), true});
        after.push_back(k);
      }
    }
    streams.push_back(after);
    passes.push_back(todo);
  }
  for (const int term : terms)
    for (std::size_t s = 0; s < streams.back().size(); ++s)
      if (streams.back()[s] == term) result.push_back(s);
  if (terms.empty()) result.push_back(0);
}

Index Plan::block_step(int k, Index bytes) const {
  const Index all = static_cast<Index>(streams[k + 1].size()) * bytes;
  const Index most = std::max<Index>(32, 2 * axes[k].radius);
  return std::clamp<Index>(scratch_bytes / std::max<Index>(all, 1), 16, most);
}

void for_tiles(const Plan& plan, Index item, const std::function<void(const Tile&)>& body) {
  const Axis &down = plan.axes[0], &across = plan.axes[1];
  // Tiles of the second axis: a block of at least 16 positions of the first fits; their borders
  // overlap by an eighth at most.
  const Index bytes = 16 * static_cast<Index>(plan.streams[1].size()) * plan.stride(1) * item;
  const Index fit =
      std::max({scratch_bytes / bytes - 2 * across.radius, 16 * across.radius, Index{64}});
  const Index columns = std::min(across.extent, fit);
  const Index rows = std::max(plan.block_step(0, plan.stride(0) * item),
                              (down.extent + 4 * num_threads() - 1) / (4 * num_threads()));
  const Index high = (down.extent + rows - 1) / rows,
              wide = (across.extent + columns - 1) / columns;
  parallel_tasks(high * wide, [&](Index i) {
    Tile tile{};
    tile.begin[0] = i / wide * rows;
    tile.end[0] = std::min(down.extent, tile.begin[0] + rows);
    tile.begin[1] = i % wide * columns;
    tile.end[1] = std::min(across.extent, tile.begin[1] + columns);
    tile.low = across.extent;
    for (Index e = tile.begin[1]; e < tile.end[1] + 2 * across.radius; ++e)
      if (const Index at = across.source[e]; at >= 0) {
        tile.low = std::min(tile.low, at);
        tile.high = std::max(tile.high, at + 1);
      }
    body(tile);
  });
}

}  // namespace msf::separable
