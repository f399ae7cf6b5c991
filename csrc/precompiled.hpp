// The standard headers that most sources include. setup.py compiles them once for each instruction
// set and puts them before every source but python.cpp; sources still include what they use.
//
// libstdc++'s inline functions that nothing here calls (stoi for wide strings, Bessel functions)
// make every source instantiate the templates they call: a third of a small source's time. So these
// headers are read as on a system without such functions; other libraries know none of the names.
#include <version>
#undef _GLIBCXX_USE_C99_STDIO       // to_string(double)
#undef _GLIBCXX_USE_C99_STDLIB      // stoi and its like
#undef _GLIBCXX_USE_CHAR8_T         // u8string
#undef _GLIBCXX_USE_STD_SPEC_FUNCS  // special functions of <cmath>
#undef _GLIBCXX_USE_WCHAR_T         // wstring

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>
