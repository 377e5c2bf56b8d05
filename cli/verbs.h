// The verbs: each takes the arguments after its name and returns the exit code.
#pragma once

#include <string>
#include <vector>

namespace ktjit::cli {

using Arguments = std::vector<std::string>;

int run_bench(const Arguments& arguments);
int run_build(const Arguments& arguments);
int run_cache(const Arguments& arguments);
int run_convert(const Arguments& arguments);
int run_doctor(const Arguments& arguments);
int run_emit(const Arguments& arguments);
int run_exec(const Arguments& arguments);
int run_inspect(const Arguments& arguments);
int run_plan(const Arguments& arguments);
int run_run(const Arguments& arguments);
int run_sample(const Arguments& arguments);
int run_tune(const Arguments& arguments);

}  // namespace ktjit::cli
