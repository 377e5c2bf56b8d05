// Requests to workers: who serves which, who waits, and what a lost worker means.
#include "jit/llvm_compiler.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/build_id.h"
#include "jit/clang_cuda_prelude.h"
#include "jit/clang_options.h"
#include "jit/failed_source.h"
#include "runtime/host_limits.h"

#ifndef KTJIT_LLVM_VERSION  // built where LLVM is not installed, for a worker from elsewhere
#define KTJIT_LLVM_VERSION "19"
#endif

namespace ktjit {
namespace {

worker::OutputKind output_kind(ArtifactKind kind) {
  switch (kind) {
    case ArtifactKind::kSharedObject:
      return worker::OutputKind::kSharedObject;
    case ArtifactKind::kAssembly:
    case ArtifactKind::kPtx:
      return worker::OutputKind::kAssembly;
    case ArtifactKind::kLlvmIr:
      return worker::OutputKind::kLlvmIr;
    case ArtifactKind::kSimulatorObject:
      return worker::OutputKind::kSimulatorObject;
    case ArtifactKind::kCubin:
      break;
  }
  KTJIT_UNREACHABLE("a kind that LLVM makes");
}

/// What LLVM 19 knows: no sm_88, and nothing after sm_90a.
bool knows_cuda_target(const Target& target) {
  return target.sm >= 60 && target.sm <= 90 && target.sm != 88;
}

std::string file_extension(const Target& target) { return target.is_cuda() ? ".cu" : ".cpp"; }

worker::Request make_request(const CompileRequest& request, std::uint64_t id) {
  worker::Request message;
  message.id = id;
  message.output = output_kind(request.kind);
  message.file_name = "kernel" + file_extension(request.target);
  message.source = request.source;
  if (request.target.is_cuda()) message.prelude = clang_cuda_prelude_for(request.source);
  message.clang_arguments = clang_arguments(request.target, request.kind, request.quality);
  message.linker_arguments = linker_arguments();
  message.allowed_symbols = allowed_symbols();
  return message;
}

[[noreturn]] void throw_interrupted(const CompileRequest& request) {
  throw InterruptedError(fmt::format("the compile of {}", request.entry_name));
}

std::string join_lines(std::string first, std::string_view second) {
  if (!first.empty() && first.back() != '\n' && !second.empty()) first += '\n';
  return first.append(second);
}

}  // namespace

/// A worker taken from the pool, and given back unless it was lost.
class LlvmCompiler::Lease {
 public:
  Lease(LlvmCompiler& pool, const CompileRequest& request)
      : pool_(pool), worker_(pool.acquire(request)) {}
  ~Lease() { pool_.release(std::move(worker_)); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  WorkerProcess& worker() { return *worker_; }

 private:
  LlvmCompiler& pool_;
  std::unique_ptr<WorkerProcess> worker_;
};

LlvmCompiler::LlvmCompiler(LlvmCompilerOptions options) : options_(std::move(options)) {
  if (options_.max_workers <= 0) options_.max_workers = runtime::usable_threads();
}

LlvmCompiler::~LlvmCompiler() = default;

std::string LlvmCompiler::name() const { return "LLVM " KTJIT_LLVM_VERSION; }

bool LlvmCompiler::serves(const Target& target, ArtifactKind kind) const {
  if (target.is_cuda()) {
    if (kind == ArtifactKind::kSimulatorObject) return true;
    return knows_cuda_target(target) &&
           (kind == ArtifactKind::kPtx || kind == ArtifactKind::kLlvmIr);
  }
  return kind == ArtifactKind::kSharedObject || kind == ArtifactKind::kAssembly ||
         kind == ArtifactKind::kLlvmIr;
}

CompilerIdentity LlvmCompiler::identity(const Target& target, ArtifactKind kind) const {
  KTJIT_CHECK(serves(target, kind));
  std::string build_id;
  {
    const std::scoped_lock lock(mutex_);
    if (!worker_build_id_) worker_build_id_ = read_build_id(get_worker()).value_or("none");
    build_id = *worker_build_id_;
  }
  CompilerIdentity identity = {
      {"compiler", name()},
      {"worker", build_id},
      {"arguments", fmt::format("{}", fmt::join(clang_arguments(target, kind), " "))},
  };
  if (kind == ArtifactKind::kSharedObject || kind == ArtifactKind::kSimulatorObject)
    identity.emplace_back("linker", fmt::format("{}", fmt::join(linker_arguments(), " ")));
  if (target.is_cuda()) identity.emplace_back("prelude", clang_cuda_prelude());
  return identity;
}

std::optional<std::string> LlvmCompiler::quick_option(Op op, const Target& target,
                                                      ArtifactKind kind) const {
  const bool is_gain = is_matmul(op) && target.is_cpu() && kind == ArtifactKind::kSharedObject;
  return is_gain ? std::optional(fmt::format("{}", fmt::join(optimisation(Quality::kQuick), " ")))
                 : std::nullopt;
}

Artifact LlvmCompiler::compile(const CompileRequest& request) {
  if (!serves(request.target, request.kind)) {
    throw SpecError(
        "target", fmt::format("{} for {}", artifact_kind_name(request.kind), request.target.name()),
        fmt::format("{} makes shared objects, assembly and LLVM IR for the CPU, PTX and "
                    "LLVM IR for sm_60 to sm_90a",
                    name()));
  }
  worker::Request message;
  WorkerProcess::Answer answer;
  {
    Lease lease(*this, request);
    {
      const std::scoped_lock lock(mutex_);
      message = make_request(request, next_id_++);
    }
    answer = lease.worker().ask(message, options_.timeout, request.stop);
  }
  if (!answer.response && request.stop.stop_requested()) throw_interrupted(request);
  const bool ok = answer.response && answer.response->ok;
  std::string log = answer.response ? join_lines(answer.response->log, answer.chatter)
                                    : join_lines(answer.loss, answer.chatter);
  if (!ok) {
    throw CompileError(request.entry_name, name(),
                       fmt::format("{}", fmt::join(message.clang_arguments, " ")),
                       save_failed_source(options_.dump_dir, request.entry_name,
                                          file_extension(request.target), request.source),
                       log);
  }
  Artifact artifact;
  artifact.kind = request.kind;
  artifact.entry_name = request.entry_name;
  const auto* bytes = reinterpret_cast<const std::byte*>(answer.response->bytes.data());
  artifact.bytes.assign(bytes, bytes + answer.response->bytes.size());
  artifact.log = std::move(log);
  artifact.compile_ms = answer.response->compile_ms;
  return artifact;
}

int LlvmCompiler::workers_started() const {
  const std::scoped_lock lock(mutex_);
  return started_;
}

std::vector<pid_t> LlvmCompiler::worker_pids() const {
  const std::scoped_lock lock(mutex_);
  return pids_;
}

std::vector<std::filesystem::path> LlvmCompiler::places() const {
  if (!options_.worker.empty()) return {options_.worker};
  std::error_code error;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  if (error) return {};
  return {folder / "ktjit-llvm", folder.parent_path() / "libexec" / "ktjit" / "ktjit-llvm"};
}

std::optional<std::filesystem::path> LlvmCompiler::find_worker() const {
  for (const std::filesystem::path& place : places()) {
    std::error_code error;
    if (std::filesystem::is_regular_file(place, error)) return place;
  }
  return std::nullopt;
}

std::filesystem::path LlvmCompiler::get_worker() const {
  if (auto worker = find_worker()) return *worker;
  std::vector<std::string> looked_in;
  for (const std::filesystem::path& place : places()) looked_in.push_back(place.string());
  throw ToolchainError("the compiler worker ktjit-llvm is missing",
                       fmt::format("{}", fmt::join(looked_in, ", ")),
                       "install ktjit with its worker, or pass the worker's path");
}

std::unique_ptr<WorkerProcess> LlvmCompiler::acquire(const CompileRequest& request) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, request.stop, [this] { return in_use_ < options_.max_workers; });
  if (request.stop.stop_requested()) {
    changed_.notify_one();  // the notice may have been meant for somebody who goes on
    throw_interrupted(request);
  }
  ++in_use_;
  while (!idle_.empty()) {
    std::unique_ptr<WorkerProcess> worker = std::move(idle_.back());
    idle_.pop_back();
    if (worker->is_usable()) return worker;
    std::erase(pids_, worker->pid());
  }
  lock.unlock();
  std::unique_ptr<WorkerProcess> worker;
  try {
    worker = std::make_unique<WorkerProcess>(get_worker());
  } catch (...) {
    release(nullptr);
    throw;
  }
  lock.lock();
  ++started_;
  pids_.push_back(worker->pid());
  return worker;
}

void LlvmCompiler::release(std::unique_ptr<WorkerProcess> worker) {
  const std::scoped_lock lock(mutex_);
  --in_use_;
  if (worker && worker->is_usable()) {
    idle_.push_back(std::move(worker));
  } else if (worker) {
    std::erase(pids_, worker->pid());
  }
  changed_.notify_one();
}

}  // namespace ktjit
