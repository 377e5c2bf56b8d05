// Counts what the test program asks of the allocator, by replacing operator new.
#pragma once

#include <cstddef>

namespace ktjit::model {

void reset_largest_allocation();
/// In bytes, since the last reset, over all threads.
std::size_t largest_allocation();

}  // namespace ktjit::model
