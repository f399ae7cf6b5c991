// One axis of a separable Euclidean distance transform, for many adjacent columns at once.
//
// Along an axis the squared distance is e(x) = min over j of v(j) + w(|x - j|): the lower envelope
// of parabolas of one width, v being the result of the axes before and w(k) the square of k steps.
// A tile holds 128 bytes' worth of adjacent columns, row by row, so that every operation is a
// vector one and memory is read in lines.
//
// search_rows tries the rows x - k and x + k for k = 1, 2, ... while w(k) can still lower a column
// of the tile. How far that is needs no test in the loop: the distance grows by at most one step
// from a row to the next. Medical masks have mean distances of a few voxels, and with squared
// distances of 16 bits the search takes 0.1 cycles a voxel for each k. Where it would take longer
// than the linear-time envelope, scanned column by column (Felzenszwalb and Huttenlocher 2012, with
// exact integer arithmetic), that takes over, so the time is linear whatever the image.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "pack.hpp"
#include "parallel.hpp"

namespace msf {

inline constexpr int tile_row_bytes = 128;

// Columns of a tile.
template <class T>
inline constexpr int lanes = tile_row_bytes / static_cast<int>(sizeof(T));

// A row number of the same width as T, so that both are selected by one mask.
template <class T>
using RowIndex =
    std::conditional_t<sizeof(T) == 2, std::uint16_t,
                       std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;

// "No background so far", above every squared distance. Sums with it must not wrap.
template <class T>
inline constexpr T unreached = std::is_same_v<T, std::uint32_t> ? T(0x7fffffff)
                               : std::is_integral_v<T> ? std::numeric_limits<T>::max()
                                                       : std::numeric_limits<T>::infinity();

// Memory of a tile, aligned to its rows; none for no rows.
template <class T>
class TileMemory {
 public:
  explicit TileMemory(std::int64_t rows)
      : owned_(rows ? new Row[static_cast<std::size_t>(rows)] : nullptr),
        data_(reinterpret_cast<T*>(owned_.get())) {}
  T* row(std::int64_t x) const { return data_ + x * lanes<T>; }
  T* data() const { return data_; }

 private:
  struct alignas(tile_row_bytes) Row {
    T lane[lanes<T>];
  };
  std::unique_ptr<Row[]> owned_;
  T* data_ = nullptr;
};

// Takes a row of a tile: its number, the squared distances, and the rows they come from (nullptr
// unless those are wanted). The arrays are valid during the call.
template <class T>
class RowSink {
 public:
  template <class F>
  RowSink(const F& f)
      : context_(&f), call_([](const void* g, std::int64_t x, const T* e, const RowIndex<T>* at) {
          (*static_cast<const F*>(g))(x, e, at);
        }) {}
  void operator()(std::int64_t x, const T* e, const RowIndex<T>* at) const {
    call_(context_, x, e, at);
  }

 private:
  const void* context_;
  void (*call_)(const void*, std::int64_t, const T*, const RowIndex<T>*);
};

// The tile's n rows of v become rows of e, handed to `sink` by the way that is faster; sometimes
// more than once, the last time being right. w: squares of 0 .. n steps, `step` that of one. `used`
// lanes count, the others are 0. With `indexed` of equal candidates the lowest row wins. The tile
// is overwritten.
template <class T>
void lower_envelope(const TileMemory<T>& tile, std::int64_t n, const T* w, double step, int used,
                    bool indexed, RowSink<T> sink);

// The same for one column whose values are `stride` apart, in place, without a tile.
template <class T>
void lower_envelope_of_column(T* column, std::int64_t n, std::int64_t stride, const T* w,
                              double step);

}  // namespace msf
