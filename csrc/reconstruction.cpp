// Morphological reconstruction: L. Vincent, "Morphological grayscale reconstruction in image
// analysis: applications and efficient algorithms", IEEE Trans. Image Processing 2(2):176-201
// (1993): the hybrid algorithm. A raster scan and an anti-raster scan carry values as far as they
// go in these directions; the second notes the pixels whose values go on, and a queue does the
// rest.
//
// Erosion is dilation of keys in reversed order. Both images are copied with a frame of the lowest
// key as wide as the steps, so that no step needs a test. In the scans what comes from other rows
// is one vectorised maximum a step; only the steps along the row depend on each other. Instead of
// Vincent's first-in first-out queue, which may visit a pixel once per level, the queue is in order
// of value (K. Robinson and P. F. Whelan, "Efficient morphological reconstruction: a downhill
// filter", Pattern Recognition Letters 25 (2004) 1759-1767): a pixel that leaves it is final.
#include "kernels/reconstruction.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "bucket_queue.hpp"
#include "order_key.hpp"
#include "parallel.hpp"

namespace msf {
namespace {

// The image's rows within a frame.
struct Frame {
  std::int64_t rows = 1, length, size = 1;
  std::vector<std::int64_t> extents, pads, strides;
  std::vector<std::int64_t> offsets;  // the steps by flat index

  Frame(const Array& image, const Array& steps) : length(image.shape[image.ndim - 1]) {
    const int ndim = image.ndim;
    const auto* const by = steps.as<std::int64_t>();
    for (int axis = 0; axis < ndim; ++axis) {
      std::int64_t pad = 0;
      for (std::int64_t s = 0; s < steps.shape[0]; ++s)
        pad = std::max(pad, std::abs(by[s * ndim + axis]));
      extents.push_back(image.shape[axis]);
      pads.push_back(pad);
      if (axis + 1 < ndim) rows *= image.shape[axis];
    }
    strides.assign(ndim, 1);
    for (int axis = ndim; axis-- > 0;) {
      strides[axis] = size;
      size *= extents[axis] + 2 * pads[axis];
    }
    for (std::int64_t s = 0; s < steps.shape[0]; ++s) {
      std::int64_t offset = 0;
      for (int axis = 0; axis < ndim; ++axis) offset += by[s * ndim + axis] * strides[axis];
      offsets.push_back(offset);
    }
  }

  // Where a row of the image starts in the frame.
  std::int64_t start(std::int64_t row) const {
    std::int64_t at = pads.back();
    for (std::size_t axis = extents.size() - 1; axis-- > 0; row /= extents[axis])
      at += (row % extents[axis] + pads[axis]) * strides[axis];
    return at;
  }

  template <class F>
  void parallel_rows(F&& f) const {
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / length);
    parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) f(row, start(row));
    });
  }
};

template <class U>
class Reconstruction {
 public:
  explicit Reconstruction(const Frame& frame)
      : frame_(frame), value_(new U[frame.size]()), limit_(new U[frame.size]()) {
    for (const std::int64_t offset : frame.offsets) {
      // Within the row: nearer than one row of the frame along the last axis alone.
      const bool along = std::abs(offset) <= frame.pads.back();
      (offset > 0 ? along ? right_ : down_ : along ? left_ : up_).push_back(offset);
    }
  }

  U* value(std::int64_t i) { return value_.get() + i; }
  U* limit(std::int64_t i) { return limit_.get() + i; }

  void run() {
    std::vector<U> best(frame_.length);
    std::vector<std::uint8_t> spreads(frame_.length);
    Ticker tick(64);
    for (std::int64_t row = 0; row < frame_.rows; ++row, tick()) {
      const std::int64_t at = frame_.start(row);
      gather(at, down_, best);
      scan<1>(at, right_, best);
    }
    std::vector<std::int64_t> active;
    for (std::int64_t row = frame_.rows; row-- > 0; tick()) {
      const std::int64_t at = frame_.start(row);
      gather(at, up_, best);
      scan<-1>(at, left_, best);
      note_spreading(at, spreads, active);
    }
    spread(active);
  }

 private:
  // best = the highest value that comes from other rows.
  void gather(std::int64_t at, const std::vector<std::int64_t>& offsets,
              std::vector<U>& best) const {
    U* const __restrict high = best.data();
    const U* const own = value_.get() + at;
    std::copy_n(own, frame_.length, high);
    for (const std::int64_t offset : offsets) {
      const U* const from = own - offset;
      for (std::int64_t i = 0; i < frame_.length; ++i) high[i] = std::max(high[i], from[i]);
    }
  }

  template <int direction>
  void scan(std::int64_t at, const std::vector<std::int64_t>& offsets,
            const std::vector<U>& best) const {
    U* const own = value_.get() + at;
    const U* const most = limit_.get() + at;
    const std::int64_t n = frame_.length;
    if (offsets.empty()) {
      for (std::int64_t i = 0; i < n; ++i) own[i] = std::min(best[i], most[i]);
    } else if (offsets.size() == 1 && offsets[0] == direction) {
      U before = 0;
      for (std::int64_t k = 0; k < n; ++k) {
        const std::int64_t i = direction > 0 ? k : n - 1 - k;
        before = std::min(std::max(best[i], before), most[i]);
        own[i] = before;
      }
    } else {
      for (std::int64_t k = 0; k < n; ++k) {
        const std::int64_t i = direction > 0 ? k : n - 1 - k;
        U high = best[i];
        for (const std::int64_t offset : offsets) high = std::max(high, own[i - offset]);
        own[i] = std::min(high, most[i]);
      }
    }
  }

  // Pixels of a row that raise a pixel which the anti-raster scan has left behind.
  void note_spreading(std::int64_t at, std::vector<std::uint8_t>& spreads,
                      std::vector<std::int64_t>& active) const {
    std::uint8_t* const __restrict flags = spreads.data();
    std::fill_n(flags, frame_.length, std::uint8_t{0});
    const U *const own = value_.get() + at, *const most = limit_.get() + at;
    for (const auto* offsets : {&right_, &down_})
      for (const std::int64_t offset : *offsets)
        for (std::int64_t i = 0; i < frame_.length; ++i)
          flags[i] |= own[i + offset] < std::min(own[i], most[i + offset]);
    for (std::int64_t i = 0; i < frame_.length; ++i)
      if (flags[i]) active.push_back(at + i);
  }

  void spread(std::vector<std::int64_t>& active) {
    BucketQueue<U, std::int64_t> queue(0);
    std::vector<std::int64_t> now;  // pixels of the current value, to be looked at
    const auto push = [&](std::int64_t v) {
      const U cost = static_cast<U>(~value_[v]);
      if (cost == queue.current())
        now.push_back(v);
      else
        queue.push(cost, v);
    };
    for (const std::int64_t v : active) push(v);
    std::vector<std::int64_t>().swap(active);
    Ticker tick;
    do {
      while (!now.empty()) {
        const std::int64_t v = now.back();
        now.pop_back();
        tick();
        const U own = value_[v];
        if (static_cast<U>(~own) != queue.current()) continue;  // raised since, and done
        for (const std::int64_t offset : frame_.offsets) {
          const std::int64_t w = v + offset;
          const U raised = std::min(own, limit_[w]);
          if (value_[w] >= raised) continue;
          value_[w] = raised;
          push(w);
        }
      }
    } while (queue.advance([&](std::int64_t v) { now.push_back(v); }));
  }

  const Frame& frame_;
  const std::unique_ptr<U[]> value_, limit_;
  std::vector<std::int64_t> right_, left_, down_, up_;  // where a step leads: along the row, beyond
};

template <class T>
T value_of(OrderKey<T> key) {
  using U = OrderKey<T>;
  constexpr U sign = U{1} << (8 * sizeof(T) - 1);
  if constexpr (is_float<T>)
    return std::bit_cast<T>(static_cast<U>(key & sign ? key ^ sign : ~key));
  else
    return static_cast<T>(std::is_signed_v<T> ? key ^ sign : key);
}

template <class T, class Out>
void reconstruct(const Array& seed, const Array& mask, bool dilation, const Frame& frame,
                 Reconstruction<OrderKey<T>>& work, Out* out) {
  using U = OrderKey<T>;
  const U flip = dilation ? U{0} : static_cast<U>(~U{0});
  const std::int64_t n = frame.length;
  const T *const seeds = seed.as<T>(), *const limits = mask.as<T>();
  frame.parallel_rows([&](std::int64_t row, std::int64_t at) {
    const T *const s = seeds + row * n, *const m = limits + row * n;
    U *const value = work.value(at), *const limit = work.limit(at);
    for (std::int64_t i = 0; i < n; ++i) {
      const bool nan = s[i] != s[i] || m[i] != m[i];
      value[i] = nan ? U{0} : static_cast<U>(order_key(s[i]) ^ flip);
      limit[i] = nan ? U{0} : static_cast<U>(order_key(m[i]) ^ flip);
    }
  });
  work.run();
  frame.parallel_rows([&](std::int64_t row, std::int64_t at) {
    const T *const s = seeds + row * n, *const m = limits + row * n;
    const U* const value = work.value(at);
    for (std::int64_t i = 0; i < n; ++i) {
      const T result = value_of<T>(static_cast<U>(value[i] ^ flip));
      const bool nan = s[i] != s[i] || m[i] != m[i];
      out[row * n + i] = static_cast<Out>(nan ? (s[i] != s[i] ? s[i] : m[i]) : result);
    }
  });
}

}  // namespace

void reconstruction(const Array& seed, const Array& mask, bool dilation, const Array& steps,
                    const MutableArray& out) {
  if (seed.size() == 0) return;
  const Frame frame(seed, steps);
  visit_bits(seed.dtype, [&]<class U>(Type<U>) {
    Reconstruction<U> work(frame);
    visit(seed.dtype, [&]<class T>(Type<T>) {
      if constexpr (std::is_same_v<OrderKey<T>, U> && !std::is_same_v<T, float16>) {
        if (out.dtype == DType::float64)
          reconstruct<T>(seed, mask, dilation, frame, work, out.as<double>());
        else
          reconstruct<T>(seed, mask, dilation, frame, work, out.as<T>());
      }
    });
  });
}

}  // namespace msf
