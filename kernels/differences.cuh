// Differences of neighbours: the Laplacian by second differences, Roberts' cross, and where the
// sign changes. Beyond the border the edge pixel counts.
//
// A thread makes some rows of a column, so that it has many reads to wait for at once; the caches
// serve what its neighbours read, too. Sums in the CPU's order: without contraction the results are
// its bit for bit.
#pragma once
#include "border.cuh"
#include "tile.cuh"

// What all these kernels read and where they write: the last `rank` of three axes are filtered.
template <class T, class F, int rank>
struct Swept {
  const T* __restrict__ image;
  const uint8* mask;  // may be null
  F* __restrict__ result;
  int planes, rows, columns;
  F scale, least;

  __device__ __forceinline__ F at(int z, int y, int x) const {
    return as_float(image[(int64(z) * rows + y) * columns + x], scale, least);
  }
  __device__ __forceinline__ void put(int z, int y, int x, F value) const {
    const bool wanted = mask == nullptr || surrounded(mask, z, y, x, planes, rows, columns, rank);
    result[(int64(z) * rows + y) * columns + x] = wanted ? value : F(0);
  }
  // `value` is made of all rows of the thread's column, past the last row of the last, so that no
  // read waits for a branch; `end` makes the result of a value.
  template <class Value, class End>
  __device__ __forceinline__ void each_row(const Pixel& strip, Value value, End end) const {
    const int first = strip.row * rows_of_thread;
    F values[rows_of_thread];
#pragma unroll
    for (int r = 0; r < rows_of_thread; ++r) values[r] = value(min(first + r, rows - 1));
    // One end at a time, for the registers: the next value moves to the front.
#pragma unroll 1
    for (int y = first; y < min(first + rows_of_thread, rows); ++y) {
      put(strip.plane, y, strip.column, end(values[0]));
#pragma unroll
      for (int r = 1; r < rows_of_thread; ++r) values[r - 1] = values[r];
    }
  }
};

// `weight` of the second difference along each axis.
template <class T, class F, int rank>
__global__ void __launch_bounds__(tile_size, 3)
    laplace(const T* __restrict__ image, const uint8* mask, F* __restrict__ result, int planes,
            int rows, int columns, F scale, F least, F weight_z, F weight_y, F weight_x) {
  const Pixel strip((rows + rows_of_thread - 1) / rows_of_thread, columns);
  if (!strip.exists) return;
  const Swept<T, F, rank> swept{image, mask, result, planes, rows, columns, scale, least};
  const F centre =
      (rank > 2 ? 2 * weight_z : F(0)) + (rank > 1 ? 2 * weight_y : F(0)) + 2 * weight_x;
  const int z = strip.plane, x = strip.column;
  const auto value = [&](int y) {
    F sum = 0;
    if (rank > 2) sum -= weight_z * swept.at(max(z - 1, 0), y, x);
    if (rank > 1) sum -= weight_y * swept.at(z, max(y - 1, 0), x);
    sum = sum - weight_x * swept.at(z, y, max(x - 1, 0)) + centre * swept.at(z, y, x) -
          weight_x * swept.at(z, y, min(x + 1, columns - 1));
    if (rank > 1) sum -= weight_y * swept.at(z, min(y + 1, rows - 1), x);
    if (rank > 2) sum -= weight_z * swept.at(min(z + 1, planes - 1), y, x);
    return sum;
  };
  swept.each_row(strip, value, [](F sum) { return sum; });
}

// Corners of the 2 wide block that begins at the pixel: bit k of their number is one step along the
// axis k, the first first. The difference of the corner opposite to `corner` and that one; if it is
// negative, the root mean square of those of all diagonals.
template <class T, class F, int rank>
__global__ void __launch_bounds__(tile_size, 3)
    cross_difference(const T* __restrict__ image, const uint8* mask, F* __restrict__ result,
                     int planes, int rows, int columns, F scale, F least, int corner) {
  constexpr int corners = 1 << rank, diagonals = corners / 2;
  const Pixel strip((rows + rows_of_thread - 1) / rows_of_thread, columns);
  if (!strip.exists) return;
  const Swept<T, F, rank> swept{image, mask, result, planes, rows, columns, scale, least};
  const int x = strip.column;
  const auto difference = [&](int y, int from) {
    const auto at = [&](int k) {
      const int along_z = rank > 2 ? k & 1 : 0, along_y = k >> (rank - 2) & 1;
      return swept.at(min(strip.plane + along_z, planes - 1), min(y + along_y, rows - 1),
                      min(x + (k >> (rank - 1)), columns - 1));
    };
    return at(from ^ (corners - 1)) - at(from);
  };
  if (corner >= 0) {
    swept.each_row(
        strip, [&](int y) { return difference(y, corner); }, [](F value) { return value; });
    return;
  }
  const auto squares = [&](int y) {
    F sum = 0;
#pragma unroll
    for (int k = 0; k < diagonals; ++k) {  // one end of each lies first along the first axis
      const F along = difference(y, 2 * k);
      sum += along * along;
    }
    return sum;
  };
  swept.each_row(strip, squares, [](F sum) { return F(sqrt(sum * (F(1) / diagonals))); });
}

template <class T>
struct Real {
  using type = float;
};
template <>
struct Real<double> {
  using type = double;
};

// Marks the pixels with a neighbour of another sign along one of the last `rank` axes that differs
// by more than `least`: the nearer of the two to zero, of two equally near the first.
template <class T, int rank>
__global__ void __launch_bounds__(tile_size)
    cross_zero(const T* __restrict__ image, uint8* __restrict__ marked, int planes, int rows,
               int columns, typename Real<T>::type least) {
  using F = typename Real<T>::type;
  const Pixel pixel(rows, columns);
  if (!pixel.exists) return;
  const T* const place = image + pixel.index;
  const F here = F(*place);
  const auto nearer = [&](F there, bool first) {
    const bool differ = (here < 0) != (there < 0) || (here > 0) != (there > 0);
    return differ && fabs(here - there) > least &&
           (fabs(here) < fabs(there) || (first && fabs(here) == fabs(there)));
  };
  // The border pixel stands beside itself, and has its own sign.
  const auto crosses = [&](int at, int n, int64 stride) {
    return nearer(F(place[at > 0 ? -stride : 0]), false) ||
           nearer(F(place[at + 1 < n ? stride : 0]), true);
  };
  bool found = crosses(pixel.column, columns, 1);
  if (rank > 1) found |= crosses(pixel.row, rows, columns);
  if (rank > 2) found |= crosses(pixel.plane, planes, int64(rows) * columns);
  marked[pixel.index] = found;
}
