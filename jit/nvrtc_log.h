// Reads what ptxas says about a kernel in NVRTC's log (option --ptxas-options=-v).
#pragma once

#include <string>
#include <string_view>

#include "core/artifact.h"

namespace ktjit {

/// Registers, stack (with the functions it calls), spills (stores and loads) and static shared
/// memory of the kernel `entry_name`. Fields the log doesn't tell stay empty.
KernelResources parse_ptxas_statistics(std::string_view log, std::string_view entry_name);

/// The log without ptxas's statistics and NVRTC's notice that a GPU is old: what somebody should
/// look at, "" if there is nothing.
std::string warnings_in(std::string_view log);

}  // namespace ktjit
