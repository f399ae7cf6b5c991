// Hierarchies of watershed basins.
//
// Basins are nodes of a graph; two that touch are joined at the height of the lowest pass between
// them. Only the minimum spanning tree of that graph matters for merging by flooding: L. Najman and
// M. Schmitt, "Geodesic saliency of watershed contours and hierarchical segmentation", IEEE Trans.
// Pattern Anal. Mach. Intell. 18(12):1163-1173 (1996); F. Meyer, "The dynamics of minima and
// contours", ISMM 1996; C. Vachier and F. Meyer, "Extinction value: a new measurement of
// persistence", IEEE Workshop on Nonlinear Signal and Image Processing 1995; J. Cousty, G.
// Bertrand, L. Najman and M. Couprie, "Watershed cuts", IEEE TPAMI 31(8):1362-1374 (2009).
//
// Pairs of touching pixels are many more than pairs of touching basins: each slab remembers the
// last passes it met, by a hash of the pair, and drops or lowers what it finds again. The rest is
// sorted by height and joined by Kruskal's algorithm.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "grid_steps.hpp"
#include "kernels/watershed_hierarchy.hpp"
#include "key_image.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

template <class U>
struct Pass {
  U height;
  std::int32_t first, second;
  bool operator<(const Pass& other) const {
    if (height != other.height) return height < other.height;
    if (first != other.first) return first < other.first;
    return second < other.second;
  }
};

template <class U>
class Passes {
 public:
  Passes() : recent_(1 << bits, -1) {}

  void add(U height, std::int32_t a, std::int32_t b) {
    if (a > b) std::swap(a, b);
    const auto pair = static_cast<std::uint64_t>(a) << 32 | static_cast<std::uint32_t>(b);
    std::int64_t& at = recent_[pair * 0x9e3779b97f4a7c15u >> (64 - bits)];
    if (at >= 0 && list[at].first == a && list[at].second == b) {
      list[at].height = std::min(list[at].height, height);
      return;
    }
    at = static_cast<std::int64_t>(list.size());
    list.push_back({height, a, b});
  }

  std::vector<Pass<U>> list;

 private:
  static constexpr int bits = 16;
  std::vector<std::int64_t> recent_;  // by hash of the pair: where the list has it
};

template <class U>
std::vector<Pass<U>> find_passes(const Keys<U>& key, const GridSteps& steps,
                                 const std::int32_t* labels) {
  const auto strips = steps.strips();
  const Slabs slabs(strips.count, strips.grain());
  std::vector<std::vector<Pass<U>>> found(slabs.count);
  slabs.run([&](std::int64_t slab, std::int64_t first, std::int64_t last) {
    Passes<U> passes;
    Ticker tick(64);
    strips.each(first, last, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
      const std::int64_t base = row * steps.length();
      steps.each_in_row(steps.row_ends(row), begin, end,
                        [&](std::int64_t, std::int64_t offset, std::int64_t b, std::int64_t e) {
                          if (offset < 0) return;  // each pair once
                          for (std::int64_t v = base + b; v < base + e; ++v) {
                            const std::int32_t one = labels[v], other = labels[v + offset];
                            if (one != other && one > 0 && other > 0)
                              passes.add(std::max(key[v], key[v + offset]), one, other);
                          }
                        });
      tick();
    });
    std::sort(passes.list.begin(), passes.list.end());
    found[slab] = std::move(passes.list);
  });
  std::vector<Pass<U>> all = std::move(found[0]);
  for (std::size_t slab = 1; slab < found.size(); ++slab) {
    const auto middle = static_cast<std::ptrdiff_t>(all.size());
    all.insert(all.end(), found[slab].begin(), found[slab].end());
    std::vector<Pass<U>>().swap(found[slab]);
    std::inplace_merge(all.begin(), all.begin() + middle, all.end());
  }
  return all;
}

// Sets of labels; the root is not the lowest of its set.
class Sets {
 public:
  explicit Sets(std::int64_t count) : parent_(count) {
    std::iota(parent_.begin(), parent_.end(), std::int32_t{0});
  }
  std::int32_t find(std::int32_t x) {
    while (parent_[x] != x) x = parent_[x] = parent_[parent_[x]];
    return x;
  }
  void put_under(std::int32_t root, std::int32_t above) { parent_[root] = above; }

 private:
  std::vector<std::int32_t> parent_;
};

template <class T>
double height_of(OrderKey<T> key) {
  using U = OrderKey<T>;
  constexpr U sign = U{1} << (8 * sizeof(T) - 1);
  if constexpr (is_float<T>)
    return static_cast<double>(std::bit_cast<T>(static_cast<U>(key & sign ? key ^ sign : ~key)));
  else
    return static_cast<double>(static_cast<T>(std::is_signed_v<T> ? key ^ sign : key));
}

}  // namespace

Merges merge_basins(const Array& image, const Array& labels, std::int64_t basins,
                    int connectivity) {
  Merges merges;
  if (image.size() == 0 || basins < 2) return merges;
  const GridSteps steps(image, connectivity);
  const KeyImage keys(image, false);
  keys.visit_keys([&]<class U>(const Keys<U>& key) {
    const std::vector<Pass<U>> passes = find_passes(key, steps, labels.as<std::int32_t>());
    Sets sets(basins + 1);
    std::vector<std::int64_t> weights(basins + 1, 1);
    std::vector<U> heights;
    Ticker tick;
    for (const Pass<U>& pass : passes) {
      tick();
      std::int32_t a = sets.find(pass.first), b = sets.find(pass.second);
      if (a == b) continue;
      if (weights[a] < weights[b]) std::swap(a, b);
      sets.put_under(b, a);
      weights[a] += weights[b];
      merges.first.push_back(pass.first);
      merges.second.push_back(pass.second);
      heights.push_back(pass.height);
    }
    visit(image.dtype, [&]<class T>(Type<T>) {
      if constexpr (std::is_same_v<OrderKey<T>, U>)
        for (const U height : heights) merges.height.push_back(height_of<T>(height));
    });
  });
  return merges;
}

void measure_basins(const Array& image, const Array& labels, const MutableArray& lowest,
                    const MutableArray& sizes) {
  auto *const low = lowest.as<std::int64_t>(), *const size = sizes.as<std::int64_t>();
  const std::int64_t basins = lowest.size(), n = image.size();
  std::fill_n(low, basins, -1);
  std::fill_n(size, basins, 0);
  const auto* const label = labels.as<std::int32_t>();
  const KeyImage keys(image, false);
  keys.visit_keys([&](const auto& key) {
    Ticker tick;
    for (std::int64_t v = 0; v < n; ++v, tick()) {
      if (label[v] <= 0) continue;
      const std::int32_t b = label[v] - 1;
      if (low[b] < 0 || key[v] < key[low[b]]) low[b] = v;
      ++size[b];
    }
  });
}

void extinguish(const Array& first, const Array& second, const Array& height, Attribute attribute,
                const Array& depths, const Array& areas, const MutableArray& saliency,
                const MutableArray& extinction) {
  struct Component {
    double depth, area;
    double level, volume;  // the water in it when it reached that level
    std::int32_t minimum;  // label of the minimum that lives on
    double volume_at(double height) const { return volume + area * (height - level); }
  };
  const std::int64_t basins = depths.size(), merges = first.size();
  std::vector<Component> components(basins + 1);
  auto* const ends = extinction.as<double>();
  for (std::int64_t b = 0; b < basins; ++b) {
    const double depth = depths.as<double>()[b];
    components[b + 1] = {depth, areas.as<double>()[b], depth, 0, static_cast<std::int32_t>(b + 1)};
    ends[b] = std::numeric_limits<double>::infinity();
  }
  const auto amount = [&](const Component& c, double level) {
    switch (attribute) {
      case Attribute::dynamics:
        return level - c.depth;
      case Attribute::area:
        return c.area;
      default:
        return c.volume_at(level);
    }
  };
  Sets sets(basins + 1);
  std::vector<std::int64_t> weights(basins + 1, 1);
  Ticker tick;
  for (std::int64_t m = 0; m < merges; ++m, tick()) {
    std::int32_t a = sets.find(first.as<std::int32_t>()[m]);
    std::int32_t b = sets.find(second.as<std::int32_t>()[m]);
    const Component one = components[a], two = components[b];
    const double level = height.as<double>()[m];
    const double of_one = amount(one, level), of_two = amount(two, level);
    const bool one_ends = of_one != of_two ? of_one < of_two : one.minimum > two.minimum;
    const double least = one_ends ? of_one : of_two;
    saliency.as<double>()[m] = least;
    ends[(one_ends ? one : two).minimum - 1] = least;
    if (weights[a] < weights[b]) std::swap(a, b);
    sets.put_under(b, a);
    weights[a] += weights[b];
    components[a] = {std::min(one.depth, two.depth), one.area + two.area, level,
                     one.volume_at(level) + two.volume_at(level), (one_ends ? two : one).minimum};
  }
}

std::int64_t merge_labels(const Array& first, const Array& second, const MutableArray& table) {
  auto* const region = table.as<std::int32_t>();
  const std::int64_t labels = table.size();
  // Roots are the lowest labels: a root is numbered before what is under it.
  std::iota(region, region + labels, std::int32_t{0});
  const auto find = [&](std::int32_t x) {
    while (region[x] != x) x = region[x] = region[region[x]];
    return x;
  };
  for (std::int64_t m = 0; m < first.size(); ++m) {
    const std::int32_t a = find(first.as<std::int32_t>()[m]);
    const std::int32_t b = find(second.as<std::int32_t>()[m]);
    region[std::max(a, b)] = std::min(a, b);
  }
  std::int32_t count = 0;
  for (std::int64_t label = 1; label < labels; ++label)
    region[label] = region[label] == label ? ++count : region[region[label]];
  return count;
}

void map_labels(const Array& labels, const Array& table, const MutableArray& out) {
  const auto* const from = labels.as<std::int32_t>();
  const auto* const to = table.as<std::int32_t>();
  auto* const target = out.as<std::int32_t>();
  parallel_for(labels.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t v = begin; v < end; ++v) target[v] = to[from[v]];
  });
}

void map_minima(const Array& image, const Array& labels, const Array& lowest, const Array& table,
                const MutableArray& out) {
  const auto* const from = labels.as<std::int32_t>();
  const auto* const low = lowest.as<std::int64_t>();
  const auto* const to = table.as<std::int32_t>();
  auto* const target = out.as<std::int32_t>();
  const KeyImage keys(image, false);
  keys.visit_keys([&](const auto& key) {
    parallel_for(labels.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t v = begin; v < end; ++v) {
        const std::int32_t label = from[v];
        target[v] = label > 0 && key[v] == key[low[label - 1]] ? to[label] : 0;
      }
    });
  });
}

}  // namespace msf
