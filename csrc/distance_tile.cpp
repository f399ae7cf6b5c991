#include "distance_tile.hpp"

namespace msf {
namespace {

template <class T>
struct Simd {
  using Vector [[gnu::vector_size(register_bytes), gnu::may_alias]] = T;
  static constexpr int count = tile_row_bytes / register_bytes;  // vectors of a row

  static Vector load(const T* row, int i) { return reinterpret_cast<const Vector*>(row)[i]; }
  static void store(T* row, int i, Vector v) { reinterpret_cast<Vector*>(row)[i] = v; }
  static Vector min(Vector a, Vector b) { return a < b ? a : b; }
  static Vector all(T value) { return value - Vector{}; }

  // The largest value of a row.
  static T highest(const Vector* v) {
    Vector most = v[0];
    for (int i = 1; i < count; ++i) most = most < v[i] ? v[i] : most;
    T top = most[0];
    for (int i = 1; i < register_bytes / static_cast<int>(sizeof(T)); ++i)
      top = std::max(top, most[i]);
    return top;
  }
};

// e = min(e, v(x - k) + w(k)), and likewise for x + k, over one range of k in the search.
template <class T, bool indexed>
struct Candidates {
  using S = Simd<T>;
  using I = Simd<RowIndex<T>>;
  typename S::Vector e[S::count];
  typename I::Vector at[S::count];

  // v + w without wrapping. 32-bit values stay below 2^31.
  static typename S::Vector add(typename S::Vector v, T w) {
    if constexpr (std::is_same_v<T, std::uint16_t>)
      v = S::min(v, S::all(static_cast<T>(unreached<T> - w)));
    return v + S::all(w);
  }

  void both(const T* before, const T* after, T w) {
#pragma GCC unroll 8
    for (int i = 0; i < S::count; ++i)
      e[i] = S::min(e[i], add(S::min(S::load(before, i), S::load(after, i)), w));
  }
  void one(const T* row, T w) {
#pragma GCC unroll 8
    for (int i = 0; i < S::count; ++i) e[i] = S::min(e[i], add(S::load(row, i), w));
  }
  // Of equal candidates the lower row wins: one before x precedes all seen so far.
  void before(const T* row, T w, RowIndex<T> x) {
#pragma GCC unroll 8
    for (int i = 0; i < S::count; ++i) {
      const auto c = add(S::load(row, i), w);
      e[i] = S::min(e[i], c);
      at[i] = e[i] == c ? I::all(x) : at[i];
    }
  }
  void after(const T* row, T w, RowIndex<T> x) {
#pragma GCC unroll 8
    for (int i = 0; i < S::count; ++i) {
      const auto m = S::min(e[i], add(S::load(row, i), w));
      at[i] = m == e[i] ? at[i] : I::all(x);
      e[i] = m;
    }
  }
};

template <class T>
bool none_reached(const T* tile, std::int64_t n, int used) {
  for (std::int64_t i = 0; i < n * lanes<T>; i += lanes<T>)
    for (int lane = 0; lane < used; ++lane)
      if (tile[i + lane] != unreached<T>) return false;
  return true;
}

// How many rows per row the search may try before the column scan of all lanes is faster.
template <class T>
inline constexpr std::int64_t search_limit = sizeof(T) == 2   ? 320
                                             : sizeof(T) == 4 ? 160
                                                              : 80;

// Returns whether it finished: not when the column scan is the better way.
template <class T, bool indexed>
bool search_rows(const T* tile, std::int64_t n, const T* w, std::int64_t limit, RowSink<T> emit) {
  using S = Simd<T>;
  using I = Simd<RowIndex<T>>;
  alignas(tile_row_bytes) T result[lanes<T>];
  alignas(tile_row_bytes) RowIndex<T> rows[lanes<T>];
  // Where rounding or an equal candidate matters, one step more than can strictly improve.
  constexpr std::int64_t extra = indexed || !std::is_integral_v<T>;
  std::int64_t reach = n - 1;  // sqrt of the row's largest squared distance, in steps, rounded up
  std::int64_t work = 0;
  Ticker tick(1 << 12);
  for (std::int64_t x = 0; x < n; ++x) {
    tick();
    const T* const row = tile + x * lanes<T>;
    Candidates<T, indexed> best;
    for (int i = 0; i < S::count; ++i) best.e[i] = S::load(row, i);
    T top = S::highest(best.e);
    reach = std::min(reach + 1, n);
    while (reach > 0 && w[reach - 1] >= top) --reach;
    if constexpr (indexed)
      for (int i = 0; i < S::count; ++i) best.at[i] = I::all(static_cast<RowIndex<T>>(x));
    if (reach > 0) {
      const std::int64_t most = reach - (top <= w[reach]) + extra;
      const std::int64_t up = std::min(most, x), down = std::min(most, n - 1 - x);
      work += std::max(up, down);
      if (work > limit * (x + 16)) return false;
      std::int64_t k = 1;
      for (; k <= std::min(up, down); ++k) {
        const T *const before = row - k * lanes<T>, *const after = row + k * lanes<T>;
        if constexpr (indexed) {
          best.before(before, w[k], static_cast<RowIndex<T>>(x - k));
          best.after(after, w[k], static_cast<RowIndex<T>>(x + k));
        } else {
          best.both(before, after, w[k]);
        }
      }
      for (std::int64_t j = k; j <= up; ++j)
        if constexpr (indexed)
          best.before(row - j * lanes<T>, w[j], static_cast<RowIndex<T>>(x - j));
        else
          best.one(row - j * lanes<T>, w[j]);
      for (std::int64_t j = k; j <= down; ++j)
        if constexpr (indexed)
          best.after(row + j * lanes<T>, w[j], static_cast<RowIndex<T>>(x + j));
        else
          best.one(row + j * lanes<T>, w[j]);
      top = S::highest(best.e);
      while (reach > 0 && w[reach - 1] >= top) --reach;
    }
    for (int i = 0; i < S::count; ++i) S::store(result, i, best.e[i]);
    if constexpr (indexed)
      for (int i = 0; i < S::count; ++i) I::store(rows, i, best.at[i]);
    emit(x, result, indexed ? rows : nullptr);
  }
  return true;
}

// The lower envelope of one column by a stack of parabolas, exact for integers: each parabola with
// the first row at which it is strictly below all before it, so that of equal ones the first wins.
template <class T>
class ColumnScan {
 public:
  // `step` is the squared distance of one step.
  ColumnScan(std::int64_t n, const T* w, double step)
      : w_(w), step_(step), site_(n), start_(n + 1) {}

  // e may be v; at may be null.
  void operator()(const T* v, std::int64_t n, std::int64_t stride, T* e, RowIndex<T>* at) {
    std::int64_t count = 0;
    height_.resize(n);
    Ticker tick;
    for (std::int64_t j = 0; j < n; ++j) {
      tick();
      const T value = v[j * stride];
      if (value == unreached<T>) continue;
      std::int64_t start = 0;
      while (count > 0) {
        const std::int64_t i = site_[count - 1], apart = j - i;
        const double gap = static_cast<double>(value) - static_cast<double>(height_[count - 1]);
        const double run = static_cast<double>(apart) * step_;
        // The quotient of exact integers below 2^53 never rounds up to the next integer.
        const double meet = std::floor((gap + run * static_cast<double>(apart)) / (2 * run));
        if (meet >= static_cast<double>(n - i)) {
          start = n;
          break;
        }
        start = std::max<std::int64_t>(
            0, i + static_cast<std::int64_t>(std::max(meet, -1.0 - static_cast<double>(i))) + 1);
        if constexpr (!std::is_integral_v<T>) {  // the quotient may round across a row
          const auto below = [&](std::int64_t x) {
            return sum(value, w_[std::abs(x - j)]) < sum(height_[count - 1], w_[std::abs(x - i)]);
          };
          if (start < n && !below(start))
            ++start;
          else if (start > 0 && below(start - 1))
            --start;
        }
        if (start > start_[count - 1]) break;
        --count;
        start = 0;
      }
      if (start >= n) continue;
      site_[count] = j;
      start_[count] = start;
      height_[count++] = value;
    }
    start_[count] = n;
    for (std::int64_t k = 0; k < count; ++k)
      for (std::int64_t x = start_[k]; x < start_[k + 1]; ++x) {
        tick();
        e[x * stride] = sum(height_[k], w_[std::abs(x - site_[k])]);
        if (at) at[x * stride] = static_cast<RowIndex<T>>(site_[k]);
      }
    if (count == 0)
      for (std::int64_t x = 0; x < n; ++x) e[x * stride] = unreached<T>;
  }

 private:
  static T sum(T v, T w) {
    if constexpr (std::is_same_v<T, std::uint16_t>)
      return static_cast<T>(std::min(unreached<T> - w, +v) + w);
    else
      return v + w;
  }
  const T* w_;
  double step_;
  std::vector<std::int64_t> site_, start_;
  std::vector<T> height_;
};

}  // namespace

template <class T>
void lower_envelope(const TileMemory<T>& tile, std::int64_t n, const T* w, double step, int used,
                    bool indexed, RowSink<T> sink) {
  if (none_reached(tile.data(), n, used)) {
    const RowIndex<T> rows[lanes<T>] = {};
    for (std::int64_t x = 0; x < n; ++x) sink(x, tile.row(x), indexed ? rows : nullptr);
    return;
  }
  const std::int64_t limit = std::max(1, static_cast<int>(search_limit<T>) * used / lanes<T>);
  if (indexed ? search_rows<T, true>(tile.data(), n, w, limit, sink)
              : search_rows<T, false>(tile.data(), n, w, limit, sink))
    return;
  const TileMemory<RowIndex<T>> at(indexed ? n : 0);
  if (indexed) std::fill_n(at.data(), n * lanes<T>, 0);  // for columns without background
  ColumnScan<T> scan(n, w, step);
  for (int lane = 0; lane < used; ++lane) {
    poll();
    scan(tile.data() + lane, n, lanes<T>, tile.data() + lane, indexed ? at.data() + lane : nullptr);
  }
  for (std::int64_t x = 0; x < n; ++x) sink(x, tile.row(x), indexed ? at.row(x) : nullptr);
}

template <class T>
void lower_envelope_of_column(T* column, std::int64_t n, std::int64_t stride, const T* w,
                              double step) {
  ColumnScan<T>(n, w, step)(column, n, stride, column, nullptr);
}

template void lower_envelope(const TileMemory<std::uint16_t>&, std::int64_t, const std::uint16_t*,
                             double, int, bool, RowSink<std::uint16_t>);
template void lower_envelope(const TileMemory<std::uint32_t>&, std::int64_t, const std::uint32_t*,
                             double, int, bool, RowSink<std::uint32_t>);
template void lower_envelope(const TileMemory<double>&, std::int64_t, const double*, double, int,
                             bool, RowSink<double>);
template void lower_envelope_of_column(std::uint16_t*, std::int64_t, std::int64_t,
                                       const std::uint16_t*, double);
template void lower_envelope_of_column(std::uint32_t*, std::int64_t, std::int64_t,
                                       const std::uint32_t*, double);
template void lower_envelope_of_column(double*, std::int64_t, std::int64_t, const double*, double);

}  // namespace msf
