// What a call that waits throws when its caller asked it to stop.
#pragma once

#include "core/interrupted_error.h"

namespace ktjit::cache {

/// The caller's stop token was set while it waited for an entry that somebody else makes.
/// A `make` may throw it as well: who waits for that make and was not stopped then makes on its
/// own.
using Interrupted = InterruptedError;

}  // namespace ktjit::cache
