// From C++ exceptions to the status codes and messages of the C interface.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "capi/ktjit.h"

namespace ktjit::capi {

/// The status of an exception of ours; keeps its message as this thread's last error.
ktjit_status record_error(std::exception_ptr error) noexcept;

/// Runs the body of an entry point: nothing that it throws gets past.
template <class Body>
ktjit_status guarded(Body&& body) noexcept {
  try {
    body();
    return KTJIT_OK;
  } catch (...) {
    return record_error(std::current_exception());
  }
}

/// Errors: SpecError if a pointer that has to be given is null.
void require(const void* pointer, std::string_view name);

}  // namespace ktjit::capi
