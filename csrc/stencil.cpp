#include "stencil.hpp"

#include <cstring>
#include <type_traits>

#include "pack.hpp"

namespace msf::stencil {

template <class T>
void Source<T>::load(Index position, Index n, T* __restrict to) const {
  const T scale = scale_;
  visit(image_.dtype, [&]<class S>(Type<S>) {
    const S* __restrict in = image_.as<S>() + position;
    if constexpr (std::is_same_v<S, T>) {
      if (scale == 1) {
        std::memcpy(to, in, n * sizeof(T));
        return;
      }
    }
    if constexpr (std::is_same_v<S, std::uint8_t> && std::is_same_v<T, float>) {
      // Twice as fast as what GCC makes of the loop.
      constexpr Index step = floats_in_register;
      const Index whole = n / step * step;
      const float factor = scale;  // what is captured might be written to by each copy
      float* const row = to;
      for (Index j = 0; j < whole; j += step) {
        const Floats values = load_floats(in + j) * factor;
        std::memcpy(row + j, &values, sizeof values);
      }
      for (Index j = whole; j < n; ++j) to[j] = static_cast<T>(in[j]) * scale;
    } else if (scale == 1) {
      for (Index j = 0; j < n; ++j) to[j] = static_cast<T>(in[j]);
    } else if constexpr (std::is_integral_v<S> && std::is_signed_v<S>) {
      for (Index j = 0; j < n; ++j) {
        const T value = static_cast<T>(in[j]) * scale;
        to[j] = value < T{-1} ? T{-1} : value;
      }
    } else {
      for (Index j = 0; j < n; ++j) to[j] = static_cast<T>(in[j]) * scale;
    }
  });
}

template class Source<float>;
template class Source<double>;

}  // namespace msf::stencil
