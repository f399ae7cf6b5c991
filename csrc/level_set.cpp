// Geodesic active contours (Caselles, Kimmel and Sapiro 1997) and active contours without edges
// (Chan and Vese 2001) on a sparse field (sparse_field.hpp).
//
// Both are d phi / dt = -F |grad phi| - V . grad phi + C kappa |grad phi|: the first two terms by
// upwind differences (Osher and Sethian 1988), the curvature by central ones. Forces are taken
// where the surface is, not at the voxel's centre: without this they jump as the surface passes
// from voxel to voxel, and it never rests. The time step is the largest for which no voxel moves
// by more than half a voxel and all terms are stable.
#include <cmath>

#include "kernels/level_set.hpp"
#include "sparse_field.hpp"

namespace msf {
namespace {

struct Rate {
  double change = 0;  // of phi, per unit of time
  double limit = 0;   // least number of steps per unit of time
};

// Voxel sides in mm and what follows from them.
struct Grid {
  Spacing h, inverse;
  double volume, side, diffusion;  // of a voxel; its shortest; sum of 2 / h^2

  Grid(const Spacing& spacing, bool three)
      : h(spacing),
        inverse{1 / h[0], 1 / h[1], 1 / h[2]},
        volume(h[0] * h[1] * h[2]),
        side(std::min({three ? h[0] : h[1], h[1], h[2]})),
        // An explicit step of diffusion is stable up to the inverse of this.
        diffusion(2 * ((three ? inverse[0] * inverse[0] : 0) + inverse[1] * inverse[1] +
                       inverse[2] * inverse[2])) {}
};

// Differences of phi around a voxel.
struct Slopes {
  double here;
  std::array<double, 3> back, forth, central;
  double square = 0;  // of the central gradient's length

  Slopes(const float* phi, const Site& site, const Grid& grid) : here(phi[site.v]) {
    for (int axis = 0; axis < 3; ++axis) {
      back[axis] = (here - phi[site.v + site.back[axis]]) * grid.inverse[axis];
      forth[axis] = (phi[site.v + site.forth[axis]] - here) * grid.inverse[axis];
      central[axis] = (back[axis] + forth[axis]) / 2;
      square += central[axis] * central[axis];
    }
    inverse_square = square < 1e-6 ? 0 : 1 / square;
  }

  // Steps in voxels from the voxel to the surface.
  std::array<double, 3> offsets(const Grid& grid) const {
    std::array<double, 3> offset;
    for (int axis = 0; axis < 3; ++axis)
      offset[axis] =
          std::clamp(-here * central[axis] * inverse_square * grid.inverse[axis], -1., 1.);
    return offset;
  }

  // F |grad phi| for a surface that moves outwards at speed F, upwind.
  double outwards(double speed) const {
    double sum = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const double b = speed > 0 ? std::max(back[axis], 0.0) : std::min(back[axis], 0.0);
      const double f = speed > 0 ? std::min(forth[axis], 0.0) : std::max(forth[axis], 0.0);
      sum += b * b + f * f;
    }
    return speed * std::sqrt(sum);
  }

  // Mean curvature times |grad phi|.
  double curvature(const float* phi, const Site& site, const Grid& grid) const {
    double laplace = 0, along = 0;
    for (int i = 0; i < 3; ++i) {
      const double second = (forth[i] - back[i]) * grid.inverse[i];
      laplace += second;
      along += central[i] * central[i] * second;
      const float* const up = phi + site.v + site.forth[i];
      const float* const down = phi + site.v + site.back[i];
      for (int j = i + 1; j < 3; ++j) {
        const double mixed = (static_cast<double>(up[site.forth[j]]) - up[site.back[j]]) -
                             (static_cast<double>(down[site.forth[j]]) - down[site.back[j]]);
        along += central[i] * central[j] * mixed * (0.5 * grid.inverse[i] * grid.inverse[j]);
      }
    }
    return inverse_square == 0 ? 0 : laplace - along * inverse_square;
  }

  // The voxel's share of the surface's area per volume. A crossing between neighbours stands for a
  // patch whose projection along their axis is a voxel's face, so that a plane's area is the sum of
  // faces times the normal's components; the nearer of the two voxels counts it.
  double area(const float* phi, const Site& site, const Grid& grid) const {
    double sum = 0;
    for (int axis = 0; axis < 3; ++axis) {
      double crossings = 0;
      for (const std::int64_t step : {site.back[axis], site.forth[axis]}) {
        const double there = phi[site.v + step];
        const double nearer = std::abs(here) < std::abs(there)    ? 1
                              : std::abs(here) == std::abs(there) ? 0.5
                                                                  : 0;
        crossings += (there < 0) != (here < 0) ? nearer : 0;
      }
      sum += crossings * std::abs(central[axis]) * grid.inverse[axis];
    }
    return sum * std::sqrt(inverse_square);
  }

 private:
  double inverse_square;
};

struct Edges {
  const float* g;
  GeodesicWeights weights;
  struct Sums {};

  void begin(const SparseField&) {}
  void add(const Sums&) {}
  void flip(Sums&, std::int64_t, bool) const {}
  double energy(double area) const { return area; }
  double weight(std::int64_t v) const { return g[v]; }

  Rate rate(const float* phi, const Site& site, const Slopes& slopes, const Grid& grid) const {
    const std::array<double, 3> offset = slopes.offsets(grid);
    const double here = g[site.v];
    double speed = here, advection = 0, drift = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const double back = here - g[site.v + site.back[axis]];
      const double forth = g[site.v + site.forth[axis]] - here;
      speed += offset[axis] * (offset[axis] > 0 ? forth : back);
      const bool both = site.back[axis] && site.forth[axis];
      const double slope = both ? (back + forth) / 2 + offset[axis] * (forth - back) : back + forth;
      const double velocity = -weights.advection * slope * grid.inverse[axis];
      advection += velocity * (velocity > 0 ? slopes.back[axis] : slopes.forth[axis]);
      drift += std::max(std::abs(back), std::abs(forth)) * grid.inverse[axis] * grid.inverse[axis];
    }
    speed = std::max(speed, 0.0);
    Rate rate;
    rate.change = -slopes.outwards(weights.propagation * speed) - advection;
    rate.limit = 2 * (std::abs(weights.propagation) * std::max(speed, here) / grid.side +
                      std::abs(weights.advection) * drift);
    if (weights.curvature != 0) {
      rate.change += weights.curvature * speed * slopes.curvature(phi, site, grid);
      rate.limit += weights.curvature * std::max(speed, here) * grid.diffusion;
    }
    return rate;
  }
};

struct Regions {
  double (*value)(const void*, std::int64_t);
  const void* image;
  double low, scale;
  RegionWeights weights;
  std::int64_t pixels;
  double volume = 1;  // of a voxel

  struct Sums {
    double n = 0, sum = 0, squares = 0;
    void add(double v, double sign) {
      n += sign;
      sum += sign * v;
      squares += sign * v * v;
    }
  };
  Sums in, out;

  double at(std::int64_t v) const { return (value(image, v) - low) * scale; }

  void begin(const SparseField& field) {
    const BitShape& s = field.shape();
    volume = field.spacing()[0] * field.spacing()[1] * field.spacing()[2];
    std::vector<std::array<Sums, 2>> rows(s.planes * s.rows);
    parallel_for(s.planes * s.rows, 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        const Word* const bits = field.inside.row(row / s.rows, row % s.rows);
        for (std::int64_t x = 0; x < s.columns; ++x)
          rows[row][bits[x / word_bits] >> x % word_bits & 1].add(at(row * s.columns + x), 1);
      }
    });
    for (const auto& row : rows)
      for (Sums* const to : {&out, &in}) {
        const Sums& from = row[to == &in];
        to->n += from.n, to->sum += from.sum, to->squares += from.squares;
      }
  }
  void flip(Sums& sums, std::int64_t v, bool now) const { sums.add(at(v), now ? 1 : -1); }
  void add(const Sums& moved) {
    in.n += moved.n, in.sum += moved.sum, in.squares += moved.squares;
    out.n -= moved.n, out.sum -= moved.sum, out.squares -= moved.squares;
  }
  static double mean(const Sums& s) { return s.n > 0 ? s.sum / s.n : 0; }
  static double spread(const Sums& s) { return s.n > 0 ? s.squares - s.sum * s.sum / s.n : 0; }
  double energy(double area) const {
    return weights.mu * area + volume * (weights.nu * in.n + weights.lambda1 * spread(in) +
                                         weights.lambda2 * spread(out));
  }
  double weight(std::int64_t) const { return 1; }
  double outwards(double v) const {
    const double from_in = v - mean(in), from_out = v - mean(out);
    return weights.lambda2 * from_out * from_out - weights.lambda1 * from_in * from_in - weights.nu;
  }

  Rate rate(const float* phi, const Site& site, const Slopes& slopes, const Grid& grid) const {
    const std::array<double, 3> offset = slopes.offsets(grid);
    const double here = at(site.v);
    double there = here;
    for (int axis = 0; axis < 3; ++axis) {
      const std::int64_t step = offset[axis] > 0 ? site.forth[axis] : site.back[axis];
      if (step) there += std::abs(offset[axis]) * (at(site.v + step) - here);
    }
    const double speed = outwards(there);
    Rate rate;
    rate.change = -slopes.outwards(speed);
    rate.limit = 2 * std::max(std::abs(speed), std::abs(outwards(here))) / grid.side;
    if (weights.mu != 0) {
      rate.change += weights.mu * slopes.curvature(phi, site, grid);
      rate.limit += weights.mu * grid.diffusion;
    }
    return rate;
  }
};

template <class Force>
class Evolution final : public LevelSet {
 public:
  Evolution(Force force, const Array& init, const Spacing& spacing)
      : force_(force), field_(BitShape(init), spacing), grid_(spacing, init.ndim == 3) {
    field_.start(init);
    force_.begin(field_);
  }

  std::vector<Step> iterate(std::int64_t iterations, double tolerance) override {
    std::vector<Step> steps;
    while (static_cast<std::int64_t>(steps.size()) < iterations && !field_.empty()) {
      poll();
      steps.push_back(step());
      if (steps.back().rms <= tolerance) break;
    }
    return steps;
  }

  void mask(const MutableArray& out) override {
    const BitShape& s = field_.shape();
    s.each_piece([&](std::int64_t z, std::int64_t first, std::int64_t last) {
      for (std::int64_t y = first; y < last; ++y)
        expand_bits(field_.inside.row(z, y), s.columns, out.as<std::uint8_t>() + s.pixel(z, y));
    });
  }

  void overlay(const MutableArray& out, double shift) override {
    float* const to = out.as<float>();
    const auto by = static_cast<float>(shift);
    parallel_for(out.size(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) to[i] -= to[i] < 0 ? -by : by;
    });
    field_.each_piece([&](std::int64_t, const SparseField::Piece& piece) {
      const auto copy = [&](const Site& site) { to[site.v] = field_.phi()[site.v]; };
      for (const BitVolume* layer : {&field_.active, &field_.near, &field_.outer})
        field_.each(*layer, piece, copy);
    });
  }

 private:
  // What a piece of the band adds up to.
  struct Part {
    std::vector<double> changes;
    double limit = 0, area = 0, squares = 0;
    typename Force::Sums moved;
  };

  Step step() {
    float* const phi = field_.phi();
    std::vector<Part> parts(field_.pieces());
    field_.each_piece([&](std::int64_t i, const SparseField::Piece& piece) {
      Part& part = parts[i];
      field_.each(field_.active, piece, [&](const Site& site) {
        const Slopes slopes(phi, site, grid_);
        const Rate rate = force_.rate(phi, site, slopes, grid_);
        part.changes.push_back(rate.change);
        part.limit = std::max(part.limit, rate.limit);
        part.area += force_.weight(site.v) * slopes.area(phi, site, grid_);
      });
    });
    double limit = 0, area = 0;
    for (const Part& part : parts) limit = std::max(limit, part.limit), area += part.area;
    const double energy = force_.energy(area * grid_.volume);
    if (limit == 0) return {energy, 0};

    const double dt = 1 / limit, most = grid_.side / 2;
    field_.each_piece([&](std::int64_t i, const SparseField::Piece& piece) {
      Part& part = parts[i];
      const double* change = part.changes.data();
      field_.each(field_.active, piece, [&](const Site& site) {
        const double by = std::clamp(dt * *change++, -most, most);
        phi[site.v] = static_cast<float>(phi[site.v] + by);
        part.squares += by * by;
      });
    });
    field_.each_piece([&](std::int64_t i, const SparseField::Piece& piece) {
      field_.follow(piece, [&](std::int64_t v, bool now) { force_.flip(parts[i].moved, v, now); });
    });
    double squares = 0, count = 0;
    for (const Part& part : parts) {
      squares += part.squares;
      count += static_cast<double>(part.changes.size());
      force_.add(part.moved);
    }
    field_.renew();
    return {energy, count > 0 ? std::sqrt(squares / count) / grid_.side : 0};
  }

  Force force_;
  SparseField field_;
  Grid grid_;
};

}  // namespace

std::unique_ptr<LevelSet> geodesic_level_set(const Array& speed, const Array& init,
                                             const std::array<double, 3>& spacing,
                                             const GeodesicWeights& weights) {
  return std::make_unique<Evolution<Edges>>(Edges{speed.as<float>(), weights}, init, spacing);
}

std::unique_ptr<LevelSet> region_level_set(const Array& image, double low, double scale,
                                           const Array& init, const std::array<double, 3>& spacing,
                                           const RegionWeights& weights) {
  Regions force{nullptr, image.data, low, scale, weights, image.size(), 1, {}, {}};
  visit(image.dtype, [&]<class T>(Type<T>) {
    force.value = [](const void* data, std::int64_t i) {
      return static_cast<double>(static_cast<const T*>(data)[i]);
    };
  });
  return std::make_unique<Evolution<Regions>>(force, init, spacing);
}

}  // namespace msf
