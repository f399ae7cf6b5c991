// Morphological active contours without edges (Marquez-Neila, Baumela and Alvarez 2014): beside the
// contour a pixel goes to the side whose mean is nearer, weighted; then a smoother.
//
// The level set is bits, so that smoothing and the search for the contour take a fraction of a
// millisecond for millions of voxels, and only pixels beside the contour are read from the image.
// Means are scikit-image's to the last bit: sums of integers are exact, sums of floats are NumPy's
// pairwise sums of the image times the mask, of which only the leaves that the contour touched are
// added again (pairwise_sum.hpp). Extra memory: 4 / 8 bytes per pixel and 16 bytes per 100 pixels.
#include <atomic>

#include "pairwise_sum.hpp"
#include "snake_state.hpp"

namespace msf {
namespace {

struct Sums {
  double inside, outside;
};

// Integers of at most 63 bits, whose sums are exact (or wrap as NumPy's do).
template <class T>
class IntegerSums {
 public:
  IntegerSums(const T* image, const SnakeState& state) : image_(image) {
    const std::uint8_t* const bytes = state.bytes();
    parallel_for(state.shape().pixels(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      std::uint64_t inside = 0, outside = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        const auto value = static_cast<std::uint64_t>(image[i]);
        inside += bytes[i] ? value : 0;
        outside += bytes[i] ? 0 : value;
      }
      inside_ += inside;
      outside_ += outside;
    });
  }

  void changed(std::int64_t at, Word bits, Word now) {
    std::uint64_t moved = 0;
    each_bit(bits, [&](int k) {
      const auto value = static_cast<std::uint64_t>(image_[at + k]);
      moved += now >> k & 1 ? value : -value;
    });
    inside_ += moved;
    outside_ -= moved;
  }
  Sums total(const std::uint8_t*) {
    return {static_cast<double>(static_cast<std::int64_t>(inside_.load())),
            static_cast<double>(static_cast<std::int64_t>(outside_.load()))};
  }

 private:
  const T* image_;
  std::atomic<std::uint64_t> inside_{0}, outside_{0};
};

template <class T, class Real>
class FloatSums {
 public:
  FloatSums(const T* image, const SnakeState& state)
      : image_(image),
        tree_(state.shape().pixels()),
        stale_(tree_.leaves(), 1),
        inside_(tree_.leaves()),
        outside_(tree_.leaves()) {}

  void changed(std::int64_t at, Word bits, Word) {
    const std::int64_t first = tree_.leaf_of(at + std::countr_zero(bits));
    const std::int64_t last = tree_.leaf_of(at + word_bits - 1 - std::countl_zero(bits));
    for (std::int64_t leaf = first; leaf <= last; ++leaf)
      std::atomic_ref(stale_[leaf]).store(1, std::memory_order_relaxed);
  }
  Sums total(const std::uint8_t* bytes) {
    parallel_for(tree_.leaves(), 512, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t leaf = begin; leaf < end; ++leaf) {
        if (!stale_[leaf]) continue;
        stale_[leaf] = 0;
        const std::int64_t start = tree_.start(leaf), n = tree_.start(leaf + 1) - start;
        const T* const v = image_ + start;
        const std::uint8_t* const u = bytes + start;
        inside_[leaf] =
            sum_leaf_of<Real>(n, [=](std::int64_t i) { return u[i] ? Real(v[i]) : Real(0); });
        outside_[leaf] =
            sum_leaf_of<Real>(n, [=](std::int64_t i) { return u[i] ? Real(0) : Real(v[i]); });
      }
    });
    return {tree_.total(inside_), tree_.total(outside_)};
  }

 private:
  const T* image_;
  PairwiseTree tree_;
  std::vector<std::uint8_t> stale_;
  std::vector<Real> inside_, outside_;
};

// T: pixels. Real: what they are compared in.
template <class T>
class ChanVeseSnake final : public MorphologicalSnake {
  using Real = std::conditional_t<std::is_same_v<T, float>, float, double>;
  static constexpr bool exact = std::is_integral_v<T> && !std::is_same_v<T, std::uint64_t>;
  using SumsOf = std::conditional_t<exact, IntegerSums<T>, FloatSums<T, Real>>;

 public:
  ChanVeseSnake(const Array& image, const MutableArray& level_set, int smoothing, double lambda1,
                double lambda2)
      : image_(image.as<T>()),
        lambda1_(static_cast<Real>(lambda1)),
        lambda2_(static_cast<Real>(lambda2)),
        state_(level_set, smoothing),
        sums_(image_, state_) {
    const std::uint8_t* const bytes = state_.bytes();
    parallel_for(state_.shape().pixels(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t n = 0;
      for (std::int64_t i = begin; i < end; ++i) n += bytes[i];
      count_ += n;
    });
  }

  void iterate(std::int64_t iterations) override {
    for (; iterations > 0; --iterations) {
      poll();
      attach();
      state_.smooth();
      state_.show([&](std::int64_t at, Word bits) {
        Word now = 0;
        each_bit(bits, [&](int k) { now |= static_cast<Word>(state_.bytes()[at + k]) << k; });
        count_ += std::popcount(now) - std::popcount(bits ^ now);
        sums_.changed(at, bits, now);
      });
    }
  }

 private:
  void attach() {
    const BitShape& shape = state_.shape();
    const auto inside = static_cast<double>(count_.load());
    const double outside = static_cast<double>(shape.pixels()) - inside;
    const Sums sums = sums_.total(state_.bytes());
    const Real c1 = static_cast<Real>(sums.inside) / static_cast<Real>(inside + 1e-8);
    const Real c0 = static_cast<Real>(sums.outside) / static_cast<Real>(outside + 1e-8);
    shape.each_piece([&](std::int64_t z, std::int64_t first, std::int64_t last) {
      for (std::int64_t y = first; y < last; ++y) {
        Word* const to = state_.next.row(z, y);
        std::copy_n(state_.now.row(z, y), shape.words, to);
        const T* const row = image_ + shape.pixel(z, y);
        state_.each_edge_word(z, y, [&](std::int64_t w, Word edge) {
          Word in = 0, out = 0;
          each_bit(edge, [&](int k) {
            const Real value = static_cast<Real>(row[w * word_bits + k]);
            const Real from1 = value - c1, from0 = value - c0;
            const Real force = lambda1_ * (from1 * from1) - lambda2_ * (from0 * from0);
            in |= static_cast<Word>(force < 0) << k;
            out |= static_cast<Word>(force > 0) << k;
          });
          to[w] = (to[w] | in) & ~out;
        });
      }
    });
    state_.now.swap(state_.next);
  }

  const T* image_;
  Real lambda1_, lambda2_;
  SnakeState state_;
  SumsOf sums_;
  std::atomic<std::int64_t> count_{0};
};

}  // namespace

std::unique_ptr<MorphologicalSnake> chan_vese_snake(const Array& image,
                                                    const MutableArray& level_set, int smoothing,
                                                    double lambda1, double lambda2) {
  return visit(image.dtype, [&]<class T>(Type<T>) -> std::unique_ptr<MorphologicalSnake> {
    if constexpr (std::is_same_v<T, float16>)
      throw std::invalid_argument("chan_vese_snake: float16");
    else
      return std::make_unique<ChanVeseSnake<T>>(image, level_set, smoothing, lambda1, lambda2);
  });
}

}  // namespace msf
