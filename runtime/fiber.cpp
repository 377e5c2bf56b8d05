// Boost.Context's fibres on stacks that are kept and used again.
#include "runtime/fiber.h"

#include <boost/context/fiber.hpp>
#include <boost/context/preallocated.hpp>
#include <boost/context/stack_context.hpp>
#include <cerrno>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include "core/error.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace ktjit::runtime {
namespace {

namespace context = boost::context;

/// The stack belongs to the Fiber, whatever runs on it.
struct KeptStack {
  static context::stack_context allocate() { return {}; }
  static void deallocate(context::stack_context&) noexcept {}
};

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

std::byte* reserve(std::size_t bytes, std::size_t guard_bytes) {
  void* memory = mmap(nullptr, bytes + guard_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, guard_bytes, PROT_NONE) != 0) {
    const int code = errno;
    if (memory != MAP_FAILED) munmap(memory, bytes + guard_bytes);
    throw DriverError("mmap", code, std::strerror(code), "sim", "reserving a thread's stack");
  }
  return static_cast<std::byte*>(memory) + guard_bytes;
}

}  // namespace

struct Fiber::State {
  std::byte* stack = nullptr;
  context::fiber fiber;
  context::fiber owner;
};

Fiber::Fiber() : state_(std::make_unique<State>()) {
  state_->stack = reserve(kStackBytes, page_bytes());
}

Fiber::~Fiber() {
  abandon();
  munmap(state_->stack - page_bytes(), kStackBytes + page_bytes());
}

void Fiber::start(void (*run)(void*), void* argument) {
  KTJIT_CHECK(!state_->fiber);
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(state_->stack, kStackBytes);  // marks of frames that were abandoned
#endif
  context::stack_context stack;
  stack.size = kStackBytes;
  stack.sp = state_->stack + kStackBytes;
  State* state = state_.get();
  state->fiber =
      context::fiber(std::allocator_arg, context::preallocated(stack.sp, stack.size, stack),
                     KeptStack(), [state, run, argument](context::fiber&& owner) {
                       state->owner = std::move(owner);
                       run(argument);
                       return std::move(state->owner);
                     });
}

bool Fiber::resume() {
  state_->fiber = std::move(state_->fiber).resume();
  return !state_->fiber;
}

void Fiber::suspend() { state_->owner = std::move(state_->owner).resume(); }

void Fiber::abandon() {
  // A fibre's destructor would unwind its stack, through frames that have no unwind tables.
  new (&state_->fiber) context::fiber();
  new (&state_->owner) context::fiber();
}

const std::byte* Fiber::stack_begin() const { return state_->stack; }
const std::byte* Fiber::stack_end() const { return state_->stack + kStackBytes; }

}  // namespace ktjit::runtime
