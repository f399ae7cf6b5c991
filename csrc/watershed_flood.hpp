// What a flooding works on, for its generic and its specialised loops.
#pragma once

#include <cstdint>

#include "watershed.hpp"
#include "watershed_queue.hpp"

namespace msf {

inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
inline void prefetch_to_write(const void* p) { __builtin_prefetch(p, 1, 3); }

template <class Key>
struct Flooding {
  const Array& image;
  const Footprint& footprint;
  Bitmap &free, &markers, edge;
  PixelKeys<Key> keys;
  Labels labels;
  bool lines;

  Flooding(const Array& image, const Footprint& footprint, Bitmap& free, Bitmap& markers,
           const MutableArray& labels, bool lines)
      : image(image),
        footprint(footprint),
        free(free),
        markers(markers),
        edge(image.size(), 0),
        keys(image),
        labels(labels),
        lines(lines) {
    footprint.mark_edge(edge.words());
  }
};

// Floods without lines by keys of 8 or 16 bits, for the usual footprints (4, 6 and 26 neighbours);
// false if the footprint is another one or the image too large for 32-bit indices.
template <class Key>
bool flood_levels(Flooding<Key>& f);
extern template bool flood_levels(Flooding<std::uint8_t>&);
extern template bool flood_levels(Flooding<std::uint16_t>&);

}  // namespace msf
