// Largest diameters of labels in mm, between the outer faces of their voxels.
//
// Only corners of convex hulls can be ends. Runs give the hull of each plane of a label; widening
// each of its points by half a voxel along every axis gives the hull of the middles of the outer
// faces, which are the vertices of the label's surface mesh. The largest diameter of all:
// hulls of sections along the other axes leave few of these points, and of them only pairs far from
// the middle are compared.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "convex_hull.hpp"
#include "kernels/regions.hpp"
#include "label_runs.hpp"

namespace msf {
namespace {

struct Run {
  std::int64_t line, begin, end;
};
struct Plane {
  std::int64_t z;
  Polygon corners;  // of the hull of voxel centres
  Point low, high;  // of these
};

std::vector<Plane> planes_of(const std::vector<Run>& runs, std::int64_t rows) {
  std::vector<Plane> planes;
  Polygon ends;
  for (std::size_t i = 0; i < runs.size();) {
    const std::int64_t z = runs[i].line / rows;
    ends.clear();
    while (i < runs.size() && runs[i].line / rows == z) {
      const Run& run = runs[i++];
      ends.push_back({2 * (run.line % rows), 2 * run.begin});
      ends.push_back({2 * (run.line % rows), 2 * (run.end - 1)});
    }
    Plane plane{z, hull(ends), {}, {}};
    plane.low = plane.high = plane.corners.front();
    for (const Point& p : plane.corners) {
      plane.low = {std::min(plane.low.y, p.y), std::min(plane.low.x, p.x)};
      plane.high = {std::max(plane.high.y, p.y), std::max(plane.high.x, p.x)};
    }
    planes.push_back(std::move(plane));
  }
  return planes;
}

using Voxel = std::array<std::int64_t, 3>;

// The planes' corners that are corners of the hulls of sections along the other axes, too: all
// corners of the label's hull are among them.
std::vector<Voxel> corners_of(const std::vector<Plane>& planes) {
  std::vector<Voxel> voxels;
  for (const Plane& plane : planes)
    for (const Point& p : plane.corners) voxels.push_back({plane.z, p.y, p.x});
  for (const int axis : {1, 2}) {
    const int other = 3 - axis;
    std::sort(voxels.begin(), voxels.end(),
              [&](const Voxel& a, const Voxel& b) { return a[axis] < b[axis]; });
    std::vector<Voxel> kept;
    Polygon section;
    for (std::size_t i = 0; i < voxels.size();) {
      const std::int64_t at = voxels[i][axis];
      section.clear();
      for (; i < voxels.size() && voxels[i][axis] == at; ++i)
        section.push_back({voxels[i][0], voxels[i][other]});
      for (const Point& p : hull(section)) {
        Voxel& voxel = kept.emplace_back();
        voxel[0] = p.y;
        voxel[axis] = at;
        voxel[other] = p.x;
      }
    }
    voxels.swap(kept);
  }
  return voxels;
}

class Diameters {
 public:
  explicit Diameters(const std::vector<double>& spacing)
      : z_(spacing.size() == 3 ? spacing[0] : 0),
        y_(spacing[spacing.size() - 2] / 2),
        x_(spacing.back() / 2) {}

  void measure(const std::vector<Plane>& planes, double* out) const {
    out[0] = std::sqrt(largest(planes));
    double best = -1;
    Polygon longest;
    std::size_t p = 0, q = 0;
    for (const Plane& plane : planes) {
      // The box bounds what the plane can have.
      const double dy = static_cast<double>(plane.high.y - plane.low.y + 2) * y_;
      const double dx = static_cast<double>(plane.high.x - plane.low.x + 2) * x_;
      if (dy * dy + dx * dx <= best) continue;
      const Polygon polygon = widened(plane.corners);
      for (std::size_t i = 0; i < polygon.size(); ++i)
        for (std::size_t j = i + 1; j < polygon.size(); ++j)
          if (const double d = squared(polygon[i], polygon[j]); d > best) {
            best = d, p = i, q = j, longest = polygon;
            out[3] = static_cast<double>(plane.z);
          }
      poll();
    }
    out[1] = std::sqrt(best);
    put(longest[p], out + 4);
    put(longest[q], out + 6);
    across(longest, longest[p], longest[q], out);
  }

 private:
  double squared(const Point& a, const Point& b) const {
    const double dy = static_cast<double>(a.y - b.y) * y_;
    const double dx = static_cast<double>(a.x - b.x) * x_;
    return dy * dy + dx * dx;
  }
  static void put(const Point& p, double* out) {
    out[0] = static_cast<double>(p.y) / 2;
    out[1] = static_cast<double>(p.x) / 2;
  }
  // Squared distance of the farthest two of the middles of faces of two voxels, whose centres are
  // so many mm apart along each axis.
  double reach(double dz, double dy, double dx) const {
    const std::array<double, 3> half{z_ / 2, y_, x_}, apart{dz, dy, dx};
    double most = 0;
    for (int a = z_ > 0 ? 0 : 1; a < 3; ++a)
      for (int b = a; b < 3; ++b) {
        std::array<double, 3> d = apart;
        d[a] += half[a];
        d[b] += half[b];
        most = std::max(most, d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
      }
    return most;
  }

  // Squared. Pairs are taken in the order of their distances from the middle, which bound theirs.
  double largest(const std::vector<Plane>& planes) const {
    struct Place {
      std::array<double, 3> at;  // mm
      double away;
    };
    std::vector<Place> places;
    std::array<double, 3> middle{};
    for (const auto& [z, y, x] : corners_of(planes)) {
      places.push_back(
          {{static_cast<double>(z) * z_, static_cast<double>(y) * y_, static_cast<double>(x) * x_},
           0});
      for (int axis = 0; axis < 3; ++axis) middle[axis] += places.back().at[axis];
    }
    for (Place& p : places) {
      for (int axis = 0; axis < 3; ++axis) {
        const double d = p.at[axis] - middle[axis] / static_cast<double>(places.size());
        p.away += d * d;
      }
      p.away = std::sqrt(p.away);
    }
    std::sort(places.begin(), places.end(),
              [](const Place& a, const Place& b) { return a.away > b.away; });
    // The faces' middles are at most a voxel farther apart than the centres.
    const double voxel = std::max({z_, 2 * y_, 2 * x_});
    double best = 0, needed = -1;  // of centres
    Ticker tick(16);
    for (auto p = places.begin(); p != places.end(); ++p, tick()) {
      for (auto q = places.begin(); q <= p; ++q) {
        if (p->away + q->away < needed) break;
        const double dz = std::abs(p->at[0] - q->at[0]), dy = std::abs(p->at[1] - q->at[1]),
                     dx = std::abs(p->at[2] - q->at[2]);
        if (needed > 0 && dz * dz + dy * dy + dx * dx < needed * needed) continue;
        best = std::max(best, reach(dz, dy, dx));
        needed = (std::sqrt(best) - voxel) * (1 - 1e-9);
      }
    }
    return best;
  }

  // The longest chord of the polygon that is perpendicular to the line from p to q. The length of
  // chords changes linearly between corners, so one of the longest passes through a corner.
  void across(const Polygon& polygon, const Point& p, const Point& q, double* out) const {
    const double length = out[1];
    const double uy = static_cast<double>(q.y - p.y) * y_ / length;
    const double ux = static_cast<double>(q.x - p.x) * x_ / length;
    const std::size_t n = polygon.size();
    std::vector<double> along(n), beside(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double y = static_cast<double>(polygon[i].y) * y_;
      const double x = static_cast<double>(polygon[i].x) * x_;
      along[i] = uy * y + ux * x;
      beside[i] = ux * y - uy * x;
    }
    double widest = -1, at = 0, low = 0, high = 0;
    for (std::size_t k = 0; k < n; ++k) {
      double least = beside[k], most = beside[k];
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t j = i + 1 < n ? i + 1 : 0;
        const double from = along[i] - along[k], to = along[j] - along[k];
        if (from * to > 0 || from == to) continue;
        const double cut = beside[i] + (beside[j] - beside[i]) * (from / (from - to));
        least = std::min(least, cut);
        most = std::max(most, cut);
      }
      if (most - least > widest) widest = most - least, at = along[k], low = least, high = most;
    }
    out[2] = widest;
    for (int end = 0; end < 2; ++end) {
      const double aside = end ? high : low;
      out[8 + 2 * end] = (uy * at + ux * aside) / (2 * y_);
      out[9 + 2 * end] = (ux * at - uy * aside) / (2 * x_);
    }
  }

  double z_, y_, x_;  // mm: of a voxel along z, of half a one along y and x
};

}  // namespace

void diameters(const Array& labels, const std::vector<double>& spacing, const MutableArray& out) {
  const std::int64_t count = out.shape[0], rows = labels.shape[labels.ndim - 2];
  // For each label the ends of every line that it is in.
  const Slabs slabs(lines_of(labels), 256);
  std::vector<std::vector<std::vector<Run>>> found(slabs.count);
  slabs.run([&](std::int64_t slab, std::int64_t begin, std::int64_t end) {
    std::vector<std::vector<Run>>& mine = found[slab];
    mine.resize(count);
    for_each_label_run(labels, count, begin, end,
                       [&](std::int64_t label, std::int64_t line, std::int64_t from,
                           std::int64_t to, const auto&) {
                         std::vector<Run>& runs = mine[label];
                         if (!runs.empty() && runs.back().line == line)
                           runs.back().end = to;
                         else
                           runs.push_back({line, from, to});
                       });
  });
  std::vector<std::vector<Run>>& runs = found[0];
  runs.resize(count);
  for (std::int64_t slab = 1; slab < slabs.count; ++slab)
    for (std::int64_t label = 0; label < count; ++label) {
      std::vector<Run>& part = found[slab][label];
      runs[label].insert(runs[label].end(), part.begin(), part.end());
      part = {};
    }
  const Diameters diameters(spacing);
  parallel_tasks(count, [&](std::int64_t label) {
    if (!runs[label].empty())
      diameters.measure(planes_of(runs[label], rows), out.as<double>() + label * 12);
  });
}

}  // namespace msf
