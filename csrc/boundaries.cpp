// Boundaries of labelled regions by comparing each row with its neighbouring rows, which the
// compiler turns into vector operations: differences are xor-ed and or-ed over all neighbours in
// the labels' own width, with no image in between.
#include "kernels/boundaries.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>
#include <vector>

#include "parallel.hpp"

namespace msf {
namespace {

// The rows around a row: which, and how many coordinates they differ in.
class RowNeighbours {
 public:
  explicit RowNeighbours(const Array& labels) {
    for (int a = 0; a + 1 < labels.ndim; ++a) extent_.push_back(labels.shape[a]);
    add({}, 0);
    if (steps_.size() > most) throw std::invalid_argument("labels: too many neighbours");
  }

  std::int64_t rows() const {
    std::int64_t n = 1;
    for (const std::int64_t extent : extent_) n *= extent;
    return n;
  }

  // f(row, hops) for every row around `row`, itself not included, that is inside the image.
  template <class F>
  void each(std::int64_t row, F&& f) const {
    std::array<std::int64_t, max_dims> at{};
    for (std::size_t a = extent_.size(); a-- > 0; row /= extent_[a]) at[a] = row % extent_[a];
    for (const Step& step : steps_) {
      std::int64_t other = 0;
      bool inside = true;
      for (std::size_t a = 0; a < extent_.size(); ++a) {
        const std::int64_t c = at[a] + step.by[a];
        inside &= c >= 0 && c < extent_[a];
        other = other * extent_[a] + c;
      }
      if (inside) f(other, step.hops);
    }
  }

 private:
  struct Step {
    std::vector<int> by;
    int hops;
  };
  void add(std::vector<int> by, int hops) {
    if (steps_.size() > most) return;
    if (by.size() == extent_.size()) {
      if (hops > 0) steps_.push_back({by, hops});
      return;
    }
    for (int d = -1; d <= 1; ++d) {
      by.push_back(d);
      add(by, hops + (d != 0));
      by.pop_back();
    }
  }
  static constexpr std::size_t most = 1 << 16;
  std::vector<std::int64_t> extent_;
  std::vector<Step> steps_;
};

template <class U>
void differ(const U* __restrict a, const U* __restrict b, std::int64_t n, U* __restrict found) {
  for (std::int64_t i = 0; i < n; ++i) found[i] |= static_cast<U>(a[i] ^ b[i]);
}

// The same with each pixel's three neighbours in b and three in c.
template <class U>
void differ_beside(const U* __restrict a, const U* __restrict b, const U* __restrict c,
                   std::int64_t n, U* __restrict found) {
  const auto at = [&](std::int64_t i, std::int64_t k) {
    found[i] |= static_cast<U>((a[i] ^ b[k]) | (a[i] ^ c[k]));
  };
  for (std::int64_t k = 0; k < std::min<std::int64_t>(2, n); ++k) at(0, k);
  for (std::int64_t k = std::max<std::int64_t>(0, n - 2); k < n; ++k) at(n - 1, k);
  for (std::int64_t i = 1; i < n - 1; ++i)
    found[i] |= static_cast<U>((a[i] ^ b[i - 1]) | (a[i] ^ b[i]) | (a[i] ^ b[i + 1]) |
                               (a[i] ^ c[i - 1]) | (a[i] ^ c[i]) | (a[i] ^ c[i + 1]));
}

// For outer boundaries: a neighbour of another object, or the background.
template <class U>
void differ_outside(const U* __restrict a, const U* __restrict b, std::int64_t n, U background,
                    U* __restrict object, U* __restrict outside) {
  for (std::int64_t i = 0; i < n; ++i) {
    const U is_background = b[i] == background ? static_cast<U>(~U{0}) : U{0};
    object[i] |= static_cast<U>((a[i] ^ b[i]) & ~is_background);
    outside[i] |= is_background;
  }
}

// f(a, b, count, at) for pixels at .. at + count of row a, each with its neighbour in row b shifted
// by one either way, or not.
template <class U, class F>
void shifted(const U* a, const U* b, std::int64_t n, bool straight, bool sideways, F&& f) {
  if (straight) f(a, b, n, std::int64_t{0});
  if (sideways) {
    f(a, b + 1, n - 1, std::int64_t{0});
    f(a + 1, b, n - 1, std::int64_t{1});
  }
}

template <class U>
class Boundaries {
 public:
  Boundaries(const Array& labels, int connectivity, BoundaryMode mode, const Array* background,
             std::uint8_t* out)
      : labels_(labels.as<U>()),
        n_(labels.shape[labels.ndim - 1]),
        connectivity_(connectivity),
        mode_(mode),
        known_(background != nullptr),
        background_(background ? *background->as<U>() : U{0}),
        sign_(sign_bit<U>(labels.dtype)),
        around_(labels),
        out_(out) {}

  void run() const {
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / n_);
    parallel_for(around_.rows(), grain, [&](std::int64_t begin, std::int64_t end) {
      std::vector<U> found(n_), object(n_), outside(n_);
      Ticker tick(static_cast<std::uint32_t>(std::max<std::int64_t>(1, (1 << 17) / n_)));
      for (std::int64_t row = begin; row < end; ++row) {
        tick();
        thick(row, found.data());
        if (mode_ == BoundaryMode::outer && known_)
          beside_object(row, object.data(), outside.data(), found.data());
        std::uint8_t* const to = out_ + row * n_;
        const U* const a = labels_ + row * n_;
        if (mode_ == BoundaryMode::inner && known_)
          for (std::int64_t i = 0; i < n_; ++i) to[i] = (found[i] != 0) & (a[i] != background_);
        else
          for (std::int64_t i = 0; i < n_; ++i) to[i] = found[i] != 0;
      }
    });
  }

 private:
  void thick(std::int64_t row, U* found) const {
    const U* const a = labels_ + row * n_;
    std::fill_n(found, n_, U{0});
    const auto compare = [&](const U* p, const U* q, std::int64_t count, std::int64_t at) {
      differ(p, q, count, found + at);
    };
    shifted(a, a, n_, false, true, compare);
    // Rows that differ from this one in fewer axes than may: their pixels beside a pixel count,
    // too. Two rows at once, as loads are what takes time.
    const U* waiting = nullptr;
    around_.each(row, [&](std::int64_t other, int hops) {
      const U* const b = labels_ + other * n_;
      if (hops >= connectivity_)
        shifted(a, b, n_, hops == connectivity_, false, compare);
      else if (waiting == nullptr)
        waiting = b;
      else
        differ_beside(a, std::exchange(waiting, nullptr), b, n_, found);
    });
    if (waiting) shifted(a, waiting, n_, true, true, compare);
  }

  // Keeps what is background, or has a neighbour of another object in any direction. As in
  // scikit-image's composition of a dilation and an erosion, background counts as another object
  // for labels below its own value.
  void beside_object(std::int64_t row, U* object, U* outside, U* found) const {
    const U* const a = labels_ + row * n_;
    if (std::all_of(found, found + n_, [](U f) { return f == 0; })) return;
    std::fill_n(object, n_, U{0});
    std::fill_n(outside, n_, U{0});
    const auto compare = [&](const U* p, const U* q, std::int64_t count, std::int64_t at) {
      differ_outside(p, q, count, background_, object + at, outside + at);
    };
    shifted(a, a, n_, false, true, compare);
    around_.each(row, [&](std::int64_t other, int) {
      shifted(a, labels_ + other * n_, n_, true, true, compare);
    });
    const U top = background_ ^ sign_;
    for (std::int64_t i = 0; i < n_; ++i) {
      const bool below = static_cast<U>(a[i] ^ sign_) < top;
      const bool keep = (a[i] == background_) | (object[i] != 0) | ((outside[i] != 0) & below);
      found[i] = keep ? found[i] : U{0};
    }
  }

  const U* labels_;
  std::int64_t n_;
  int connectivity_;
  BoundaryMode mode_;
  bool known_;
  U background_, sign_;
  RowNeighbours around_;
  std::uint8_t* out_;
};

// A place of the doubled image lies between 2^k pixels. They have two labels when the lowest and
// the highest differ, where pixels of the largest value, `none`, count as lowest for the latter.
template <class U>
void subpixel(const Array& labels, U none, U sign, std::uint8_t* out) {
  const int outer_axes = labels.ndim - 1;
  const std::int64_t n = labels.shape[outer_axes], length = 2 * n - 1;
  std::int64_t rows = 1;
  for (int a = 0; a < outer_axes; ++a) rows *= 2 * labels.shape[a] - 1;
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / length);
  parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<U> low(n + 1), high(n + 1);
    std::vector<std::int64_t> between;
    for (std::int64_t row = begin; row < end; ++row) {
      between.assign(1, 0);  // flat numbers of the rows of pixels around this row
      std::int64_t rest = row, stride = 1;
      bool on_pixels = true;
      for (int a = outer_axes - 1; a >= 0; --a) {
        const std::int64_t places = 2 * labels.shape[a] - 1, at = rest % places;
        rest /= places;
        const std::size_t count = between.size();
        for (std::size_t i = 0; i < count; ++i) {
          between[i] += at / 2 * stride;
          if (at % 2) between.push_back(between[i] + stride);
        }
        on_pixels &= at % 2 == 0;
        stride *= labels.shape[a];
      }
      std::fill(low.begin(), low.end(), static_cast<U>(~U{0}));
      std::fill(high.begin(), high.end(), U{0});
      for (const std::int64_t other : between) {
        const U* const from = labels.as<U>() + other * n;
        for (std::int64_t i = 0; i < n; ++i) {
          const U key = from[i] ^ sign;
          low[i] = std::min(low[i], key);
          high[i] = std::max(high[i], from[i] == none ? U{0} : key);
        }
      }
      std::uint8_t* const to = out + row * length;
      for (std::int64_t i = 0; i < n; ++i) to[2 * i] = !on_pixels & (high[i] > low[i]);
      for (std::int64_t i = 0; i + 1 < n; ++i)
        to[2 * i + 1] = std::max(high[i], high[i + 1]) > std::min(low[i], low[i + 1]);
    }
  });
}

}  // namespace

void find_boundaries(const Array& labels, int connectivity, BoundaryMode mode,
                     const Array* background, const MutableArray& boundaries) {
  visit_bits(labels.dtype, [&]<class U>(Type<U>) {
    Boundaries<U>(labels, connectivity, mode, background, boundaries.as<std::uint8_t>()).run();
  });
}

void find_subpixel_boundaries(const Array& labels, const Array& none,
                              const MutableArray& boundaries) {
  visit_bits(labels.dtype, [&]<class U>(Type<U>) {
    subpixel<U>(labels, *none.as<U>(), sign_bit<U>(labels.dtype), boundaries.as<std::uint8_t>());
  });
}

}  // namespace msf
