// Loops over features that are channels-last.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "bfloat16.hpp"
#include "convolution.hpp"
#include "parallel.hpp"

namespace msf {

// f(Type<T>{}) with the type of features in memory.
template <class F>
void visit_features(DType dtype, F&& f) {
  if (dtype == DType::bfloat16)
    f(Type<BFloat16>{});
  else if (dtype == DType::float32)
    f(Type<float>{});
  else
    throw std::logic_error("features must be float32 or bfloat16");
}

// The first channel of a pixel.
template <class T>
T* pixel(const Features& f, std::int64_t n, const Size3& at) {
  return static_cast<T*>(const_cast<void*>(f.data)) + f.offset(n, 0, at);
}

// f(n, z, y) for every row, in parallel; `work`: operations a pixel.
template <class F>
void for_each_row(const Features& f, std::int64_t work, F&& body) {
  const std::int64_t rows = f.batch * f.size[0] * f.size[1];
  const std::int64_t row_work =
      std::max<std::int64_t>(1, f.size[2] * std::max<std::int64_t>(work, 1));
  parallel_for(rows, std::max<std::int64_t>(1, 32768 / row_work),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   poll();
                   body(i / (f.size[0] * f.size[1]), i / f.size[1] % f.size[0], i % f.size[1]);
                 }
               });
}

}  // namespace msf
