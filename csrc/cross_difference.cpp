// Roberts' cross: differences between opposite corners of the 2 x ... x 2 block at each pixel.
#include <cmath>

#include "kernels/stencil.hpp"
#include "stencil.hpp"

namespace msf {
namespace {

using stencil::Block;
using stencil::Box;
using stencil::Index;
using stencil::Source;

// The rows that a diagonal joins, and whether its end lies one column further.
template <class T>
struct Diagonal {
  const T *from, *to;
  bool from_next, to_next;
};

// D diagonals; 0: any number, in sweeps over the result, which begins with 0.
template <int D, class T>
void differences(const std::vector<Diagonal<T>>& diagonals, Index n, T* __restrict out) {
  const auto begin = [](const Diagonal<T>& d, bool end) {
    return end ? d.to + d.to_next : d.from + d.from_next;
  };
  if constexpr (D == 0) {
    std::fill_n(out, n, T{0});
    for (const Diagonal<T>& d : diagonals) {
      const T* __restrict from = begin(d, false), * __restrict to = begin(d, true);
      for (Index j = 0; j < n; ++j) out[j] += (to[j] - from[j]) * (to[j] - from[j]);
    }
    const T norm = T{1} / static_cast<T>(diagonals.size());
    for (Index j = 0; j < n; ++j) out[j] = std::sqrt(out[j] * norm);
  } else {
    const T *from[D], *to[D];
    for (int d = 0; d < D; ++d) {
      from[d] = begin(diagonals[d], false);
      to[d] = begin(diagonals[d], true);
    }
    for (Index j = 0; j < n; ++j) {
      T sum = 0;
      for (int d = 0; d < D; ++d) {
        const T difference = to[d][j] - from[d][j];
        sum += D == 1 ? difference : difference * difference;
      }
      out[j] = D == 1 ? sum : std::sqrt(sum * (T{1} / D));
    }
  }
}

template <class T>
void run(const Array& image, double scale, const std::vector<std::uint64_t>& corners,
         const MutableArray& out) {
  const Box box(image);
  const Source<T> source(image, scale);
  const int axes = image.ndim - 1, outer = std::max(0, axes - 1);
  const Index patterns = Index{1} << axes;  // rows of the block: bit k, one step along axis k
  stencil::for_blocks(box, 2, sizeof(T), false, [&](const Block& block) {
    const Index first = block.begin[2], last = std::min(box.columns, block.end[2] + 1);
    const Index width = last - first, n = block.end[2] - first;
    std::vector<T> memory(patterns * width);
    std::vector<const T*> rows(patterns);
    std::vector<Diagonal<T>> diagonals(corners.size());
    for (Index z = block.begin[0]; z < block.end[0]; ++z)
      for (Index y = block.begin[1]; y < block.end[1]; ++y) {
        poll();
        for (Index pattern = 0; pattern < patterns; ++pattern) {
          const auto steps = [&](int axis) { return pattern >> axis & 1; };
          Index plane = z, stride = 1;
          for (int k = outer - 1; k >= 0; --k) {
            if (steps(k) && z / stride % image.shape[k] + 1 < image.shape[k]) plane += stride;
            stride *= image.shape[k];
          }
          const Index down = axes > 0 && steps(axes - 1) && y + 1 < box.rows;
          rows[pattern] =
              source.row(box.at(plane, y + down) + first, width, memory.data() + pattern * width);
        }
        const std::uint64_t all = patterns - 1;
        for (std::size_t d = 0; d < corners.size(); ++d)
          diagonals[d] = {rows[corners[d] & all], rows[~corners[d] & all],
                          (corners[d] >> axes & 1) != 0, (corners[d] >> axes & 1) == 0};
        T* const to = out.as<T>() + box.at(z, y) + first;
        const auto write = [&](Index count, T* target) {
          switch (corners.size()) {
            case 1:
              return differences<1>(diagonals, count, target);
            case 2:
              return differences<2>(diagonals, count, target);
            case 4:
              return differences<4>(diagonals, count, target);
            default:
              return differences<0>(diagonals, count, target);
          }
        };
        write(std::min(n, width - 1), to);
        if (n < width) continue;
        for (Diagonal<T>& d : diagonals)  // the last column: the one after it is itself
          d = {d.from + n - 1, d.to + n - 1, false, false};
        write(1, to + n - 1);
      }
  });
}

}  // namespace

void cross_difference(const Array& image, double scale, const std::vector<std::uint64_t>& corners,
                      const MutableArray& out) {
  out.dtype == DType::float32 ? run<float>(image, scale, corners, out)
                              : run<double>(image, scale, corners, out);
}

}  // namespace msf
