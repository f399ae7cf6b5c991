// What all bindings include, as precompiled.hpp is for the kernels.
#include <Python.h>

#include "precompiled.hpp"
