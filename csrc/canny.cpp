// Canny's edge detector on 2D images, bit for bit as scikit-image computes it, in one sweep.
//
// A tile is as wide as a few words of bits and swept down: rows of the image are converted to
// float64 in a ring, from which two rows at a time are smoothed along the columns, then along the
// rows; three smoothed rows give a row of Sobel differences and magnitudes, three rows of these the
// weak and strong maxima of the one in the middle, as bits. Everything in between stays in the
// caches; hysteresis follows on the bits (edge_bits.cpp).
//
// J. Canny, "A computational approach to edge detection", IEEE Trans. Pattern Anal. Mach. Intell. 8
// (1986) 679-698. Sums are taken in SciPy's order; for float32 images they are float64 and rounded
// after each pass, as there. Infinities are taken for NaN once smoothed: the peer gets NaN next to
// them, and no edge near them, by multiplying with the zero in the middle of its Sobel kernel.
#include "kernels/canny.hpp"

#include <bit>

#include "canny_rows.hpp"
#include "edge_bits.hpp"
#include "scratch_pool.hpp"
#include "stencil.hpp"

namespace msf {
namespace {

using namespace canny_rows;
using stencil::Source;

constexpr Index tile_columns = 512, tile_rows = 128;
constexpr Index margin = 8;  // elements before and after a tile's rows of smoothed values

template <class T>
class Plan final : public CannyPlan {
 public:
  Plan(Index rows, Index columns, const CannySmoothing& smoothing)
      : rows_(rows),
        columns_(columns),
        s_(smoothing),
        per_step_{static_cast<T>(s_.per_step[0]), static_cast<T>(s_.per_step[1])},
        down_(static_cast<Index>(s_.down.size()) - 1),
        across_(static_cast<Index>(s_.across.size()) - 1),
        at_row_(local::extended_axis(rows, down_, s_.border)),
        at_column_(local::extended_axis(columns, across_, s_.border)),
        bits_(rows, columns),
        pool_(Scratch(*this, nullptr).size, num_threads()) {
    if (s_.border == BorderMode::constant && rows > 0 && columns > 0) weigh_border();
  }

  void edges(const Array& image, const Array* mask, double low, double high,
             const MutableArray& out) override {
    if (rows_ < 3 || columns_ < 3) {
      std::fill_n(out.as<std::uint8_t>(), rows_ * columns_, std::uint8_t{0});
      return;
    }
    Call call{Source<double>(image, s_.scale), is_float(image.dtype), mask, nullptr, {}, {}};
    call.low = at_least<T>(low);
    call.high = at_least<T>(high);
    if (call.low <= 0) call.low = std::numeric_limits<T>::denorm_min();
    run(call);
    bits_.link(out.as<std::uint8_t>());
  }

  void magnitude(const Array& image, const Array* mask, const MutableArray& out) override {
    run({Source<double>(image, s_.scale), is_float(image.dtype), mask, out.as<T>(), {}, {}});
  }

 private:
  struct Call {
    Source<double> source;
    bool may_be_infinite;
    const Array* mask;
    T* magnitude;  // to be written instead of bits; or null
    T low, high;
  };

  static bool is_float(DType dtype) {
    return visit(dtype, []<class S>(Type<S>) { return msf::is_float<S>; });
  }

  // Rows of a task. Without memory: just how many bytes they take.
  struct Scratch {
    std::byte* next;
    Index size = 0;
    Index ring_pitch, row_pitch;
    double *image, *weight, *raw[2], *raw_weight[2], *extended, *outside, *outside_weight;
    T *s[4], *rows[2], *columns[2], *m[3], *bleed;
    const double** near;

    template <class U>
    void take(U*& row, Index n) {
      const Index bytes = (n * static_cast<Index>(sizeof(U)) + 63) / 64 * 64;
      row = reinterpret_cast<U*>(next);
      if (next) next += bytes;
      size += bytes;
    }

    Scratch(const Plan& plan, std::byte* memory) : next(memory) {
      const Index tile = std::min(tile_columns, plan.columns_);
      Index widest = tile + 2 * plan.across_ + 4;
      if (plan.s_.border == BorderMode::wrap || widest > plan.columns_)
        widest = std::max(widest, plan.columns_);
      ring_pitch = (widest + 31) / 16 * 16;
      row_pitch = (tile + 2 * margin + 31) / 16 * 16;
      const Index live = 2 * plan.down_ + 2;
      take(image, live * ring_pitch);
      take(weight, live * ring_pitch);
      take(near, live);
      for (auto** row :
           {&raw[0], &raw[1], &raw_weight[0], &raw_weight[1], &extended, &outside, &outside_weight})
        take(*row, ring_pitch + 2 * plan.across_ + 16);
      for (auto** row : {&s[0], &s[1], &s[2], &s[3], &rows[0], &rows[1], &columns[0], &columns[1],
                         &m[0], &m[1], &m[2], &bleed})
        take(*row, row_pitch);
    }
  };

  void run(const Call& call) {
    const Index high = (rows_ + tile_rows - 1) / tile_rows;
    const Index wide = (columns_ + tile_columns - 1) / tile_columns;
    parallel_tasks(high * wide, [&](Index i) {
      const ScratchPool::Lease lease(pool_);
      const Index y = i / wide * tile_rows, x = i % wide * tile_columns;
      Tile(*this, call, lease.memory(), y, std::min(rows_, y + tile_rows), x,
           std::min(columns_, x + tile_columns))
          .sweep();
    });
  }

  // The part of the Gaussian's weight that lies inside the image, for each kind of row and column;
  // with cval, as the peer has it, in place of 0 outside.
  void weigh_border() {
    const auto kinds = [](Index n, Index radius) { return std::min(n, 2 * radius + 1); };
    const Index kinds_down = kinds(rows_, down_), kinds_across = kinds(columns_, across_);
    const auto sum = [&](const std::vector<double>& half, auto&& value) {
      double total = value(0) * half[0];
      for (Index t = static_cast<Index>(half.size()) - 1; t > 0; --t)
        total += (value(-t) + value(t)) * half[t];
      return static_cast<T>(total);
    };
    for (Index r = 0; r < kinds_down; ++r) {
      const Index y = representative(r, rows_, down_);
      const double row =
          sum(s_.down, [&](Index t) { return y + t < 0 || y + t >= rows_ ? s_.cval : 1.0; });
      for (Index c = 0; c < kinds_across; ++c) {
        const Index x = representative(c, columns_, across_);
        const T weight =
            sum(s_.across, [&](Index t) { return x + t < 0 || x + t >= columns_ ? s_.cval : row; });
        weights_.push_back(weight + std::numeric_limits<T>::epsilon());
      }
    }
  }
  // Of the kinds of an axis: before the border is out of reach, there, and after that.
  static Index kind(Index at, Index n, Index radius) {
    if (n <= 2 * radius + 1 || at < radius) return at;
    return at < n - radius ? radius : at - (n - 2 * radius - 1);
  }
  static Index representative(Index kind, Index n, Index radius) {
    return n <= 2 * radius + 1 || kind <= radius ? kind : kind + (n - 2 * radius - 1);
  }

  class Tile {
   public:
    Tile(Plan& plan, const Call& call, std::byte* memory, Index y0, Index y1, Index x0, Index x1)
        : p_(plan),
          call_(call),
          a_(plan, memory),
          y0_(y0),
          y1_(y1),
          x0_(x0),
          x1_(x1),
          from_(std::max<Index>(0, x0 - 2)),
          to_(std::min(plan.columns_, x1 + 2)),
          low_(plan.columns_),
          infinite_(!std::isfinite(plan.s_.cval)) {
      for (Index e = from_; e < to_ + 2 * p_.across_; ++e)
        if (const Index at = p_.at_column_[e]; at >= 0) {
          low_ = std::min(low_, at);
          high_ = std::max(high_, at + 1);
        }
      // A Gaussian of an image of fewer columns than its radius reaches them over and over.
      std::fill_n(a_.outside, high_ - low_ + Pack<double>::size, p_.s_.cval);
    }

    void sweep() {
      const Index first = std::max<Index>(0, y0_ - 1), last = std::min(p_.rows_, y1_ + 1);
      smoothed_ = std::max<Index>(0, first - 1);
      loaded_ = smoothed_;
      for (Index y = first; y < last; ++y) {
        if (y % 16 == 0) poll();
        while (smoothed_ <= std::min(p_.rows_ - 1, y + 1)) smooth_two();
        differentiate(y);
        if (call_.magnitude) {
          if (y >= y0_ && y < y1_)
            std::copy_n(a_.m[y % 3] + margin, x1_ - x0_, call_.magnitude + y * p_.columns_ + x0_);
        } else if (y > y0_) {
          suppress(y - 1);
        }
      }
      if (call_.magnitude) return;
      if (y0_ == 0) clear(0);
      if (y1_ == p_.rows_) clear(y1_ - 1);
    }

   private:
    Index first_word() const { return x0_ / word_bits; }
    Index words() const { return words_for(x1_ - x0_); }
    void clear(Index y) {
      std::fill_n(p_.bits_.weak(y) + first_word(), words(), Word{0});
      std::fill_n(p_.bits_.strong(y) + first_word(), words(), Word{0});
    }
    Index live() const { return 2 * p_.down_ + 2; }

    // The next extended row of the image, and of the mask, to their rings.
    void load() {
      const Index slot = loaded_ % live(), n = high_ - low_;
      const Index at = loaded_ < static_cast<Index>(p_.at_row_.size()) ? p_.at_row_[loaded_] : -1;
      ++loaded_;
      double* const row = a_.image + slot * a_.ring_pitch;
      double* const weight = a_.weight + slot * a_.ring_pitch;
      if (at < 0) {
        std::copy_n(a_.outside, n, row);
        if (call_.mask) std::copy_n(a_.outside, n, weight);
        return;
      }
      const Index start = at * p_.columns_ + low_;
      call_.source.load(start, n, row);
      if (call_.mask) {
        const std::uint8_t* const inside = call_.mask->template as<std::uint8_t>() + start;
        for (Index j = 0; j < n; ++j) weight[j] = inside[j] != 0;
        for (Index j = 0; j < n; ++j) row[j] = inside[j] ? row[j] : 0;
      }
      if (call_.may_be_infinite && !infinite_) infinite_ = has_infinity(row, n);
    }

    void smooth_two() {
      while (loaded_ < smoothed_ + live()) load();
      smooth_down(a_.image, a_.raw);
      if (call_.mask) smooth_down(a_.weight, a_.raw_weight);
      for (const Index i : {0, 1})
        if (smoothed_ + i < p_.rows_) smooth_across(smoothed_ + i, i);
      smoothed_ += 2;
    }

    void smooth_down(const double* ring, double* const* raw) {
      for (Index i = 0; i < live(); ++i)
        a_.near[i] = ring + (smoothed_ + i) % live() * a_.ring_pitch;
      smooth_columns<T>(a_.near, p_.s_.down, high_ - low_, raw[0], raw[1]);
    }

    void smooth_across(Index y, Index i) {
      T* const row = a_.s[y % 4] + margin - x0_;  // by column of the image
      filter_across(a_.raw[i], row);
      if (call_.mask) {
        T* const bleed = a_.bleed + margin - x0_;
        filter_across(a_.raw_weight[i], bleed);
        for (Index x = from_; x < to_; ++x) row[x] /= bleed[x] + std::numeric_limits<T>::epsilon();
      } else if (!p_.weights_.empty()) {
        divide_by_weights(y, row);
      }
      if (infinite_)
        for (Index x = from_; x < to_; ++x) row[x] += 0 * row[x];
      if (from_ == 0) row[-1] = row[0];  // Sobel's border: reflect
      if (to_ == p_.columns_) row[to_] = row[to_ - 1];
    }

    void divide_by_weights(Index y, T* row) {
      const Index n = p_.columns_, r = p_.across_;
      const T* const weight =
          p_.weights_.data() + kind(y, p_.rows_, p_.down_) * std::min(n, 2 * r + 1);
      const Index left = std::clamp(n <= 2 * r + 1 ? n : r, from_, to_);
      const Index right = std::clamp(n - r, left, to_);
      for (Index x = from_; x < left; ++x) row[x] /= weight[kind(x, n, r)];
      if (right > left) divide(row + left, right - left, weight[r]);
      for (Index x = right; x < to_; ++x) row[x] /= weight[kind(x, n, r)];
    }

    // The columns [from, to) of a row, smoothed along it.
    void filter_across(const double* raw, T* row) {
      const Index r = p_.across_, n = to_ - from_;
      const double* centre = raw + from_ - low_;
      if (from_ < r || to_ + r > p_.columns_) {
        const Index begin = std::clamp<Index>(r - from_, 0, n + 2 * r);
        const Index end = std::clamp<Index>(r + p_.columns_ - from_, begin, n + 2 * r);
        const auto border = [&](Index e) {
          const Index at = p_.at_column_[from_ + e];
          a_.extended[e] = at < 0 ? p_.s_.cval : raw[at - low_];
        };
        for (Index e = 0; e < begin; ++e) border(e);
        std::copy_n(raw + from_ + begin - r - low_, end - begin, a_.extended + begin);
        for (Index e = end; e < n + 2 * r; ++e) border(e);
        centre = a_.extended + r;
      }
      smooth_row(centre, p_.s_.across, n, row + from_);
    }

    // Sobel differences and magnitudes of row y for the columns [x0 - 1, x1 + 1) in the image.
    void differentiate(Index y) {
      const auto smooth = [&](Index at) {
        return a_.s[std::clamp<Index>(at, 0, p_.rows_ - 1) % 4] + margin;
      };
      const Index begin = x0_ > 0 ? -1 : 0, end = x1_ - x0_ + (x1_ < p_.columns_);
      const Index skip = margin + begin;
      gradient(smooth(y - 1) + begin, smooth(y) + begin, smooth(y + 1) + begin, end - begin,
               p_.per_step_, a_.rows[y % 2] + skip, a_.columns[y % 2] + skip, a_.m[y % 3] + skip);
    }

    void suppress(Index y) {
      if (y == 0 || y == p_.rows_ - 1) return;
      const auto magnitude = [&](Index at) { return a_.m[at % 3] + margin; };
      const T* const m = magnitude(y);
      const Suppression<T> pixels{magnitude(y - 1),
                                  m,
                                  magnitude(y + 1),
                                  a_.rows[y % 2] + margin,
                                  a_.columns[y % 2] + margin,
                                  p_.per_step_[0],
                                  p_.per_step_[1]};
      const Index end = std::min(x1_, p_.columns_ - 1) - x0_;
      const T low = call_.low, high = call_.high;
      Word* const weak = p_.bits_.weak(y) + first_word();
      Word* const strong = p_.bits_.strong(y) + first_word();
      for (Index w = 0; w < words(); ++w) {
        const Index begin = w * word_bits, count = std::min(word_bits, end - begin);
        Word candidates =
            count > 0 ? pack_word([=](Index j) { return m[j] >= low; }, begin, count) : 0;
        if (begin + x0_ == 0) candidates &= ~Word{1};  // the first column
        if (call_.mask && candidates) candidates &= inside(y, x0_ + begin, count);
        Word maxima = 0;
        constexpr Index lanes = Suppression<T>::lanes;
        constexpr Word lane_mask = (Word{1} << lanes) - 1;
        for (Word left = candidates; left;) {
          const Index at = std::countr_zero(left) / lanes * lanes;
          maxima |= Word{pixels.maxima(begin + at)} << at;
          left &= ~(lane_mask << at);
        }
        weak[w] = maxima & candidates;
        strong[w] =
            weak[w] ? weak[w] & pack_word([=](Index j) { return m[j] >= high; }, begin, count) : 0;
      }
    }

    // Whether the 3 x 3 pixels around each of `count` are inside the mask.
    Word inside(Index y, Index x, Index count) {
      Word bits = 0;
      const std::uint8_t* const mask = call_.mask->template as<std::uint8_t>();
      for (Index j = 0; j < count; ++j) {
        if (x + j < 1 || x + j + 1 >= p_.columns_) continue;
        bool all = true;
        for (Index dy = -1; dy <= 1; ++dy)
          for (Index dx = -1; dx <= 1; ++dx) all &= mask[(y + dy) * p_.columns_ + x + j + dx] != 0;
        bits |= Word{all} << j;
      }
      return bits;
    }

    Plan& p_;
    const Call& call_;
    Scratch a_;
    const Index y0_, y1_, x0_, x1_;    // pixels of the tile
    const Index from_, to_;            // columns whose smoothed values are needed
    Index low_, high_ = 0;             // columns of the image that these read
    Index loaded_ = 0, smoothed_ = 0;  // next row of the ring and of the smoothed ones
    bool infinite_;                    // there may be infinities or NaN
  };

  const Index rows_, columns_;
  const CannySmoothing s_;
  const T per_step_[2];
  const Index down_, across_;  // radii
  const std::vector<Index> at_row_, at_column_;
  std::vector<T> weights_;
  EdgeBits bits_;
  ScratchPool pool_;
};

}  // namespace

std::unique_ptr<CannyPlan> canny_plan(Index rows, Index columns, bool float32,
                                      const CannySmoothing& smoothing) {
  if (float32) return std::make_unique<Plan<float>>(rows, columns, smoothing);
  return std::make_unique<Plan<double>>(rows, columns, smoothing);
}

}  // namespace msf
