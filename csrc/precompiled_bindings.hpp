// What all bindings include, as precompiled.hpp is for the kernels.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "precompiled.hpp"
