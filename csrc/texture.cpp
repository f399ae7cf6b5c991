// Counts of which the IBSI's texture features are made: A. Zwanenburg et al., "Image biomarker
// standardisation initiative", arXiv:1612.07003, sections 3.6 to 3.11.
#include "kernels/texture.hpp"

#include <algorithm>
#include <cstdlib>

#include "label_runs.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

using Offset = std::vector<std::int64_t>;

// Elements from a voxel to its neighbour.
std::int64_t shift_of(const Array& levels, const Offset& offset) {
  std::int64_t shift = 0;
  for (int axis = 0; axis < levels.ndim; ++axis) shift = shift * levels.shape[axis] + offset[axis];
  return shift;
}

// How many steps of an offset lead from a line to lines inside; more than any axis if none leads to
// another line.
std::int64_t steps_inside(const Array& levels, std::int64_t line, const Offset& offset) {
  std::int64_t most = INT64_MAX;
  for (std::int64_t rest = line, axis = levels.ndim - 1; axis-- > 0; rest /= levels.shape[axis]) {
    const std::int64_t at = rest % levels.shape[axis], step = offset[axis];
    if (step > 0) most = std::min(most, (levels.shape[axis] - 1 - at) / step);
    if (step < 0) most = std::min(most, at / -step);
  }
  return most;
}

// Columns whose neighbour at the offset lies on a line.
struct Columns {
  std::int64_t from, to;
  Columns(const Array& levels, std::int64_t step)
      : from(std::max<std::int64_t>(0, -step)),
        to(levels.shape[levels.ndim - 1] - std::max<std::int64_t>(0, step)) {}
};

std::vector<Offset> all_neighbours(int ndim) {
  std::vector<Offset> found;
  Offset offset(ndim, -1);
  for (;;) {
    if (std::any_of(offset.begin(), offset.end(), [](std::int64_t step) { return step != 0; }))
      found.push_back(offset);
    int axis = ndim - 1;
    while (axis >= 0 && offset[axis] == 1) offset[axis--] = -1;
    if (axis < 0) return found;
    ++offset[axis];
  }
}

}  // namespace

void cooccurrence(const Array& levels, const std::vector<Offset>& offsets,
                  const MutableArray& counts) {
  const std::int64_t most = counts.shape[1], length = levels.shape[levels.ndim - 1];
  std::fill_n(counts.as<std::int64_t>(), counts.size(), 0);
  parallel_tasks(static_cast<std::int64_t>(offsets.size()), [&](std::int64_t k) {
    std::int64_t* const count = counts.as<std::int64_t>() + k * most * most;
    const std::int64_t shift = shift_of(levels, offsets[k]);
    const Columns columns(levels, offsets[k].back());
    Ticker tick(16);
    for (std::int64_t line = 0; line < lines_of(levels); ++line, tick()) {
      if (steps_inside(levels, line, offsets[k]) < 1) continue;
      const std::uint16_t* const here = levels.as<std::uint16_t>() + line * length;
      for (std::int64_t x = columns.from; x < columns.to; ++x)
        if (here[x] && here[x + shift]) ++count[(here[x] - 1) * most + here[x + shift] - 1];
    }
  });
}

void run_lengths(const Array& levels, const std::vector<Offset>& offsets,
                 const MutableArray& counts) {
  const std::int64_t most = counts.shape[1], longest = counts.shape[2];
  const std::int64_t length = levels.shape[levels.ndim - 1];
  std::fill_n(counts.as<std::int64_t>(), counts.size(), 0);
  parallel_tasks(static_cast<std::int64_t>(offsets.size()), [&](std::int64_t k) {
    std::int64_t* const count = counts.as<std::int64_t>() + k * most * longest;
    const Offset& offset = offsets[k];
    Offset back = offset;
    for (std::int64_t& step : back) step = -step;
    const std::int64_t shift = shift_of(levels, offset), along = offset.back();
    Ticker tick(16);
    for (std::int64_t line = 0; line < lines_of(levels); ++line, tick()) {
      const std::int64_t lines_ahead = steps_inside(levels, line, offset);
      const std::int64_t lines_behind = steps_inside(levels, line, back);
      const std::uint16_t* const here = levels.as<std::uint16_t>() + line * length;
      for (std::int64_t x = 0; x < length; ++x) {
        const std::uint16_t level = here[x];
        const std::int64_t left = x, right = length - 1 - x;
        const bool behind = lines_behind > 0 && (along > 0 ? left : along < 0 ? right : 1) > 0;
        if (!level || (behind && here[x - shift] == level)) continue;
        const std::int64_t ahead = std::min(lines_ahead, along > 0   ? right
                                                         : along < 0 ? left
                                                                     : INT64_MAX);
        std::int64_t run = 1;
        while (run <= ahead && here[x + run * shift] == level) ++run;
        ++count[(level - 1) * longest + run - 1];
      }
    }
  });
}

void neighbourhoods(const Array& levels, std::int64_t coarseness, const MutableArray& voxels,
                    const MutableArray& differences, const MutableArray& dependences) {
  const std::int64_t length = levels.shape[levels.ndim - 1], columns = voxels.shape[1];
  const std::vector<Offset> offsets = all_neighbours(levels.ndim);
  const MutableArray* const tables[] = {&voxels, &differences, &dependences};
  const Slabs slabs = label_slabs(levels, 3 * 8 * voxels.size());
  std::vector<std::int64_t> sums(slabs.count * 3 * voxels.size(), 0);
  slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
    std::int64_t* mine[3];
    for (int t = 0; t < 3; ++t) mine[t] = &sums[(slab * 3 + t) * voxels.size()];
    std::vector<std::int32_t> known(length), sum(length), like(length);
    Ticker tick(16);
    for (std::int64_t line = begin; line < end; ++line, tick()) {
      const std::uint16_t* const here = levels.as<std::uint16_t>() + line * length;
      std::fill(known.begin(), known.end(), 0);
      std::fill(sum.begin(), sum.end(), 0);
      std::fill(like.begin(), like.end(), 0);
      for (const Offset& offset : offsets) {
        if (steps_inside(levels, line, offset) < 1) continue;
        const std::uint16_t* const there = here + shift_of(levels, offset);
        const Columns inside(levels, offset.back());
        for (std::int64_t x = inside.from; x < inside.to; ++x) {
          const std::int32_t level = there[x], in = level != 0;
          known[x] += in;
          sum[x] += level;
          like[x] += in & (std::abs(level - here[x]) <= coarseness);
        }
      }
      for (std::int64_t x = 0; x < length; ++x) {
        if (!here[x]) continue;
        const std::int64_t row = (here[x] - 1) * columns;
        ++mine[0][row + known[x]];
        mine[1][row + known[x]] += std::abs(known[x] * std::int64_t{here[x]} - sum[x]);
        ++mine[2][row + like[x]];
      }
    }
  });
  for (int t = 0; t < 3; ++t) {
    std::int64_t* const out = tables[t]->as<std::int64_t>();
    std::fill_n(out, voxels.size(), 0);
    for (std::int64_t slab = 0; slab < slabs.count; ++slab)
      for (std::int64_t i = 0; i < voxels.size(); ++i)
        out[i] += sums[(slab * 3 + t) * voxels.size() + i];
  }
}

// Two passes are exact: a shortest way to the outside can take its steps up and to the left last,
// or those down and to the right (A. Rosenfeld and J. L. Pfaltz, "Sequential operations in digital
// picture processing", J. ACM 13 (1966) 471-494).
void border_steps(const Array& mask, const MutableArray& out) {
  const int ndim = mask.ndim;
  const std::int64_t n = mask.size();
  const auto* const in = mask.as<std::uint8_t>();
  auto* const steps = out.as<std::int32_t>();
  std::vector<std::int64_t> stride(ndim, 1), index(ndim, 0);
  for (int axis = ndim - 1; axis-- > 0;) stride[axis] = stride[axis + 1] * mask.shape[axis + 1];
  Ticker tick(1 << 14);
  for (std::int64_t i = 0; i < n; ++i, tick()) {
    std::int32_t least = INT32_MAX - 1;
    for (int axis = 0; axis < ndim; ++axis)
      least = std::min(least, index[axis] ? steps[i - stride[axis]] : 0);
    steps[i] = in[i] ? least + 1 : 0;
    for (int axis = ndim; axis-- > 0;) {
      if (++index[axis] < mask.shape[axis]) break;
      index[axis] = 0;
    }
  }
  for (std::int64_t i = n; i-- > 0; tick()) {
    for (int axis = ndim; axis-- > 0;) {  // the index of i
      if (--index[axis] >= 0) break;
      index[axis] = mask.shape[axis] - 1;
    }
    for (int axis = 0; axis < ndim; ++axis) {
      const bool edge = index[axis] == mask.shape[axis] - 1;
      steps[i] = std::min(steps[i], (edge ? 0 : steps[i + stride[axis]]) + 1);
    }
  }
}

}  // namespace msf
