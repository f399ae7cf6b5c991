// Which threads run tasks besides the callers': for those who give them a CPU or a priority.
#pragma once

#include <cstdint>
#include <vector>

namespace msf {

// The system's numbers of the pool's threads, in the order in which they began; empty where the
// system has none.
std::vector<std::int64_t> worker_ids();

}  // namespace msf
