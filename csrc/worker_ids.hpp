// Which threads run tasks besides the callers': for those who give them a CPU or a priority.
#pragma once

#include <cstdint>
#include <vector>

namespace msf {

// The system's numbers of the pool's threads, in the order in which they began; empty where the
// system has none.
std::vector<std::int64_t> worker_ids();

// While fixed, threads keep the CPUs that they were given; else they avoid their caller's.
void fix_workers(bool fixed);

}  // namespace msf
