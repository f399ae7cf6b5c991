// Local median: exact, by histograms that slide with the window.
//
// 8-bit images (Perreault and Hebert 2007, constant time): every column of a tile keeps a histogram
// of its pixels in the window's rows, on two levels of 16 bins. The window's coarse histogram takes
// in one column and drops one per pixel; a fine histogram is brought up to date only when the
// median falls into its coarse bin. Deviation from the paper: all histograms are cumulative within
// their 16 bins (a pixel then adds a vector of ones from its bin on instead of a single one), so
// the bin that holds the median is found by one comparison of 16 numbers.
//
// Other images, in tiles: the tile's pixels are sorted, and each gets its rank among them; the rank
// cut into at most 256 classes of equal size is an 8-bit image for the algorithm above, which finds
// the class of the median and how many pixels of the window lie in lower classes. The few pixels of
// that class are then gone through in order until the median is reached. Any dtype, exactly; ties
// cost nothing, for equal pixels have different ranks. (Suomela 2014 sorts tiles, too, and tracks
// the median in a bit vector of ranks.)
//
// More than two axes: a column takes in a slice of the window's leading axes at each step.
//
// S. Perreault, P. Hebert, Median filtering in constant time, IEEE Transactions on Image Processing
// 16(9), 2007. J. Suomela, Median filtering is equivalent to sorting, arXiv:1406.1717, 2014.
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>

#include "local.hpp"
#include "local_rank.hpp"

namespace msf {
namespace {

using local::Index;
using local::Result;
using local::Window;

// 16 counters; Count is the narrowest type that counts a window's pixels.
template <class Count>
struct SixteenOf;
template <>
struct SixteenOf<std::uint16_t> {
  using type = std::uint16_t __attribute__((vector_size(32)));
};
template <>
struct SixteenOf<std::uint32_t> {
  using type = std::uint32_t __attribute__((vector_size(64)));
};
template <class Count>
using Bins = typename SixteenOf<Count>::type;

// How many of 16 lanes are set (-1).
template <class Mask>
int lanes_set(const Mask& mask) {
  using Bytes = std::int8_t __attribute__((vector_size(16)));
  const Bytes bytes = __builtin_convertvector(mask, Bytes);
  std::uint64_t half[2];
  std::memcpy(half, &bytes, sizeof half);
  return (std::popcount(half[0]) + std::popcount(half[1])) >> 3;
}

// Histograms of the columns of a tile whose windows are `width` columns wide.
template <class Count>
class Columns {
 public:
  Columns(Index columns, Index width, Index rank) : columns_(columns), width_(width), rank_(rank) {
    for (int bin = 0; bin < 16; ++bin)
      for (int i = 0; i < 16; ++i) step_[bin][i] = i >= bin;
    clear();
  }

  void clear() { std::memset(columns_.data(), 0, columns_.size() * sizeof(Column)); }

  // One pixel of each column enters or leaves.
  void add(const std::uint8_t* row) {
    for (std::size_t j = 0; j < columns_.size(); ++j) {
      columns_[j].coarse += step_[row[j] >> 4];
      columns_[j].fine[row[j] >> 4] += step_[row[j] & 15];
    }
  }
  void remove(const std::uint8_t* row) {
    for (std::size_t j = 0; j < columns_.size(); ++j) {
      columns_[j].coarse -= step_[row[j] >> 4];
      columns_[j].fine[row[j] >> 4] -= step_[row[j] & 15];
    }
  }

  // found(x, bin, below) for the n windows of a row from its first column on: the bin of the pixel
  // of the given rank, and how many pixels of the window are in lower bins.
  template <class Found>
  void row(Index n, Found&& found) {
    const Count rank = static_cast<Count>(rank_);
    Bins<Count> coarse{};
    for (Index j = 0; j < width_; ++j) coarse += columns_[j].coarse;
    Index up_to_date[16];
    std::fill_n(up_to_date, 16, -width_);
    for (Index x = 0; x < n; ++x) {
      if (x > 0) coarse += columns_[x + width_ - 1].coarse - columns_[x - 1].coarse;
      const int segment = lanes_set(coarse <= rank);
      alignas(sizeof coarse) Count sums[17];
      sums[0] = 0;
      std::memcpy(sums + 1, &coarse, sizeof coarse);
      const Count lower = sums[segment];
      Bins<Count> fine = fine_[segment];
      const Index behind = x - up_to_date[segment];
      if (2 * behind < width_) {
        for (Index j = x - behind; j < x; ++j)
          fine += columns_[j + width_].fine[segment] - columns_[j].fine[segment];
      } else {
        fine = Bins<Count>{};
        for (Index j = x; j < x + width_; ++j) fine += columns_[j].fine[segment];
      }
      fine_[segment] = fine;
      up_to_date[segment] = x;
      const Bins<Count> total = fine + lower;
      const int bin = lanes_set(total <= rank);
      alignas(sizeof total) Count totals[17];
      totals[0] = lower;
      std::memcpy(totals + 1, &total, sizeof total);
      found(x, segment * 16 + bin, static_cast<Index>(totals[bin]));
    }
  }

 private:
  struct Column {
    Bins<Count> coarse, fine[16];
  };
  std::vector<Column> columns_;
  Index width_, rank_;
  Bins<Count> step_[16], fine_[16];
};

// A rectangle of the last two axes at one position of the leading axes, and the slices of the image
// that its windows reach through the leading axes (-1: outside).
struct Patch {
  Index y0, y1, x0, x1;
  Index position;             // of the slice in the result
  std::vector<Index> slices;  // positions of the slices in the image

  Index rows(const Window& w) const { return y1 - y0 + w.block[w.ndim() - 2] - 1; }
  Index columns(const Window& w) const { return x1 - x0 + w.block[w.ndim() - 1] - 1; }
};

// body(patch) for patches of at most `height` x `width`, in parallel.
void for_patches(const Window& w, Index height, Index width,
                 const std::function<void(const Patch&)>& body) {
  if (w.empty()) return;
  const int d = w.ndim();
  const Index ny = w.shape[d - 2], nx = w.shape[d - 1];
  const Index down = (ny + height - 1) / height, across = (nx + width - 1) / width;
  const Index leading = w.stride(-1) / (ny * nx);
  parallel_tasks(leading * down * across, [&](Index task) {
    const Index slice = task / (down * across), place = task % (down * across);
    Patch patch{};
    patch.y0 = place / across * height;
    patch.y1 = std::min(ny, patch.y0 + height);
    patch.x0 = place % across * width;
    patch.x1 = std::min(nx, patch.x0 + width);
    patch.position = slice * ny * nx;
    patch.slices = {0};
    for (int k = 0; k < d - 2; ++k) {
      const Index i = patch.position / w.stride(k) % w.shape[k];
      std::vector<Index> next;
      for (const Index before : patch.slices)
        for (Index e = i; e < i + w.block[k]; ++e) {
          const Index at = w.source[k][e];
          next.push_back(before < 0 || at < 0 ? -1 : before + at * w.stride(k));
        }
      patch.slices = std::move(next);
    }
    body(patch);
  });
}

// Row `y` of a patch's slice, extended; outside gets `fill`.
template <class T, class D>
void patch_row(const Window& w, const T* image, const Patch& patch, Index slice, Index y, D fill,
               D* out) {
  const int d = w.ndim();
  const Index at = w.source[d - 2][patch.y0 + y], count = patch.columns(w);
  if (slice < 0 || at < 0)
    std::fill_n(out, count, fill);
  else
    local::extend_row(w, d - 1, image + slice + at * w.shape[d - 1], 0, patch.x0, count, fill, out);
}

// Slides `columns` down a patch of bins; row(y) is called for every row of windows.
template <class Count, class GetRow, class Row>
void slide_down(Columns<Count>& columns, const Window& w, const Patch& patch, GetRow&& get_row,
                Row&& row) {
  const Index b = w.block[w.ndim() - 2], lines = static_cast<Index>(patch.slices.size());
  for (Index y = 0; y < b; ++y)
    for (Index s = 0; s < lines; ++s) columns.add(get_row(s, y));
  for (Index y = 0; y < patch.y1 - patch.y0; ++y) {
    poll();
    if (y > 0)
      for (Index s = 0; s < lines; ++s) {
        columns.remove(get_row(s, y - 1));
        columns.add(get_row(s, y + b - 1));
      }
    row(y);
  }
}

// The window's middle rank; block sizes are odd.
Index middle(const Window& w) { return w.volume() / 2; }

template <class Count>
void median_8bit(const Window& w, const Array& image, const Result& result) {
  const int d = w.ndim();
  const std::uint8_t flip = image.dtype == DType::int8 ? 128 : 0;  // bins in the order of values
  const Index height = std::max<Index>(std::min<Index>(w.shape[d - 2] / (2 * num_threads()), 1024),
                                       8 * w.block[d - 2]);
  const auto fill = static_cast<std::uint8_t>(
      w.border == BorderMode::constant ? static_cast<int>(w.cval) & 255 : 0);
  for_patches(w, height, 512, [&](const Patch& patch) {
    Columns<Count> columns(patch.columns(w), w.block[d - 1], middle(w));
    std::vector<std::uint8_t> buffer(patch.columns(w));
    const auto get_row = [&](Index s, Index y) {
      patch_row(w, image.as<std::uint8_t>(), patch, patch.slices[s], y, fill, buffer.data());
      for (auto& v : buffer) v ^= flip;
      return buffer.data();
    };
    const Index n = patch.x1 - patch.x0;
    std::vector<double> level(n);
    slide_down(columns, w, patch, get_row, [&](Index y) {
      columns.row(n, [&](Index x, int bin, Index) { level[x] = bin - flip; });
      result.store(level.data(), patch.position + (patch.y0 + y) * w.shape[d - 1] + patch.x0, n);
    });
  });
}

// How pixels become keys: of a dtype, or as float64 for a cval that the dtype lacks.
template <class Bits>
struct Keys {
  void (*of_row)(const void* image, Index first, Index n, Bits* out);
  double (*value)(Bits);
  bool has_nan;
  Bits fill;  // the key of cval
};

template <class T, class V>
auto keys_of(double cval) {
  using Key = local::Key<V>;
  using Bits = typename Key::Bits;
  const auto of_row = [](const void* image, Index first, Index n, Bits* out) {
    const T* const row = static_cast<const T*>(image) + first;
    for (Index x = 0; x < n; ++x) out[x] = Key::of(static_cast<V>(row[x]));
  };
  return Keys<Bits>{of_row, Key::value, Key::has_nan, Key::of(static_cast<V>(cval))};
}

// The pixels that a patch's windows reach, by rank.
template <class Bits>
local::RankedTile ranked(const Window& w, const Array& image, const Keys<Bits>& keys,
                         const Patch& patch) {
  const int d = w.ndim();
  const Index nx = w.shape[d - 1], rows = patch.rows(w), width = patch.columns(w);
  const Index lines = static_cast<Index>(patch.slices.size());
  // Positions of the last axis that the patch's windows reach.
  Index low = nx, high = 0;
  for (Index x = 0; x < width; ++x)
    if (const Index at = w.source[d - 1][patch.x0 + x]; at >= 0)
      low = std::min(low, at), high = std::max(high, at + 1);
  std::vector<local::Pixel<Bits>> pixels(lines * rows * width);
  auto pixel = pixels.begin();
  std::vector<Bits> row_keys(high - low);
  for (Index s = 0; s < lines; ++s)
    for (Index y = 0; y < rows; ++y) {
      const Index slice = patch.slices[s], at = w.source[d - 2][patch.y0 + y];
      const bool outside = slice < 0 || at < 0;
      if (!outside) keys.of_row(image.data, slice + at * nx + low, high - low, row_keys.data());
      for (Index x = 0; x < width; ++x, ++pixel) {
        const Index from = w.source[d - 1][patch.x0 + x];
        pixel->key = outside || from < 0 ? keys.fill : row_keys[from - low];
      }
    }
  return local::RankedTile(rows, width, std::move(pixels), keys.value, keys.has_nan);
}

using Ranker = std::function<local::RankedTile(const Patch&)>;

template <class Count>
void median_by_rank(const Window& w, const Ranker& ranked, const Result& result) {
  const int d = w.ndim();
  const Index b0 = w.block[d - 2], b1 = w.block[d - 1], nx = w.shape[d - 1];
  const Index side = std::clamp<Index>(2 * std::max(b0, b1), 64, 256);
  if (std::max(b0, b1) > std::numeric_limits<std::int16_t>::max() ||
      w.volume() / (b0 * b1) * (side + b0) * (side + b1) > std::numeric_limits<std::int32_t>::max())
    throw std::invalid_argument("threshold_local: block_size is too large for the median");
  for_patches(w, side, side, [&](const Patch& patch) {
    const local::RankedTile tile = ranked(patch);
    Columns<Count> columns(patch.columns(w), b1, middle(w));
    std::vector<double> level(patch.x1 - patch.x0);
    slide_down(
        columns, w, patch, [&](Index s, Index y) { return tile.classes(s, y); },
        [&](Index y) {
          columns.row(patch.x1 - patch.x0, [&](Index x, int bin, Index below) {
            level[x] = tile.select(bin, middle(w) - below, y, x, b0, b1);
          });
          tile.spread_nan(y, b0, b1, level);
          result.store(level.data(), patch.position + (patch.y0 + y) * nx + patch.x0,
                       patch.x1 - patch.x0);
        });
  });
}

template <class T>
bool holds(double value) {
  if constexpr (is_float<T>)
    return std::isnan(value) || static_cast<double>(static_cast<T>(value)) == value;
  else
    return value == std::floor(value) &&
           value >= static_cast<double>(std::numeric_limits<T>::min()) &&
           value < std::ldexp(1.0, std::numeric_limits<T>::digits);
}

}  // namespace

void local_median(const Array& image, const std::vector<std::int64_t>& block, BorderMode border,
                  double cval, double offset, const MutableArray& out) {
  const Window w(image, block, border, cval);
  const Result result(image, offset, out);
  const bool few = w.volume() <= std::numeric_limits<std::uint16_t>::max();
  const auto by_rank = [&]<class Bits>(const Keys<Bits>& keys) {
    const Ranker rank = [&](const Patch& patch) { return ranked(w, image, keys, patch); };
    few ? median_by_rank<std::uint16_t>(w, rank, result)
        : median_by_rank<std::uint32_t>(w, rank, result);
  };
  visit(image.dtype, [&]<class T>(Type<T>) {
    if (border == BorderMode::constant && !holds<T>(cval))
      by_rank(keys_of<T, double>(cval));
    else if constexpr (sizeof(T) > 1)
      by_rank(keys_of<T, T>(border == BorderMode::constant ? cval : 0));
    else if (few)
      median_8bit<std::uint16_t>(w, image, result);
    else
      median_8bit<std::uint32_t>(w, image, result);
  });
}

}  // namespace msf
