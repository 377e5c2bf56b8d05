// The C library looks its symbols up in the program first, so these serve all of its libraries. They
// count and pass on to the names that glibc keeps for the purpose, or that dlsym finds.
#define _GNU_SOURCE
#include "tests/support/call_counters.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void* memory);

// Initial-exec: reading it allocates nothing.
static __thread call_counts counts __attribute__((tls_model("initial-exec")));

call_counts get_call_counts(void) { return counts; }

void* malloc(size_t bytes) {
  ++counts.allocations;
  return __libc_malloc(bytes);
}

void* calloc(size_t count, size_t bytes) {
  ++counts.allocations;
  return __libc_calloc(count, bytes);
}

void* realloc(void* old, size_t bytes) {
  ++counts.allocations;
  return __libc_realloc(old, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  ++counts.allocations;
  return __libc_memalign(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  void* given = memalign(alignment, bytes);
  if (given == NULL) return ENOMEM;
  *memory = given;
  return 0;
}

void free(void* memory) {
  ++counts.frees;
  __libc_free(memory);
}

// The next definition of a function in the order of libraries: the C library's.
static void* next_symbol(const char* name, _Atomic(void*)* known) {
  void* symbol = atomic_load(known);
  if (symbol == NULL) {
    symbol = dlsym(RTLD_NEXT, name);
    atomic_store(known, symbol);
  }
  return symbol;
}

#define COUNTED_LOCK(name, type)                     \
  int name(type* lock) {                             \
    static _Atomic(void*) known;                     \
    int (*function)(type*);                          \
    void* const symbol = next_symbol(#name, &known); \
    memcpy(&function, &symbol, sizeof(function));    \
    ++counts.locks;                                  \
    return function(lock);                           \
  }

COUNTED_LOCK(pthread_mutex_lock, pthread_mutex_t)
COUNTED_LOCK(pthread_mutex_trylock, pthread_mutex_t)
COUNTED_LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
COUNTED_LOCK(pthread_rwlock_tryrdlock, pthread_rwlock_t)
COUNTED_LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
COUNTED_LOCK(pthread_rwlock_trywrlock, pthread_rwlock_t)
