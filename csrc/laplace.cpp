// The Laplacian by second differences, in one sweep.
//
// The sum of a pixel is taken in the order of its neighbours in memory, which is the order of
// SciPy's convolve: in float64 the result is its bit for bit.
#include "kernels/stencil.hpp"
#include "stencil.hpp"

namespace msf {
namespace {

using stencil::Block;
using stencil::Box;
using stencil::Index;
using stencil::Source;

// The neighbours along all axes but the last: those before the pixel, the first axis first.
template <class T>
struct Pair {
  const T *before, *after;
  T weight;
};

template <class T>
class Laplacian {
 public:
  Laplacian(const Array& image, double scale, const std::vector<double>& weights,
            const MutableArray& out)
      : image_(image),
        box_(image),
        source_(image, scale),
        weights_(weights.begin(), weights.end()),
        out_(out.as<T>()) {
    for (const T w : weights_) centre_ += 2 * w;
  }

  void run() const {
    stencil::for_blocks(box_, 3, sizeof(T), false, [&](const Block& block) { sweep(block); });
  }

 private:
  void sweep(const Block& block) const {
    // Rows hold the columns [first, last): one beside the block's where there is one.
    const Index first = std::max<Index>(0, block.begin[2] - 1);
    const Index last = std::min(box_.columns, block.end[2] + 1), width = last - first;
    const int axes = image_.ndim - 1, outer = std::max(0, axes - 1);
    std::vector<T> memory((2 * outer + 3) * width);
    const auto buffer = [&](Index i) { return memory.data() + i * width; };
    std::vector<Pair<T>> pairs(axes);
    for (Index z = block.begin[0]; z < block.end[0]; ++z) {
      Index above = -1;  // the first row of the ring that is filled
      const T* ring[3] = {};
      for (Index y = block.begin[1]; y < block.end[1]; ++y) {
        poll();
        const Index up = std::max<Index>(0, y - 1), down = std::min(box_.rows - 1, y + 1);
        for (Index at = above < 0 ? up : down; at <= down; ++at)
          ring[at % 3] = source_.row(box_.at(z, at) + first, width, buffer(at % 3));
        above = up;
        if (axes > 0) pairs[axes - 1] = {ring[up % 3], ring[down % 3], weights_[axes - 1]};
        Index stride = 1;  // of the planes along an axis
        for (int k = outer - 1; k >= 0; --k) {
          const Index n = image_.shape[k], at = z / stride % n;
          const Index before = at > 0 ? z - stride : z, after = at + 1 < n ? z + stride : z;
          pairs[k] = {source_.row(box_.at(before, y) + first, width, buffer(3 + 2 * k)),
                      source_.row(box_.at(after, y) + first, width, buffer(4 + 2 * k)),
                      weights_[k]};
          stride *= n;
        }
        row(ring[y % 3] - first, pairs, block, first, out_ + box_.at(z, y));
      }
    }
  }

  // `centre` and `out` begin with column 0 of the image, the pairs with column `first`.
  void row(const T* centre, const std::vector<Pair<T>>& pairs, const Block& block, Index first,
           T* out) const {
    const T side = weights_.back();
    const auto pixel = [&](Index x, Index left, Index right) {
      T sum = 0;
      for (const Pair<T>& p : pairs) sum -= p.weight * p.before[x - first];
      sum = sum - side * centre[left] + centre_ * centre[x] - side * centre[right];
      for (std::size_t k = pairs.size(); k-- > 0;)
        sum -= pairs[k].weight * pairs[k].after[x - first];
      out[x] = sum;
    };
    Index begin = block.begin[2], end = block.end[2];
    const Index most = box_.columns - 1;
    if (begin == 0) {
      pixel(0, 0, std::min<Index>(1, most));
      begin = 1;
    }
    if (end == box_.columns && end > begin) {
      --end;
      pixel(end, end - 1, end);
    }
    inner(centre + begin, pairs, begin - first, end - begin, out + begin);
  }

  // n pixels none of which is the first or last of its row; skip: where they begin in the pairs.
  void inner(const T* __restrict centre, const std::vector<Pair<T>>& pairs, Index skip, Index n,
             T* __restrict out) const {
    const T side = weights_.back(), middle = centre_;
    const auto line = [&](Index j, T sum) {
      return sum - side * centre[j - 1] + middle * centre[j] - side * centre[j + 1];
    };
    const auto before = [&](std::size_t k) { return pairs[k].before + skip; };
    const auto after = [&](std::size_t k) { return pairs[k].after + skip; };
    if (pairs.size() == 1) {
      const T* __restrict up = before(0), * __restrict down = after(0), w = pairs[0].weight;
      for (Index j = 0; j < n; ++j) out[j] = line(j, -(w * up[j])) - w * down[j];
    } else if (pairs.size() == 2) {
      const T* __restrict front = before(0), * __restrict back = after(0), wz = pairs[0].weight;
      const T* __restrict up = before(1), * __restrict down = after(1), wy = pairs[1].weight;
      for (Index j = 0; j < n; ++j)
        out[j] = line(j, -(wz * front[j]) - wy * up[j]) - wy * down[j] - wz * back[j];
    } else {
      std::fill_n(out, n, T{0});
      for (std::size_t k = 0; k < pairs.size(); ++k)
        for (Index j = 0; j < n; ++j) out[j] -= pairs[k].weight * before(k)[j];
      for (Index j = 0; j < n; ++j) out[j] = line(j, out[j]);
      for (std::size_t k = pairs.size(); k-- > 0;)
        for (Index j = 0; j < n; ++j) out[j] -= pairs[k].weight * after(k)[j];
    }
  }

  const Array& image_;
  const Box box_;
  const Source<T> source_;
  const std::vector<T> weights_;
  T centre_ = 0;
  T* const out_;
};

}  // namespace

void laplace(const Array& image, double scale, const std::vector<double>& weights,
             const MutableArray& out) {
  out.dtype == DType::float32 ? Laplacian<float>(image, scale, weights, out).run()
                              : Laplacian<double>(image, scale, weights, out).run();
}

}  // namespace msf
