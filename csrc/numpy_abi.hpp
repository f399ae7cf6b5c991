// As much of NumPy's binary interface as the bindings need: the head of an array and of its type,
// and three functions. They have been at these places since NumPy 1.7, but for the size of an item,
// which NumPy 2 moved. NumPy's own headers would have to be installed to build this package, and
// take as long to compile as all the rest of the bindings.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>

namespace msf::numpy {

struct Type {
  PyObject_HEAD PyObject* scalar;
  char kind, character, byteorder, old_flags;
  int number;
  union {
    int size;  // NumPy 1
    struct {
      std::uint64_t flags;
      Py_ssize_t size;
    } two;
  };
};

struct Array {
  PyObject_HEAD char* data;
  int ndim;
  Py_ssize_t *shape, *strides;
  PyObject* base;
  Type* type;
  int flags;
};
inline constexpr int c_contiguous = 0x0001, writeable = 0x0400;  // of Array::flags

// Places in NumPy's table of functions.
enum Entry {
  array_type = 2,
  new_array = 94,            // PyArray_NewFromDescr
  convert_type = 174,        // PyArray_DescrConverter
  feature_version = 211,     // PyArray_GetNDArrayCFeatureVersion
  set_base_object = 282,     // PyArray_SetBaseObject
  version_of_numpy_2 = 0x12  // what feature_version returns from there on
};

}  // namespace msf::numpy
