// Connected components of an image's runs.
//
// Rows that touch (along the other axes) are compared 64 pixels at a time:
// every pair of touching runs shows as one bit, and both run numbers follow
// from population counts up to that bit. The pairs go to a union-find of runs.
// Slabs of rows are joined in parallel, then the pairs that cross a slab's
// border, then roots are numbered in raster order.
//
// Runs, not pixels, as nodes: Rosenfeld and Pfaltz, "Sequential operations in
// digital picture processing", J. ACM 13 (1966); He, Chao and Suzuki, "A
// run-based two-scan labeling algorithm", IEEE Trans. Image Process. 17 (2008);
// Wu, Otoo and Suzuki, "Optimizing two-pass connected-component labeling
// algorithms", Pattern Anal. Appl. 12 (2009). They store the runs' ends and
// walk along two lists; the bit patterns need less memory and no unpredictable
// branch.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "array.hpp"
#include "parallel.hpp"
#include "runs.hpp"
#include "union_find.hpp"

namespace msf {

// The pixel grid without axes of one pixel (they connect nothing), as rows
// along the last axis.
struct Grid {
  std::int64_t rows = 1, length = 1;
  std::vector<std::int64_t> outer;  // shape without the last axis

  explicit Grid(const Array& image) {
    for (int axis = 0; axis < image.ndim; ++axis)
      if (image.shape[axis] != 1) outer.push_back(image.shape[axis]);
    if (outer.empty()) return;
    length = outer.back();
    outer.pop_back();
    for (const auto n : outer) rows *= n;
    if (rows == 0 || length == 0) rows = length = 0;
  }
};

// The rows that touch a row and come before it.
class Neighbours {
 public:
  Neighbours(const Grid& grid, int connectivity);

  struct Neighbour {
    std::int64_t back;    // rows before
    std::uint64_t needs;  // the borders it must not be at
    bool diagonal;        // pixels also touch diagonally along the row
    int place = 0;        // in the list
    // Places, as bits, of the neighbours whose middle pixel touches all three of this one: where a
    // pixel is joined with one of those, this neighbour need not be looked at.
    std::uint64_t covered_by = 0;
    bool covers_most = false;
  };

  // Walks over consecutive rows, knowing which neighbours lie inside the grid.
  class Walk {
   public:
    Walk(const Neighbours& neighbours, std::int64_t row);
    void next();
    // f(neighbour) for every neighbouring row inside the grid, see Neighbour.
    template <class F>
    void for_each(F&& f) const {
      for (const auto& n : neighbours_.list_)
        if (!(n.needs & at_border_)) f(row_ - n.back, n);
    }

   private:
    void look(std::size_t axis);
    const Neighbours& neighbours_;
    std::int64_t row_;
    std::vector<std::int64_t> position_;
    std::uint64_t at_border_ = 0;  // two bits an axis: first, last
  };

  std::int64_t reach() const { return reach_; }  // the farthest neighbour, in rows
  std::size_t size() const { return list_.size(); }
  bool covering() const { return covering_; }  // whether any of them is covered

 private:
  std::vector<std::int64_t> outer_;
  std::vector<Neighbour> list_;
  std::int64_t reach_ = 0;
  bool covering_ = false;
};

// What is known of a row's pixels when it meets another row, a bit each.
struct Known {
  const Word* touching;  // equals the other row's pixel straight across; null: not looked at yet
  const Word* straight;  // joined with what lies straight across, by way of a third row
  const Word* diagonal;  // joined with what lies diagonally across
};

// Pairs of touching runs of two rows of a binary image, one bit each: where
// either run starts inside the other, or (diagonally) where one starts just
// after the other has ended. In all cases they are the last runs of their rows
// that have started.
struct BinaryPairs {
  // Whether all neighbours are worth looking at first, or just the one that covers most.
  static constexpr bool looks_at_all = false;

  // f(run of a, run of b), but not for pixels of row a where that is known.
  template <bool diagonal, class Rows, class F>
  void for_each(const Rows& runs, std::int64_t row_a, std::int64_t row_b, const Known& known,
                F&& f) const {
    const Word *a = runs.inside(row_a), *b = runs.inside(row_b);
    std::int64_t run_a = runs.first(row_a) - 1, run_b = runs.first(row_b) - 1;
    Word before_a = 0, before_b = 0, known_before = 0;
    for (std::int64_t w = 0; w < runs.words(); ++w) {
      const Word starts_a = rises(a[w], before_a), starts_b = rises(b[w], before_b);
      Word pairs = a[w] & b[w] & (starts_a | starts_b) & ~known.straight[w];
      if (diagonal) {
        const Word joined = known.diagonal[w];
        pairs |= starts_a & falls(b[w], before_b) & ~joined;
        pairs |= falls(a[w], before_a) & starts_b & ~(joined << 1 | known_before);
        known_before = joined >> 63;
      }
      for (; pairs; pairs &= pairs - 1) {
        const Word up_to = pairs ^ (pairs - 1);
        f(run_a + std::popcount(starts_a & up_to), run_b + std::popcount(starts_b & up_to));
      }
      run_a += std::popcount(starts_a);
      run_b += std::popcount(starts_b);
      before_a = a[w] >> 63;
      before_b = b[w] >> 63;
    }
  }

  // Pixels of row a that touch their like straight in row b.
  void straight(const Runs& runs, std::int64_t row_a, std::int64_t row_b, Word* touching) const {
    for (std::int64_t w = 0; w < runs.words(); ++w)
      touching[w] = runs.inside(row_a)[w] & runs.inside(row_b)[w];
  }
};

// Runs with the number of their component, 1.. in raster order of the
// components' first pixels.
class Components {
 public:
  template <class Pairs = BinaryPairs>
  Components(Runs runs, const Grid& grid, int connectivity, bool wide = false,
             const Pairs& pairs = {})
      : runs_(std::move(runs)) {
    if (runs_.size() == 0) return;
    const Neighbours neighbours(grid, connectivity);
    // 32-bit tables as long as they can number the runs.
    if (wide || runs_.size() >= INT32_MAX)
      wide_.reset(new std::int64_t[runs_.size()]);
    else
      narrow_.reset(new std::int32_t[runs_.size() + 2 * margin]);
    join(neighbours, pairs);
    if (wide_)
      number(wide_.get());
    else
      number(narrow_.get() + margin);
  }

  const Runs& runs() const { return runs_; }
  std::int64_t count() const { return count_; }

  // f(component_of) with a function from a run's number to its component's, 1
  // to count().
  template <class F>
  decltype(auto) visit_labels(F&& f) const {
    if (wide_) return f([p = wide_.get()](std::int64_t run) { return ~p[run]; });
    return f([p = narrow_table()](std::int64_t run) { return ~std::int64_t{p[run]}; });
  }

  // The complement of each run's component, readable for `margin` runs before the first and beyond
  // the last; null if 32 bits do not hold them.
  static constexpr std::int64_t margin = 8;
  const std::int32_t* narrow_table() const { return narrow_ ? narrow_.get() + margin : nullptr; }

 private:
  // Unites two runs, and is told the width of the table at run time: one branch a pair, where a
  // template would compile every way of finding pairs twice.
  struct Unite {
    std::int32_t* narrow;
    std::int64_t* wide;
    bool shared;  // with other threads

    void operator()(std::int64_t a, std::int64_t b) const {
      if (wide)
        shared ? unite_shared(wide, a, b) : unite(wide, a, b);
      else if (shared)
        unite_shared(narrow, static_cast<std::int32_t>(a), static_cast<std::int32_t>(b));
      else
        unite(narrow, static_cast<std::int32_t>(a), static_cast<std::int32_t>(b));
    }
  };

  template <class Pairs>
  void join(const Neighbours& neighbours, const Pairs& pairs);

  // Bits set in any of those rows of a table that `which` has a bit for.
  static const Word* any_of(const std::vector<Word>& table, std::uint64_t which,
                            const std::vector<Word>& none, std::vector<Word>& sum) {
    if (which == 0) return none.data();
    const auto words = static_cast<std::int64_t>(sum.size());
    const Word* const row = table.data() + std::countr_zero(which) * words;
    which &= which - 1;
    if (which == 0) return row;
    std::copy_n(row, words, sum.data());
    for (; which; which &= which - 1) {
      const Word* const more = table.data() + std::countr_zero(which) * words;
      for (std::int64_t w = 0; w < words; ++w) sum[w] |= more[w];
    }
    return sum.data();
  }

  // Unites the runs of rows [begin, end) with those they touch in the rows
  // before, of rows [from, to).
  template <class Pairs>
  void join_rows(const Neighbours& neighbours, const Pairs& pairs, std::int64_t begin,
                 std::int64_t end, std::int64_t from, std::int64_t to, const Unite& unite);

  // Replaces every run's parent by the complement of its component's number:
  // whoever climbs a path meanwhile knows where it ends.
  template <class Index>
  void number(Index* parent) {
    const std::int64_t grain = 1 << 17, blocks = (runs_.size() + grain - 1) / grain;
    std::vector<std::int64_t> roots(blocks + 1);
    parallel_for(runs_.size(), grain, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t count = 0;
      for (std::int64_t run = begin; run < end; ++run) count += parent[run] == run;
      roots[begin / grain + 1] = count;
    });
    for (std::int64_t block = 0; block < blocks; ++block) roots[block + 1] += roots[block];
    count_ = roots.back();
    parallel_for(runs_.size(), grain, [&](std::int64_t begin, std::int64_t end) {
      auto next = static_cast<Index>(roots[begin / grain]);
      for (std::int64_t run = begin; run < end; ++run)
        if (parent[run] == run) parent[run] = ~++next;
    });
    parallel_for(runs_.size(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t run = begin; run < end; ++run) {
        Index up = parent[run];
        while (up >= 0) up = load_shared(parent, up);
        store_shared(parent, static_cast<Index>(run), up);
      }
    });
  }

  Runs runs_;
  std::int64_t count_ = 0;
  std::unique_ptr<std::int32_t[]> narrow_;
  std::unique_ptr<std::int64_t[]> wide_;
};

template <class Pairs>
void Components::join(const Neighbours& neighbours, const Pairs& pairs) {
  const std::int64_t min_pixels = 1 << 16;
  Slabs slabs(runs_.rows(), min_pixels / std::max<std::int64_t>(runs_.length(), 1));
  // More slabs than threads, as runs are seldom spread evenly.
  if (slabs.count > 1) slabs.count = std::min(4 * slabs.count, runs_.rows());
  const std::int64_t every = runs_.rows();
  Unite unite{narrow_ ? narrow_.get() + margin : nullptr, wide_.get(), false};
  slabs.run([&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (auto run = runs_.first(begin); run < runs_.first(end); ++run)
      if (unite.wide)
        unite.wide[run] = run;
      else
        unite.narrow[run] = static_cast<std::int32_t>(run);
    join_rows(neighbours, pairs, begin, end, begin, every, unite);
  });
  struct Seam {
    std::int64_t slab, begin, end;  // rows [begin, end) meet rows before that slab
  };
  std::vector<Seam> seams;
  for (std::int64_t slab = 1; slab < slabs.count; ++slab) {
    const std::int64_t first = slabs.begin(slab);
    const std::int64_t end = std::min(first + neighbours.reach(), slabs.end(slab));
    for (std::int64_t row = first; row < end; row += 64)
      seams.push_back({first, row, std::min(end, row + 64)});
  }
  unite.shared = true;
  parallel_tasks(static_cast<std::int64_t>(seams.size()), [&](std::int64_t i) {
    join_rows(neighbours, pairs, seams[i].begin, seams[i].end, 0, seams[i].slab, unite);
  });
}

template <class Pairs>
void Components::join_rows(const Neighbours& neighbours, const Pairs& pairs, std::int64_t begin,
                           std::int64_t end, std::int64_t from, std::int64_t to,
                           const Unite& unite) {
  const std::int64_t words = runs_.words();
  const std::vector<Word> none(words);
  std::vector<Word> touching(neighbours.covering() ? neighbours.size() * words : 0);
  std::vector<Word> straight(words), diagonal(words);
  Neighbours::Walk walk(neighbours, begin);
  Ticker tick(64);
  for (std::int64_t row = begin; row < end; ++row, walk.next(), tick()) {
    if (runs_.empty(row)) continue;
    std::uint64_t looked_at = 0;
    if (neighbours.covering())
      walk.for_each([&](std::int64_t other, const Neighbours::Neighbour& n) {
        if (runs_.empty(other) || !(Pairs::looks_at_all || n.covers_most)) return;
        pairs.straight(runs_, row, other, touching.data() + n.place * words);
        looked_at |= std::uint64_t{1} << n.place;
      });
    walk.for_each([&](std::int64_t other, const Neighbours::Neighbour& n) {
      if (other < from || other >= to || runs_.empty(other)) return;
      Known known{nullptr, none.data(), none.data()};
      if (looked_at && looked_at >> n.place & 1) known.touching = touching.data() + n.place * words;
      if (const std::uint64_t covers = n.covered_by & looked_at) {
        // Straight across, of two that cover each other the first is looked at.
        const std::uint64_t first = covers & ((std::uint64_t{1} << n.place) - 1);
        known.straight = any_of(touching, Pairs::looks_at_all ? first : covers, none, straight);
        known.diagonal = any_of(touching, covers, none, diagonal);
      }
      if (n.diagonal)
        pairs.template for_each<true>(runs_, row, other, known, unite);
      else
        pairs.template for_each<false>(runs_, row, other, known, unite);
    });
  }
}

// Not compiled in every file: components.cpp has it.
extern template void Components::join(const Neighbours&, const BinaryPairs&);

}  // namespace msf
