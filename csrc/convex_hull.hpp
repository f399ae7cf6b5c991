// Convex hulls of voxels of a plane, in integers.
//
// A. M. Andrew, "Another efficient algorithm for convex hulls in two dimensions", Information
// Processing Letters 9 (1979) 216-219.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <vector>

namespace msf {

struct Point {  // in half voxels
  std::int64_t y, x;
  auto operator<=>(const Point&) const = default;
};
using Polygon = std::vector<Point>;

// Corners of the convex hull, in order around it; sorts the points.
inline Polygon hull(Polygon& points) {
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  if (points.size() < 3) return points;
  Polygon corners;
  const auto extend = [&](std::size_t least, const Point& p) {
    while (corners.size() >= least + 2) {
      const Point &a = corners[corners.size() - 2], &b = corners.back();
      if ((b.y - a.y) * (p.x - a.x) - (b.x - a.x) * (p.y - a.y) > 0) break;
      corners.pop_back();
    }
    corners.push_back(p);
  };
  for (const Point& p : points) extend(0, p);
  const std::size_t half = corners.size() - 1;
  for (std::size_t i = points.size() - 1; i-- > 0;) extend(half, points[i]);
  corners.pop_back();
  return corners;
}

// The hull of the middles of the faces of voxels, from that of their centres.
inline Polygon widened(const Polygon& corners) {
  Polygon points;
  for (const Point& p : corners) {
    points.insert(points.end(), {{p.y - 1, p.x}, {p.y + 1, p.x}, {p.y, p.x - 1}, {p.y, p.x + 1}});
  }
  return hull(points);
}

}  // namespace msf
