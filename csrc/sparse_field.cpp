#include "sparse_field.hpp"

#include <limits>

namespace msf {

// The nearest inner neighbour along each axis gives (u - d) / h. Along an axis without one the
// slope is taken from the nearest of them, as far as its own neighbours are of the inner layer;
// without this a voxel beside an oblique surface, which sees one neighbour, would be a whole side
// farther.
float SparseField::distance(const Site& site, const BitVolume& from) const {
  const Word* const at = from.at(site.word);
  const std::int64_t stride[2] = {shape_.plane_stride(), shape_.stride()};
  const std::int64_t jump[3] = {shape_.rows * shape_.columns, shape_.columns, 1};
  const auto holds = [&](const Word* word, int bit, int axis, int sign) -> bool {
    if (axis < 2) return word[sign * stride[axis]] >> bit & 1;
    return (sign < 0 ? before(word) : after(word)) >> bit & 1;
  };
  const double side = is_inside(site) ? -1 : 1;
  double d[3], least = std::numeric_limits<double>::infinity();
  int n = 0, axes[3], base_axis = 0, base_sign = 0;
  bool found[3];
  for (int axis = 0; axis < 3; ++axis) {
    const bool back = holds(at, site.bit, axis, -1), forth = holds(at, site.bit, axis, 1);
    found[axis] = back | forth;
    if (!found[axis]) continue;
    const double low = back ? side * phi_[site.v - jump[axis]] : 0;
    const double high = forth ? side * phi_[site.v + jump[axis]] : 0;
    const bool up = forth && (!back || high < low);
    d[n] = up ? high : low;
    axes[n] = axis;
    if (d[n] < least) least = d[n], base_axis = axis, base_sign = up ? 1 : -1;
    ++n;
  }
  double rest = 1;  // of the squared slope
  if (n < 3) {
    const std::int64_t base = site.v + base_sign * jump[base_axis];
    const Word* word = at;
    int bit = site.bit;
    if (base_axis < 2) {
      word += base_sign * stride[base_axis];
    } else {
      bit += base_sign;
      word += bit < 0 ? -1 : bit >= word_bits ? 1 : 0;
      bit &= word_bits - 1;
    }
    for (int axis = 0; axis < 3; ++axis) {
      if (found[axis]) continue;
      const bool back = holds(word, bit, axis, -1), forth = holds(word, bit, axis, 1);
      if (!(back | forth)) continue;
      const double high = phi_[forth ? base + jump[axis] : base];
      const double low = phi_[back ? base - jump[axis] : base];
      const double slope = (high - low) * (back & forth ? 0.5 : 1.0);
      rest -= slope * slope * weight_[axis];
    }
    rest = std::max(rest, 1.0 / 3);
  }
  if (n == 1) return static_cast<float>(side * (d[0] + h_[axes[0]] * std::sqrt(rest)));
  if (n > 1 && d[1] < d[0]) std::swap(d[0], d[1]), std::swap(axes[0], axes[1]);
  if (n > 2 && d[2] < d[1]) std::swap(d[1], d[2]), std::swap(axes[1], axes[2]);
  if (n > 2 && d[1] < d[0]) std::swap(d[0], d[1]), std::swap(axes[0], axes[1]);
  // Sum of ((u - d) / h)^2 = rest over the axes whose d is below u.
  double u = d[0] + h_[axes[0]] * std::sqrt(rest);
  double a = weight_[axes[0]], b = a * d[0], c = b * d[0] - rest;
  for (int i = 1; i < n && d[i] < u; ++i) {
    const double weight = weight_[axes[i]];
    a += weight;
    b += weight * d[i];
    c += weight * d[i] * d[i];
    const double root = b * b - a * c;
    if (root < 0) break;
    u = (b + std::sqrt(root)) / a;
  }
  return static_cast<float>(side * u);
}

// The same, but never on the other side.
float SparseField::kept_distance(const Site& site, const BitVolume& from) const {
  constexpr float least = 1e-4f;
  const float value = distance(site, from);
  return is_inside(site) ? std::min(value, -least) : std::max(value, least);
}

template <class F>
void SparseField::each_crossing(std::int64_t z, std::int64_t y, F&& f) const {
  const Word* const row = inside.row(z, y);
  const Word* const up = inside.row(z, std::max<std::int64_t>(y - 1, 0));
  const Word* const down = inside.row(z, std::min(y + 1, shape_.rows - 1));
  const Word* const above = inside.row(std::max<std::int64_t>(z - 1, 0), y);
  const Word* const below = inside.row(std::min(z + 1, shape_.planes - 1), y);
  const std::int64_t last = shape_.words - 1;
  const Word end = Word{1} << (shape_.columns - 1) % word_bits;
  for (std::int64_t w = 0; w <= last; ++w) {
    Word left = before(row + w), right = after(row + w);
    if (w == 0) left |= row[w] & 1;
    if (w == last) right |= row[w] & end;
    const Word same = row[w];
    const Word crossing = ((same ^ left) | (same ^ right) | (same ^ up[w]) | (same ^ down[w]) |
                           (same ^ above[w]) | (same ^ below[w])) &
                          shape_.valid(w);
    if (crossing) f(w, crossing);
  }
}

// words |= the face neighbours of a layer's voxels in one row, and these voxels.
void SparseField::spread(const BitVolume& from, std::int64_t z, std::int64_t y, Word* words) {
  const BitShape& s = from.shape();
  const Word* const row = from.row(z, y);
  for (std::int64_t w = 0; w < s.words; ++w)
    words[w] = (row[w] | before(row + w) | after(row + w) | row[w - s.stride()] |
                row[w + s.stride()] | row[w - s.plane_stride()] | row[w + s.plane_stride()]) &
               s.valid(w);
}

SparseField::Box SparseField::widened(const Box& box, std::int64_t by) const {
  if (box.empty()) return box;
  Box wide = box;
  wide.plane0 = std::max<std::int64_t>(0, box.plane0 - by);
  wide.plane1 = std::min(shape_.planes, box.plane1 + by);
  wide.row0 = std::max<std::int64_t>(0, box.row0 - by);
  wide.row1 = std::min(shape_.rows, box.row1 + by);
  return wide;
}

// To the rows that hold voxels of the outer layers.
void SparseField::shrink_box() {
  const std::int64_t planes = box_.plane1 - box_.plane0;
  std::vector<std::pair<std::int64_t, std::int64_t>> rows(planes, {shape_.rows, 0});
  parallel_for(planes, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t z = begin; z < end; ++z)
      for (std::int64_t y = box_.row0; y < box_.row1; ++y) {
        const Word* const a = active.row(box_.plane0 + z, y);
        const Word* const b = outer.row(box_.plane0 + z, y);
        const Word* const c = near.row(box_.plane0 + z, y);
        Word any = 0;
        for (std::int64_t w = 0; w < shape_.words; ++w) any |= a[w] | b[w] | c[w];
        if (any) rows[z] = {std::min(rows[z].first, y), y + 1};
      }
  });
  Box box{0, 0, shape_.rows, 0, box_.height};
  for (std::int64_t z = 0; z < planes; ++z) {
    if (rows[z].first >= rows[z].second) continue;
    if (box.plane1 == 0) box.plane0 = box_.plane0 + z;
    box.plane1 = box_.plane0 + z + 1;
    box.row0 = std::min(box.row0, rows[z].first);
    box.row1 = std::max(box.row1, rows[z].second);
  }
  box_ = box;
}

// active (in spare_) = of each pair across the surface the nearer voxel.
void SparseField::find_active() {
  each_piece([&](std::int64_t, const Piece& piece) {
    for (std::int64_t y = piece.first; y < piece.last; ++y) {
      Word* const to = spare_.row(piece.z, y);
      const std::int64_t start = shape_.row(piece.z, y);
      std::fill_n(to, shape_.words, Word{0});
      std::vector<Word> crossing(shape_.words, 0);
      each_crossing(piece.z, y, [&](std::int64_t w, Word bits) { crossing[w] = bits; });
      each_in_row(crossing.data(), piece.z, y, [&](const Site& site) {
        const float here = phi_[site.v];
        const bool in = here < 0;
        bool nearer = false;
        for (int axis = 0; axis < 3; ++axis)
          for (const std::int64_t step : {site.back[axis], site.forth[axis]}) {
            const float there = phi_[site.v + step];
            nearer |= ((there < 0) != in) & (std::abs(here) <= std::abs(there));
          }
        to[site.word - start] |= static_cast<Word>(nearer) << site.bit;
      });
    }
  });
}

// The near layer and the outer layer around `active`. Values of near voxels that were in neither
// of the inner layers are new (`all`: of all near voxels), those of the outer layer always.
void SparseField::find_layers(bool all) {
  BitVolume& was_active = spare_;
  // The old near layer is needed beside the new one, which goes to `outer` first.
  each_piece([&](std::int64_t, const Piece& piece) {
    std::vector<Word> fresh(shape_.words);
    for (std::int64_t y = piece.first; y < piece.last; ++y) {
      Word* const to = outer.row(piece.z, y);
      spread(active, piece.z, y, to);
      const Word* const now = active.row(piece.z, y);
      const Word* const old = was_active.row(piece.z, y);
      const Word* const old_near = near.row(piece.z, y);
      for (std::int64_t w = 0; w < shape_.words; ++w) {
        to[w] &= ~now[w];
        fresh[w] = all ? to[w] : to[w] & ~(old[w] | old_near[w]);
      }
      each_in_row(fresh.data(), piece.z, y,
                  [&](const Site& site) { phi_[site.v] = kept_distance(site, active); });
    }
  });
  near.swap(outer);
  each_piece([&](std::int64_t, const Piece& piece) {
    for (std::int64_t y = piece.first; y < piece.last; ++y) {
      Word* const to = outer.row(piece.z, y);
      std::fill_n(was_active.row(piece.z, y), shape_.words, Word{0});
      spread(near, piece.z, y, to);
      const Word* const a = active.row(piece.z, y);
      const Word* const b = near.row(piece.z, y);
      for (std::int64_t w = 0; w < shape_.words; ++w) to[w] &= ~(a[w] | b[w]);
      each_in_row(to, piece.z, y,
                  [&](const Site& site) { phi_[site.v] = kept_distance(site, near); });
    }
  });
  shrink_box();
}

void SparseField::renew() {
  box_ = widened(box_, 2);
  find_active();
  active.swap(spare_);
  find_layers(false);
}

void SparseField::start(const Array& init) {
  const bool is_mask = init.dtype == DType::boolean;
  const float* const given = is_mask ? nullptr : init.as<float>();
  if (is_mask) {
    inside.pack(init.as<std::uint8_t>());
  } else {
    shape_.each_piece([&](std::int64_t z, std::int64_t first, std::int64_t last) {
      for (std::int64_t y = first; y < last; ++y) {
        const float* const row = given + shape_.pixel(z, y);
        pack_row([=](std::int64_t x) { return row[x] < 0; }, shape_.columns, inside.row(z, y));
      }
    });
  }
  box_ = {0, shape_.planes, 0, shape_.rows, std::max<std::int64_t>(1, (1 << 11) / shape_.columns)};
  // Beside the surface: half way to the nearest voxel of the other side, or the given values as
  // distances (Russo and Smereka 2000, eq. 12: divided by the steepest estimate of the slope).
  each_piece([&](std::int64_t, const Piece& piece) {
    std::vector<Word> crossing(shape_.words);
    for (std::int64_t y = piece.first; y < piece.last; ++y) {
      std::fill(crossing.begin(), crossing.end(), 0);
      each_crossing(piece.z, y, [&](std::int64_t w, Word bits) { crossing[w] = bits; });
      each_in_row(crossing.data(), piece.z, y, [&](const Site& site) {
        const bool in = is_inside(site);
        const Word* const at = inside.at(site.word);
        const std::int64_t row = shape_.stride(), plane = shape_.plane_stride();
        const Word around[3][2] = {
            {at[-plane], at[plane]}, {at[-row], at[row]}, {before(at), after(at)}};
        double half = std::numeric_limits<double>::infinity(), central = 0, side = 0;
        for (int axis = 0; axis < 3; ++axis) {
          const double h = h_[axis];
          const auto across = [&](std::int64_t step, Word bits) {
            if (step && (bits >> site.bit & 1) != in) half = std::min(half, h / 2);
          };
          across(site.back[axis], around[axis][0]);
          across(site.forth[axis], around[axis][1]);
          if (is_mask) continue;
          const double here = given[site.v];
          const double back = (here - given[site.v + site.back[axis]]) / h;
          const double forth = (given[site.v + site.forth[axis]] - here) / h;
          central += (back + forth) * (back + forth) / 4;
          side = std::max({side, std::abs(back), std::abs(forth)});
        }
        const double slope = std::max(std::sqrt(central), side);
        double value = in ? -half : half;
        if (!is_mask && slope > 0 && std::isfinite(slope)) value = given[site.v] / slope;
        phi_[site.v] = static_cast<float>(value);
      });
    }
  });
  find_active();
  active.swap(spare_);
  find_layers(true);
}

}  // namespace msf
