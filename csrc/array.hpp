// Typed views of the arrays that come from Python.
//
// The Python side hands over C-contiguous, aligned arrays in native byte order (the binding's type
// caster refuses anything else), so a kernel sees a pointer, an element type and a shape. Indices
// are 64-bit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12
#error "medseg_fast needs g++ 12 or newer (CXX=g++-12 pip install .): older ones have no _Float16"
#endif

namespace msf {

using float16 = _Float16;  // storage only: kernels convert to float before arithmetic

enum class DType : std::uint8_t {
  boolean,
  uint8,
  uint16,
  uint32,
  uint64,
  int8,
  int16,
  int32,
  int64,
  float16,
  float32,
  float64,
  bfloat16,  // networks only: storage, as its two bytes; `visit` does not know it
};

inline constexpr int max_dims = 64;  // NumPy's own limit

// Read-only view.
struct Array {
  const void* data = nullptr;
  DType dtype = DType::uint8;
  int ndim = 0;
  std::array<std::int64_t, max_dims> shape{};

  std::int64_t size() const {
    std::int64_t n = 1;
    for (int axis = 0; axis < ndim; ++axis) n *= shape[axis];
    return n;
  }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

// Writable view; a separate type so that a kernel's signature says what it writes.
struct MutableArray : Array {
  template <class T>
  T* as() const {
    return static_cast<T*>(const_cast<void*>(data));
  }
};

template <class T>
struct Type {
  using type = T;
};

// Calls f(Type<T>{}) with the C++ type of `dtype`, but a signed integer as the unsigned one of its
// width: enough to compare for equality and, with `sign_bit` flipped, for order. bool arrays are
// seen as uint8 holding 0 or 1.
template <class F>
decltype(auto) visit_unsigned(DType dtype, F&& f) {
  switch (dtype) {
    case DType::boolean:
    case DType::uint8:
    case DType::int8:
      return f(Type<std::uint8_t>{});
    case DType::uint16:
    case DType::int16:
      return f(Type<std::uint16_t>{});
    case DType::uint32:
    case DType::int32:
      return f(Type<std::uint32_t>{});
    case DType::uint64:
    case DType::int64:
      return f(Type<std::uint64_t>{});
    case DType::float16:
      return f(Type<float16>{});
    case DType::float32:
      return f(Type<float>{});
    case DType::float64:
      return f(Type<double>{});
    case DType::bfloat16:
      break;
  }
  throw std::logic_error("unknown dtype");
}

// The same with the type itself.
template <class F>
decltype(auto) visit(DType dtype, F&& f) {
  switch (dtype) {
    case DType::int8:
      return f(Type<std::int8_t>{});
    case DType::int16:
      return f(Type<std::int16_t>{});
    case DType::int32:
      return f(Type<std::int32_t>{});
    case DType::int64:
      return f(Type<std::int64_t>{});
    default:
      return visit_unsigned(dtype, f);
  }
}

// Bytes of an element.
inline std::int64_t item_size(DType dtype) {
  if (dtype == DType::bfloat16) return 2;
  return visit_unsigned(dtype,
                        []<class T>(Type<T>) { return static_cast<std::int64_t>(sizeof(T)); });
}

// The same with the unsigned integer as wide as the type: enough to copy values.
template <class F>
decltype(auto) visit_bits(DType dtype, F&& f) {
  switch (item_size(dtype)) {
    case 1:
      return f(Type<std::uint8_t>{});
    case 2:
      return f(Type<std::uint16_t>{});
    case 4:
      return f(Type<std::uint32_t>{});
    default:
      return f(Type<std::uint64_t>{});
  }
}

// What orders the values of an integer `dtype` that are seen as unsigned: their sign bit, or 0.
template <class T>
T sign_bit(DType dtype) {
  const bool is_signed = dtype >= DType::int8 && dtype <= DType::int64;
  return is_signed ? static_cast<T>(T{1} << (8 * sizeof(T) - 1)) : T{0};
}

template <class T>
inline constexpr bool is_float =
    std::is_same_v<T, float16> || std::is_same_v<T, float> || std::is_same_v<T, double>;

}  // namespace msf
