// Keeps workers off the CPU that their caller runs on.
//
// Linux wakes a thread beside its waker where it takes the other CPUs for busy, as it does in a
// virtual machine whose CPUs have rested for some 20 ms: both then share one for as long, which
// doubles the time of a frame at 30 per second.
#pragma once

#include <cstdint>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#include <sys/types.h>
#endif

namespace msf {

class WorkerPlaces {
 public:
  // Whether workers stay where they are: someone gave them CPUs.
  void fix(bool fixed) {
    fixed_ = fixed;
    count_ = 0;
  }

  // Workers may use the CPUs that the caller may, but the one it runs on, unless that is its only
  // one. One system call while the caller stays.
  void clear_of_caller([[maybe_unused]] const std::vector<std::int64_t>& workers) {
#if defined(__linux__)
    cpu_set_t others;
    if (fixed_ || sched_getaffinity(0, sizeof others, &others) != 0) return;
    CPU_CLR(static_cast<std::size_t>(sched_getcpu()), &others);
    if (CPU_COUNT(&others) == 0) return;
    if (count_ == workers.size() && CPU_EQUAL(&others, &given_)) return;
    for (const std::int64_t worker : workers)
      sched_setaffinity(static_cast<pid_t>(worker), sizeof others, &others);
    given_ = others;
    count_ = workers.size();
#endif
  }

 private:
  bool fixed_ = false;
  std::size_t count_ = 0;  // workers that have
#if defined(__linux__)
  cpu_set_t given_{};
#endif
};

}  // namespace msf
