// A level set that is kept only near its zero set, in layers (sparse field method, Whitaker 1998).
//
// The active layer holds, of every two neighbours of different sign, the one nearer to the surface;
// the next two layers are the face neighbours of the layer before. Only active voxels evolve; after
// each step every other layer gets its distance from the one before by the upwind solution of the
// eikonal equation in mm, on the side of the surface that it was on. Deviations from the paper:
// distances are these instead of "neighbour plus one", so that voxels may have any size; layers are
// bits of rows instead of linked lists, so that they come in raster order, are found 64 voxels at a
// time, and do not depend on threads. Values are touched in the layers alone and bits in the box
// around them.
#pragma once

#include <array>
#include <cmath>

#include "bit_volume.hpp"
#include "zeroed.hpp"

namespace msf {

using Spacing = std::array<double, 3>;  // mm along planes, rows, columns

// A voxel: its flat index, its bit, and the steps to its face neighbours along each axis, 0 where
// the image ends.
struct Site {
  std::int64_t v, word;  // BitVolume::at(word)
  int bit;
  std::array<std::int64_t, 3> back, forth;
};

class SparseField {
 public:
  SparseField(const BitShape& shape, const Spacing& spacing)
      : shape_(shape),
        h_(spacing),
        weight_{1 / (h_[0] * h_[0]), 1 / (h_[1] * h_[1]), 1 / (h_[2] * h_[2])},
        memory_(static_cast<std::size_t>(shape.pixels()) * sizeof(float)),
        phi_(reinterpret_cast<float*>(memory_.data())),
        inside(shape),
        active(shape),
        near(shape),
        outer(shape),
        spare_(shape) {}

  const BitShape& shape() const { return shape_; }
  const Spacing& spacing() const { return h_; }
  float* phi() { return phi_; }
  bool empty() const { return box_.empty(); }

  // From a mask (bool) or a level set (float32, negative inside).
  void start(const Array& init);

  // Pieces of the rows that hold layers; their number and place do not depend on threads.
  struct Piece {
    std::int64_t z, first, last;
  };
  std::int64_t pieces() const { return box_.pieces(); }
  template <class F>
  void each_piece(F&& body) const {  // body(index, piece)
    parallel_tasks(pieces(), [&](std::int64_t i) { body(i, box_.piece(i)); });
  }

  // f(site) for the voxels of a layer in a piece, in raster order.
  template <class F>
  void each(const BitVolume& layer, const Piece& piece, F&& f) const {
    for (std::int64_t y = piece.first; y < piece.last; ++y)
      each_in_row(layer.row(piece.z, y), piece.z, y, f);
  }

  // After the active voxels have moved: the near layer follows. flipped(voxel, now inside) for
  // every voxel that changed sides.
  template <class F>
  void follow(const Piece& piece, F&& flipped) {
    each(near, piece, [&](const Site& site) { phi_[site.v] = distance(site, active); });
    for (std::int64_t y = piece.first; y < piece.last; ++y) {
      Word* const in = inside.row(piece.z, y);
      const std::int64_t start = shape_.row(piece.z, y);
      const auto update = [&](const Site& site) {
        const Word bit = Word{1} << site.bit;
        Word& word = in[site.word - start];
        const bool now = phi_[site.v] < 0;
        if (now == ((word & bit) != 0)) return;
        word ^= bit;
        flipped(site.v, now);
      };
      each_in_row(active.row(piece.z, y), piece.z, y, update);
      each_in_row(near.row(piece.z, y), piece.z, y, update);
    }
  }

  // Finds the layers anew, once all pieces have followed.
  void renew();

 private:
  // The rows of the planes that hold layers.
  struct Box {
    std::int64_t plane0 = 0, plane1 = 0, row0 = 0, row1 = 0, height = 1;
    bool empty() const { return plane0 >= plane1 || row0 >= row1; }
    std::int64_t each() const { return (row1 - row0 + height - 1) / height; }
    std::int64_t pieces() const { return empty() ? 0 : (plane1 - plane0) * each(); }
    Piece piece(std::int64_t i) const {
      const std::int64_t first = row0 + i % each() * height;
      return {plane0 + i / each(), first, std::min(row1, first + height)};
    }
  };

  template <class F>
  void each_in_row(const Word* words, std::int64_t z, std::int64_t y, F&& f) const {
    const std::int64_t plane = shape_.rows * shape_.columns, start = shape_.pixel(z, y);
    const std::int64_t first = shape_.row(z, y);
    Site site{0, 0, 0, {z > 0 ? -plane : 0, y > 0 ? -shape_.columns : 0, 0}, {}};
    site.forth = {z < shape_.planes - 1 ? plane : 0, y < shape_.rows - 1 ? shape_.columns : 0, 0};
    for (std::int64_t w = 0; w < shape_.words; ++w)
      for (Word bits = words[w]; bits; bits &= bits - 1) {
        site.bit = std::countr_zero(bits);
        site.word = first + w;
        const std::int64_t x = w * word_bits + site.bit;
        site.v = start + x;
        site.back[2] = x > 0 ? -1 : 0;
        site.forth[2] = x < shape_.columns - 1 ? 1 : 0;
        f(site);
      }
  }
  bool is_inside(const Site& site) const { return *inside.at(site.word) >> site.bit & 1; }
  // What a voxel of the layer around `from` gets: its distance, signed by the side it is on.
  float distance(const Site& site, const BitVolume& from) const;
  float kept_distance(const Site& site, const BitVolume& from) const;
  // Voxels of a row that have a neighbour on the other side: f(word, bits).
  template <class F>
  void each_crossing(std::int64_t z, std::int64_t y, F&& f) const;
  static void spread(const BitVolume& from, std::int64_t z, std::int64_t y, Word* words);
  void find_active();
  void find_layers(bool all);
  Box widened(const Box& box, std::int64_t by) const;
  void shrink_box();

  BitShape shape_;
  Spacing h_;
  std::array<double, 3> weight_;  // 1 / h^2
  Zeroed memory_;
  float* phi_;
  Box box_;

 public:
  BitVolume inside, active, near, outer;

 private:
  BitVolume spare_;
};

}  // namespace msf
