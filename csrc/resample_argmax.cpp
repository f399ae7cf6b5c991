// Labels of logits resampled to another grid, without the resampled logits.
//
// Between eight neighbouring voxels (four pixels in 2D) linear interpolation stays between the
// smallest and the largest of their values. So a class whose largest value there is below another
// class's smallest one cannot win anywhere in that cell, and needs no arithmetic: inside a label,
// nearly everywhere in a segmentation, one class is left, and the cell is filled with it. Only the
// others are interpolated, for the classes that are left, along columns first, then rows, then
// planes: in the order of PyTorch's `interpolate`, with its rounding.
//
// The bound holds for rounded arithmetic because rounding is monotonic: a class's interpolated
// value is at most what its largest value would give everywhere, which is off by a few roundings,
// and `slack` is wider than those. A class that might tie stays.
//
// A task owns the planes of one layer of cells and some of its rows of cells. It holds the logits
// of two rows in two planes for all classes, and a few hundred bytes a class.
#include "kernels/resample_argmax.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "parallel.hpp"

namespace msf {
namespace {

using Index = std::int64_t;

#if defined(__AVX512F__)
constexpr int register_bytes = 64;
#elif defined(__AVX__)
constexpr int register_bytes = 32;
#else
constexpr int register_bytes = 16;
#endif

constexpr Index block = 64;  // columns of the output that are interpolated at once

// Where the outputs of one axis lie: output o between inputs `low` and `low` + step, `weight` from
// the first to the second.
template <class T>
struct Axis {
  struct Cell {
    Index low, begin, end;  // outputs [begin, end)
  };

  Index inputs, step;
  std::vector<T> weight;
  std::vector<Cell> cells;  // those with outputs, in order

  Axis(Index inputs, Index outputs, const ResampledAxis& how, bool align_corners)
      : inputs(inputs), step(how.linear && inputs > 1), weight(outputs) {
    const T scale = static_cast<T>(how.scale);
    bool on_grid = true;
    for (Index o = 0; o < outputs; ++o) {
      const T at = how.linear ? position(o, scale, align_corners)
                              : static_cast<T>(nearest(o, how.scale, align_corners));
      const Index low = std::min(static_cast<Index>(at), inputs - 1);
      weight[o] = step ? std::min(at - static_cast<T>(low), T{1}) : T{0};
      on_grid &= weight[o] == 0;
      if (cells.empty() || cells.back().low != low) cells.push_back({low, o, o});
      cells.back().end = o + 1;
    }
    if (on_grid) step = 0;
  }

  Index high(Index low) const { return std::min(low + step, inputs - 1); }

 private:
  // In the logits' own precision, as PyTorch.
  static T position(Index o, T scale, bool align_corners) {
    if (align_corners) return scale * static_cast<T>(o);
    return std::max(scale * (static_cast<T>(o) + T{0.5}) - T{0.5}, T{0});
  }
  // In double precision, as nnU-Net.
  static Index nearest(Index o, double scale, bool align_corners) {
    const double at = static_cast<double>(o);
    return static_cast<Index>(align_corners ? at * scale + 0.5 : scale * (at + 0.5) - 0.5 + 0.5);
  }
};

// A row of logits with NaN and infinities replaced: none of them may reach a product with zero.
template <class T, class S>
void load_row(const S* from, Index stride, Index n, T* __restrict to) {
  constexpr T most = std::numeric_limits<T>::max() / 4;
  const auto cleaned = [](S value) {
    const T v = static_cast<T>(value);
    const T upper = v < most ? v : most;
    return upper > -most ? upper : -most;
  };
  if (stride == 1)
    for (Index x = 0; x < n; ++x) to[x] = cleaned(from[x]);
  else
    for (Index x = 0; x < n; ++x) to[x] = cleaned(from[x * stride]);
}

template <class T, bool by_threshold>
class Resampler {
  using I = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  static constexpr int lanes = register_bytes / sizeof(T);
  typedef T Values __attribute__((vector_size(register_bytes)));
  typedef I Labels __attribute__((vector_size(register_bytes)));

 public:
  Resampler(const Array& logits, const std::array<Index, 5>& shape,
            const std::array<Index, 5>& strides, const std::array<ResampledAxis, 3>& axes,
            bool align_corners, double threshold, const MutableArray& labels)
      : logits_(logits),
        shape_(shape),
        strides_(strides),
        z_(shape[2], labels.shape[1], axes[0], align_corners),
        y_(shape[3], labels.shape[2], axes[1], align_corners),
        x_(shape[4], labels.shape[3], axes[2], align_corners),
        threshold_(static_cast<T>(threshold)),
        labels_(labels),
        label_bytes_(item_size(labels.dtype)) {}

  void run() const {
    const Index layers = shape_[0] * static_cast<Index>(z_.cells.size());
    const Index rows = static_cast<Index>(y_.cells.size());
    // A task's first row of cells costs twice the loading of the others.
    const Index pieces = std::clamp<Index>(8 * num_threads() / layers, 1, (rows + 3) / 4);
    parallel_tasks(layers * pieces, [&](Index task) {
      const Index layer = task / pieces, piece = task % pieces;
      Task(*this, layer / static_cast<Index>(z_.cells.size()),
           z_.cells[layer % static_cast<Index>(z_.cells.size())])
          .run(rows * piece / pieces, rows * (piece + 1) / pieces);
    });
  }

 private:
  using Cell = typename Axis<T>::Cell;

  class Task {
   public:
    Task(const Resampler& all, Index batch, const Cell& layer)
        : all_(all),
          batch_(batch),
          layer_(layer),
          classes_(all.shape_[1]),
          width_(all.shape_[4]),
          planes_(all.z_.step ? 2 : 1),
          rows_(all.y_.step ? 2 : 1),
          pitch_(width_ + lanes),
          memory_(new T[static_cast<std::size_t>(
              classes_ * (pitch_ * (planes_ * rows_ + 1) + block * (planes_ * rows_ + planes_)) +
              4 * pitch_)]),
          counts_(new I[static_cast<std::size_t>(2 * pitch_)]),
          candidates_(new Index[static_cast<std::size_t>(classes_)]) {
      T* next = memory_.get();
      const auto take = [&](Index n) { return std::exchange(next, next + n); };
      for (Index row = 0; row < rows_; ++row) {
        loaded_[row] = -1;
        source_[row] = take(classes_ * planes_ * pitch_);
      }
      most_ = take(classes_ * pitch_);
      by_column_ = take(classes_ * planes_ * rows_ * block);
      by_row_ = take(classes_ * planes_ * block);
      lower_ = take(pitch_);
      upper_ = take(pitch_);
      least_ = take(pitch_);
      limit_ = take(pitch_);
      count_ = counts_.get();
      winner_ = count_ + pitch_;
    }

    void run(Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        poll();
        const Cell& cells = all_.y_.cells[i];
        load(cells.low, all_.y_.high(cells.low));
        classify();
        fill(cells);
      }
    }

   private:
    // Logits of class k in plane p of the two, row r of the two.
    const T* row(Index k, Index p, Index r) const {
      return source_[r] + (k * planes_ + p) * pitch_;
    }

    void load(Index low, Index high) {
      if (loaded_[0] == low && (rows_ == 1 || loaded_[1] == high)) return;
      if (rows_ == 2 && loaded_[1] == low) {
        std::swap(source_[0], source_[1]);
        std::swap(loaded_[0], loaded_[1]);
      }
      for (Index r = 0; r < rows_; ++r) {
        const Index y = r == 0 ? low : high;
        if (loaded_[r] == y) continue;
        loaded_[r] = y;
        for (Index k = 0; k < classes_; ++k)
          for (Index p = 0; p < planes_; ++p)
            load_from(k, p == 0 ? layer_.low : all_.z_.high(layer_.low), y,
                      source_[r] + (k * planes_ + p) * pitch_);
      }
    }

    void load_from(Index k, Index z, Index y, T* to) const {
      const auto& s = all_.strides_;
      const Index at = batch_ * s[0] + k * s[1] + z * s[2] + y * s[3];
      if constexpr (std::is_same_v<T, float>) {
        if (all_.logits_.dtype == DType::float16)
          return load_row(all_.logits_.template as<float16>() + at, s[4], width_, to);
      }
      load_row(all_.logits_.template as<T>() + at, s[4], width_, to);
    }

    // For every cell of the row: how many classes may win in it, and if it is one, which.
    [[gnu::noinline]] void classify() {
      constexpr T slack = 64 * std::numeric_limits<T>::epsilon();
      constexpr T tiny = std::numeric_limits<T>::min();
      const Index step = all_.x_.step;
      if constexpr (by_threshold) {
        for (Index x = 0; x < width_; ++x) {
          count_[x] = 1;
          winner_[x] = 0;
        }
      }
      const T above = threshold_above(slack, tiny), below = threshold_below(slack, tiny);
      for (Index k = 0; k < classes_; ++k) {
        T* const most = most_ + k * pitch_;
        extremes(k);
        lower_[width_] = lower_[width_ - 1];
        upper_[width_] = upper_[width_ - 1];
        const T *const lower = lower_, *const upper = upper_;
        T* const least = least_;
        for (Index x = 0; x < width_; ++x) most[x] = std::max(upper[x], upper[x + step]);
        if constexpr (by_threshold) {
          for (Index x = 0; x < width_; ++x) {
            const T low = std::min(lower[x], lower[x + step]);
            const bool on = low > above, may_be_on = most[x] >= below;
            count_[x] = on ? I{1} : static_cast<I>(count_[x] + may_be_on);
            winner_[x] = on ? static_cast<I>(k + 1) : winner_[x];
          }
        } else if (k == 0) {
          for (Index x = 0; x < width_; ++x) least[x] = std::min(lower[x], lower[x + step]);
        } else {
          for (Index x = 0; x < width_; ++x)
            least[x] = std::max(least[x], std::min(lower[x], lower[x + step]));
        }
      }
      if constexpr (by_threshold) {
        std::fill_n(limit_, width_, below);
      } else {
        for (Index x = 0; x < width_; ++x) {
          limit_[x] = least_[x] - std::abs(least_[x]) * slack - tiny;
          count_[x] = 0;
        }
        for (Index k = 0; k < classes_; ++k) {
          const T *const most = most_ + k * pitch_, *const limit = limit_;
          I *const count = count_, *const winner = winner_;
          for (Index x = 0; x < width_; ++x) {
            const bool may_win = most[x] >= limit[x];
            count[x] += may_win;
            winner[x] = may_win ? static_cast<I>(k) : winner[x];
          }
        }
      }
    }

    T threshold_above(T slack, T tiny) const {
      return all_.threshold_ + std::abs(all_.threshold_) * slack + tiny;
    }
    T threshold_below(T slack, T tiny) const {
      return all_.threshold_ - std::abs(all_.threshold_) * slack - tiny;
    }

    // The smallest and largest logit of class k at every column of the two rows in the two planes.
    void extremes(Index k) {
      T* __restrict lower = lower_, * __restrict upper = upper_;
      const T* const a = row(k, 0, 0);
      if (planes_ * rows_ == 1) {
        for (Index x = 0; x < width_; ++x) lower[x] = upper[x] = a[x];
        return;
      }
      const T* const b = row(k, planes_ - 1, planes_ == 1);
      if (planes_ * rows_ == 2) {
        for (Index x = 0; x < width_; ++x) {
          lower[x] = std::min(a[x], b[x]);
          upper[x] = std::max(a[x], b[x]);
        }
        return;
      }
      const T *const c = row(k, 0, 1), *const d = row(k, 1, 1);
      for (Index x = 0; x < width_; ++x) {
        lower[x] = std::min(std::min(a[x], b[x]), std::min(c[x], d[x]));
        upper[x] = std::max(std::max(a[x], b[x]), std::max(c[x], d[x]));
      }
    }

    // Writes the outputs of the row of cells: runs of one label, and runs to interpolate.
    void fill(const Cell& rows) {
      const std::vector<Cell>& cells = all_.x_.cells;
      const std::size_t n = cells.size();
      for (std::size_t i = 0; i < n;) {
        const Index low = cells[i].low, begin = cells[i].begin;
        const bool sure = count_[low] == 1;
        std::size_t j = i + 1;
        if (sure) {
          while (j < n && count_[cells[j].low] == 1 && winner_[cells[j].low] == winner_[low]) ++j;
          paint(rows, begin, cells[j - 1].end, winner_[low]);
        } else {
          while (j < n && count_[cells[j].low] != 1 && cells[j].end - begin <= block) ++j;
          const Index end = cells[j - 1].end;
          for (Index from = begin; from < end; from += block)
            interpolate(rows, i, j, from, std::min(end, from + block));
        }
        i = j;
      }
    }

    void* output(Index z, Index y, Index x) const {
      const auto& s = all_.labels_.shape;
      const Index at = ((batch_ * s[1] + z) * s[2] + y) * s[3] + x;
      return all_.labels_.template as<std::byte>() + at * all_.label_bytes_;
    }

    void paint(const Cell& rows, Index begin, Index end, I label) const {
      for (Index z = layer_.begin; z < layer_.end; ++z)
        for (Index y = rows.begin; y < rows.end; ++y) {
          void* const to = output(z, y, begin);
          if (all_.label_bytes_ == 1)
            std::memset(to, static_cast<int>(label), end - begin);
          else
            visit_bits(all_.labels_.dtype, [&]<class L>(Type<L>) {
              std::fill_n(static_cast<L*>(to), end - begin, static_cast<L>(label));
            });
        }
    }

    // Outputs [begin, end) of the row, at most `block`, which lie in the cells [first, last).
    void interpolate(const Cell& rows, std::size_t first, std::size_t last, Index begin,
                     Index end) {
      const std::vector<Cell>& cells = all_.x_.cells;
      Index found = 0;
      for (Index k = 0; k < classes_; ++k) {
        const T* const most = most_ + k * pitch_;
        bool any = false;
        for (std::size_t i = first; i < last; ++i) {
          const Index x = cells[i].low;
          any |= most[x] >= limit_[x];
        }
        candidates_[found] = k;
        found += any;
      }
      while (cells[first].end <= begin) ++first;
      along_columns(found, first, begin, end);
      for (Index y = rows.begin; y < rows.end; ++y) {
        const T* const values = rows_ == 2 ? along_rows(found, all_.y_.weight[y]) : by_column_;
        for (Index z = layer_.begin; z < layer_.end; ++z)
          along_planes(found, values, all_.z_.weight[z], output(z, y, begin), end - begin);
      }
    }

    // How the columns of a block are made, a register at a time: from `origin` on.
    struct Columns {
      Index origin;
      bool near_by = true;  // all inputs of the register lie in one register of inputs
      Labels low{}, high{};
      Values near, far{};
    };

    [[gnu::noinline]] void along_columns(Index found, std::size_t cell, Index begin, Index end) {
      const std::vector<Cell>& cells = all_.x_.cells;
      Columns columns[block / lanes];
      used_ = 0;
      for (Index x = begin; x < end; used_ += lanes) {
        Columns& c = columns[used_ / lanes];
        c.origin = cells[cell].low;
        for (int lane = 0; lane < lanes && x < end; ++lane, ++x) {
          while (cells[cell].end <= x) ++cell;
          c.low[lane] = static_cast<I>(cells[cell].low - c.origin);
          c.high[lane] = static_cast<I>(all_.x_.high(cells[cell].low) - c.origin);
          c.far[lane] = all_.x_.weight[x];
          c.near_by &= c.high[lane] < lanes;
        }
        c.near = 1 - c.far;
        if (x < end && cells[cell].end <= x) ++cell;
      }
      T* to = by_column_;
      for (Index i = 0; i < found; ++i)
        for (Index p = 0; p < planes_; ++p)
          for (Index r = 0; r < rows_; ++r, to += block) {
            const T* const from = row(candidates_[i], p, r);
            for (Index x = 0; x < used_; x += lanes) {
              const Columns& c = columns[x / lanes];
              Values a, b;
              if (c.near_by) {
                const Values both = vector(from + c.origin);
                a = __builtin_shuffle(both, c.low);
                b = __builtin_shuffle(both, c.high);
              } else {
                for (int lane = 0; lane < lanes; ++lane) {
                  a[lane] = from[c.origin + c.low[lane]];
                  b[lane] = from[c.origin + c.high[lane]];
                }
              }
              store(c.near * a + c.far * b, to + x);
            }
          }
    }

    [[gnu::noinline]] const T* along_rows(Index found, T far) {
      const T near = 1 - far;
      for (Index i = 0; i < found * planes_; ++i) {
        const T *const a = by_column_ + 2 * i * block, *const b = a + block;
        T* const to = by_row_ + i * block;
        for (Index x = 0; x < used_; x += lanes)
          store(near * vector(a + x) + far * vector(b + x), to + x);
      }
      return by_row_;
    }

    [[gnu::noinline]] void along_planes(Index found, const T* values, T far, void* to,
                                        Index n) const {
      const T near = 1 - far;
      I labels[block];
      for (Index x = 0; x < used_; x += lanes) {
        Labels label{};
        Values best = Values{} - std::numeric_limits<T>::infinity();
        if constexpr (by_threshold) best = Values{} + all_.threshold_;
        for (Index c = 0; c < found; ++c) {
          const T* const a = values + c * planes_ * block + x;
          const Values v = planes_ == 2 ? near * vector(a) + far * vector(a + block) : vector(a);
          const Labels better = v > best;
          const Labels candidate = Labels{} + static_cast<I>(candidates_[c] + by_threshold);
          label = better ? candidate : label;
          if constexpr (!by_threshold) best = better ? v : best;
        }
        std::memcpy(labels + x, &label, sizeof label);
      }
      visit_bits(all_.labels_.dtype, [&]<class L>(Type<L>) {
        L* const out = static_cast<L*>(to);
        for (Index x = 0; x < n; ++x) out[x] = static_cast<L>(labels[x]);
      });
    }

    static Values vector(const T* from) {
      Values v;
      std::memcpy(&v, from, sizeof v);
      return v;
    }
    static void store(Values v, T* to) { std::memcpy(to, &v, sizeof v); }

    const Resampler& all_;
    Index batch_;
    Cell layer_;
    Index classes_, width_, planes_, rows_, pitch_, used_ = 0;
    std::unique_ptr<T[]> memory_;
    std::unique_ptr<I[]> counts_;
    std::unique_ptr<Index[]> candidates_;
    Index loaded_[2] = {-1, -1};
    T* source_[2] = {};
    T *most_, *by_column_, *by_row_, *lower_, *upper_, *least_, *limit_;
    I *count_, *winner_;
  };

  const Array& logits_;
  std::array<Index, 5> shape_, strides_;
  Axis<T> z_, y_, x_;
  T threshold_;
  const MutableArray& labels_;
  Index label_bytes_;
};

}  // namespace

void resample_argmax(const Array& logits, const std::array<Index, 5>& shape,
                     const std::array<Index, 5>& strides, const std::array<ResampledAxis, 3>& axes,
                     bool align_corners, std::optional<double> threshold,
                     const MutableArray& labels) {
  if (labels.size() == 0) return;
  const auto run = [&]<class T, bool by_threshold>() {
    Resampler<T, by_threshold>(logits, shape, strides, axes, align_corners, threshold.value_or(0),
                               labels)
        .run();
  };
  if (logits.dtype == DType::float64)
    threshold ? run.template operator()<double, true>() : run.template operator()<double, false>();
  else
    threshold ? run.template operator()<float, true>() : run.template operator()<float, false>();
}

}  // namespace msf
