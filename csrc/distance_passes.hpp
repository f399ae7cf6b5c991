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
  Squares(const VoxelSize& voxel, int axis, std::int64_t n, T most = unreached<T>);
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

  void operator()(const std::uint8_t* mask, T* out);

 private:
  void outside(std::int64_t begin, std::int64_t end);
  void fill(std::int64_t begin, std::int64_t end);
  void copy(const T* from, std::int64_t begin, std::int64_t end);
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
  TilePlace(const Columns& columns, std::int64_t first, int used);
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
  void load(const T* from, std::int64_t n, T* tile) const;

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

// emit(x, e, at) for every row of a tile of the mask: the pass over the first axis, with indices.
// `at` is 0 where a column has no background.
template <class T>
void nearest_along_first_axis(const TilePlace& place, const std::uint8_t* mask, std::int64_t n,
                              const Squares<T>& squares, RowSink<T> emit);

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
