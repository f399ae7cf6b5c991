// The name of this build.
#pragma once

namespace msf {

const char* isa();  // "baseline", "avx2" or "avx512"

}  // namespace msf
