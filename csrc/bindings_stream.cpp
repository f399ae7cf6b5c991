// What Python sees of the kernels for streams of frames.
#include "bindings.hpp"
#include "kernels/crc64.hpp"

namespace msf {

void bind_stream(const Scope& m) { m.def("crc64", &crc64); }

}  // namespace msf
