// Kernel descriptions of the C interface as specs.
#pragma once

#include <string_view>

#include "capi/ktjit.h"

#include "core/kernel_spec.h"
#include "jit/toolchain.h"

namespace ktjit::capi {

/// The spec that a description asks for, with every default filled in.
/// `native`: the target where the description names none, null where it has to.
/// Errors: SpecError naming the field.
KernelSpec to_spec(const ktjit_kernel_desc* desc, const Toolchain& toolchain, const Target* native);

}  // namespace ktjit::capi
