// Counts what a launch path must not do: allocations and locks, of the whole process, libraries
// included. For programs that link call_counters.c, which takes the place of the C library's functions.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

typedef struct call_counts {
  long allocations;  // malloc, calloc, realloc and their kin; operator new calls malloc
  long frees;
  long locks;  // of mutexes and read-write locks, tried ones too
} call_counts;

// Of this thread since its start.
call_counts get_call_counts(void);

#ifdef __cplusplus
}
#endif
