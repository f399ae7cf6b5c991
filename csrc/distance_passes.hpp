// What the distance transforms share: squares of steps, the pass along rows, and tiles of columns
// of an image of any rank.
#pragma once

#include <cstring>

#include "array.hpp"
#include "bitmask.hpp"
#include "distance_tile.hpp"
#include "kernels/distance.hpp"
#include "runs.hpp"
#include "zeroed.hpp"

namespace msf {

// The image's axes longer than one voxel (one of length 1 if there is none).
struct DistanceAxes {
  std::vector<std::int64_t> extent;
  std::vector<int> axis;  // which axis of the image each is
  explicit DistanceAxes(const Array& image) {
    for (int a = 0; a < image.ndim; ++a)
      if (image.shape[a] > 1) {
        extent.push_back(image.shape[a]);
        axis.push_back(a);
      }
    if (extent.empty()) {
      extent.push_back(1);
      axis.push_back(0);
    }
  }
  int count() const { return static_cast<int>(extent.size()); }
  std::int64_t voxels() const {
    std::int64_t n = 1;
    for (const std::int64_t e : extent) n *= e;
    return n;
  }
};

// Squared distances of k = 0 .. n steps along an axis.
template <class T>
class Squares {
 public:
  // Those above `most` count as unreached.
  Squares(const VoxelSize& voxel, int axis, std::int64_t n, T most = unreached<T>)
      : n_(n), up_(n + slack), down_(n + slack) {
    if constexpr (std::is_integral_v<T>) {
      const std::int64_t m = voxel.multiple[axis];
      step_ = static_cast<double>(m * m);
      for (std::int64_t k = 0; k <= n; ++k) {
        const double square = static_cast<double>(m) * static_cast<double>(k);
        up_[k] = static_cast<T>(std::min(square * square, static_cast<double>(unreached<T>)));
      }
    } else {
      const double size = voxel.size[axis];
      step_ = size * size;
      for (std::int64_t k = 0; k <= n; ++k) {
        const T distance = static_cast<T>(k) * size;
        up_[k] = distance * distance;
      }
    }
    for (std::int64_t k = n; k >= 0 && up_[k] > most; --k) up_[k] = unreached<T>;
    for (std::int64_t k = 0; k <= n; ++k) down_[k] = up_[n - k];
  }
  const T* data() const { return up_.data(); }
  double step() const { return step_; }
  const T* rising(std::int64_t from) const { return &up_[from]; }
  const T* falling(std::int64_t from) const { return &down_[n_ - from]; }

  static constexpr std::int64_t slack = 1 + 32 / sizeof(T);  // copies go in pieces of 32 bytes

 private:
  std::int64_t n_;
  double step_ = 1;
  std::vector<T> up_, down_;
};

// Squared distance along a row to the nearest voxel of the other kind: of those in the mask, and
// with `both` of the others too (else 0). Runs of a row are slices of the table of squares.
template <class T>
class RowPass {
 public:
  RowPass(std::int64_t n, const Squares<T>& squares, bool both)
      : n_(n), squares_(squares), both_(both), bits_(words_for(n)), row_(n + Squares<T>::slack) {}

  void operator()(const std::uint8_t* mask, T* out) {
    pack_row(mask, n_, bits_.data());
    std::int64_t done = 0;
    for_each_run(bits_.data(), n_, [&](std::int64_t begin, std::int64_t end) {
      outside(done, begin);
      fill(begin, end);
      done = end;
    });
    outside(done, n_);
    std::memcpy(out, row_.data(), n_ * sizeof(T));
  }

 private:
  void outside(std::int64_t begin, std::int64_t end) {
    if (both_ && begin < end) return fill(begin, end);
    T* to = row_.data() + begin;
    for (; begin < end; begin += piece, to += piece) std::memset(to, 0, 32);
  }
  void fill(std::int64_t begin, std::int64_t end) {
    if (begin == 0 && end == n_) {
      std::fill(row_.begin(), row_.begin() + n_, unreached<T>);
      return;
    }
    const std::int64_t middle = begin == 0 ? 0 : end == n_ ? n_ : begin + (end - begin + 1) / 2;
    copy(squares_.rising(1), begin, middle);
    copy(squares_.falling(end - middle), middle, end);
  }
  // Writes past the end, where later runs come.
  void copy(const T* from, std::int64_t begin, std::int64_t end) {
    T* to = row_.data() + begin;
    for (; begin < end; begin += piece, to += piece, from += piece) std::memcpy(to, from, 32);
  }
  static constexpr std::int64_t piece = 32 / sizeof(T);
  std::int64_t n_;
  const Squares<T>& squares_;
  bool both_;
  std::vector<Word> bits_;
  std::vector<T> row_;
};

// The columns along one axis, numbered over the other axes in raster order.
struct Columns {
  std::int64_t outer, n, inner;
  std::int64_t count() const { return outer * inner; }
  std::int64_t offset(std::int64_t column) const {
    return column / inner * n * inner + column % inner;
  }
};

inline Columns columns_along(const std::vector<std::int64_t>& extent, int axis) {
  Columns columns{1, extent[axis], 1};
  for (int a = 0; a < axis; ++a) columns.outer *= extent[a];
  for (int a = axis + 1; a < static_cast<int>(extent.size()); ++a) columns.inner *= extent[a];
  return columns;
}

// Where the columns [first, first + used) of a tile lie in memory: pieces that are contiguous in
// every row. Columns along the last axis are single voxels of different rows; they are moved in
// blocks of rows, so that memory is still read and written in lines.
class TilePlace {
 public:
  TilePlace(const Columns& columns, std::int64_t first, int used)
      : stride_(columns.inner), used_(used) {
    for (int lane = 0; lane < used;) {
      const std::int64_t column = first + lane;
      const std::int64_t left = columns.inner - column % columns.inner;
      const int count = static_cast<int>(std::min<std::int64_t>(left, used - lane));
      pieces_.push_back({lane, count, columns.offset(column)});
      lane += count;
    }
  }
  int used() const { return used_; }
  std::int64_t stride() const { return stride_; }
  bool transposed() const { return stride_ == 1; }

  // f(lane, count, offset) for every piece of row x.
  template <class F>
  void each(std::int64_t x, F&& f) const {
    for (const Piece& piece : pieces_) f(piece.lane, piece.count, piece.offset + x * stride_);
  }

  // Fills the tile from `from`; lanes that are not used become 0.
  template <int width, class T>
  void load(const T* from, std::int64_t n, T* tile) const {
    if (used_ < width) std::memset(tile, 0, n * width * sizeof(T));
    if (transposed()) {
      for (std::int64_t begin = 0; begin < n; begin += block)
        for (const Piece& piece : pieces_)
          for (std::int64_t x = begin; x < std::min(n, begin + block); ++x)
            tile[x * width + piece.lane] = from[piece.offset + x];
      return;
    }
    for (std::int64_t x = 0; x < n; ++x) {
      T* const row = tile + x * width;
      if (pieces_.size() == 1 && used_ == width) {
        const T* const source = from + pieces_[0].offset + x * stride_;
        for (int lane = 0; lane < width; ++lane) row[lane] = source[lane];
      } else {
        each(x, [&](int lane, int count, std::int64_t offset) {
          for (int i = 0; i < count; ++i) row[lane + i] = from[offset + i];
        });
      }
    }
  }

  static constexpr std::int64_t block = 32;

 private:
  struct Piece {
    int lane, count;
    std::int64_t offset;
  };
  std::int64_t stride_;
  int used_;
  std::vector<Piece> pieces_;
};

// Hands rows of a tile on as contiguous runs: write(values, count, offset) each.
template <class T, class Write, int width = lanes<T>>
class TileWriter {
 public:
  TileWriter(const TilePlace& place, std::int64_t n, Write write)
      : place_(place), n_(n), write_(write) {
    if (place.transposed()) kept_.resize(TilePlace::block * width);
  }
  void operator()(std::int64_t x, const T* row) {
    if (!place_.transposed()) {
      place_.each(x, [&](int lane, int count, std::int64_t offset) {
        write_(row + lane, static_cast<std::int64_t>(count), offset);
      });
      return;
    }
    const std::int64_t at = x % TilePlace::block, begin = x - at;
    for (int lane = 0; lane < place_.used(); ++lane)
      kept_[lane * TilePlace::block + at] = row[lane];
    if (at + 1 == TilePlace::block || x + 1 == n_)
      place_.each(begin, [&](int lane, int, std::int64_t offset) {
        write_(kept_.data() + lane * TilePlace::block, at + 1, offset);
      });
  }

 private:
  const TilePlace& place_;
  std::int64_t n_;
  Write write_;
  std::vector<T> kept_;  // column by column
};

// Tiles of [begin, end) of the columns: f(place) each.
template <class T, class F>
void for_each_tile(const Columns& columns, std::int64_t begin, std::int64_t end, F&& f) {
  for (std::int64_t first = begin; first < end; first += lanes<T>)
    f(TilePlace(columns, first, static_cast<int>(std::min<std::int64_t>(lanes<T>, end - first))));
}

// Columns of a task, so that it has work for about a millisecond.
template <class T>
std::int64_t columns_of_task(std::int64_t n) {
  const std::int64_t tiles = std::max<std::int64_t>(1, (1 << 17) / (n * lanes<T> + 1));
  return tiles * lanes<T>;
}

inline constexpr std::uint32_t no_row = 0xffffffff;

// Along the first axis the image is binary: the nearest background row is the last one above or the
// first one below. `nearest` may be `above`.
template <int width>
void nearest_rows(const std::uint8_t* tile, std::int64_t n, std::uint32_t* above,
                  std::uint32_t* nearest) {
  constexpr std::uint32_t none = no_row;
  for (int lane = 0; lane < width; ++lane) above[lane] = none;
  for (std::int64_t x = 0; x < n; ++x) {
    const std::uint8_t* const inside = tile + x * width;
    std::uint32_t* const to = above + x * width;
    const std::uint32_t* const from = x ? to - width : to;
    const auto row = static_cast<std::uint32_t>(x);
    for (int lane = 0; lane < width; ++lane) to[lane] = inside[lane] ? from[lane] : row;
  }
  std::uint32_t next[width];
  std::fill_n(next, width, none);
  for (std::int64_t x = n; x-- > 0;) {
    const std::uint8_t* const inside = tile + x * width;
    const std::uint32_t* const up = above + x * width;
    std::uint32_t* const to = nearest + x * width;
    const auto row = static_cast<std::uint32_t>(x);
    for (int lane = 0; lane < width; ++lane) {
      next[lane] = inside[lane] ? next[lane] : row;
      const std::uint32_t a = up[lane], b = next[lane];
      // Without a row the other wins: 2^32 - 1 is far from every row below 2^31.
      const std::uint32_t to_a = a == none ? none : row - a, to_b = b == none ? none : b - row;
      to[lane] = to_a <= to_b ? a : b;
    }
  }
}

// emit(x, e, at) for every row of a tile of the mask: the pass over the first axis, with indices.
// `at` is 0 where a column has no background.
template <class T, class Emit>
void nearest_along_first_axis(const TilePlace& place, const std::uint8_t* mask, std::int64_t n,
                              const Squares<T>& squares, Emit&& emit) {
  constexpr int width = lanes<T>;
  const std::unique_ptr<std::uint8_t[]> inside(new std::uint8_t[n * width]);
  const std::unique_ptr<std::uint32_t[]> nearest(new std::uint32_t[n * width]);
  place.load<width>(mask, n, inside.get());
  nearest_rows<width>(inside.get(), n, nearest.get(), nearest.get());
  T e[width];
  RowIndex<T> at[width];
  for (std::int64_t x = 0; x < n; ++x) {
    const std::uint32_t* const row = nearest.get() + x * width;
    for (int lane = 0; lane < width; ++lane) {
      const bool found = row[lane] != no_row;
      at[lane] = static_cast<RowIndex<T>>(found ? row[lane] : 0);
      e[lane] =
          found ? squares.data()[std::abs(x - static_cast<std::int64_t>(row[lane]))] : unreached<T>;
    }
    emit(x, e, at);
  }
}

// Whether all squared distances were found, and within the range of T.
template <class T>
bool all_reached(const T* squared, std::int64_t count) {
  T top = 0;
  for (std::int64_t i = 0; i < count; ++i) top = std::max(top, squared[i]);
  return top < unreached<T>;
}

// Distances from squared distances.
struct DistanceOutput {
  const MutableArray& out;
  double unit;  // of a distance of 1

  template <class T>
  void write(const T* squared, std::int64_t count, std::int64_t offset) const {
    if (out.dtype == DType::float64) {
      double* const to = out.as<double>() + offset;
      for (std::int64_t i = 0; i < count; ++i)
        to[i] = unit * std::sqrt(static_cast<double>(squared[i]));
    } else {
      float* const to = out.as<float>() + offset;
      for (std::int64_t i = 0; i < count; ++i)
        to[i] = static_cast<float>(unit * std::sqrt(static_cast<double>(squared[i])));
    }
  }
};

// Calls f(Type<T>{}) with the narrowest type for squared distances; f returns whether it sufficed.
template <class F>
void with_distance_type(const VoxelSize& voxel, const DistanceAxes& axes, F&& f) {
  if (!voxel.multiple.empty()) {
    double most = 0;
    std::int64_t largest = 0;
    for (int a = 0; a < axes.count(); ++a) {
      const double m = static_cast<double>(voxel.multiple[axes.axis[a]]);
      const double reach = m * static_cast<double>(axes.extent[a]);
      most += reach * reach;
      largest = std::max(largest, voxel.multiple[axes.axis[a]]);
    }
    // Distances of more than 255 units are rare enough to try first.
    if ((most < unreached<std::uint16_t> || largest <= 4) && f(Type<std::uint16_t>{})) return;
    if (most < unreached<std::uint32_t> && f(Type<std::uint32_t>{})) return;
  }
  f(Type<double>{});
}

}  // namespace msf
