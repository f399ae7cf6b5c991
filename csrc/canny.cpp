// Canny's edge detector on 2D images, bit for bit as scikit-image computes it, in one sweep.
//
// A tile is as wide as a few words of bits and swept down (canny_sweep.hpp): three rows of
// magnitudes give the weak and strong maxima of the one in the middle, as bits. Everything in
// between stays in the caches; hysteresis follows on the bits (edge_bits.cpp).
//
// A tile is swept in float32 first, and only pixels whose decision hangs on a rounding are computed
// as the peer does (canny_quick.hpp), each by a sweep of its own; or the whole tile, if there are
// many of them, as in drawn images, whose edges are symmetric.
//
// J. Canny, "A computational approach to edge detection", IEEE Trans. Pattern Anal. Mach. Intell. 8
// (1986) 679-698. Sums are taken in SciPy's order; for float32 images they are float64 and rounded
// after each pass, as there. Infinities are taken for NaN once smoothed: the peer gets NaN next to
// them, and no edge near them, by multiplying with the zero in the middle of its Sobel kernel.
#include "kernels/canny.hpp"

#include <bit>
#include <optional>

#include "canny_quick.hpp"
#include "canny_sweep.hpp"
#include "edge_bits.hpp"
#include "scratch_pool.hpp"

namespace msf {
namespace {

using namespace canny;
using canny_rows::at_least;
using canny_rows::Suppression;

constexpr Index tile_columns = 512, tile_rows = 128;
constexpr Index most_doubts = 256;  // of a tile; to decide one takes as long as to sweep 150 pixels

template <class T>
class Plan final : public CannyPlan {
 public:
  Plan(Index rows, Index columns, const CannySmoothing& smoothing)
      : frame_(rows, columns, smoothing),
        weights_(frame_),
        quick_weights_(frame_, weights_),
        bits_(rows, columns),
        pool_(std::max(typename Exact::Scratch(frame_, tile_columns, nullptr).size,
                       Quick::Scratch(frame_, tile_columns, nullptr).size),
              num_threads()) {
    // The error of what float32 smooths, see canny_quick.hpp: subtraction of the constant, both
    // sums, division by the weights (2, and 4 where they are taken for 1), the peer's roundings.
    const Halves<double>& half = frame_.template halves<double>();
    smoothing_error_ = 10 + smoothing_error(half.down) + smoothing_error(half.across);
    for (const T weight : weights_.all())
      border_gain_ = std::max(border_gain_, 1 / static_cast<double>(weight));
    const bool usual = smoothing.border != BorderMode::constant || smoothing.cval == 0;
    quick_ = usual && smoothing.per_step[0] == 1 && smoothing.per_step[1] == 1 &&
             std::isfinite(smoothing.cval);
  }

  void edges(const Array& image, const Array* mask, double low, double high,
             const MutableArray& out) override {
    if (frame_.rows < 3 || frame_.columns < 3) {
      std::fill_n(out.as<std::uint8_t>(), frame_.rows * frame_.columns, std::uint8_t{0});
      return;
    }
    Call call(image, frame_.smoothing.scale, mask);
    call.low = at_least<T>(low);
    call.high = at_least<T>(high);
    if (call.low <= 0) call.low = std::numeric_limits<T>::denorm_min();
    for_tiles([&](std::byte* memory, const Rectangle& tile) {
      if (!(quick_ && !mask && QuickTile(*this, call, memory, tile).sweep()))
        ExactTile(*this, call, memory, tile).sweep();
      for (const Index edge : {Index{0}, frame_.rows - 1})
        if (edge >= tile.y0 && edge < tile.y1) clear(edge, tile);
    });
    bits_.link(out.as<std::uint8_t>());
  }

  void magnitude(const Array& image, const Array* mask, const MutableArray& out) override {
    const Call call(image, frame_.smoothing.scale, mask);
    for_tiles([&](std::byte* memory, const Rectangle& tile) {
      ExactTile(*this, call, memory, tile).magnitude(out.as<T>());
    });
  }

 private:
  using Exact = Sweep<double, T>;
  using Quick = Sweep<float, float>;

  struct Call {
    Call(const Array& image, double scale, const Array* mask)
        : image(image), exact(image, scale), quick(image, 1), mask(mask) {
      visit(image.dtype, [&]<class S>(Type<S>) {
        may_be_infinite = is_float<S>;
        is_signed = std::is_integral_v<S> && std::is_signed_v<S>;
        fits_float32 = sizeof(S) <= 2 || std::is_same_v<S, float>;
      });
    }
    const Array& image;
    const Source<double> exact;
    const Source<float> quick;
    const Array* mask;
    bool may_be_infinite, is_signed, fits_float32;
    T low, high;
  };

  template <class F>
  void for_tiles(F&& body) {
    const Index high = (frame_.rows + tile_rows - 1) / tile_rows;
    const Index wide = (frame_.columns + tile_columns - 1) / tile_columns;
    parallel_tasks(high * wide, [&](Index i) {
      const ScratchPool::Lease lease(pool_);
      const Index y = i / wide * tile_rows, x = i % wide * tile_columns;
      body(lease.memory(), {y, std::min(frame_.rows, y + tile_rows), x,
                            std::min(frame_.columns, x + tile_columns)});
    });
  }

  // A tile's words of a row.
  static Index words(const Rectangle& tile) { return words_for(tile.x1 - tile.x0); }
  Word* weak(Index y, const Rectangle& tile) { return bits_.weak(y) + tile.x0 / word_bits; }
  Word* strong(Index y, const Rectangle& tile) { return bits_.strong(y) + tile.x0 / word_bits; }
  void clear(Index y, const Rectangle& tile) {
    std::fill_n(weak(y, tile), words(tile), Word{0});
    std::fill_n(strong(y, tile), words(tile), Word{0});
  }

  // after(y) for each row that has neighbours on both sides, when their magnitudes are there, as
  // long as it returns true.
  template <class Rows, class F>
  void sweep(Rows& rows, const Rectangle& tile, F&& after) {
    const Index last = std::min(frame_.rows, tile.y1 + 1);
    for (Index y = std::max<Index>(0, tile.y0 - 1); y < last; ++y) {
      if (y % 16 == 0) poll();
      rows.differentiate(y);
      if (y > tile.y0 && y >= 2 && !after(y - 1)) return;
    }
  }

  // As the peer computes.
  class ExactTile {
   public:
    ExactTile(Plan& plan, const Call& call, std::byte* memory, const Rectangle& tile)
        : p_(plan),
          call_(call),
          tile_(tile),
          rows_(plan.frame_, plan.weights_, call.exact, call.may_be_infinite, call.mask, tile,
                typename Exact::Scratch(plan.frame_, tile.x1 - tile.x0, memory)) {}

    void sweep() {
      p_.sweep(rows_, tile_, [&](Index y) {
        suppress(y);
        return true;
      });
    }

    void magnitude(T* out) {
      const Index last = std::min(p_.frame_.rows, tile_.y1);
      for (Index y = tile_.y0; y < last; ++y) {
        if (y % 16 == 0) poll();
        rows_.differentiate(y);
        std::copy_n(rows_.magnitude(y), tile_.x1 - tile_.x0,
                    out + y * p_.frame_.columns + tile_.x0);
      }
    }

    // Of a tile of one pixel: is it a maximum, weak or even strong?
    std::pair<bool, bool> decide() {
      bool maximum = false;
      p_.sweep(rows_, tile_, [&](Index y) {
        maximum = suppression(y).maxima(0) & 1;
        return false;
      });
      const T m = *rows_.magnitude(tile_.y0);
      maximum &= m >= call_.low;
      return {maximum, maximum && m >= call_.high};
    }

   private:
    Suppression<T> suppression(Index y) const {
      const auto& per_step = p_.frame_.smoothing.per_step;
      return {rows_.magnitude(y - 1),     rows_.magnitude(y),     rows_.magnitude(y + 1),
              rows_.along_rows(y),        rows_.along_columns(y), static_cast<T>(per_step[0]),
              static_cast<T>(per_step[1])};
    }

    void suppress(Index y) {
      const T* const m = rows_.magnitude(y);
      const Suppression<T> pixels = suppression(y);
      const Index end = std::min(tile_.x1, p_.frame_.columns - 1) - tile_.x0;
      const T low = call_.low, high = call_.high;
      Word* const weak = p_.weak(y, tile_);
      Word* const strong = p_.strong(y, tile_);
      for (Index w = 0; w < words(tile_); ++w) {
        const Index begin = w * word_bits, count = std::min(word_bits, end - begin);
        Word candidates =
            count > 0 ? pack_word([=](Index j) { return m[j] >= low; }, begin, count) : 0;
        if (begin + tile_.x0 == 0) candidates &= ~Word{1};  // the first column
        if (call_.mask && candidates) candidates &= inside(y, tile_.x0 + begin, count);
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
        if (x + j < 1 || x + j + 1 >= p_.frame_.columns) continue;
        bool all = true;
        for (Index dy = -1; dy <= 1; ++dy)
          for (Index dx = -1; dx <= 1; ++dx)
            all &= mask[(y + dy) * p_.frame_.columns + x + j + dx] != 0;
        bits |= Word{all} << j;
      }
      return bits;
    }

    Plan& p_;
    const Call& call_;
    const Rectangle tile_;
    Exact rows_;
  };

  // In float32, and as the peer computes where that does not tell.
  class QuickTile {
   public:
    QuickTile(Plan& plan, const Call& call, std::byte* memory, const Rectangle& tile)
        : p_(plan),
          call_(call),
          memory_(memory),
          tile_(tile),
          rows_(plan.frame_, plan.quick_weights_, call.quick, call.may_be_infinite, nullptr, tile,
                Quick::Scratch(plan.frame_, tile.x1 - tile.x0, memory)) {
      const double scale = plan.frame_.smoothing.scale;
      low_ = call.low / scale, high_ = call.high / scale;
      offset_ = middle();
      const float least =
          call.is_signed ? static_cast<float>(-1 / scale) : -std::numeric_limits<float>::infinity();
      rows_.shift(offset_, least);
      if (call.image.dtype == DType::uint8)
        rows_.read_bytes(call.image.template as<std::uint8_t>());
    }

    // False: to be swept as the peer does, all of it. Else its bits are written.
    bool sweep() {
      p_.sweep(rows_, tile_, [&](Index y) {
        if (!bounds_ || rows_.extent() != extent_) measure();
        if (!given_up_) suppress(y);
        return !given_up_;
      });
      if (given_up_) return false;
      for (Index i = 0; i < doubts_; ++i)
        decide(doubtful_[i] / p_.frame_.columns, doubtful_[i] % p_.frame_.columns);
      return true;
    }

   private:
    // About the middle of the tile's values.
    float middle() const {
      float least = std::numeric_limits<float>::infinity(), most = -least;
      for (Index y = tile_.y0; y < tile_.y1; y += 16) {
        float values[8];
        for (Index x = tile_.x0; x < tile_.x1; x += 64) {
          const Index n = std::min<Index>(8, tile_.x1 - x);
          call_.quick.load(y * p_.frame_.columns + x, n, values);
          for (Index j = 0; j < n; ++j)
            least = std::min(least, values[j]), most = std::max(most, values[j]);
        }
      }
      const float middle = least / 2 + most / 2;
      return std::isfinite(middle) ? (call_.may_be_infinite ? middle : std::round(middle)) : 0;
    }

    void measure() {
      extent_ = rows_.extent();
      const double away = std::abs(double{offset_});
      const double extent = call_.fits_float32 ? extent_ : extent_ + away;
      // The peer rounds what the constant is not subtracted from; float64 does not count.
      const double rounded = std::is_same_v<T, float> ? 4 * away : 0;
      const double smooth = 0x1p-24 * (p_.smoothing_error_ * extent + rounded);
      bounds_.emplace(smooth, extent);
      // Next to the border the constant that was subtracted has not quite the weights' sum.
      border_bounds_.emplace(p_.border_gain_ * (smooth + 0x1p-22 * away), extent);
      given_up_ |=
          rows_.infinite() || !(extent < 1e18) || !(low_ > 100 * double{border_bounds_->magnitude});
    }

    void suppress(Index y) {
      const Frame& f = p_.frame_;
      const QuickSuppression pixels{rows_.magnitude(y - 1),   rows_.magnitude(y),
                                    rows_.magnitude(y + 1),   rows_.along_rows(y),
                                    rows_.along_columns(y),   static_cast<float>(low_),
                                    static_cast<float>(high_)};
      const Index end = std::min(tile_.x1, f.columns - 1) - tile_.x0;
      const bool border_row = y < f.down + 2 || y >= f.rows - f.down - 2;
      Word* const weak = p_.weak(y, tile_);
      Word* const strong = p_.strong(y, tile_);
      for (Index w = 0; w < words(tile_); ++w) {
        const Index begin = w * word_bits, count = std::min(word_bits, end - begin);
        const Index x = tile_.x0 + begin;
        const bool border =
            border_row || x < f.across + 2 || x + word_bits > f.columns - f.across - 2;
        const Bounds& bounds = border ? *border_bounds_ : *bounds_;
        const auto low = static_cast<float>(low_ - 1.01 * double{bounds.magnitude});
        Word candidates = count > 0 ? pixels.reaching(begin, low) & ~Word{0} >> (64 - count) : 0;
        if (x == 0) candidates &= ~Word{1};  // the first column
        Word maxima = 0, high = 0, doubtful = 0;
        constexpr Index lanes = QuickSuppression::lanes;
        constexpr Word lane_mask = (Word{1} << lanes) - 1;
        for (Word left = candidates; left;) {
          const Index at = std::countr_zero(left) / lanes * lanes;
          const auto decision = pixels.decide(begin + at, bounds);
          maxima |= Word{decision.maximum} << at;
          high |= Word{decision.strong} << at;
          doubtful |= Word{decision.doubtful} << at;
          left &= ~(lane_mask << at);
        }
        weak[w] = maxima & candidates;
        strong[w] = maxima & candidates & high;
        for (Word left = doubtful & candidates; left; left &= left - 1) {
          if (doubts_ == most_doubts) {
            given_up_ = true;
            return;
          }
          doubtful_[doubts_++] = y * f.columns + x + std::countr_zero(left);
        }
      }
    }

    void decide(Index y, Index x) {
      const auto [maximum, high] = ExactTile(p_, call_, memory_, {y, y + 1, x, x + 1}).decide();
      bits(p_.bits_.weak(y), x, maximum);
      bits(p_.bits_.strong(y), x, high);
    }
    static void bits(Word* row, Index x, bool value) {
      row[x / word_bits] |= Word{value} << x % word_bits;
    }

    Plan& p_;
    const Call& call_;
    std::byte* const memory_;
    const Rectangle tile_;
    Quick rows_;
    double low_, high_;
    float offset_, extent_ = 0;
    std::optional<Bounds> bounds_, border_bounds_;
    bool given_up_ = false;
    Index doubts_ = 0;
    std::array<Index, most_doubts> doubtful_;
  };

  const Frame frame_;
  const BorderWeights<T> weights_;
  const BorderWeights<float> quick_weights_;
  double smoothing_error_, border_gain_ = 1;
  bool quick_;
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
