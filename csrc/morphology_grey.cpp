// Erosion, dilation and what is made of them, for every dtype: extremes of keys.
//
// Pixels become integers of the same order and width (uint8, uint16, int32 or int64), so that four
// instantiations serve all dtypes, float16 needs no conversion and NaN has a place in the order:
// the end that wins. A float's key is its bits with all but the sign inverted where it is negative.
#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/morphology.hpp"
#include "local.hpp"
#include "morphology.hpp"
#include "morphology_combine.hpp"

namespace msf::morphology {
namespace {

template <int Bytes>
using Key = std::conditional_t<
    Bytes == 1, std::uint8_t,
    std::conditional_t<Bytes == 2, std::uint16_t,
                       std::conditional_t<Bytes == 4, std::int32_t, std::int64_t>>>;

// What turns the bits of an integer of type T into its key, and back.
template <class T>
constexpr Key<sizeof(T)> flip =
    std::is_signed_v<T> == std::is_signed_v<Key<sizeof(T)>>
        ? Key<sizeof(T)>{0}
        : static_cast<Key<sizeof(T)>>(std::uint64_t{1} << (8 * sizeof(T) - 1));

// Of float16 the keys are unsigned.
template <class K>
constexpr K sign_flip = std::is_signed_v<K> ? K{0} : static_cast<K>(0x8000);

template <class T>
void to_keys(const T* __restrict in, Index n, Key<sizeof(T)>* __restrict out, bool nan_high) {
  using K = Key<sizeof(T)>;
  if constexpr (is_float<T>) {
    using S = std::make_signed_t<K>;
    constexpr int bits = 8 * sizeof(T);
    constexpr S magnitude = std::numeric_limits<S>::max();
    constexpr S infinity = sizeof(T) == 2   ? static_cast<S>(0x7c00)
                           : sizeof(T) == 4 ? static_cast<S>(0x7f800000)
                                            : static_cast<S>(0x7ff0000000000000);
    const S nan = nan_high ? magnitude : std::numeric_limits<S>::min();
    using Raw [[gnu::may_alias]] = S;
    const Raw* __restrict const raw = reinterpret_cast<const Raw*>(in);
    for (Index i = 0; i < n; ++i) {
      const S v = raw[i];
      const S key = static_cast<S>(v ^ ((v >> (bits - 1)) & magnitude));
      const S finite = (v & magnitude) > infinity ? nan : key;
      out[i] = static_cast<K>(static_cast<K>(finite) ^ sign_flip<K>);
    }
  } else {
    for (Index i = 0; i < n; ++i) out[i] = static_cast<K>(static_cast<K>(in[i]) ^ flip<T>);
  }
}

template <class T>
T from_key(Key<sizeof(T)> key) {
  using K = Key<sizeof(T)>;
  if constexpr (is_float<T>) {
    using S = std::make_signed_t<K>;
    const S v = static_cast<S>(key ^ sign_flip<K>);
    const S bits = static_cast<S>(v ^ ((v >> (8 * sizeof(T) - 1)) & std::numeric_limits<S>::max()));
    return std::bit_cast<T>(bits);
  } else {
    return static_cast<T>(key ^ flip<T>);
  }
}

template <class T>
void from_keys(const Key<sizeof(T)>* __restrict keys, Index n, T* __restrict out) {
  for (Index i = 0; i < n; ++i) out[i] = from_key<T>(keys[i]);
}

// out = a - b, clipped to the dtype or wrapping.
template <class T>
void subtract(const Key<sizeof(T)>* __restrict a, const Key<sizeof(T)>* __restrict b, Index n,
              bool clip, T* __restrict out) {
  if constexpr (is_float<T>) {
    using Real = std::conditional_t<sizeof(T) == 2, float, T>;
    for (Index i = 0; i < n; ++i)
      out[i] = static_cast<T>(static_cast<Real>(from_key<T>(a[i])) -
                              static_cast<Real>(from_key<T>(b[i])));
  } else if (!clip) {
    using U = std::make_unsigned_t<T>;
    for (Index i = 0; i < n; ++i)
      out[i] = static_cast<T>(static_cast<U>(static_cast<U>(a[i]) - static_cast<U>(b[i])));
  } else {
    for (Index i = 0; i < n; ++i) {
      const T x = from_key<T>(a[i]), y = from_key<T>(b[i]);
      if constexpr (std::is_unsigned_v<T>) {
        out[i] = static_cast<T>((x > y ? x : y) - y);
      } else {
        // Overflows iff the operands' signs differ and the result's is not the first one's.
        using U = std::make_unsigned_t<T>;
        const T d = static_cast<T>(static_cast<U>(static_cast<U>(x) - static_cast<U>(y)));
        const T end = static_cast<T>((x >> (8 * sizeof(T) - 1)) ^ std::numeric_limits<T>::max());
        out[i] = ((x ^ y) & (x ^ d)) < 0 ? end : d;
      }
    }
  }
}

template <class Op>
void along(const void* from, void* to, Index n, const Index* shifts, int count) {
  const void* rows[4];
  for (int k = 0; k < count; ++k) rows[k] = static_cast<const typename Op::Cell*>(from) + shifts[k];
  combine<Op>(rows, count, to, n);
}

template <class K>
Cells cells(bool high) {
  return {sizeof(K), 1, high ? combine<Greatest<K>> : combine<Least<K>>,
          high ? along<Greatest<K>> : along<Least<K>>};
}

template <class T>
class GreyRows : public Rows {
 public:
  using K = Key<sizeof(T)>;

  GreyRows(const Array& image, Index columns, BorderMode border, Index reach, T cval, Extremes kind,
           const Array* base, const MutableArray& out)
      : image_(image.as<T>()),
        base_(base ? base->as<T>() : nullptr),
        out_(out.as<T>()),
        columns_(columns),
        reach_(reach),
        source_(local::extended_axis(columns, reach, border)),
        kind_(kind),
        boolean_(out.dtype == DType::boolean),
        nan_high_(kind != Extremes::minimum && kind != Extremes::base_minus_minimum &&
                  kind != Extremes::minimum_minus_base) {
    to_keys(&cval, 1, &outside_, nan_high_);
  }

  void load(Index row, Index first, Index n, void* cells) const override {
    K* const to = static_cast<K*>(cells);
    if (row < 0) {
      std::fill_n(to, n, outside_);
      return;
    }
    const T* const pixels = image_ + row * columns_;
    const Index from = std::clamp<Index>(-first, 0, n);
    const Index end = std::clamp<Index>(columns_ - first, from, n);
    const auto beyond = [&](Index i) {
      const Index at = source_[first + i + reach_];
      if (at < 0)
        to[i] = outside_;
      else
        to_keys(pixels + at, 1, to + i, nan_high_);
    };
    for (Index i = 0; i < from; ++i) beyond(i);
    to_keys(pixels + first + from, end - from, to + from, nan_high_);
    for (Index i = end; i < n; ++i) beyond(i);
  }

  void store(const void* const* extremes, Index row, Index first, Index n, bool begun, bool done,
             void* scratch) const override {
    const Index position = row * columns_ + first;
    T* const out = out_ + position;
    const K* found = static_cast<const K*>(extremes[0]);
    K* const other = static_cast<K*>(scratch);
    if (begun) {
      to_keys(out, n, other, nan_high_);
      for (Index i = 0; i < n; ++i)
        other[i] = nan_high_ ? std::max(other[i], found[i]) : std::min(other[i], found[i]);
      found = other;
    }
    if (!done || kind_ == Extremes::minimum || kind_ == Extremes::maximum)
      return from_keys(found, n, out);
    if (kind_ == Extremes::range)
      return difference(static_cast<const K*>(extremes[1]), found, n, true, out);
    K* const keys = other + n;
    to_keys(base_ + position, n, keys, nan_high_);
    const bool base_first =
        kind_ == Extremes::base_minus_minimum || kind_ == Extremes::base_minus_maximum;
    const bool clip =
        kind_ == Extremes::base_minus_minimum || kind_ == Extremes::maximum_minus_base;
    base_first ? difference(keys, found, n, clip, out) : difference(found, keys, n, clip, out);
  }

 private:
  void difference(const K* a, const K* b, Index n, bool clip, T* out) const {
    if (!boolean_) return subtract<T>(a, b, n, clip, out);
    for (Index i = 0; i < n; ++i) out[i] = static_cast<T>(a[i] ^ b[i]);
  }

  const T *image_, *base_;
  T* out_;
  Index columns_, reach_;
  std::vector<Index> source_;  // image position of extended positions from -reach_ on
  Extremes kind_;
  bool boolean_, nan_high_;
  K outside_;
};

}  // namespace
}  // namespace msf::morphology

namespace msf {

void extremes(const Array& image, const std::vector<std::int64_t>& shape,
              const std::vector<FlatFootprint>& parts, BorderMode border, const Array& cval,
              Extremes kind, const Array* base, const MutableArray& out) {
  using namespace morphology;
  Index reach = 0;
  for (const auto& part : parts)
    reach = std::max({reach, -part.low[2], part.low[2] + part.span[2] - 1});
  visit(image.dtype, [&]<class T>(Type<T>) {
    using K = Key<sizeof(T)>;
    const GreyRows<T> rows(image, shape.back(), border, reach, *cval.as<T>(), kind, base, out);
    std::vector<Cells> chains;
    if (kind == Extremes::range)
      chains = {cells<K>(false), cells<K>(true)};
    else
      chains = {cells<K>(kind == Extremes::maximum || kind == Extremes::maximum_minus_base ||
                         kind == Extremes::base_minus_maximum)};
    run(shape, parts, border, chains, rows);
  });
}

}  // namespace msf
