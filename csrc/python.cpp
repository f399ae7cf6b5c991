// What python.hpp and bindings.hpp need not compile for each type or signature. Only this file
// includes pybind11, which makes the module and knows NumPy's arrays.
#include <cxxabi.h>
#include <pybind11/numpy.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <stdexcept>

#include "bindings.hpp"

namespace py = pybind11;

namespace msf {
namespace {

void deallocate(PyObject* self) {
  auto& object = *reinterpret_cast<Object*>(self);
  PyTypeObject* const type = Py_TYPE(self);
  object.destroy(object.value);
  Py_XDECREF(object.kept);
  type->tp_free(self);
  Py_DECREF(type);
}

bool dtype_of(const py::dtype& type, DType& dtype) {
  using enum DType;
  const auto size = type.itemsize();
  switch (type.kind()) {
    case 'b':
      dtype = boolean;
      return true;
    case 'u':
      dtype = size == 1 ? uint8 : size == 2 ? uint16 : size == 4 ? uint32 : uint64;
      return true;
    case 'i':
      dtype = size == 1 ? int8 : size == 2 ? int16 : size == 4 ? int32 : int64;
      return true;
    case 'f':
      dtype = size == 2 ? float16 : size == 4 ? float32 : float64;
      return size <= 8;  // no long double
    case 'V':            // a dtype that NumPy does not know: bfloat16
      dtype = bfloat16;
      return size == 2;
    default:
      return false;
  }
}

// Looks at an array in native byte order. The view does not hold it: the caller does while the
// kernel runs.
bool look_at(PyObject* object, bool to_write, Array& view) {
  if (!py::isinstance<py::array>(object)) return false;
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (!(array.flags() & py::array::c_style) || (to_write && !array.writeable())) return false;
  const py::dtype type = array.dtype();
  // NumPy normalises the native order to '=' nearly always, but newbyteorder("<") keeps it.
  constexpr char foreign = std::endian::native == std::endian::little ? '>' : '<';
  if (type.byteorder() == foreign || !dtype_of(type, view.dtype)) return false;
  view.data = array.data();
  view.ndim = static_cast<int>(array.ndim());
  std::copy_n(array.shape(), view.ndim, view.shape.begin());
  return true;
}

Ref new_type(const char* name, std::size_t size, PyType_Slot* slots) {
  PyType_Spec spec{name, static_cast<int>(size), 0,
                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  return owned(PyType_FromSpec(&spec));
}

PyObject* python_type(const std::exception& error) {
  const auto is = [&]<class... E>() { return (dynamic_cast<const E*>(&error) || ...); };
  if (is.operator()<std::bad_alloc>()) return PyExc_MemoryError;
  if (is.operator()<std::out_of_range>()) return PyExc_IndexError;
  if (is.operator()<std::overflow_error>()) return PyExc_OverflowError;
  using std::invalid_argument, std::domain_error, std::length_error, std::range_error;
  if (is.operator()<invalid_argument, domain_error, length_error, range_error>()) {
    return PyExc_ValueError;
  }
  return PyExc_RuntimeError;
}

// Whether no error is noted; else takes it away.
bool succeeded() {
  if (!PyErr_Occurred()) return true;
  PyErr_Clear();
  return false;
}

}  // namespace

bool read(PyObject* object, bool& value) {
  const int truth = object == Py_None ? -1 : PyObject_IsTrue(object);
  value = truth > 0;
  return truth >= 0 && succeeded();
}

bool read(PyObject* object, double& value) {
  value = PyFloat_AsDouble(object);
  return value != -1 || succeeded();
}

bool read(PyObject* object, float& value) {
  double wide;
  if (!read(object, wide)) return false;
  value = static_cast<float>(wide);
  return true;
}

bool read(PyObject* object, std::int64_t& value) {
  value = PyLong_AsLongLong(object);
  return value != -1 || succeeded();
}

bool read(PyObject* object, std::uint64_t& value) {
  const Ref index(PyNumber_Index(object));
  value = index ? PyLong_AsUnsignedLongLong(index.get()) : 0;
  return (index && value != static_cast<std::uint64_t>(-1)) || succeeded();
}

bool read(PyObject* object, Array& view) { return look_at(object, false, view); }
bool read(PyObject* object, MutableArray& view) { return look_at(object, true, view); }

Ref items(PyObject* object, Py_ssize_t n) {
  if (PyUnicode_Check(object) || PyBytes_Check(object)) return nullptr;
  Ref list(PySequence_Fast(object, ""));
  if (!list) PyErr_Clear();
  if (list && n >= 0 && PySequence_Fast_GET_SIZE(list.get()) != n) return nullptr;
  return list;
}

Ref new_object(PyTypeObject* type, Owner value) {
  Ref self = owned(type->tp_alloc(type, 0));
  auto& object = *reinterpret_cast<Object*>(self.get());
  object.destroy = value.get_deleter();
  object.value = value.release();
  return self;
}

Ref new_array(Owner owner, void* data, std::size_t n, char kind, int size) {
  const char type[] = {kind, static_cast<char>('0' + size), '\0'};
  void (*const destroy)(void*) = owner.get_deleter();
  const py::capsule base(owner.get(), destroy);
  owner.release();
  py::array array(py::dtype(type), {static_cast<py::ssize_t>(n)}, {}, data, base);
  return Ref(array.release().ptr());
}

Call::Call(PyObject* self, PyObject* const* args, Py_ssize_t n)
    : function(*static_cast<const Function*>(PyCapsule_GetPointer(self, nullptr))),
      args(args),
      n(static_cast<std::size_t>(n)) {}

PyObject* Call::finish(Ref result) const {
  if (!function.keep.empty()) {
    Ref kept = owned(PyTuple_New(static_cast<Py_ssize_t>(function.keep.size())));
    Py_ssize_t i = 0;
    for (const std::size_t k : function.keep)
      PyTuple_SET_ITEM(kept.get(), i++, Py_NewRef((*this)[k]));
    reinterpret_cast<Object*>(result.get())->kept = kept.release();
  }
  return result.release();
}

PyObject* Call::raise() const {
  const char* const name = function.method.ml_name;
  try {
    throw;
  } catch (const PythonError&) {  // noted already
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const WrongArgument& wrong) {
    const std::size_t place = wrong.index + 1;
    if (place > n) {
      PyErr_Format(PyExc_TypeError, "%s: argument %zu is missing", name, place);
    } else {
      PyErr_Format(PyExc_TypeError, "%s: unsuitable argument %zu of type %s", name, place,
                   Py_TYPE(args[wrong.index])->tp_name);
    }
  } catch (const std::exception& error) {
    PyErr_SetString(python_type(error), error.what());
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (...) {
    PyErr_Format(PyExc_RuntimeError, "%s: unknown exception", name);
  }
  return nullptr;
}

void Scope::set(const char* name, const char* value) const {
  if (PyObject_SetAttrString(object_, name, to_python(value).get()) != 0) throw PythonError{};
}

void Scope::add(const char* name, Entry entry, void (*pointer)(), Keep keep) const {
  // Lives as long as the process, as the module does.
  auto* const function = new Function{{}, pointer, std::move(keep)};
  function->method.ml_name = name;
  function->method.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(entry));
  function->method.ml_flags = METH_FASTCALL;
  const Ref self = owned(PyCapsule_New(function, nullptr, nullptr));
  Ref callable = owned(PyCFunction_New(&function->method, self.get()));
  if (PyType_Check(object_)) callable = owned(PyInstanceMethod_New(callable.get()));
  if (PyObject_SetAttrString(object_, name, callable.get()) != 0) throw PythonError{};
}

PyTypeObject* Scope::add_type(const char* name) const {
  PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(deallocate)}, {0, nullptr}};
  Ref type = new_type(name, sizeof(Object), slots);
  if (PyObject_SetAttrString(object_, std::strrchr(name, '.') + 1, type.get()) != 0) {
    throw PythonError{};
  }
  return reinterpret_cast<PyTypeObject*>(type.release());
}

}  // namespace msf

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) { msf::bind_all(msf::Scope(m.ptr())); }
