#include "local.hpp"

namespace msf::local {
namespace {

Index modulo(Index a, Index n) {
  const Index r = a % n;
  return r < 0 ? r + n : r;
}

Index source_of(Index at, Index n, BorderMode border) {
  if (at >= 0 && at < n) return at;
  switch (border) {
    case BorderMode::reflect: {  // d c b a | a b c d | d c b a
      const Index m = modulo(at, 2 * n);
      return m < n ? m : 2 * n - 1 - m;
    }
    case BorderMode::mirror: {  // d c b | a b c d | c b a
      if (n == 1) return 0;
      const Index m = modulo(at, 2 * n - 2);
      return m < n ? m : 2 * n - 2 - m;
    }
    case BorderMode::nearest:
      return at < 0 ? 0 : n - 1;
    case BorderMode::wrap:
      return modulo(at, n);
    case BorderMode::constant:
      return -1;
  }
  return -1;
}

}  // namespace

std::vector<Index> extended_axis(Index n, Index radius, BorderMode border) {
  if (n == 0) return {};
  std::vector<Index> source(n + 2 * radius);
  for (Index e = 0; e < n + 2 * radius; ++e) source[e] = source_of(e - radius, n, border);
  return source;
}

Window::Window(const Array& image, const std::vector<Index>& sizes, BorderMode border, double cval)
    : border(border), cval(cval) {
  shape.assign(std::max(0, 2 - image.ndim), 1);
  block = shape;
  shape.insert(shape.end(), image.shape.begin(), image.shape.begin() + image.ndim);
  block.insert(block.end(), sizes.begin(), sizes.end());
  for (int k = 0; k < ndim(); ++k) source.push_back(extended_axis(shape[k], block[k] / 2, border));
}

void for_tiles(const Window& w, Index rows, Index columns,
               const std::function<void(const Tile&)>& body) {
  if (w.empty()) return;
  const Index down = (w.shape[0] + rows - 1) / rows, across = (w.shape[1] + columns - 1) / columns;
  parallel_tasks(down * across, [&](Index i) {
    Tile tile{};
    tile.begin[0] = i / across * rows;
    tile.end[0] = std::min(w.shape[0], tile.begin[0] + rows);
    tile.begin[1] = i % across * columns;
    tile.end[1] = std::min(w.shape[1], tile.begin[1] + columns);
    tile.low = w.shape[1];
    for (Index e = tile.begin[1]; e < tile.end[1] + w.block[1] - 1; ++e) {
      const Index at = w.source[1][e];
      if (at < 0) continue;
      tile.low = std::min(tile.low, at);
      tile.high = std::max(tile.high, at + 1);
    }
    body(tile);
  });
}

void to_double(DType dtype, const void* row, Index n, double* __restrict out) {
  visit(dtype, [&]<class T>(Type<T>) {
    const T* __restrict in = static_cast<const T*>(row);
    for (Index j = 0; j < n; ++j) out[j] = static_cast<double>(in[j]);
  });
}

void Result::store(const double* __restrict level, Index position, Index n) const {
  visit(image_.dtype, [&]<class T>(Type<T>) {
    using Real =
        std::conditional_t<std::is_same_v<T, float16> || std::is_same_v<T, float>, float, double>;
    const Real offset = static_cast<Real>(offset_);
    if (!is_mask()) {
      Real* __restrict out = out_.as<Real>() + position;
      for (Index j = 0; j < n; ++j) out[j] = static_cast<Real>(level[j]) - offset;
      return;
    }
    std::uint8_t* __restrict out = mask() + position;
    const T* __restrict image = image_.as<T>() + position;
    for (Index j = 0; j < n; ++j)
      out[j] = static_cast<Real>(image[j]) > static_cast<Real>(level[j]) - offset;
  });
}

}  // namespace msf::local
