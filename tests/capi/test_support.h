// Checks for test programs in C: a failed one is printed and counted, main returns the count.
#pragma once

#include <stdio.h>
#include <string.h>

#include "capi/ktjit.h"

extern int failures;

#define CHECK(condition)                                                               \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, #condition, \
              ktjit_last_error());                                                     \
      ++failures;                                                                      \
    }                                                                                  \
  } while (0)

/* Ends the test function: what follows can't work without it. */
#define REQUIRE(condition)    \
  do {                        \
    CHECK(condition);         \
    if (!(condition)) return; \
  } while (0)

/* The call fails with this status, and a message that holds `words`. */
#define CHECK_FAILS(call, status, words)                                                         \
  do {                                                                                           \
    const ktjit_status got_ = (call);                                                            \
    if (got_ != (status) || strstr(ktjit_last_error(), (words)) == NULL) {                       \
      fprintf(stderr, "%s:%d: %s\n  gave %s: %s\n  expected %s with '%s'\n", __FILE__, __LINE__, \
              #call, ktjit_status_name(got_), ktjit_last_error(), ktjit_status_name(status),     \
              (words));                                                                          \
      ++failures;                                                                                \
    }                                                                                            \
  } while (0)
