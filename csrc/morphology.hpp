// Flat morphology by short programs on planes that stay in cache.
//
// The result is cut into blocks. For each block the planes it needs are loaded one after the other
// into a small padded buffer (so borders cost nothing further on and the image is read once); rows
// of a buffer lie behind each other, so that a windowed extreme along x or y is the extreme of the
// buffer with itself shifted, one long vector loop. A window of w takes about log4(w) such passes
// of up to four shifts (a window of 15 is four windows of 4, which is four pixels): fewer
// operations than the three per pixel of van Herk (1992) and Gil and Werman (1993) up to w = 64,
// and all of them in vector registers. Other footprints are sets of horizontal runs: each
// distinct length of run is made once per row and shared by all rows that need it, as in E. R.
// Urbach, M. H. F. Wilkinson, "Efficient 2-D grayscale morphological transformations with
// arbitrary flat structuring elements", IEEE Trans. Image Process. 17 (2008). The buffers of the
// last planes are kept in rings; a pixel of the result is the extreme of a few of their rows.
#pragma once

#include <cstdint>
#include <vector>

#include "array.hpp"
#include "kernels/morphology.hpp"

namespace msf::morphology {

using Index = std::int64_t;

// What buffers are made of and how extremes of them are taken.
struct Cells {
  Index bytes, pixels;  // of a cell
  // to[i] = extreme of rows[k][i] over k < count, for i < n cells: whole blocks of 32 bytes.
  void (*combine)(const void* const* rows, int count, void* to, Index n);
  // to[i] = extreme of from[i + shifts[k]] over at most four shifts, in pixels and ascending; n
  // cells. `to` may be `from` if the first shift is 0.
  void (*along)(const void* from, void* to, Index n, const Index* shifts, int count);
};

// Rows of the image as cells, and cells as rows of the result.
class Rows {
 public:
  virtual ~Rows() = default;
  // Pixels [first, first + n) of a row of the image, which may be beyond its ends; row -1 is
  // outside.
  virtual void load(Index row, Index first, Index n, void* cells) const = 0;
  // Pixels [first, first + n) of a row of the result, from each chain of buffers. `begun`: join
  // them to what is there; `done`: no further part follows. `scratch` has room for two rows.
  virtual void store(const void* const* extremes, Index row, Index first, Index n, bool begun,
                     bool done, void* scratch) const = 0;
};

// Runs `parts` on a volume of this shape (three axes at least). One chain of buffers for each of
// the `chains` kinds of extremes.
void run(const std::vector<Index>& shape, const std::vector<FlatFootprint>& parts,
         BorderMode border, const std::vector<Cells>& chains, const Rows& rows);

}  // namespace msf::morphology
