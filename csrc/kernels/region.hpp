// A region of an image, grown from seeds over the pixels of an interval, as bits.
//
// Pixels are held by rows (lines along the last axis). The grid of rows has a border of empty rows
// on each side of each axis, so that a neighbouring row is a fixed distance away and needs no bound
// check. Two bits a pixel: `remaining` (in the interval, not yet reached) and `visited`. A row is
// compared with the interval when growth first comes near it, so a small region in a large volume
// costs time in proportion to the region.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "bitmask.hpp"
#include "parallel.hpp"

namespace msf {

// How the rows of an image are numbered: "row" counts the image's own, "place" those of the padded
// grid.
struct RowGrid {
  static constexpr std::int64_t pixels_per_task = 1 << 16;
  int axes = 0;  // all but the last
  std::int64_t rows = 1, places = 1, length = 1, words = 1, first = 0;
  std::array<std::int64_t, max_dims> shape{}, border{}, stride{};  // of the row axes, in places

  RowGrid(const Array& image, std::int64_t border);
  std::int64_t rows_per_task() const { return std::max<std::int64_t>(1, pixels_per_task / length); }
  std::int64_t place(std::int64_t row) const;
  std::int64_t row(std::int64_t place) const;

  // f(row, place) for consecutive rows.
  template <class F>
  void walk(std::int64_t begin, std::int64_t end, F&& f) const {
    if (begin >= end) return;
    std::array<std::int64_t, max_dims> at{};
    for (std::int64_t axis = axes - 1, rest = begin; axis >= 0; --axis) {
      at[axis] = rest % shape[axis];
      rest /= shape[axis];
    }
    std::int64_t here = place(begin);
    for (std::int64_t row = begin;;) {
      f(row, here);
      if (++row == end) return;
      int axis = axes - 1;
      here += stride[axis];
      while (++at[axis] == shape[axis]) {
        here -= shape[axis] * stride[axis];
        at[axis--] = 0;
        here += stride[axis];
      }
    }
  }
};

struct Moments {
  std::int64_t count = 0;
  double sum = 0, sum_of_squares = 0;
};

class Region {
 public:
  // `radius`: pixels kept are those whose whole box of this radius (cut at the image's border) lies
  // in the interval; one number per axis. `border`: the reach of the offsets given to
  // grow_breadth_first, at least 1. The image must outlive the region; it has no axis of length 0.
  Region(const Array& image, std::vector<std::int64_t> radius, std::int64_t border);

  // Empties the region and sets the interval: two elements of the image's dtype.
  void reset(const Array& bounds);
  // Sets an interval that contains the present one. The region stays, and the next grow() (with the
  // seeds and connectivity it was grown with, to its end) goes on from there instead of anew.
  void widen(const Array& bounds);

  // Both grow from seeds, rows of indices; seeds that would not be kept are ignored, or, with
  // `force`, belong to the region all the same. They stop once the region has more than `limit`
  // pixels; return how many it has.
  //
  // Neighbours differ by at most 1 along each axis and along at most `connectivity` axes. Runs of
  // pixels at a time: what is reached when it stops at the limit is in no special order.
  std::int64_t grow(const Array& seeds, bool force, int connectivity, std::int64_t limit);
  // Pixel by pixel: the seeds in their order, then their neighbours at `offsets` (rows of one
  // number per axis) in the order of offsets, and so on. Stops with exactly `limit` pixels when
  // there would be more, and then returns limit + 1.
  std::int64_t grow_breadth_first(const Array& seeds, bool force, const Array& offsets,
                                  std::int64_t limit);

  bool holds(const Array& index);
  // Sums over the region, the same for every number of threads and build. Only the pixels that came
  // since the last call are read.
  Moments moments();
  // mask (bool) = the region; `zeroed` says that it is all false already.
  void write_mask(const MutableArray& mask, bool zeroed);
  // Sets the region's pixels of `target`, of the image's dtype, to `value` (one element); with
  // `copy` the others become the image's, without they stay.
  void paint(const MutableArray& target, const Array& value, bool copy);

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  using Bits = std::unique_ptr<Word[], Free>;
  struct Link {  // a neighbouring row
    std::int64_t distance;
    bool sideways;  // its pixels one to the left and right are neighbours too
  };
  struct Span {  // words of a row that changed since its neighbours last saw it
    std::uint32_t begin, end;
  };
  enum State : std::uint8_t { known = 1, raw_known = 2, queued = 4, touched = 8 };

  static Bits make_bits(std::int64_t words);
  void set_bounds(const Array& bounds);
  struct Pixel {
    std::int64_t place, x, word;  // word: of the row grid's words
    Word bit;
  };
  Pixel locate(const Array& indices, std::int64_t i) const;
  bool offer(const Pixel& seed, bool force);
  template <class F>
  void for_rows(F&& body, bool sparse) const;
  void know(std::int64_t place);
  void know_all();
  void go_on();
  void compare_row(std::int64_t row, Word* bits) const;
  const Word* raw(std::int64_t row, std::int64_t place);
  void erode_row(std::int64_t row, std::int64_t place);
  void leave_visited_out(std::int64_t place);
  void enqueue(std::int64_t place, std::int64_t begin, std::int64_t end);
  Span fill_row(std::int64_t place);
  void spread(std::int64_t place, Span span, const Link& link);
  std::vector<Link> links(int connectivity) const;

  Array image_;
  std::vector<std::int64_t> radius_;
  bool eroded_;
  RowGrid grid_;
  std::array<std::uint8_t, 24> bounds_{};
  Bits remaining_, visited_, raw_;
  Bits summed_;  // what moments_ holds; empty until moments() is first called
  Moments moments_;
  std::vector<std::uint8_t> state_;
  std::vector<Span> span_;
  std::vector<std::int64_t> queue_;
  std::vector<Word> wide_;  // a row widened by one pixel to each side
  std::int64_t count_ = 0, known_rows_ = 0, touched_rows_ = 0;
  bool widened_ = false;
};

// body(begin, end) over pieces of the image's rows. With `sparse` only rows that growth touched
// cost anything, and few of them are not worth waking other threads.
template <class F>
void Region::for_rows(F&& body, bool sparse) const {
  const std::int64_t grain = grid_.rows_per_task();
  if (sparse && touched_rows_ * grid_.length < 8 * RowGrid::pixels_per_task) {
    for (std::int64_t begin = 0; begin < grid_.rows; begin += grain) {
      poll();
      body(begin, std::min(begin + grain, grid_.rows));
    }
  } else {
    parallel_for(grid_.rows, grain, body);
  }
}

}  // namespace msf
