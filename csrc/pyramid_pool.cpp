// Pooling into grids of several sizes, and their maps brought back to the image's size beside it.
//
// Means: the bounds of all cells of all grids cut the image into a few bands and these into a few
// blocks (12 by 12 for 1, 2, 3 and 6). Rows are added up band by band, in vectors, and a band's
// columns block by block; every cell of every grid is then a sum of whole blocks. The image is read
// once.
//
// Interpolation: a grid's rows are stretched to the image's width once a plane; an output row is a
// mix of two of them, written where the concatenated result has it.
#include "kernels/pyramid_pool.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "parallel.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

Index cell_begin(Index cell, Index n, Index bins) { return cell * n / bins; }
Index cell_end(Index cell, Index n, Index bins) { return ((cell + 1) * n + bins - 1) / bins; }

// Where an axis of n is cut so that every cell of every grid is a union of pieces.
std::vector<Index> cuts_of(Index n, const std::vector<Index>& bins) {
  std::vector<Index> cuts;
  for (const Index b : bins)
    for (Index cell = 0; cell < b; ++cell) {
      cuts.push_back(cell_begin(cell, n, b));
      cuts.push_back(cell_end(cell, n, b));
    }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  return cuts;
}

Index piece_at(const std::vector<Index>& cuts, Index position) {
  return std::lower_bound(cuts.begin(), cuts.end(), position) - cuts.begin();
}

template <class T>
void means(const Array& input, const std::vector<Index>& bins, const MutableArray& pooled) {
  const Index planes = input.shape[0], rows = input.shape[1], columns = input.shape[2];
  const std::vector<Index> down = cuts_of(rows, bins), across = cuts_of(columns, bins);
  const Index bands = static_cast<Index>(down.size()) - 1;
  const Index blocks = static_cast<Index>(across.size()) - 1;
  parallel_for(planes, std::max<Index>(1, 32768 / (rows * columns)), [&](Index begin, Index end) {
    std::vector<T> sums(columns);
    std::vector<double> block(bands * blocks);
    for (Index plane = begin; plane < end; ++plane) {
      for (Index band = 0; band < bands; ++band) {
        poll();
        const T* row = input.as<T>() + (plane * rows + down[band]) * columns;
        T* const sum = sums.data();
        std::memcpy(sum, row, columns * sizeof(T));
        for (Index y = down[band] + 1; y < down[band + 1]; ++y) {
          row += columns;
          for (Index x = 0; x < columns; ++x) sum[x] += row[x];
        }
        for (Index b = 0; b < blocks; ++b) {
          double total = 0;
          for (Index x = across[b]; x < across[b + 1]; ++x) total += sum[x];
          block[band * blocks + b] = total;
        }
      }
      T* to = pooled.as<T>() + plane * pooled.shape[1];
      for (const Index b : bins)
        for (Index i = 0; i < b; ++i)
          for (Index j = 0; j < b; ++j) {
            const Index top = cell_begin(i, rows, b), bottom = cell_end(i, rows, b);
            const Index left = cell_begin(j, columns, b), right = cell_end(j, columns, b);
            double total = 0;
            for (Index p = piece_at(down, top); p < piece_at(down, bottom); ++p)
              for (Index q = piece_at(across, left); q < piece_at(across, right); ++q)
                total += block[p * blocks + q];
            *to++ = static_cast<T>(total / static_cast<double>((bottom - top) * (right - left)));
          }
    }
  });
}

template <class T>
void mix(const Array& pooled, Index begin, const Array& weight, const Array& bias, bool relu,
         const MutableArray& mixed) {
  const Index batch = mixed.shape[0], outputs = mixed.shape[1], cells = mixed.shape[2];
  const Index channels = pooled.shape[1], pitch = pooled.shape[2];
  parallel_for(batch * outputs, 8, [&](Index first, Index last) {
    for (Index i = first; i < last; ++i) {
      poll();
      const T* from = pooled.as<T>() + i / outputs * channels * pitch + begin;
      const T* const w = weight.as<T>() + i % outputs * channels;
      T* __restrict to = mixed.as<T>() + i * cells;
      std::fill_n(to, cells, bias.as<T>()[i % outputs]);
      for (Index c = 0; c < channels; ++c, from += pitch)
        for (Index cell = 0; cell < cells; ++cell) to[cell] += w[c] * from[cell];
      if (relu)
        for (Index cell = 0; cell < cells; ++cell) to[cell] = to[cell] < 0 ? T{0} : to[cell];
    }
  });
}

// Output o lies between cells low and high of the grid, `far` from the first to the second.
template <class T>
struct Stretch {
  std::vector<Index> low, high;
  std::vector<T> far;

  Stretch(Index cells, Index outputs, bool align_corners) {
    const T scale = align_corners ? (outputs > 1 ? static_cast<T>(cells - 1) / (outputs - 1) : T{0})
                                  : static_cast<T>(cells) / static_cast<T>(outputs);
    for (Index o = 0; o < outputs; ++o) {
      const T at = align_corners ? scale * static_cast<T>(o)
                                 : std::max(scale * (static_cast<T>(o) + T{0.5}) - T{0.5}, T{0});
      const Index cell = cells == outputs ? o : std::min(static_cast<Index>(at), cells - 1);
      low.push_back(cell);
      high.push_back(std::min(cell + 1, cells - 1));
      far.push_back(cells == outputs ? T{0} : std::min(at - static_cast<T>(cell), T{1}));
    }
  }
};

template <class T>
class Concat {
 public:
  Concat(const Array& input, const std::vector<Array>& grids, const std::vector<Index>& sizes,
         bool align_corners, const MutableArray& output)
      : input_(input), grids_(grids), sizes_(sizes), output_(output) {
    for (const Index size : sizes) {
      down_.emplace_back(size, output.shape[2], align_corners);
      across_.emplace_back(size, output.shape[3], align_corners);
    }
  }

  void run() const {
    const Index planes = output_.shape[0] * output_.shape[1];
    const Index pixels = output_.shape[2] * output_.shape[3];
    parallel_for(planes, std::max<Index>(1, 32768 / pixels), [&](Index begin, Index end) {
      std::vector<T> stretched;
      for (Index plane = begin; plane < end; ++plane) {
        poll();
        Index batch = plane / output_.shape[1], channel = plane % output_.shape[1];
        T* const to = output_.as<T>() + plane * pixels;
        if (channel < input_.shape[1]) {
          const T* from = input_.as<T>() + (batch * input_.shape[1] + channel) * pixels;
          std::memcpy(to, from, pixels * sizeof(T));
          continue;
        }
        channel -= input_.shape[1];
        std::size_t grid = 0;
        while (channel >= grids_[grid].shape[1]) channel -= grids_[grid++].shape[1];
        const Index cells = sizes_[grid] * sizes_[grid];
        stretched.resize(sizes_[grid] * output_.shape[3]);
        interpolate(grid, grids_[grid].as<T>() + (batch * grids_[grid].shape[1] + channel) * cells,
                    stretched.data(), to);
      }
    });
  }

 private:
  void interpolate(std::size_t grid, const T* cells, T* stretched, T* to) const {
    const Index size = sizes_[grid], rows = output_.shape[2], columns = output_.shape[3];
    if (size == 1) {
      std::fill_n(to, rows * columns, cells[0]);
      return;
    }
    const Stretch<T>&down = down_[grid], &across = across_[grid];
    for (Index i = 0; i < size; ++i) {
      const T* const row = cells + i * size;
      for (Index x = 0; x < columns; ++x) {
        const T far = across.far[x];
        stretched[i * columns + x] = (1 - far) * row[across.low[x]] + far * row[across.high[x]];
      }
    }
    for (Index y = 0; y < rows; ++y, to += columns) {
      const T far = down.far[y], near = 1 - far;
      const T* const a = stretched + down.low[y] * columns;
      const T* const b = stretched + down.high[y] * columns;
      T* __restrict out = to;
      for (Index x = 0; x < columns; ++x) out[x] = near * a[x] + far * b[x];
    }
  }

  const Array& input_;
  const std::vector<Array>& grids_;
  const std::vector<Index>& sizes_;
  const MutableArray& output_;
  std::vector<Stretch<T>> down_, across_;
};

template <class F>
void for_type(DType dtype, F&& f) {
  if (dtype == DType::float64)
    f(Type<double>{});
  else
    f(Type<float>{});
}

}  // namespace

void pyramid_means(const Array& input, const std::vector<Index>& bins, const MutableArray& pooled) {
  for_type(input.dtype, [&]<class T>(Type<T>) { means<T>(input, bins, pooled); });
}

void pyramid_mix(const Array& pooled, Index begin, const Array& weight, const Array& bias,
                 bool relu, const MutableArray& mixed) {
  for_type(pooled.dtype,
           [&]<class T>(Type<T>) { mix<T>(pooled, begin, weight, bias, relu, mixed); });
}

void pyramid_concat(const Array& input, const std::vector<Array>& grids,
                    const std::vector<Index>& sizes, bool align_corners,
                    const MutableArray& output) {
  for_type(input.dtype,
           [&]<class T>(Type<T>) { Concat<T>(input, grids, sizes, align_corners, output).run(); });
}

}  // namespace msf
