// What is said in distance_passes.hpp, compiled once for all transforms.
#include "distance_passes.hpp"

namespace msf {
namespace {

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

}  // namespace

template <class T>
Squares<T>::Squares(const VoxelSize& voxel, int axis, std::int64_t n, T most)
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

template <class T>
inline void RowPass<T>::outside(std::int64_t begin, std::int64_t end) {
  if (both_ && begin < end) return fill(begin, end);
  T* to = row_.data() + begin;
  for (; begin < end; begin += piece, to += piece) std::memset(to, 0, 32);
}

template <class T>
inline void RowPass<T>::fill(std::int64_t begin, std::int64_t end) {
  if (begin == 0 && end == n_) {
    std::fill(row_.begin(), row_.begin() + n_, unreached<T>);
    return;
  }
  const std::int64_t middle = begin == 0 ? 0 : end == n_ ? n_ : begin + (end - begin + 1) / 2;
  copy(squares_.rising(1), begin, middle);
  copy(squares_.falling(end - middle), middle, end);
}

// Writes past the end, where later runs come.
template <class T>
inline void RowPass<T>::copy(const T* from, std::int64_t begin, std::int64_t end) {
  T* to = row_.data() + begin;
  for (; begin < end; begin += piece, to += piece, from += piece) std::memcpy(to, from, 32);
}

template <class T>
void RowPass<T>::operator()(const std::uint8_t* mask, T* out) {
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

TilePlace::TilePlace(const Columns& columns, std::int64_t first, int used)
    : stride_(columns.inner), used_(used) {
  for (int lane = 0; lane < used;) {
    const std::int64_t column = first + lane;
    const std::int64_t left = columns.inner - column % columns.inner;
    const int count = static_cast<int>(std::min<std::int64_t>(left, used - lane));
    pieces_.push_back({lane, count, columns.offset(column)});
    lane += count;
  }
}

template <int width, class T>
void TilePlace::load(const T* from, std::int64_t n, T* tile) const {
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

template <class T>
void nearest_along_first_axis(const TilePlace& place, const std::uint8_t* mask, std::int64_t n,
                              const Squares<T>& squares, RowSink<T> emit) {
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

template class Squares<std::uint16_t>;
template class Squares<std::uint32_t>;
template class Squares<double>;
template class RowPass<std::uint16_t>;
template class RowPass<std::uint32_t>;
template class RowPass<double>;

template void nearest_along_first_axis(const TilePlace&, const std::uint8_t*, std::int64_t,
                                       const Squares<std::uint16_t>&, RowSink<std::uint16_t>);
template void nearest_along_first_axis(const TilePlace&, const std::uint8_t*, std::int64_t,
                                       const Squares<std::uint32_t>&, RowSink<std::uint32_t>);
template void nearest_along_first_axis(const TilePlace&, const std::uint8_t*, std::int64_t,
                                       const Squares<double>&, RowSink<double>);

// Squared distances, masks, and what labels need: 64, 32 or 16 to a row.
template void TilePlace::load<64>(const std::uint8_t*, std::int64_t, std::uint8_t*) const;
template void TilePlace::load<64>(const std::uint16_t*, std::int64_t, std::uint16_t*) const;
template void TilePlace::load<64>(const std::uint32_t*, std::int64_t, std::uint32_t*) const;
template void TilePlace::load<64>(const std::uint64_t*, std::int64_t, std::uint64_t*) const;
template void TilePlace::load<32>(const std::uint8_t*, std::int64_t, std::uint8_t*) const;
template void TilePlace::load<32>(const std::uint32_t*, std::int64_t, std::uint32_t*) const;
template void TilePlace::load<16>(const std::uint8_t*, std::int64_t, std::uint8_t*) const;
template void TilePlace::load<16>(const std::uint16_t*, std::int64_t, std::uint16_t*) const;
template void TilePlace::load<16>(const std::uint32_t*, std::int64_t, std::uint32_t*) const;
template void TilePlace::load<16>(const std::uint64_t*, std::int64_t, std::uint64_t*) const;
template void TilePlace::load<16>(const double*, std::int64_t, double*) const;

}  // namespace msf
