#include "parallel.hpp"

#include <pthread.h>
#include <signal.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <set>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "worker_ids.hpp"
#include "worker_places.hpp"

namespace msf {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto interrupt_period = std::chrono::milliseconds(50);

struct Job {
  void (*task)(void*, std::int64_t);
  void* context;
  std::int64_t tasks;
  int seats;                    // workers that may still join; guarded by the pool's mutex
  std::atomic<int> running{0};  // workers inside; changed under the pool's mutex
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> stop{false};
  std::exception_ptr error{};  // the first one; guarded by the pool's mutex
};

struct Stopped {};  // ends a worker's task after another task failed

// Loops often follow each other within microseconds, and a thread that sleeps takes tens of them to
// wake: whoever waits looks on for as long before it sleeps.
template <class F>
bool comes_soon(F&& ready) {
  constexpr auto patience = std::chrono::microseconds(50);
  const auto begin = Clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (Clock::now() - begin < patience);
  return false;
}

thread_local Job* current_job = nullptr;  // set on whoever runs tasks of a shared job
thread_local bool is_worker = false;
thread_local int thread_override = 0;
thread_local Crew current_crew = nullptr;
thread_local Clock::time_point last_check{};
std::atomic<int> thread_setting{1};
std::atomic<void (*)()> interrupt_hook{nullptr};

class Pool {
 public:
  void run(Job& job) {
    const int wanted = job.seats;
    std::list<Job*>::iterator place;
    {
      std::lock_guard lock(mutex_);
      hire(wanted);
      places_.clear_of_caller(ids_);
      place = jobs_.insert(jobs_.end(), &job);
      ++posted_;
    }
    wake_.notify_all();
    take_tasks(job);
    {
      std::lock_guard lock(mutex_);
      jobs_.erase(place);  // nobody joins any more
    }
    comes_soon([&] { return job.running == 0; });
    std::unique_lock lock(mutex_);
    while (!done_.wait_for(lock, interrupt_period, [&] { return job.running == 0; })) {
      lock.unlock();  // a worker's last task may be long: Ctrl-C must reach it
      try {
        poll();
      } catch (...) {
        fail(job);
      }
      lock.lock();
    }
  }

  // The same with other threads than the pool's.
  void run(Job& job, Crew crew) {
    struct Work {
      Pool& pool;
      Job& job;
      const std::thread::id caller = std::this_thread::get_id();
    } work{*this, job};
    const auto take = [](void* context) {
      const Work& w = *static_cast<Work*>(context);
      const bool before = is_worker;
      is_worker = before || std::this_thread::get_id() != w.caller;
      w.pool.take_tasks(w.job);
      is_worker = before;
    };
    crew(take, &work, static_cast<unsigned>(job.seats) + 1, 0);
  }

  std::vector<std::int64_t> ids() {
    std::lock_guard lock(mutex_);
    return ids_;
  }

  void fix(bool fixed) {
    std::lock_guard lock(mutex_);
    places_.fix(fixed);
  }

 private:
  // Starts workers up to `wanted`, or as many as the system grants: one thread is enough.
  void hire(int wanted) {
    if (workers_ >= wanted) return;
    sigset_t all, before;  // a thread inherits its mask; signals are for Python's threads
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; workers_ < wanted; ++workers_) std::thread([this] { work(); }).detach();
    } catch (const std::system_error&) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  // Ends a job with the exception being handled, if it is the first.
  void fail(Job& job) {
    std::lock_guard lock(mutex_);
    if (!job.stop.exchange(true)) job.error = std::current_exception();
  }

  void take_tasks(Job& job) {
    Job* const outer = std::exchange(current_job, &job);
    try {
      for (std::int64_t i; !job.stop && (i = job.next.fetch_add(1)) < job.tasks;) {
        poll();
        job.task(job.context, i);
      }
    } catch (const Stopped&) {
    } catch (...) {
      fail(job);
    }
    current_job = outer;
  }

  void work() {
    is_worker = true;
    std::unique_lock lock(mutex_);
#if defined(__linux__)
    ids_.push_back(syscall(SYS_gettid));
#endif
    for (;;) {
      const auto place = std::find_if(jobs_.begin(), jobs_.end(), [](Job* job) {
        return job->seats > 0 && job->next < job->tasks && !job->stop;
      });
      if (place == jobs_.end()) {
        const std::uint64_t seen = posted_;
        lock.unlock();
        comes_soon([&] { return posted_ != seen; });
        lock.lock();
        if (posted_ == seen) wake_.wait(lock);
        continue;
      }
      Job& job = **place;
      --job.seats;
      ++job.running;
      lock.unlock();
      take_tasks(job);
      lock.lock();
      if (--job.running == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::list<Job*> jobs_;
  std::atomic<std::uint64_t> posted_{0};  // jobs so far; changed under the mutex
  std::vector<std::int64_t> ids_;
  WorkerPlaces places_;
  int workers_ = 0;
};

// Never destroyed: its threads outlive static destructors. A forked child has none of its parent's
// threads, so it starts over with an empty pool.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
  static const bool started = [] {
    the_pool = new Pool;
    pthread_atfork(nullptr, nullptr, [] { the_pool = new Pool; });
    return true;
  }();
  (void)started;
  return *the_pool;
}

}  // namespace

int num_threads() { return thread_override > 0 ? thread_override : thread_setting.load(); }
void set_num_threads(int n) { thread_setting = n; }
int set_thread_override(int n) { return std::exchange(thread_override, n); }
Crew set_crew(Crew crew) { return std::exchange(current_crew, crew); }
std::vector<std::int64_t> worker_ids() { return pool().ids(); }
void fix_workers(bool fixed) { pool().fix(fixed); }
void set_interrupt_hook(void (*hook)()) { interrupt_hook = hook; }

void poll() {
  if (current_job && current_job->stop) throw Stopped{};
  if (is_worker) return;
  const auto now = Clock::now();
  if (now - last_check < interrupt_period) return;
  last_check = now;
  if (const auto hook = interrupt_hook.load()) hook();
}

void detail::run_tasks(std::int64_t tasks, int threads, void (*task)(void*, std::int64_t),
                       void* context) {
  threads = static_cast<int>(std::min<std::int64_t>(threads, tasks));
  if (threads <= 1 || is_worker || current_job) {
    for (std::int64_t i = 0; i < tasks; ++i) {
      poll();
      task(context, i);
    }
    return;
  }
  Job job{.task = task, .context = context, .tasks = tasks, .seats = threads - 1};
  if (current_crew)
    pool().run(job, current_crew);
  else
    pool().run(job);
  if (job.error) std::rethrow_exception(job.error);
}

int busy_tasks(const std::vector<double>& seconds, std::int64_t fail_at, bool nested) {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  parallel_tasks(static_cast<std::int64_t>(seconds.size()), [&](std::int64_t i) {
    {
      std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
    }
    if (i == fail_at) throw std::runtime_error("task failed");
    parallel_tasks(nested ? 3 : 1, [&](std::int64_t) {
      const auto end = Clock::now() + std::chrono::duration<double>(seconds[i]);
      Ticker tick(64);
      while (Clock::now() < end) tick();
    });
  });
  return static_cast<int>(threads.size());
}

}  // namespace msf
