// Gradient magnitudes of 8-bit images in two dimensions, in whole numbers: all sums of a Sobel,
// Prewitt or Scharr kernel fit 16 bits, so a register holds twice as many pixels as of float32, and
// none is converted before it is summed. What is left for floats is the root.
//
// For each row two rows are made: the rows around it smoothed, and their difference. The step along
// the columns follows; both stay in the L1 cache.
#include <cmath>
#include <cstdint>
#include <vector>

#include "separable.hpp"
#include "stencil.hpp"

namespace msf {
namespace {

using stencil::Block;
using stencil::Box;
using stencil::Index;
using Row = std::vector<std::int16_t>;

// Smoothing by centre : side : centre, as multiples of `unit`.
struct Smoothing {
  int centre = 0, side = 0;
  double unit = 0;

  explicit Smoothing(const Taps& taps) {
    for (const int parts : {3, 4, 16}) {
      const double c = taps.half[0] * parts, s = taps.half[1] * parts;
      if (std::abs(c - std::round(c)) + std::abs(s - std::round(s)) > 1e-9) continue;
      centre = static_cast<int>(std::round(c));
      side = static_cast<int>(std::round(s));
      unit = 1.0 / parts;
      return;
    }
  }
};

template <class T>
class ByteGradient {
 public:
  ByteGradient(const Array& image, double scale, const Separable& filter, const Smoothing& smooth,
               const MutableArray& out)
      : image_(image.as<std::uint8_t>()),
        box_(image),
        smooth_(smooth),
        rows_(local::extended_axis(box_.rows, 1, filter.border[0])),
        columns_(local::extended_axis(box_.columns, 1, filter.border[1])),
        out_(out.as<T>()) {
    const auto share = [&](int axis) {
      const double by = filter.derive[axis].half[1] * smooth.unit * scale;
      return static_cast<T>(by * by / filter.over);
    };
    down_ = share(0);
    across_ = share(1);
  }

  void run() const {
    stencil::for_blocks(box_, 3, sizeof(std::int16_t), true, [&](const Block& block) {
      Row smoothed(box_.columns + 2), difference(box_.columns + 2);
      for (Index y = block.begin[1]; y < block.end[1]; ++y) {
        poll();
        combine(row(y), row(y + 1), row(y + 2), smoothed.data() + 1, difference.data() + 1);
        for (Row* made : {&smoothed, &difference}) {
          made->front() = (*made)[columns_.front() + 1];
          made->back() = (*made)[columns_.back() + 1];
        }
        write(smoothed.data() + 1, difference.data() + 1, out_ + y * box_.columns);
      }
    });
  }

 private:
  const std::uint8_t* row(Index extended) const { return image_ + rows_[extended] * box_.columns; }

  void combine(const std::uint8_t* above, const std::uint8_t* here, const std::uint8_t* below,
               std::int16_t* __restrict smoothed, std::int16_t* __restrict difference) const {
    const int centre = smooth_.centre, side = smooth_.side;
    for (Index j = 0; j < box_.columns; ++j) {
      smoothed[j] = static_cast<std::int16_t>(centre * here[j] + side * (above[j] + below[j]));
      difference[j] = static_cast<std::int16_t>(below[j] - above[j]);
    }
  }

  void write(const std::int16_t* smoothed, const std::int16_t* difference,
             T* __restrict out) const {
    const int centre = smooth_.centre, side = smooth_.side;
    const T down = down_, across = across_;
    for (Index j = 0; j < box_.columns; ++j) {
      const auto gx = static_cast<std::int16_t>(smoothed[j + 1] - smoothed[j - 1]);
      const auto gy = static_cast<std::int16_t>(centre * difference[j] +
                                                side * (difference[j - 1] + difference[j + 1]));
      const T x = gx, y = gy;
      out[j] = std::sqrt(y * y * down + x * x * across);
    }
  }

  const std::uint8_t* const image_;
  const Box box_;
  const Smoothing smooth_;
  const std::vector<Index> rows_, columns_;  // where each is read, with one outside at either end
  T* const out_;
  T down_, across_;  // what squares of sums are multiplied by
};

}  // namespace

bool byte_gradient(const Array& image, double scale, const Separable& filter,
                   const MutableArray& out) {
  if (image.ndim != 2 || image.shape[0] * image.shape[1] == 0) return false;
  if (image.dtype != DType::uint8) return false;
  if (!filter.magnitude || filter.terms != std::vector<int>{0, 1}) return false;
  if (!filter.surround || !filter.skip_centre) return false;
  for (int k = 0; k < 2; ++k)
    if (filter.border[k] == BorderMode::constant || !filter.derive[k].odd || filter.smooth[k].odd ||
        filter.derive[k].half.size() != 2 || filter.smooth[k].half != filter.smooth[0].half)
      return false;
  if (filter.smooth[0].half.size() != 2) return false;
  const Smoothing smooth(filter.smooth[0]);
  if (smooth.unit == 0) return false;
  const auto run = [&]<class T>(Type<T>) {
    ByteGradient<T>(image, scale, filter, smooth, out).run();
  };
  out.dtype == DType::float32 ? run(Type<float>{}) : run(Type<double>{});
  return true;
}

}  // namespace msf
