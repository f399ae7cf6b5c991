// Sums of the pixels above a threshold, as Li's iteration asks for them.
//
// Each block leaves its sum and number for others to add up: in the same order on every run.
#pragma once
#include "chunk.cuh"

// Of row `which[y]` of an image of rows of n pixels, y on the grid's second axis: of the pixels
// less `origins[y]`, those above `levels[y]`. A row of sums and numbers each, one for every block.
template <class F>
__global__ void __launch_bounds__(256)
    sum_above(const F* image, int64 n, const int64* which, const F* origins, const F* levels,
              double* sums, int64* numbers) {
  SHARED(double, total, [256]);
  SHARED(int64, number, [256]);
  const F origin = origins[blockIdx.y], level = levels[blockIdx.y];
  const F* const row = image + which[blockIdx.y] * n;
  double sum = 0;
  int64 count = 0;
  each_pixel(row, n, [&](F pixel) {
    const F value = pixel - origin;
    if (value > level) {
      sum += value;
      ++count;
    }
  });
  const int me = threadIdx.x;
  total[me] = sum;
  number[me] = count;
  for (int half = 128; half > 0; half /= 2) {
    __syncthreads();
    if (me < half) {
      total[me] += total[me + half];
      number[me] += number[me + half];
    }
  }
  if (me == 0) {
    const int64 place = int64(blockIdx.y) * gridDim.x + blockIdx.x;
    sums[place] = total[0];
    numbers[place] = number[0];
  }
}
