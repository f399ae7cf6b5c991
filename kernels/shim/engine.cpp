// Runs the threads of a launch as fibers on one thread of the operating system (see shim.hpp).
//
// Compile it without a sanitizer: what the engine itself does is no part of the kernel. The hooks
// of the thread sanitizer are weak, and do something where its library is loaded.
#include "shim.hpp"

#include <sys/mman.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

extern "C" {
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_destroy_fiber(void* fiber);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* place);
[[gnu::weak]] void __tsan_release(void* place);
}

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace shim {
namespace {

constexpr std::size_t stack_bytes = 64 << 10;
constexpr unsigned most_threads = 1024;
constexpr unsigned resident = 3;  // blocks whose threads take turns, where a seed is given
constexpr unsigned no_sync = 1;   // a switch of fibers orders no memory access

void acquire(void* place) {
  if (__tsan_acquire) __tsan_acquire(place);
}
void release(void* place) {
  if (__tsan_release) __tsan_release(place);
}
void race_check_continues_in(void* fiber) {
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(fiber, no_sync);
}

// A stack that is left; the registers that a function must keep lie on it.
#if defined(__x86_64__)
extern "C" void shim_switch(void** left, void* entered);
asm(R"(
.pushsection .text
.type shim_switch, @function
shim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size shim_switch, . - shim_switch
.popsection
)");

void* prepare(char* stack, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(stack + stack_bytes);
  top[-2] = reinterpret_cast<void*>(entry);  // where `ret` goes, the stack aligned as by a call
  return top - 8;                            // six registers below it, whatever they hold
}
#else
#error "the shim knows how to switch stacks on x86-64 only"
#endif

struct Warp {
  unsigned arrived = 0;
  unsigned wanted[warp_size] = {};  // the mask that each waiting lane gave
  std::uint64_t value[warp_size] = {}, result[warp_size] = {};
  char order[2] = {};  // what the thread sanitizer knows a barrier by; two, for one after the other
  unsigned generation[warp_size] = {};
};

struct Block;

struct Thread {
  Block* block = nullptr;
  unsigned number = 0;
  void* stack = nullptr;  // where it was left
  void* race_check = nullptr;
};

struct Block {
  uint3 index;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::map<int, std::unique_ptr<char[]>> shared;
  std::unique_ptr<char[]> dynamic;
  std::vector<Thread*> waiting;
  unsigned finished = 0, generation = 0;
  int given = 0, count = 0;
  char order[2] = {};
  std::vector<char*> stacks;
};

struct Launch {
  void (*body)(void*) = nullptr;
  void* self = nullptr;
  std::size_t dynamic = 0;
  std::vector<Thread*> ready;
  std::size_t first = 0;  // of `ready`, without a seed: in order
  Thread* current = nullptr;
  void* scheduler = nullptr;  // its stack
  void* race_check = nullptr;
  std::string failure;
  std::uint64_t random = 0;
  char begin = 0, end = 0, storage = 0;
} now;

unsigned seed = 0;
std::vector<char*> free_stacks;

unsigned draw(unsigned below) {  // xorshift
  now.random ^= now.random << 13;
  now.random ^= now.random >> 7;
  now.random ^= now.random << 17;
  return static_cast<unsigned>((now.random >> 20) % below);
}

// Gives the turn back to the scheduler; returns at the calling thread's next turn.
void leave() {
  Thread* self = now.current;
  race_check_continues_in(now.race_check);
  shim_switch(&self->stack, now.scheduler);
}

[[noreturn]] void fail(const std::string& what) {
  const uint3 b = now.current->block->index;
  now.failure = what + " (block " + std::to_string(b.x) + "," + std::to_string(b.y) + "," +
                std::to_string(b.z) + ", thread " + std::to_string(now.current->number) + ")";
  for (;;) leave();
}

void wake(Thread* thread) { now.ready.push_back(thread); }

void run_thread() {
  acquire(&now.begin);
  now.body(now.self);
  release(&now.end);
  Block& block = *now.current->block;
  ++block.finished;
  if (!block.waiting.empty()) fail("a thread ends while others wait in __syncthreads");
  for (;;) leave();
}

void give_turn(Thread* thread) {
  now.current = thread;
  const dim3 extent = blockDim;
  const unsigned n = thread->number;
  threadIdx = {n % extent.x, n / extent.x % extent.y, n / extent.x / extent.y};
  blockIdx = thread->block->index;
  race_check_continues_in(thread->race_check);
  shim_switch(&now.scheduler, thread->stack);
}

char* new_stack() {
  if (!free_stacks.empty()) {
    char* stack = free_stacks.back();
    free_stacks.pop_back();
    return stack;
  }
  void* memory = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return static_cast<char*>(memory);
}

std::unique_ptr<char[]> garbage(std::size_t bytes) {
  std::unique_ptr<char[]> memory(new char[bytes]);
  std::memset(memory.get(), 0xA5 ^ static_cast<int>(seed), bytes);
  return memory;
}

std::unique_ptr<Block> begin_block(unsigned long long number) {
  auto block = std::make_unique<Block>();
  const auto x = number % gridDim.x, rest = number / gridDim.x;
  block->index = {static_cast<unsigned>(x), static_cast<unsigned>(rest % gridDim.y),
                  static_cast<unsigned>(rest / gridDim.y)};
  const unsigned count = blockDim.x * blockDim.y * blockDim.z;
  block->threads.resize(count);
  block->warps.resize((count + warp_size - 1) / warp_size);
  block->waiting.reserve(count);
  if (now.dynamic > 0) block->dynamic = garbage(now.dynamic);
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = block->threads[i];
    thread.block = block.get();
    thread.number = i;
    block->stacks.push_back(new_stack());
    thread.stack = prepare(block->stacks.back(), run_thread);
    if (__tsan_create_fiber) thread.race_check = __tsan_create_fiber(0);
    wake(&thread);
  }
  return block;
}

void end_block(Block& block) {
  if (!__tsan_destroy_fiber) {
    free_stacks.insert(free_stacks.end(), block.stacks.begin(), block.stacks.end());
    return;
  }
  for (Thread& thread : block.threads) __tsan_destroy_fiber(thread.race_check);
  // Used again they would be memory that two threads write without order.
  for (char* stack : block.stacks) munmap(stack, stack_bytes);
}

Thread* next_ready() {
  if (seed == 0) {
    Thread* thread = now.ready[now.first++];
    if (now.first == most_threads || now.first == now.ready.size()) {
      now.ready.erase(now.ready.begin(), now.ready.begin() + static_cast<long>(now.first));
      now.first = 0;
    }
    return thread;
  }
  std::swap(now.ready[draw(static_cast<unsigned>(now.ready.size()))], now.ready.back());
  Thread* thread = now.ready.back();
  now.ready.pop_back();
  return thread;
}

// The blocks of a launch, in an order that the seed shuffles.
std::vector<unsigned long long> block_order() {
  std::vector<unsigned long long> order(1ull * gridDim.x * gridDim.y * gridDim.z);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  if (seed != 0)
    for (std::size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[draw(static_cast<unsigned>(i))]);
  return order;
}

void run_all() {
  std::vector<std::unique_ptr<Block>> running, ended;
  const auto order = block_order();
  std::size_t started = 0;
  while (started < order.size() || !running.empty()) {
    while (started < order.size() && running.size() < (seed == 0 ? 1 : resident))
      running.push_back(begin_block(order[started++]));
    if (now.ready.empty()) {
      now.current = running.front()->waiting.empty() ? &running.front()->threads[0]
                                                     : running.front()->waiting[0];
      now.failure = "deadlock: every thread waits for another";
    } else {
      give_turn(next_ready());
    }
    if (!now.failure.empty()) break;  // the stacks are lost with what lies on them
    std::erase_if(running, [&](std::unique_ptr<Block>& block) {
      if (block->finished < block->threads.size()) return false;
      end_block(*block);
      // Freeing its memory would order what it did before what other blocks do.
      if (__tsan_acquire) ended.push_back(std::move(block));
      return true;
    });
  }
  acquire(&now.end);
}

}  // namespace

void point() {
  // Some schedules change often, some seldom.
  if (seed == 0 || draw(2 << seed % 3) != 0) return;
  wake(now.current);
  leave();
}

int barrier(bool given) {
  Block& block = *now.current->block;
  if (block.finished > 0) fail("__syncthreads after a thread of the block has ended");
  char* order = &block.order[block.generation & 1];
  release(order);
  block.given += given;
  block.waiting.push_back(now.current);
  if (block.waiting.size() == block.threads.size()) {
    block.count = std::exchange(block.given, 0);
    ++block.generation;
    for (Thread* thread : block.waiting) wake(thread);
    block.waiting.clear();
  }
  leave();
  acquire(order);
  return block.count;
}

unsigned lane() { return now.current->number % warp_size; }

unsigned exchange(unsigned mask, std::uint64_t value, std::uint64_t all[warp_size]) {
  Block& block = *now.current->block;
  const unsigned me = lane(), first = now.current->number - me;
  Warp& warp = block.warps[first / warp_size];
  const std::size_t lanes = std::min<std::size_t>(block.threads.size() - first, warp_size);
  if (lanes < warp_size) mask &= (1u << lanes) - 1;
  if ((mask >> me & 1) == 0) fail("a lane takes part in a warp operation whose mask lacks it");
  char* order = &warp.order[warp.generation[me]++ & 1];
  release(order);
  warp.value[me] = value;
  warp.wanted[me] = mask;
  warp.arrived |= 1u << me;
  if ((warp.arrived & mask) == mask) {
    warp.arrived &= ~mask;
    for (unsigned i = 0; i < lanes; ++i) {
      if ((mask >> i & 1) == 0) continue;
      if (warp.wanted[i] != mask) fail("lanes give different masks to one warp operation");
      warp.result[i] = warp.value[i];
      wake(&block.threads[first + i]);
    }
  }
  leave();
  acquire(order);
  std::copy_n(warp.result, warp_size, all);
  // Nobody may bring the next value before all have this one.
  warp.wanted[me] = mask;
  warp.arrived |= 1u << me;
  if ((warp.arrived & mask) == mask) {
    warp.arrived &= ~mask;
    for (unsigned i = 0; i < lanes; ++i)
      if ((mask >> i & 1) != 0) wake(&block.threads[first + i]);
  }
  leave();
  return mask;
}

void* shared(int key, std::size_t bytes) {
  auto& memory = now.current->block->shared[key];
  if (memory == nullptr) {
    // The scheduler allocates: a thread's own allocation would count as its write.
    race_check_continues_in(now.race_check);
    memory = garbage(bytes);
    release(&now.storage);
    race_check_continues_in(now.current->race_check);
  }
  acquire(&now.storage);
  return memory.get();
}

void* dynamic_shared() { return now.current->block->dynamic.get(); }

const char* launch(dim3 grid, dim3 block, std::size_t dynamic, void (*body)(void*), void* self) {
  static std::string failure;
  if (block.x * block.y * block.z > most_threads) return "more than 1024 threads in a block";
  now = Launch{};
  gridDim = grid;
  blockDim = block;
  now.body = body;
  now.self = self;
  now.dynamic = dynamic;
  now.random = (seed + 1) * 0x9E3779B97F4A7C15u;
  // No list grows during a turn: to the thread sanitizer the thread would have moved its elements.
  now.ready.reserve((resident + 1) * most_threads);
  if (__tsan_get_current_fiber) now.race_check = __tsan_get_current_fiber();
  release(&now.begin);
  run_all();
  failure = now.failure;
  return failure.empty() ? nullptr : failure.c_str();
}

}  // namespace shim

extern "C" void shim_set_seed(unsigned seed) { shim::seed = seed; }
