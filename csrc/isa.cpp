// What tells one build of the core from another: the bindings are compiled once for all of them,
// and each is a module of its own name.
#include "isa.hpp"

#define MSF_TEXT_(x) #x
#define MSF_TEXT(x) MSF_TEXT_(x)
#define MSF_JOIN_(a, b) a##b
#define MSF_JOIN(a, b) MSF_JOIN_(a, b)

namespace msf {

const char* isa() { return MSF_TEXT(MSF_ISA); }

}  // namespace msf

extern "C" {
void* PyInit__core();  // bindings.cpp; a PyObject*
[[gnu::visibility("default")]] void* MSF_JOIN(PyInit__core_, MSF_ISA)() { return PyInit__core(); }
}
