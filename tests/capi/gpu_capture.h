// What only a GPU can show: the caller's context and stream, and capture.
#pragma once

#include "capi/ktjit.h"

void test_gpu_capture(ktjit_context* context);
