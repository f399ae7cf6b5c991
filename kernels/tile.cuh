// Which pixel a thread works on where neighbours matter: tiles of 8 by 32 pixels of a plane.
#pragma once
#include "device.cuh"

constexpr int tile_rows = 8, tile_columns = 32, tile_size = tile_rows * tile_columns;

// Rows that a thread of a filter makes, of a tile of strips: with fewer more sums are made twice,
// with more registers run out.
constexpr int rows_of_thread = 4;

// The pixel of the calling thread, which is one of `tile_size` in a one-dimensional grid over the
// tiles of all planes. 32-bit numbers: a division of 64-bit ones is a call that spills registers.
struct Pixel {
  int64 index;
  int plane, row, column;
  bool exists;

  __device__ __forceinline__ Pixel(int rows, int columns) {
    const unsigned across = (columns + tile_columns - 1) / tile_columns;
    const unsigned tiles = across * ((rows + tile_rows - 1) / tile_rows);
    const unsigned tile = blockIdx.x % tiles;
    plane = int(blockIdx.x / tiles);
    row = int(tile / across) * tile_rows + int(threadIdx.x) / tile_columns;
    column = int(tile % across) * tile_columns + int(threadIdx.x) % tile_columns;
    exists = row < rows && column < columns;
    index = (int64(plane) * rows + row) * columns + column;
  }
};
