// Threads and interruption.
//
// One pool for the process, started at first use. A parallel loop is cut into tasks; the calling
// thread and the workers take tasks until none is left, so a loop started from inside another runs
// on its own thread and never waits for a free worker. Workers look out for the next loop for 50
// microseconds before they sleep. Results must not depend on which thread runs a task: kernels that
// cut by slabs write disjoint outputs or merge in slab order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace msf {

// Threads a loop started by this thread may use.
int num_threads();
void set_num_threads(int n);  // the process-wide setting, n >= 1
// Overrides the setting for the calling thread until set back; 0 removes it. Returns the previous
// override.
int set_thread_override(int n);

// Threads of someone else: crew(work, context, n, 0) runs work(context) on n of them, the caller's
// among them, and returns when all are done, as GOMP_parallel does. A crew given here runs the
// loops that the calling thread starts, in place of the pool: where OpenMP's threads look out for
// their next loop on the same CPUs, two pools would slow each other. Null: the pool again. Returns
// the previous one.
using Crew = void (*)(void (*work)(void*), void* context, unsigned threads, unsigned flags);
Crew set_crew(Crew crew);

// Throws when the user asked to stop (Ctrl-C) or another task of the same loop failed. Cheap: it
// reads a clock at most; call it every few microseconds to milliseconds of work. parallel_for calls
// it before each task.
void poll();

// What poll() calls, at most 20 times a second and only on a thread that Python started.
void set_interrupt_hook(void (*hook)());

// For tests: one task for each entry, which keeps its thread busy for that long; with `nested`, in
// a loop of three. Task `fail_at` throws std::runtime_error. Returns how many threads took part.
int busy_tasks(const std::vector<double>& seconds, std::int64_t fail_at, bool nested);

namespace detail {
void run_tasks(std::int64_t tasks, int threads, void (*task)(void*, std::int64_t), void* context);
}

// task(i) for every i in [0, tasks), in any order, on up to num_threads() threads.
template <class F>
void parallel_tasks(std::int64_t tasks, F&& task) {
  using Body = std::remove_reference_t<F>;
  detail::run_tasks(
      tasks, num_threads(), [](void* f, std::int64_t i) { (*static_cast<Body*>(f))(i); },
      const_cast<void*>(static_cast<const void*>(std::addressof(task))));
}

// The same if `on_all`; else one after another on this thread.
template <class F>
void tasks(std::int64_t count, bool on_all, F&& task) {
  if (on_all) return parallel_tasks(count, task);
  for (std::int64_t i = 0; i < count; ++i) task(i);
}

// body(begin, end) over consecutive pieces of [0, n) of `grain` elements each.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& body) {
  const std::int64_t tasks = (n + grain - 1) / grain;
  parallel_tasks(tasks, [&](std::int64_t i) { body(i * grain, std::min(n, (i + 1) * grain)); });
}

// A fixed cut of [0, n) into at most num_threads() slabs of at least `min_size`, for kernels that
// need one piece of scratch memory a slab.
struct Slabs {
  std::int64_t n, count;
  Slabs(std::int64_t n, std::int64_t min_size)
      : n(n),
        count(std::clamp<std::int64_t>(n / std::max<std::int64_t>(min_size, 1), 1, num_threads())) {
  }
  std::int64_t begin(std::int64_t slab) const { return n * slab / count; }
  std::int64_t end(std::int64_t slab) const { return begin(slab + 1); }
  template <class F>
  void run(F&& body) const {  // body(slab, begin, end)
    parallel_tasks(count, [&](std::int64_t slab) { body(slab, begin(slab), end(slab)); });
  }
};

// Polls once every `period` calls: for loops whose step takes nanoseconds.
class Ticker {
 public:
  explicit Ticker(std::uint32_t period = 1u << 14) : period_(period) {}
  void operator()() {
    if (++count_ == period_) {
      count_ = 0;
      poll();
    }
  }

 private:
  std::uint32_t period_, count_ = 0;
};

}  // namespace msf
