// How functions and classes of C++ become Python's; only the bindings include this.
//
//   m.def("in_range", &in_range);
//
// makes a function, or a lambda without captures, one of the module. python.hpp converts its
// arguments and result; arguments left out at the end are None, which is a null pointer or an empty
// optional. The GIL is released while it runs, and its exceptions become Python's. Other than with
// a binding library for all needs, each signature costs some ten milliseconds of compilation.
#pragma once

#include "python.hpp"

namespace msf {

// While the interpreter shuts down, Python before 3.14 ends a daemon thread that asks for the GIL
// by unwinding it, so this destructor must let that through.
struct ReleaseGil {
  PyThreadState* const state = PyEval_SaveThread();
  ReleaseGil() = default;
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;
  ~ReleaseGil() noexcept(false) { PyEval_RestoreThread(state); }
};

// Which arguments, counted from 0, live as long as the object that a function returns.
using Keep = std::vector<std::size_t>;

// What Python calls: a C++ function and, in `enter`, how.
struct Function {
  PyMethodDef method;
  void (*pointer)();
  Keep keep;
};

struct WrongArgument {
  std::size_t index;
};

// The arguments of a call, borrowed from the caller, who keeps them alive until it returns.
struct Call {
  const Function& function;
  PyObject* const* args;
  std::size_t n;

  Call(PyObject* self, PyObject* const* args, Py_ssize_t n);
  PyObject* operator[](std::size_t i) const { return i < n ? args[i] : Py_None; }
  PyObject* finish(Ref result) const;
  PyObject* raise() const;  // the C++ exception being handled, as Python's
};

template <class A>
struct Argument {
  using Value = std::remove_cvref_t<A>;
  Value value{};
  Argument(const Call& call, std::size_t i) {
    if (!From<Value>::read(call[i], value)) throw WrongArgument{i};
  }
  A&& get() { return static_cast<A&&>(value); }
};

template <class T>
struct Argument<const T*> {
  std::optional<T> value;
  Argument(const Call& call, std::size_t i) {
    if (!From<std::optional<T>>::read(call[i], value)) throw WrongArgument{i};
  }
  const T* get() { return value ? &*value : nullptr; }
};

template <class T>
  requires(!std::is_const_v<T>)
struct Argument<T&> {  // an instance of a class
  T& value;
  Argument(const Call& call, std::size_t i) : value(*static_cast<T*>(unwrap(call[i], i))) {}
  static void* unwrap(PyObject* object, std::size_t i) {
    if (!PyObject_TypeCheck(object, type_of<T>)) throw WrongArgument{i};
    return reinterpret_cast<Object*>(object)->value;
  }
  T& get() { return value; }
};

template <class R, class... A>
R run(R (*f)(A...), Argument<A>&&... arguments) {
  const ReleaseGil nogil;
  return f(arguments.get()...);
}

template <class R, class... A, std::size_t... I>
Ref convert_and_run(R (*f)(A...), [[maybe_unused]] const Call& call, std::index_sequence<I...>) {
  if constexpr (std::is_void_v<R>) {
    run<R, A...>(f, Argument<A>(call, I)...);
    return Ref(Py_NewRef(Py_None));
  } else {
    return to_python(run<R, A...>(f, Argument<A>(call, I)...));
  }
}

template <class R, class... A>
PyObject* enter(PyObject* self, PyObject* const* args, Py_ssize_t n) {
  const Call call(self, args, n);
  try {
    if (call.n > sizeof...(A)) throw WrongArgument{sizeof...(A)};
    const auto f = reinterpret_cast<R (*)(A...)>(call.function.pointer);
    return call.finish(convert_and_run(f, call, std::index_sequence_for<A...>()));
  } catch (...) {
    return call.raise();
  }
}

// A member function as one that takes the object first.
template <auto f>
struct Member;
template <class T, class R, class... A, R (T::*f)(A...)>
struct Member<f> {
  static R call(T& object, A... args) { return (object.*f)(static_cast<A&&>(args)...); }
};

// What functions are added to: the module or a class.
class Scope {
 public:
  explicit Scope(PyObject* object) : object_(object) {}

  void set(const char* name, const char* value) const;

  template <class R, class... A>
  const Scope& def(const char* name, R (*f)(A...), Keep keep = {}) const {
    add(name, enter<R, A...>, reinterpret_cast<void (*)()>(f), std::move(keep));
    return *this;
  }
  template <class Lambda>
  const Scope& def(const char* name, Lambda f, Keep keep = {}) const {
    return def(name, +f, std::move(keep));
  }
  template <auto f>
  const Scope& def(const char* name) const {
    return def(name, Member<f>::call);
  }

  // A class (`name` with the module's), whose methods are functions that take a T&; functions that
  // return a unique_ptr<T> make its instances.
  template <class T>
  Scope add_class(const char* name) const {
    type_of<T> = add_type(name);
    return Scope(reinterpret_cast<PyObject*>(type_of<T>));
  }

 private:
  using Entry = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);
  void add(const char* name, Entry entry, void (*pointer)(), Keep keep) const;
  PyTypeObject* add_type(const char* name) const;

  PyObject* object_;
};

void bind_all(const Scope& m);  // calls these, too
void bind_augment(const Scope& m);
void bind_edge_flow(const Scope& m);
void bind_graphs(const Scope& m);
void bind_paths(const Scope& m);
void bind_contours(const Scope& m);
void bind_stream(const Scope& m);
void bind_convolution(const Scope& m);
void bind_detection(const Scope& m);
void bind_measure(const Scope& m);
void bind_networks(const Scope& m);
void bind_plan(const Scope& m);

}  // namespace msf
