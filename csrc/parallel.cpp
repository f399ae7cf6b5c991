#include "parallel.hpp"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

namespace msf {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto interrupt_period = std::chrono::milliseconds(50);

struct Job {
  void (*task)(void*, std::int64_t);
  void* context;
  std::int64_t tasks;
  int seats;        // workers that may still join; guarded by the pool's mutex
  int running = 0;  // workers inside; guarded by the pool's mutex
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> stop{false};
  std::exception_ptr error{};  // the first one; guarded by the pool's mutex
};

struct Stopped {};  // ends a worker's task after another task failed

thread_local Job* current_job = nullptr;  // set on whoever runs tasks of a shared job
thread_local bool is_worker = false;
thread_local int thread_override = 0;
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
      for (; workers_ < wanted; ++workers_) std::thread([this] { work(); }).detach();
      place = jobs_.insert(jobs_.end(), &job);
    }
    wake_.notify_all();
    take_tasks(job);
    std::unique_lock lock(mutex_);
    jobs_.erase(place);  // nobody joins any more
    done_.wait(lock, [&] { return job.running == 0; });
  }

 private:
  void take_tasks(Job& job) {
    Job* const outer = std::exchange(current_job, &job);
    try {
      for (std::int64_t i; !job.stop && (i = job.next.fetch_add(1)) < job.tasks;) {
        poll();
        job.task(job.context, i);
      }
    } catch (const Stopped&) {
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!job.stop.exchange(true)) job.error = std::current_exception();
    }
    current_job = outer;
  }

  void work() {
    is_worker = true;
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto place = std::find_if(jobs_.begin(), jobs_.end(), [](Job* job) {
        return job->seats > 0 && job->next < job->tasks && !job->stop;
      });
      if (place == jobs_.end()) {
        wake_.wait(lock);
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
  pool().run(job);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace msf
