// How values pass between Python and C++; with bindings.hpp all that the bindings need of Python.
//
// From<T>::read takes a Python object to a T and says whether it could; to_python does the reverse.
// The values are few and plain, so that converting them compiles in no time, which is why this is
// not left to pybind11's casters (five times the time for all our functions). Arrays come as views
// (array.hpp). A vector of numbers goes to Python as a NumPy array that owns it, any other vector
// as a list, a pair as a tuple; bindings overload to_python for their structs.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "array.hpp"

namespace msf {

struct Decref {
  void operator()(PyObject* object) const { Py_DECREF(object); }
};
using Ref = std::unique_ptr<PyObject, Decref>;  // a reference of our own

struct PythonError {};  // thrown where Python has noted the error for this thread already

inline Ref owned(PyObject* object) {
  if (!object) throw PythonError{};
  return Ref(object);
}

// ---- from Python ------------------------------------------------------------------------------

bool read(PyObject* object, bool& value);
bool read(PyObject* object, double& value);
bool read(PyObject* object, float& value);
bool read(PyObject* object, std::int64_t& value);
bool read(PyObject* object, std::uint64_t& value);
bool read(PyObject* object, Array& view);
bool read(PyObject* object, MutableArray& view);

// Items of a sequence other than a string, with a length of `n` unless that is negative.
Ref items(PyObject* object, Py_ssize_t n);

template <class T>
struct From {
  static bool read(PyObject* object, T& value) { return msf::read(object, value); }
};

template <class T>
  requires std::is_enum_v<T> || (std::is_integral_v<T> && !std::is_same_v<T, bool>)
struct From<T> {
  static bool read(PyObject* object, T& value) {
    std::conditional_t<std::is_unsigned_v<T>, std::uint64_t, std::int64_t> wide;
    if (!msf::read(object, wide)) return false;
    value = static_cast<T>(wide);
    return static_cast<decltype(wide)>(value) == wide;
  }
};

template <class T>
struct From<std::optional<T>> {
  static bool read(PyObject* object, std::optional<T>& value) {
    return object == Py_None || From<T>::read(object, value.emplace());
  }
};

template <class T>
struct From<std::vector<T>> {
  static bool read(PyObject* object, std::vector<T>& values) {
    const Ref list = items(object, -1);
    if (!list) return false;
    values.resize(PySequence_Fast_GET_SIZE(list.get()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!From<T>::read(PySequence_Fast_GET_ITEM(list.get(), i), values[i])) return false;
    }
    return true;
  }
};

template <class T, std::size_t n>
struct From<std::array<T, n>> {
  static bool read(PyObject* object, std::array<T, n>& values) {
    const Ref list = items(object, n);
    if (!list) return false;
    for (std::size_t i = 0; i < n; ++i) {
      if (!From<T>::read(PySequence_Fast_GET_ITEM(list.get(), i), values[i])) return false;
    }
    return true;
  }
};

// A tuple (or other sequence) of these values: for bindings that specialise From for their structs.
template <class... T>
bool read_tuple(PyObject* object, T&... values) {
  const Ref list = items(object, sizeof...(T));
  if (!list) return false;
  PyObject** item = PySequence_Fast_ITEMS(list.get());
  return (From<T>::read(*item++, values) && ...);
}

template <class T, class U>
struct From<std::pair<T, U>> {
  static bool read(PyObject* object, std::pair<T, U>& values) {
    return read_tuple(object, values.first, values.second);
  }
};

// ---- to Python --------------------------------------------------------------------------------

// An instance of a class of bindings.hpp.
struct Object {
  PyObject_HEAD void* value;
  void (*destroy)(void*);
  PyObject* kept;  // a tuple of what must live as long, or null
};
template <class T>
inline PyTypeObject* type_of = nullptr;

using Owner = std::unique_ptr<void, void (*)(void*)>;
template <class T>
Owner own(std::unique_ptr<T>&& value) {
  return Owner(value.release(), [](void* p) { delete static_cast<T*>(p); });
}

Ref new_object(PyTypeObject* type, Owner value);
// The `n` numbers at `data` as a NumPy array; `kind` as in NumPy's type strings.
Ref new_array(Owner owner, void* data, std::size_t n, char kind, int size);

inline Ref to_python(Ref&& value) { return std::move(value); }
inline Ref to_python(bool value) { return owned(PyBool_FromLong(value)); }
inline Ref to_python(int value) { return owned(PyLong_FromLong(value)); }
inline Ref to_python(std::int64_t value) { return owned(PyLong_FromLongLong(value)); }
inline Ref to_python(std::uint64_t value) { return owned(PyLong_FromUnsignedLongLong(value)); }
inline Ref to_python(double value) { return owned(PyFloat_FromDouble(value)); }
inline Ref to_python(const char* value) { return owned(PyUnicode_FromString(value)); }

template <class T>
Ref to_python(std::unique_ptr<T>&& value) {
  return new_object(type_of<T>, own(std::move(value)));
}

template <class T, std::size_t n>
Ref to_python(const std::array<T, n>& values) {
  Ref list = owned(PyList_New(n));
  for (std::size_t i = 0; i < n; ++i)
    PyList_SET_ITEM(list.get(), i, to_python(values[i]).release());
  return list;
}

template <class T>
Ref to_python(std::vector<T>&& values) {
  if constexpr (std::is_arithmetic_v<T>) {
    constexpr char kind = std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
    auto owner = std::make_unique<std::vector<T>>(std::move(values));
    T* const data = owner->data();
    const std::size_t n = owner->size();
    return new_array(own(std::move(owner)), data, n, kind, sizeof(T));
  } else {
    Ref list = owned(PyList_New(static_cast<Py_ssize_t>(values.size())));
    for (std::size_t i = 0; i < values.size(); ++i) {
      PyList_SET_ITEM(list.get(), i, to_python(std::move(values[i])).release());
    }
    return list;
  }
}

// The values as a tuple.
template <class... T>
Ref tuple(T&&... values) {
  Ref result = owned(PyTuple_New(sizeof...(T)));
  Py_ssize_t i = 0;
  (PyTuple_SET_ITEM(result.get(), i++, to_python(std::forward<T>(values)).release()), ...);
  return result;
}

template <class T, class U>
Ref to_python(const std::pair<T, U>& values) {
  return tuple(values.first, values.second);
}

}  // namespace msf
