#include "load_values.hpp"

namespace msf {

void load_values(const Array& image, std::int64_t begin, std::int64_t n, double scale, double least,
                 double* out) {
  visit(image.dtype, [&]<class T>(Type<T>) {
    const T* const v = image.as<T>() + begin;
    for (std::int64_t i = 0; i < n; ++i) {
      const double x = static_cast<double>(v[i]) * scale;
      out[i] = x < least ? least : x;
    }
  });
}

}  // namespace msf
