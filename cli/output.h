// Standard output and standard error, with their failures: a full disk is an error, a closed pipe
// is an end.
#pragma once

#include <string_view>

namespace ktjit::cli {

/// Whoever read our output has gone: nothing more to do, nothing to say. Not an Error.
struct BrokenPipe {};

/// Writes to standard output. Errors: BrokenPipe; model::OutputError if it can't be written.
void print(std::string_view text);

/// Pushes out what print has written. Errors: as print.
void flush_output();

/// Writes one line to standard error, over a progress bar if there is one. Throws nothing.
void print_to_stderr(std::string_view line);

bool stdout_is_terminal();
bool stderr_is_terminal();

}  // namespace ktjit::cli
