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

#if defined(__linux__)
// What others allow a worker is kept: only the caller's CPU is taken from it, unless it is the
// last.
class WorkerPlaces {
 public:
  void add(std::int64_t thread) { workers_.push_back({static_cast<pid_t>(thread), {}, {}}); }

  // A system call a worker, and another if the caller has moved.
  void clear_of_caller() {
    const auto cpu = static_cast<std::size_t>(sched_getcpu());
    for (Worker& w : workers_) {
      cpu_set_t now;
      if (sched_getaffinity(w.thread, sizeof now, &now) != 0) return;  // more CPUs than in a set
      if (!CPU_EQUAL(&now, &w.given)) w.allowed = now;  // by someone else, or at first
      w.given = w.allowed;
      CPU_CLR(cpu, &w.given);
      if (CPU_COUNT(&w.given) == 0) w.given = w.allowed;
      if (!CPU_EQUAL(&now, &w.given)) sched_setaffinity(w.thread, sizeof w.given, &w.given);
    }
  }

 private:
  struct Worker {
    pid_t thread;
    cpu_set_t allowed, given;
  };
  std::vector<Worker> workers_;
};
#else
class WorkerPlaces {
 public:
  void add(std::int64_t) {}
  void clear_of_caller() {}
};
#endif

}  // namespace msf
