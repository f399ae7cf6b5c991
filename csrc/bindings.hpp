// How arrays of Python reach kernels, as views; only the bindings include this.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <bit>

#include "array.hpp"

namespace msf {

inline bool dtype_of(const pybind11::array& array, DType& dtype) {
  const pybind11::dtype d = array.dtype();
  const auto size = d.itemsize();
  switch (d.kind()) {
    case 'b':
      dtype = DType::boolean;
      return true;
    case 'u':
      dtype = size == 1   ? DType::uint8
              : size == 2 ? DType::uint16
              : size == 4 ? DType::uint32
                          : DType::uint64;
      return true;
    case 'i':
      dtype = size == 1   ? DType::int8
              : size == 2 ? DType::int16
              : size == 4 ? DType::int32
                          : DType::int64;
      return true;
    case 'f':
      dtype = size == 2 ? DType::float16 : size == 4 ? DType::float32 : DType::float64;
      return size <= 8;  // no long double
    default:
      return false;
  }
}

inline bool view(pybind11::handle source, bool writable, Array& view) {
  if (!pybind11::isinstance<pybind11::array>(source)) return false;
  const auto array = pybind11::reinterpret_borrow<pybind11::array>(source);
  if (!(array.flags() & pybind11::array::c_style) || (writable && !array.writeable())) return false;
  // NumPy normalises the native order to '=' nearly always, but newbyteorder("<") keeps it.
  constexpr char native = std::endian::native == std::endian::little ? '<' : '>';
  const char order = array.dtype().byteorder();
  if (order != '=' && order != '|' && order != native) return false;
  if (!dtype_of(array, view.dtype)) return false;
  view.data = array.data();
  view.ndim = static_cast<int>(array.ndim());
  std::copy_n(array.shape(), view.ndim, view.shape.begin());
  return true;
}

}  // namespace msf

// The caller's argument tuple keeps the array alive while a kernel runs.
template <>
struct pybind11::detail::type_caster<msf::Array> {
  PYBIND11_TYPE_CASTER(msf::Array, const_name("numpy.ndarray"));
  bool load(handle source, bool) { return msf::view(source, false, value); }
};

template <>
struct pybind11::detail::type_caster<msf::MutableArray> {
  PYBIND11_TYPE_CASTER(msf::MutableArray, const_name("numpy.ndarray"));
  bool load(handle source, bool) { return msf::view(source, true, value); }
};

namespace msf {

// While the interpreter shuts down, Python before 3.14 ends a daemon thread that asks for the GIL
// by unwinding it; pybind11's own guard would meet that with std::terminate.
struct ReleaseGil {
  PyThreadState* const state = PyEval_SaveThread();
  ReleaseGil() = default;
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;
  ~ReleaseGil() noexcept(false) { PyEval_RestoreThread(state); }
};
using NoGil = pybind11::call_guard<ReleaseGil>;

void bind_edge_flow(pybind11::module_& m);
void bind_graphs(pybind11::module_& m);
void bind_paths(pybind11::module_& m);
void bind_contours(pybind11::module_& m);

}  // namespace msf
