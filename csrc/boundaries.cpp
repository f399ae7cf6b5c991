// Boundaries of labelled regions, axis by axis instead of neighbour by neighbour.
//
// Let E(k, c) be the pixels from which some neighbour differs that is up to one step away along
// each of the last k axes, along c of them at most. A neighbour in the next plane along one more
// axis differs if the pixel just below it does, or else if it differs from that:
//   E(k + 1, c)[p] = E(k, c)[p] | for both q beside p: label[q] != label[p] | E(k, c - 1)[q].
// So the 26 neighbours take three comparisons of labels, and what else is combined are bytes.
// Planes of three axes are swept in tiles whose bytes stay in the cache; what further axes there
// are is done by neighbours, as is the second condition of outer boundaries.
#include "kernels/boundaries.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "parallel.hpp"

namespace msf {
namespace {

// An image without its last `inner` axes is an image of blocks: which are around a block, and how
// many coordinates they differ in.
class BlockNeighbours {
 public:
  BlockNeighbours(const Array& labels, int inner) {
    for (int a = 0; a + inner < labels.ndim; ++a) extent_.push_back(labels.shape[a]);
    add({}, 0);
    if (steps_.size() > most) throw std::invalid_argument("labels: too many neighbours");
  }

  std::int64_t blocks() const {
    std::int64_t n = 1;
    for (const std::int64_t extent : extent_) n *= extent;
    return n;
  }

  // f(other, hops) for every block around `block`, itself not included, that is inside the image.
  template <class F>
  void each(std::int64_t block, F&& f) const {
    std::array<std::int64_t, max_dims> at{};
    for (std::size_t a = extent_.size(); a-- > 0; block /= extent_[a]) at[a] = block % extent_[a];
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

using Byte = std::uint8_t;

template <class U>
void differ(const U* __restrict a, const U* __restrict b, std::int64_t n, Byte* __restrict found) {
  for (std::int64_t i = 0; i < n; ++i) found[i] = a[i] != b[i];
}

void combine(Byte* __restrict to, const Byte* __restrict a, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] |= a[i];
}

// Part of a volume: all its planes z, or those of a range, and of each some rows y and columns x.
struct Box {
  std::int64_t z0, z1, y0, y1, x0, x1;
};

// E(3, c) of a box of a volume. Bytes of a plane lie as rows of the box's width, with one more row
// on both sides.
template <class U>
class Tile {
 public:
  Tile(const std::array<std::int64_t, 3>& shape, const Box& box)
      : shape_(shape),
        box_(box),
        width_(box.x1 - box.x0),
        pixels_((box.y1 - box.y0) * width_),
        beside_(pixels_ + 2 * width_),
        across_(pixels_ + width_),
        plane_(pixels_),
        slice_(pixels_),
        between_(pixels_) {}

  // f(first pixel, count) for runs of pixels that make up the box.
  template <class F>
  void each_run(F&& f) const {
    for (std::int64_t z = box_.z0; z < box_.z1; ++z)
      rows(box_.y0, box_.y1,
           [&](std::int64_t at, std::int64_t, std::int64_t n) { f(z * plane() + at, n); });
  }

  // out |= pixels of the box from which a neighbour differs, c >= 0 coordinates away at most; both
  // start at the volume's first pixel. `center`: the volume that neighbours are compared with.
  void add(const U* volume, int c, const U* center, Byte* out) {
    if (volume != center)
      for (std::int64_t z = box_.z0; z < box_.z1; ++z)
        rows(box_.y0, box_.y1, [&](std::int64_t at, std::int64_t in_tile, std::int64_t n) {
          differ(volume + z * plane() + at, center + z * plane() + at, n, plane_.data() + in_tile);
          combine(out + z * plane() + at, plane_.data() + in_tile, n);
        });
    if (c == 0) return;
    const std::int64_t first = std::max<std::int64_t>(0, box_.z0 - 1);
    const std::int64_t end = std::min(shape_[0], box_.z1 + 1);
    for (std::int64_t z = first; z < end; ++z) {
      poll();
      const bool inside = z >= box_.z0 && z < box_.z1;
      if (!inside && c == 1) {
        if (z < box_.z0) step(volume, z, out);
        continue;
      }
      const U* const labels = volume + z * plane();
      in_plane(labels, c);
      const Byte* const next = c == 2 ? slice_.data() : plane_.data();  // E(2, c - 1)
      if (inside) merge(plane_.data(), z, out);
      if (c > 1 && z > box_.z0) merge(next, z - 1, out);
      if (c > 1 && z + 1 < box_.z1) merge(next, z + 1, out);
      if (z + 1 < end) step(volume, z, out);
    }
  }

 private:
  std::int64_t plane() const { return shape_[1] * shape_[2]; }

  // f(in the plane, in the tile, count) for runs of the box's pixels in rows y0 .. y1.
  template <class F>
  void rows(std::int64_t y0, std::int64_t y1, F&& f) const {
    const std::int64_t n = shape_[2];
    if (width_ == n) return f(y0 * n, (y0 - box_.y0) * n, (y1 - y0) * n);
    for (std::int64_t y = y0; y < y1; ++y) f(y * n + box_.x0, (y - box_.y0) * width_, width_);
  }

  void merge(const Byte* found, std::int64_t z, Byte* out) const {
    rows(box_.y0, box_.y1, [&](std::int64_t at, std::int64_t in_tile, std::int64_t n) {
      combine(out + z * plane() + at, found + in_tile, n);
    });
  }

  // Pixels that differ between planes z and z + 1, in both.
  void step(const U* volume, std::int64_t z, Byte* out) {
    const U* const labels = volume + z * plane();
    rows(box_.y0, box_.y1, [&](std::int64_t at, std::int64_t in_tile, std::int64_t n) {
      differ(labels + at, labels + plane() + at, n, between_.data() + in_tile);
    });
    if (z >= box_.z0) merge(between_.data(), z, out);
    if (z + 1 < box_.z1) merge(between_.data(), z + 1, out);
  }

  // plane_ = E(2, c) and, for c == 2, slice_ = E(2, 1).
  void in_plane(const U* labels, int c) {
    const std::int64_t above = std::max<std::int64_t>(0, box_.y0 - 1);
    const std::int64_t below = std::min(shape_[1], box_.y1 + 1);
    Byte* const beside = beside_.data() + width_;  // E(1, 1)
    Byte* const across = across_.data() + width_;  // differs from the next row
    rows(above, below, [&](std::int64_t at, std::int64_t in_tile, std::int64_t n) {
      in_row(labels + at, n, beside + in_tile);
    });
    for (std::int64_t y = above; y < below; ++y)
      row_ends(labels + y * shape_[2], beside + (y - box_.y0) * width_);
    if (below > above)
      rows(above, below - 1, [&](std::int64_t at, std::int64_t in_tile, std::int64_t n) {
        differ(labels + at, labels + at + shape_[2], n, across + in_tile);
      });
    const std::int64_t w = width_, n = pixels_;
    const auto plus = [&](Byte* __restrict to) {
      for (std::int64_t i = 0; i < n; ++i) to[i] = beside[i] | across[i] | across[i - w];
    };
    plus(plane_.data());
    if (c == 2 && shape_[0] > 1) plus(slice_.data());
    if (c > 1) {
      combine(plane_.data(), beside - w, n);
      combine(plane_.data(), beside + w, n);
    }
  }

  // Differs from the pixel before or after, for the n - 2 inner ones.
  static void in_row(const U* __restrict a, std::int64_t n, Byte* __restrict found) {
    for (std::int64_t i = 1; i < n - 1; ++i) found[i] = (a[i] != a[i - 1]) | (a[i] != a[i + 1]);
  }

  // The same for the ends of a row of the box.
  void row_ends(const U* row, Byte* found) const {
    for (const std::int64_t x : {box_.x0, box_.x1 - 1})
      found[x - box_.x0] =
          (x > 0 && row[x] != row[x - 1]) || (x + 1 < shape_[2] && row[x] != row[x + 1]);
  }

  std::array<std::int64_t, 3> shape_;
  Box box_;
  std::int64_t width_, pixels_;
  std::vector<Byte> beside_, across_, plane_, slice_, between_;
};

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

template <class U>
class Boundaries {
 public:
  Boundaries(const Array& labels, int connectivity, BoundaryMode mode, const Array* background,
             Byte* out)
      : image_(labels),
        labels_(labels.as<U>()),
        n_(labels.shape[labels.ndim - 1]),
        connectivity_(connectivity),
        mode_(mode),
        known_(background != nullptr),
        background_(background ? *background->as<U>() : U{0}),
        sign_(sign_bit<U>(labels.dtype)),
        out_(out) {}

  void run() const {
    thick();
    if (known_ && mode_ == BoundaryMode::outer) beside_objects();
  }

 private:
  // Boundaries of all kinds but the outer ones.
  void thick() const {
    std::array<std::int64_t, 3> shape{1, 1, 1};
    for (int a = 0; a < std::min(3, image_.ndim); ++a)
      shape[2 - a] = image_.shape[image_.ndim - 1 - a];
    const auto [depth, height, width] = shape;
    const std::int64_t volume = depth * height * width;
    const BlockNeighbours around(image_, 3);
    const std::int64_t most = depth == 1 ? 1 << 16 : 1 << 14;  // pixels of a tile's plane
    const auto pieces = [](std::int64_t n, std::int64_t most) { return (n + most - 1) / most; };
    const std::int64_t in_x = pieces(width, most);
    const std::int64_t in_y = pieces(height, std::max<std::int64_t>(1, most / width));
    const std::int64_t in_z = pieces(depth, 32);
    parallel_tasks(around.blocks() * in_z * in_y * in_x, [&](std::int64_t task) {
      const std::int64_t x = task % in_x, y = task / in_x % in_y;
      const std::int64_t z = task / (in_x * in_y) % in_z, block = task / (in_x * in_y * in_z);
      const Box box{depth * z / in_z,        depth * (z + 1) / in_z, height * y / in_y,
                    height * (y + 1) / in_y, width * x / in_x,       width * (x + 1) / in_x};
      Tile<U> tile(shape, box);
      const U* const labels = labels_ + block * volume;
      Byte* const out = out_ + block * volume;
      tile.each_run([&](std::int64_t at, std::int64_t n) { std::fill_n(out + at, n, Byte{0}); });
      tile.add(labels, connectivity_, labels, out);
      around.each(block, [&](std::int64_t other, int hops) {
        if (hops <= connectivity_)
          tile.add(labels_ + other * volume, connectivity_ - hops, labels, out);
      });
      if (known_ && mode_ == BoundaryMode::inner)
        tile.each_run([&](std::int64_t at, std::int64_t n) {
          for (std::int64_t i = at; i < at + n; ++i) out[i] &= labels[i] != background_;
        });
    });
  }

  // Keeps boundaries that are background, or have a neighbour of another object in any direction.
  // As in scikit-image's composition of a dilation and an erosion, background counts as another
  // object for labels below its own value.
  void beside_objects() const {
    const BlockNeighbours around(image_, 1);
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / n_);
    parallel_for(around.blocks(), grain, [&](std::int64_t begin, std::int64_t end) {
      std::vector<U> object(n_), outside(n_);
      Ticker tick(static_cast<std::uint32_t>(std::max<std::int64_t>(1, (1 << 17) / n_)));
      for (std::int64_t row = begin; row < end; ++row) {
        tick();
        beside_objects(around, row, object.data(), outside.data());
      }
    });
  }

  void beside_objects(const BlockNeighbours& around, std::int64_t row, U* object,
                      U* outside) const {
    const U* const a = labels_ + row * n_;
    Byte* const found = out_ + row * n_;
    if (std::all_of(found, found + n_, [](Byte f) { return f == 0; })) return;
    std::fill_n(object, n_, U{0});
    std::fill_n(outside, n_, U{0});
    const auto beside = [&](const U* b) {  // a pixel's neighbours along the row
      differ_outside(a, b + 1, n_ - 1, background_, object, outside);
      differ_outside(a + 1, b, n_ - 1, background_, object + 1, outside + 1);
    };
    beside(a);
    around.each(row, [&](std::int64_t other, int) {
      const U* const b = labels_ + other * n_;
      differ_outside(a, b, n_, background_, object, outside);
      beside(b);
    });
    const U top = background_ ^ sign_;
    for (std::int64_t i = 0; i < n_; ++i) {
      const bool below = static_cast<U>(a[i] ^ sign_) < top;
      found[i] &= (a[i] == background_) | (object[i] != 0) | ((outside[i] != 0) & below);
    }
  }

  const Array& image_;
  const U* labels_;
  std::int64_t n_;
  int connectivity_;
  BoundaryMode mode_;
  bool known_;
  U background_, sign_;
  Byte* out_;
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
