// Neighbours by row and by pixel, for any set of steps of -1, 0 or 1 along each axis.
//
// By row: a neighbour of every pixel of a row is the same row shifted, so that loops over columns
// need no test and vectorise. By pixel: coordinates say which steps leave the image. Axes of length
// 1 are dropped: a step along them always leaves the image.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "array.hpp"
#include "parallel.hpp"

namespace msf {

class GridSteps {
 public:
  // All steps that change at most `connectivity` coordinates, in raster order, so that step k leads
  // back from where step size() - 1 - k leads.
  GridSteps(const Array& image, int connectivity) {
    take_shape(image);
    std::vector<std::int8_t> step(extents_.size());
    add_all(step, 0, connectivity);
  }

  // Given steps: `ndim` numbers each. keep_axes: rows are along the last axis even if its length
  // is 1.
  GridSteps(const Array& image, const std::int8_t* steps, std::int64_t count, bool keep_axes) {
    take_shape(image, keep_axes);
    for (std::int64_t s = 0; s < count; ++s) {
      std::vector<std::int8_t> step;
      bool leaves = false;
      for (int axis = 0; axis < image.ndim; ++axis) {
        const std::int8_t by = steps[s * image.ndim + axis];
        if (keep_axes || image.shape[axis] > 1)
          step.push_back(by);
        else
          leaves |= by != 0;
      }
      if (leaves)
        always_outside_ = true;
      else
        add(step);
    }
  }

  std::int64_t size() const { return static_cast<std::int64_t>(steps_.size()); }
  std::int64_t pixels() const { return rows_ * length_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t length() const { return length_; }  // pixels of a row
  std::int64_t flat(std::int64_t k) const { return steps_[k].flat; }
  std::int64_t reach() const { return reach_; }  // the farthest step

  // Rows in strips of at most 2048 columns, numbered from 0 to count: pieces of work whose scratch
  // memory stays in the cache.
  struct Strips {
    std::int64_t length, per_row, count;
    // f(row, begin, end) for the strips from first to last.
    template <class F>
    void each(std::int64_t first, std::int64_t last, F&& f) const {
      for (std::int64_t s = first; s < last; ++s) {
        const std::int64_t row = s / per_row, begin = (s - row * per_row) * widest;
        f(row, begin, begin + widest < length ? begin + widest : length);
      }
    }
    // How many strips make a task of about 64 Ki pixels.
    std::int64_t grain() const {
      return std::max<std::int64_t>(1, (1 << 16) / (length < widest ? length + 1 : widest));
    }
  };
  static constexpr std::int64_t widest = 2048;
  Strips strips() const {
    const std::int64_t per_row = (length_ + widest - 1) / widest;
    return {length_, per_row, rows_ * per_row};
  }

  // Which axes but the last a row lies at the ends of.
  struct Ends {
    std::uint64_t first = 0, last = 0;
    bool any() const { return first | last; }
  };
  Ends row_ends(std::int64_t row) const {
    Ends ends;
    for (std::size_t axis = extents_.size() - 1; axis-- > 0;) row = look(row, axis, ends);
    return ends;
  }

  // f(k, flat offset, begin, end) for each step k that stays inside for columns [begin, end) of a
  // stretch of a row.
  template <class F>
  void each_in_row(const Ends& ends, std::int64_t begin, std::int64_t end, F&& f) const {
    for (std::size_t k = 0; k < steps_.size(); ++k) {
      const Step& step = steps_[k];
      if ((step.down & ends.first) || (step.up & ends.last)) continue;
      const std::int64_t b = step.along < 0 && begin == 0 ? 1 : begin;
      const std::int64_t e = step.along > 0 && end == length_ ? end - 1 : end;
      if (b < e) f(static_cast<std::int64_t>(k), step.flat, b, e);
    }
  }

  // f(k, neighbour) for each neighbour of v inside the image, in the order of the steps.
  template <class F>
  void each(std::int64_t v, bool on_border, F&& f) const {
    if (!on_border) {
      for (std::size_t k = 0; k < steps_.size(); ++k)
        f(static_cast<std::int64_t>(k), v + steps_[k].flat);
      return;
    }
    const Ends ends = pixel_ends(v);
    for (std::size_t k = 0; k < steps_.size(); ++k)
      if (stays(steps_[k], ends)) f(static_cast<std::int64_t>(k), v + steps_[k].flat);
  }
  template <class F>
  void each(std::int64_t v, F&& f) const {
    const Ends ends = pixel_ends(v);
    for (std::size_t k = 0; k < steps_.size(); ++k)
      if (stays(steps_[k], ends)) f(static_cast<std::int64_t>(k), v + steps_[k].flat);
  }

  // Whether some step leads out of the image.
  bool touches_outside(std::int64_t v) const {
    if (always_outside_) return true;
    const Ends ends = pixel_ends(v);
    for (const Step& step : steps_)
      if (!stays(step, ends)) return true;
    return false;
  }

 private:
  struct Step {
    std::int64_t flat;
    std::uint64_t down, up;  // axes along which it steps by -1, by +1, as bits; also the last
    int along;               // its step along the last axis
  };

  void take_shape(const Array& image, bool keep_axes = false) {
    for (int axis = 0; axis < image.ndim; ++axis)
      if (keep_axes || image.shape[axis] != 1) extents_.push_back(image.shape[axis]);
    if (extents_.empty()) extents_.push_back(1);
    length_ = extents_.back();
    for (std::size_t axis = 0; axis + 1 < extents_.size(); ++axis) rows_ *= extents_[axis];
  }

  void add_all(std::vector<std::int8_t>& step, std::size_t axis, int left) {
    if (axis == extents_.size()) {
      add(step);
      return;
    }
    for (const std::int8_t by : {-1, 0, 1}) {
      if (by != 0 && (left == 0 || extents_[axis] == 1)) continue;
      step[axis] = by;
      add_all(step, axis + 1, left - (by != 0));
    }
    step[axis] = 0;
  }

  void add(const std::vector<std::int8_t>& by) {
    Step step{0, 0, 0, by.empty() ? 0 : by.back()};
    for (std::size_t axis = 0; axis < by.size(); ++axis) {
      step.flat = step.flat * extents_[axis] + by[axis];
      step.down |= static_cast<std::uint64_t>(by[axis] < 0) << axis;
      step.up |= static_cast<std::uint64_t>(by[axis] > 0) << axis;
    }
    if (!(step.down | step.up)) return;
    if (steps_.size() >= most) throw std::invalid_argument("connectivity: too many neighbours");
    reach_ = std::max(reach_, step.flat < 0 ? -step.flat : step.flat);
    steps_.push_back(step);
  }

  // Notes whether `position` is at an end of `axis`; returns the position along the axes before.
  std::int64_t look(std::int64_t position, std::size_t axis, Ends& ends) const {
    const std::int64_t extent = extents_[axis];
    // Twice as fast as the 64-bit division where it is enough.
    const std::int64_t next =
        position >> 32 ? position / extent
                       : static_cast<std::uint32_t>(position) / static_cast<std::uint64_t>(extent);
    const std::int64_t coordinate = position - next * extent;
    ends.first |= static_cast<std::uint64_t>(coordinate == 0) << axis;
    ends.last |= static_cast<std::uint64_t>(coordinate == extent - 1) << axis;
    return next;
  }
  Ends pixel_ends(std::int64_t v) const {
    Ends ends;
    for (std::size_t axis = extents_.size(); axis-- > 0;) v = look(v, axis, ends);
    return ends;
  }
  static bool stays(const Step& step, const Ends& ends) {
    return !(step.down & ends.first) && !(step.up & ends.last);
  }

  static constexpr std::size_t most = 1 << 16;  // 3^10: beyond ten axes something is wrong
  std::vector<std::int64_t> extents_;
  std::int64_t rows_ = 1, length_ = 1, reach_ = 0;
  std::vector<Step> steps_;
  bool always_outside_ = false;
};

}  // namespace msf
