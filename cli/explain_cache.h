// ktjit cache explain: whether the kernels of a model are in the cache, and if not, what differs
// from the nearest entry.
#pragma once

#include <string>
#include <vector>

#include "cache/cache_root.h"
#include "cache/maintenance.h"
#include "cli/common_options.h"
#include "cli/subject.h"

namespace ktjit::cli {

/// Which kernels to explain: all of the subject, or those of one tensor, or of one op.
struct ExplainOptions {
  std::string tensor;
  std::string op;
};

/// Explains the keys of the subject's kernels for the given targets. Compiles nothing.
/// Errors: as Subject, Toolchain and find_nearest; UsageError for an op that none of the tensors has.
int explain_subject(const SubjectOptions& subject_options, const ExplainOptions& options,
                    const CommonOptions& common, const std::vector<cache::RootOptions>& roots);

/// The entry whose digest begins so, in the first root that has it.
/// Errors: as Maintenance::show.
cache::StoredEntry find_entry(const std::vector<cache::RootOptions>& roots,
                              const std::string& prefix);

/// Compares the keys of the two entries whose digests begin so.
/// Errors: as Maintenance::show.
int explain_entries(const std::string& left, const std::string& right,
                    const std::vector<cache::RootOptions>& roots, bool json);

}  // namespace ktjit::cli
