// Water flows from a pixel to its lowest neighbour, of equally low ones to the first in raster
// order. On a plateau it flows to the nearest lower ground: to the first neighbour in raster order
// among those of equal value that are one step nearer to a pixel with a lower neighbour (lower
// completion: F. Meyer, "Topographic distance and watershed lines", Signal Processing 38 (1994)
// 113-125). What is left are minima.
//
// The first pass compares all pixels of a row with all their neighbours at once. Pixels without a
// lower neighbour are flat; flat pixels next to each other have equal values. A flood through flat
// pixels, level by level from those that touch an equal pixel which has a lower neighbour, gives
// the flow on plateaus: within a level the lowest step wins whatever the order of the visits, so
// that a level can be cut among threads. Flat pixels that the flood does not reach are minima; they
// are numbered as connected components of runs.
#include "descents.hpp"

#include <atomic>
#include <limits>
#include <stdexcept>
#include <vector>

#include "components.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using namespace distance_code;

// In `labels` until all is done. Below `tentative`: steps that the level being flooded may still
// lower.
constexpr std::int32_t flat = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t flat_on_border = flat + 1;
constexpr std::int32_t tentative = -(1 << 20);

bool is_flat(std::int32_t label) { return label <= flat_on_border; }
bool is_step(std::int32_t label) { return label < 0 && label >= tentative; }

std::int32_t load(const std::int32_t* labels, std::int64_t v) {
  return std::atomic_ref<std::int32_t>(const_cast<std::int32_t&>(labels[v]))
      .load(std::memory_order_relaxed);
}

// A pixel, whether it is on the border of the image, and a step from it.
struct Pixel {
  std::uint64_t code;
  Pixel(std::int64_t v, bool border, std::int64_t step = 0)
      : code(static_cast<std::uint64_t>(v) << 18 | static_cast<std::uint64_t>(step) << 1 | border) {
  }
  std::int64_t v() const { return static_cast<std::int64_t>(code >> 18); }
  std::int32_t step() const { return static_cast<std::int32_t>(code >> 1 & 0x1ffff); }
  bool border() const { return code & 1; }
};
using Pixels = std::vector<Pixel>;

// The step to the lowest neighbour of each pixel of a strip that has a lower one.
template <class U>
void find_lower(const Keys<U>& key, const GridSteps& steps, const std::uint8_t* inside,
                std::int64_t row, std::int64_t begin, std::int64_t end, std::int32_t* labels,
                std::uint8_t* distance) {
  U lowest[GridSteps::widest], step[GridSteps::widest];
  const std::int64_t base = row * steps.length(), n = end - begin;
  const U flip = key.flip;
  const U* const own = key.data + base + begin;
  for (std::int64_t i = 0; i < n; ++i) lowest[i] = static_cast<U>(own[i] ^ flip);
  std::fill(step, step + n, U{0});
  const auto ends = steps.row_ends(row);
  steps.each_in_row(ends, begin, end,
                    [&](std::int64_t k, std::int64_t offset, std::int64_t b, std::int64_t e) {
                      const U* const __restrict near = key.data + base + offset + b;
                      U* const __restrict low = lowest + (b - begin);
                      U* const __restrict to = step + (b - begin);
                      const U number = static_cast<U>(k + 1);
                      for (std::int64_t i = 0; i < e - b; ++i) {
                        const U value = static_cast<U>(near[i] ^ flip);
                        to[i] = value < low[i] ? number : to[i];
                        low[i] = value < low[i] ? value : low[i];
                      }
                    });
  std::int32_t* const out = labels + base + begin;
  const std::int32_t none = ends.any() ? flat_on_border : flat;
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = step[i] ? -static_cast<std::int32_t>(step[i]) : none;
  if (begin == 0 && out[0] == flat) out[0] = flat_on_border;
  if (end == steps.length() && out[n - 1] == flat) out[n - 1] = flat_on_border;
  if (inside)
    for (std::int64_t i = 0; i < n; ++i) out[i] = inside[base + begin + i] ? out[i] : 0;
  if (!distance) return;
  std::uint8_t* const far = distance + base + begin;
  const std::uint8_t border = ends.any() ? on_border : std::uint8_t{0};
  for (std::int64_t i = 0; i < n; ++i) {
    const auto from = static_cast<std::uint8_t>(step[i] ? one : in_minimum);
    far[i] = static_cast<std::uint8_t>(from | border);
  }
  if (begin == 0) far[0] |= on_border;
  if (end == steps.length()) far[n - 1] |= on_border;
  if (inside)
    for (std::int64_t i = 0; i < n; ++i) far[i] = inside[base + begin + i] ? far[i] : outside_mask;
}

// Flat pixels of a strip that touch an equal pixel with a lower neighbour, and the step to it.
template <class U>
void find_shore(const Keys<U>& key, const GridSteps& steps, std::int64_t row, std::int64_t begin,
                std::int64_t end, const std::int32_t* labels, Pixels& shore) {
  const std::int64_t base = row * steps.length(), n = end - begin;
  // As unsigned numbers steps are above all other labels.
  std::uint32_t most[GridSteps::widest];
  std::fill(most, most + n, 0);
  steps.each_in_row(steps.row_ends(row), begin, end,
                    [&](std::int64_t, std::int64_t offset, std::int64_t b, std::int64_t e) {
                      const std::int32_t* const __restrict near = labels + base + offset + b;
                      std::uint32_t* const __restrict high = most + (b - begin);
                      for (std::int64_t i = 0; i < e - b; ++i)
                        high[i] = std::max(high[i], static_cast<std::uint32_t>(near[i]));
                    });
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t v = base + begin + i;
    if (most[i] < static_cast<std::uint32_t>(tentative) || !is_flat(labels[v])) continue;
    const bool border = labels[v] == flat_on_border;
    std::int64_t first = 0;
    const U own = key[v];
    steps.each(v, border, [&](std::int64_t k, std::int64_t w) {
      if (first == 0 && is_step(labels[w]) && key[w] == own) first = k + 1;
    });
    if (first != 0) shore.emplace_back(v, border, first);
  }
}

class PlateauFlood {
 public:
  PlateauFlood(const GridSteps& steps, std::int32_t* labels, std::uint8_t* distance)
      : steps_(steps), labels_(labels), distance_(distance) {}

  void run(std::vector<Pixels>& fronts) {
    for (int level = 2; total(fronts) > 0; ++level) {
      const auto far = static_cast<std::uint8_t>(two_mod_three + (level - 2) % 3);
      std::vector<Pixels> next;
      if (num_threads() == 1 || total(fronts) < few) {
        next.resize(1);
        for (const Pixels& front : fronts) settle(front, 0, front.size(), far);
        for (const Pixels& front : fronts) expand<false>(front, 0, front.size(), next[0]);
      } else {
        const auto cut = pieces(fronts);
        next.resize(cut.size());
        parallel_tasks(static_cast<std::int64_t>(cut.size()), [&](std::int64_t i) {
          settle(fronts[cut[i].front], cut[i].begin, cut[i].end, far);
        });
        parallel_tasks(static_cast<std::int64_t>(cut.size()), [&](std::int64_t i) {
          expand<true>(fronts[cut[i].front], cut[i].begin, cut[i].end, next[i]);
        });
      }
      fronts = std::move(next);
    }
  }

 private:
  static constexpr std::size_t few = 1 << 13, grain = 1 << 12;
  struct Piece {
    std::size_t front, begin, end;
  };

  static std::size_t total(const std::vector<Pixels>& fronts) {
    std::size_t count = 0;
    for (const Pixels& front : fronts) count += front.size();
    return count;
  }

  static std::vector<Piece> pieces(const std::vector<Pixels>& fronts) {
    std::vector<Piece> cut;
    for (std::size_t f = 0; f < fronts.size(); ++f)
      for (std::size_t begin = 0; begin < fronts[f].size(); begin += grain)
        cut.push_back({f, begin, std::min(fronts[f].size(), begin + grain)});
    return cut;
  }

  // The steps of a finished level are final.
  void settle(const Pixels& front, std::size_t begin, std::size_t end, std::uint8_t far) const {
    for (std::size_t i = begin; i < end; ++i) {
      const Pixel pixel = front[i];
      labels_[pixel.v()] -= tentative;
      if (distance_)
        distance_[pixel.v()] = static_cast<std::uint8_t>(far | (pixel.border() ? on_border : 0));
    }
  }

  template <bool shared>
  void expand(const Pixels& front, std::size_t begin, std::size_t end, Pixels& next) const {
    Ticker tick;
    const std::int64_t last = steps_.size() - 1;
    for (std::size_t i = begin; i < end; ++i, tick()) {
      const Pixel pixel = front[i];
      steps_.each(pixel.v(), pixel.border(), [&](std::int64_t k, std::int64_t w) {
        const auto back = static_cast<std::int32_t>(tentative - (last - k + 1));
        std::int32_t label = load(labels_, w);
        while (label < tentative && label < back) {  // flat, or with a later step
          if constexpr (shared) {
            if (!std::atomic_ref<std::int32_t>(labels_[w])
                     .compare_exchange_weak(label, back, std::memory_order_relaxed))
              continue;
          } else {
            labels_[w] = back;
          }
          if (is_flat(label)) next.emplace_back(w, label == flat_on_border);
          break;
        }
      });
    }
  }

  const GridSteps& steps_;
  std::int32_t* const labels_;
  std::uint8_t* const distance_;
};

// Numbers what is still flat.
std::int64_t number_minima(const Array& image, int connectivity, std::int32_t* labels) {
  const Grid grid(image);
  Runs flat_runs(grid.rows, grid.length, false, [&](std::int64_t row, Word* inside, Word*) {
    const std::int32_t* const x = labels + row * grid.length;
    pack_row([=](std::int64_t c) { return is_flat(x[c]); }, grid.length, inside);
  });
  const Components minima(std::move(flat_runs), grid, connectivity);
  if (minima.count() > std::numeric_limits<std::int32_t>::max())
    throw std::invalid_argument("watershed: more than 2147483647 minima");
  const Runs& runs = minima.runs();
  minima.visit_labels([&](auto&& number_of) {
    const std::int64_t rows = std::max<std::int64_t>(1, (1 << 17) / grid.length);
    parallel_for(grid.rows, rows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row)
        runs.for_each<false>(row, [&](std::int64_t from, std::int64_t to, std::int64_t run) {
          std::fill(labels + row * grid.length + from, labels + row * grid.length + to,
                    static_cast<std::int32_t>(number_of(run)));
        });
    });
  });
  return minima.count();
}

template <class U>
void find_shores(const Keys<U>& key, const GridSteps& steps, const std::uint8_t* inside,
                 std::int32_t* labels, std::uint8_t* distance, std::vector<Pixels>& fronts) {
  const auto strips = steps.strips();
  parallel_for(strips.count, strips.grain(), [&](std::int64_t first, std::int64_t last) {
    strips.each(first, last, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
      find_lower(key, steps, inside, row, begin, end, labels, distance);
    });
  });
  const Slabs slabs(strips.count, strips.grain());
  fronts.resize(slabs.count);
  slabs.run([&](std::int64_t slab, std::int64_t first, std::int64_t last) {
    Ticker tick(64);
    strips.each(first, last, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
      find_shore(key, steps, row, begin, end, labels, fronts[slab]);
      tick();
    });
  });
  for (const Pixels& front : fronts)
    for (const Pixel pixel : front) labels[pixel.v()] = tentative - pixel.step();
}

}  // namespace

std::int64_t find_descents(const KeyImage& keys, const Array& image, int connectivity,
                           const GridSteps& steps, const std::uint8_t* inside, std::int32_t* labels,
                           std::uint8_t* distance) {
  std::vector<Pixels> fronts;
  keys.visit_keys(
      [&](const auto& key) { find_shores(key, steps, inside, labels, distance, fronts); });
  PlateauFlood(steps, labels, distance).run(fronts);
  return number_minima(image, connectivity, labels);
}

}  // namespace msf
