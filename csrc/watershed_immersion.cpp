// Watershed by immersion from all regional minima, without a sort.
//
// L. Vincent and P. Soille, "Watersheds in digital spaces: an efficient algorithm based on
// immersion simulations", IEEE Trans. Pattern Anal. Mach. Intell. 13(6):583-598 (1991). They flood
// level by level; a pixel joins the basin it is nearest to within its level. What a pixel becomes
// thus depends on a few neighbours only: those that are lower, or on a plateau those of equal value
// that are one step nearer to lower ground. So every pixel can be resolved by following these
// neighbours down to a minimum, in any order and on any number of threads (hill climbing: J. B. T.
// M. Roerdink and A. Meijster, "The watershed transform: definitions, algorithms and
// parallelization strategies", Fundamenta Informaticae 41 (2000) 187-228; A. Bieniek and A. Moga,
// "An efficient watershed algorithm based on connected components", Pattern Recognition 33 (2000)
// 907-916).
//
// Without lines each pixel follows one neighbour (see descents.cpp), and all pixels of a path get
// its label at once. With lines it takes the one label that all these neighbours carry, or becomes
// a line: Vincent and Soille let the outcome depend on the order in which neighbours are looked at
// (Roerdink and Meijster, section 4.2); this rule does not.
#include <atomic>
#include <memory>
#include <stdexcept>
#include <vector>

#include "descents.hpp"
#include "kernels/watershed_immersion.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using namespace distance_code;

constexpr std::int64_t grain = 1 << 16;

std::int32_t load(const std::int32_t* labels, std::int64_t v) {
  return std::atomic_ref<std::int32_t>(const_cast<std::int32_t&>(labels[v]))
      .load(std::memory_order_relaxed);
}
void store(std::int32_t* labels, std::int64_t v, std::int32_t value) {
  std::atomic_ref<std::int32_t>(labels[v]).store(value, std::memory_order_relaxed);
}

// Two threads on one path write the same labels.
void follow_paths(const GridSteps& steps, std::int32_t* labels) {
  std::vector<std::int64_t> offset;
  for (std::int64_t k = 0; k < steps.size(); ++k) offset.push_back(steps.flat(k));
  parallel_for(steps.pixels(), grain, [&](std::int64_t begin, std::int64_t end) {
    Ticker tick;
    for (std::int64_t v = begin; v < end; ++v) {
      std::int32_t label = load(labels, v);
      if (label >= 0) continue;
      std::int64_t w = v;
      do {
        w += offset[-(label + 1)];
        label = load(labels, w);
        tick();
      } while (label < 0);
      w = v;
      for (std::int32_t step; (step = load(labels, w)) < 0; w += offset[-(step + 1)]) {
        store(labels, w, label);
        tick();
      }
    }
  });
}

// Resolves pixels for lines. labels < 0: not resolved yet; 0: a line, or outside the mask.
template <class U>
struct Lines {
  const Keys<U> key;
  const GridSteps& steps;
  const std::uint8_t* const distance;
  std::int32_t* const labels;

  // The label of v, from the pixels that decide it; or -1 after adding unresolved ones to `stack`.
  std::int32_t decide(std::int64_t v, std::vector<std::int64_t>& stack) const {
    const U own = key[v];
    const int far = distance[v] & bits;
    // On a plateau: the distance one step nearer, where 1 and 4 are the same modulo 3.
    const int nearer = far == two_mod_three ? 1 : far == three_mod_three ? 2 : 0;
    std::int32_t label = -1;  // none seen yet
    bool line = false, waits = false;
    steps.each(v, distance[v] & on_border, [&](std::int64_t, std::int64_t w) {
      if (far == one ? !(key[w] < own) : !(key[w] == own && is_nearer(w, nearer))) return;
      const std::int32_t other = load(labels, w);
      if (other < 0) {
        stack.push_back(w);
        waits = true;
      } else if (other > 0) {
        line |= label > 0 && label != other;
        label = other;
      }
    });
    if (waits) return -1;
    return line || label < 0 ? 0 : label;
  }

  bool is_nearer(std::int64_t w, int nearer) const {
    const int far = distance[w] & bits;
    return far != outside_mask && far != in_minimum && far % 3 == nearer;
  }

  void run() const {
    parallel_for(steps.pixels(), grain, [&](std::int64_t begin, std::int64_t end) {
      Ticker tick;
      std::vector<std::int64_t> stack;
      for (std::int64_t v = begin; v < end; ++v) {
        if (load(labels, v) >= 0) continue;
        stack.assign(1, v);
        while (!stack.empty()) {
          tick();
          const std::int64_t w = stack.back();
          const std::int32_t label = load(labels, w) < 0 ? decide(w, stack) : load(labels, w);
          if (label < 0) continue;  // the pixels it waits for come first
          store(labels, w, label);
          stack.pop_back();
        }
      }
    });
  }
};

}  // namespace

std::int64_t watershed_immersion(const Array& image, int connectivity, const Array* mask,
                                 bool lines, const MutableArray& labels) {
  const std::int64_t n = image.size();
  if (n == 0) return 0;
  const GridSteps steps(image, connectivity);
  std::unique_ptr<std::uint8_t[]> nan_free;  // the mask without NaN
  const std::uint8_t* inside = mask ? mask->as<std::uint8_t>() : nullptr;
  KeyImage keys(image, false, inside);
  if (keys.has_nan()) {
    nan_free = without_nan(image, inside);
    inside = nan_free.get();
  }
  if (steps.size() > 255) keys.widen(n);  // find_descents writes steps where keys were
  std::int32_t* const out = labels.as<std::int32_t>();
  std::unique_ptr<std::uint8_t[]> distance(lines ? new std::uint8_t[n] : nullptr);
  const std::int64_t count =
      find_descents(keys, image, connectivity, steps, inside, out, distance.get());
  if (!lines)
    follow_paths(steps, out);
  else
    keys.visit_keys(
        [&]<class U>(const Keys<U>& key) { Lines<U>{key, steps, distance.get(), out}.run(); });
  return count;
}

}  // namespace msf
