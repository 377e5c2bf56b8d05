#include "capi/status.h"

#include <new>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "core/missing_kernel_error.h"
#include "runtime/driver_api.h"

namespace ktjit::capi {
namespace {

/// Never empty of memory to say so: messages that don't fit are replaced by a fixed one.
struct LastError {
  std::string message;
  const char* text = "";

  void set(const char* what) noexcept {
    try {
      message = what;
      text = message.c_str();
    } catch (const std::bad_alloc&) {
      text = "out of memory, also for the message";
    }
  }
};
thread_local LastError last_error;

ktjit_status status_of(std::exception_ptr error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const SpecError& e) {
    return last_error.set(e.what()), KTJIT_ERROR_SPEC;
  } catch (const InputError& e) {
    return last_error.set(e.what()), KTJIT_ERROR_INPUT;
  } catch (const ToolchainError& e) {
    return last_error.set(e.what()), KTJIT_ERROR_TOOLCHAIN;
  } catch (const CompileError& e) {
    return last_error.set(e.what()), KTJIT_ERROR_COMPILE;
  } catch (const DriverError& e) {
    last_error.set(e.what());
    return e.code() == runtime::cu::kErrorStreamCaptureUnsupported ? KTJIT_ERROR_CAPTURE
                                                                   : KTJIT_ERROR_DRIVER;
  } catch (const MissingKernelError& e) {
    return last_error.set(e.what()), KTJIT_ERROR_SEALED;
  } catch (const InterruptedError& e) {
    return last_error.set(e.what()), KTJIT_ERROR_INTERRUPTED;
  } catch (const std::bad_alloc&) {
    return last_error.set("out of memory"), KTJIT_ERROR_MEMORY;
  } catch (const std::exception& e) {  // InternalError, and what no one thought of
    return last_error.set(e.what()), KTJIT_ERROR_INTERNAL;
  } catch (...) {
    return last_error.set("an exception of unknown type"), KTJIT_ERROR_INTERNAL;
  }
}

}  // namespace

ktjit_status record_error(std::exception_ptr error) noexcept { return status_of(error); }

void require(const void* pointer, std::string_view name) {
  if (pointer == nullptr) throw SpecError(name, "null", "a pointer");
}

}  // namespace ktjit::capi

const char* ktjit_last_error(void) { return ktjit::capi::last_error.text; }

const char* ktjit_status_name(ktjit_status status) {
  switch (status) {
    case KTJIT_OK:
      return "KTJIT_OK";
    case KTJIT_ERROR_SPEC:
      return "KTJIT_ERROR_SPEC";
    case KTJIT_ERROR_INPUT:
      return "KTJIT_ERROR_INPUT";
    case KTJIT_ERROR_TOOLCHAIN:
      return "KTJIT_ERROR_TOOLCHAIN";
    case KTJIT_ERROR_COMPILE:
      return "KTJIT_ERROR_COMPILE";
    case KTJIT_ERROR_DRIVER:
      return "KTJIT_ERROR_DRIVER";
    case KTJIT_ERROR_INTERNAL:
      return "KTJIT_ERROR_INTERNAL";
    case KTJIT_ERROR_MEMORY:
      return "KTJIT_ERROR_MEMORY";
    case KTJIT_ERROR_CAPTURE:
      return "KTJIT_ERROR_CAPTURE";
    case KTJIT_ERROR_SEALED:
      return "KTJIT_ERROR_SEALED";
    case KTJIT_ERROR_INTERRUPTED:
      return "KTJIT_ERROR_INTERRUPTED";
  }
  return "unknown status";
}
