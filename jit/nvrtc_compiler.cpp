// One program per compile, options chosen by version, everything NVRTC says turned into our errors.
#include "jit/nvrtc_compiler.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/interrupted_error.h"
#include "jit/failed_source.h"
#include "jit/nvrtc_library.h"
#include "jit/nvrtc_log.h"

namespace ktjit {
namespace {

// First versions that know an option; older ones refuse it. Tried with 12.1, 12.4, 12.8 and 12.9.
constexpr NvrtcVersion kFirstWithMinimal = {12, 4};
constexpr NvrtcVersion kFirstWithNoCache = {12, 9};
constexpr NvrtcVersion kFirstWithFastCompile = {12, 9};
constexpr const char* kFastCompile = "--Ofast-compile=mid";

std::vector<std::string> options_for(NvrtcVersion version, const Target& target,
                                     ArtifactKind kind) {
  std::vector<std::string> options = {
      "-arch=" + (kind == ArtifactKind::kPtx ? target.virtual_arch() : target.name()),
      "--std=c++17",
      "--fmad=true",     // a decode that must not be contracted says so itself
      "-ftz=false",      // decodes pass through subnormal numbers
      "-prec-div=true",  // scales are divided exactly
      "-prec-sqrt=true",
  };
  // Leaves out textures and the device runtime, which no kernel of ours uses.
  if (version >= kFirstWithMinimal) options.emplace_back("--minimal");
  // We have a cache of our own; theirs would also swallow ptxas's statistics.
  if (version >= kFirstWithNoCache) options.emplace_back("--no-cache");
  if (kind == ArtifactKind::kCubin) options.emplace_back("--ptxas-options=-v");
  return options;
}

struct DestroyProgram {
  const NvrtcApi* api = nullptr;
  void operator()(NvrtcProgram program) const noexcept { api->destroy_program(&program); }
};

// One compile in NVRTC, from text to bytes.
class Program {
 public:
  Program(const NvrtcLibrary& library, const NvrtcCandidate& candidate)
      : api_(library.api()), candidate_(candidate) {}

  void create(const CompileRequest& request) {
    NvrtcProgram program = nullptr;
    const std::string file_name = request.entry_name + ".cu";
    check(api_.create_program(&program, request.source.c_str(), file_name.c_str(), 0, nullptr,
                              nullptr),
          "nvrtcCreateProgram");
    program_ = runtime::UniqueHandle<NvrtcProgram, DestroyProgram>(program, DestroyProgram{&api_});
  }

  /// `stop` must outlive the call.
  NvrtcResult compile(const std::vector<std::string>& options, const std::stop_token& stop) {
    if (api_.set_flow_callback != nullptr && stop.stop_possible()) {
      const auto is_stopped = [](void* token, void*) -> int {
        return static_cast<const std::stop_token*>(token)->stop_requested() ? 1 : 0;
      };
      check(api_.set_flow_callback(program_.get(), is_stopped, const_cast<std::stop_token*>(&stop)),
            "nvrtcSetFlowCallback");
    }
    std::vector<const char*> texts;
    for (const std::string& option : options) texts.push_back(option.c_str());
    return api_.compile_program(program_.get(), static_cast<int>(texts.size()), texts.data());
  }

  std::string log() const {
    std::size_t bytes = 0;
    check(api_.get_program_log_size(program_.get(), &bytes), "nvrtcGetProgramLogSize");
    std::string log(bytes, '\0');
    check(api_.get_program_log(program_.get(), log.data()), "nvrtcGetProgramLog");
    while (!log.empty() && log.back() == '\0') log.pop_back();
    return log;
  }

  std::vector<std::byte> cubin() const {
    std::size_t bytes = 0;
    check(api_.get_cubin_size(program_.get(), &bytes), "nvrtcGetCUBINSize");
    std::vector<std::byte> cubin(bytes);
    check(api_.get_cubin(program_.get(), reinterpret_cast<char*>(cubin.data())), "nvrtcGetCUBIN");
    return cubin;
  }

  // Without the zero that NVRTC counts as its last character.
  std::vector<std::byte> ptx() const {
    std::size_t bytes = 0;
    check(api_.get_ptx_size(program_.get(), &bytes), "nvrtcGetPTXSize");
    std::vector<std::byte> ptx(bytes);
    check(api_.get_ptx(program_.get(), reinterpret_cast<char*>(ptx.data())), "nvrtcGetPTX");
    while (!ptx.empty() && ptx.back() == std::byte{0}) ptx.pop_back();
    return ptx;
  }

 private:
  void check(NvrtcResult result, const char* call) const {
    if (result == kNvrtcSuccess) return;
    throw ToolchainError(fmt::format("{} of NVRTC {} failed with {}", call,
                                     candidate_.version.text(), api_.get_error_string(result)),
                         candidate_.library.native(), nvrtc_advice());
  }

  const NvrtcApi& api_;
  const NvrtcCandidate& candidate_;
  runtime::UniqueHandle<NvrtcProgram, DestroyProgram> program_;
};

}  // namespace

NvrtcCompiler::NvrtcCompiler(NvrtcCandidate candidate, std::filesystem::path failed_source_folder)
    : candidate_(std::move(candidate)), failed_source_folder_(std::move(failed_source_folder)) {
  if (!candidate_.usable()) {
    throw ToolchainError(fmt::format("NVRTC can't be used: {}", candidate_.problem),
                         candidate_.library.native(), nvrtc_advice());
  }
}

NvrtcCompiler::~NvrtcCompiler() = default;

std::string NvrtcCompiler::name() const { return "NVRTC " + candidate_.version.text(); }

bool NvrtcCompiler::serves(const Target& target, ArtifactKind kind) const {
  return (kind == ArtifactKind::kCubin || kind == ArtifactKind::kPtx) &&
         nvrtc_serves(candidate_.version, target);
}

CompilerIdentity NvrtcCompiler::identity(const Target& target, ArtifactKind kind) const {
  const std::vector<std::string> flags = options_for(candidate_.version, target, kind);
  return {{"compiler", "NVRTC"},
          {"libnvrtc-build-id", candidate_.library_id},
          {"libnvrtc-builtins-build-id", candidate_.builtins_id},
          {"flags", fmt::format("{}", fmt::join(flags, " "))},
          {"prelude", ""}};
}

// Without a gain for dequant, whose compiles are the front end's time, and for PTX, whose code the
// driver makes.
std::optional<std::string> NvrtcCompiler::quick_option(Op op, const Target&,
                                                       ArtifactKind kind) const {
  const bool is_gain =
      is_matmul(op) && kind == ArtifactKind::kCubin && candidate_.version >= kFirstWithFastCompile;
  return is_gain ? std::optional<std::string>(kFastCompile) : std::nullopt;
}

bool NvrtcCompiler::is_open() const {
  const std::lock_guard lock(open_mutex_);
  return library_ != nullptr;
}

const NvrtcLibrary& NvrtcCompiler::open_library() {
  const std::lock_guard lock(open_mutex_);
  if (!library_) library_ = std::make_unique<const NvrtcLibrary>(candidate_);
  return *library_;
}

// Our table answered for the closed library; the open one has the last word.
void NvrtcCompiler::check_serves(const NvrtcLibrary& library, const Target& target) const {
  const std::vector<int>& archs = library.archs();
  if (std::find(archs.begin(), archs.end(), target.sm) != archs.end()) return;
  throw ToolchainError(
      fmt::format("{} doesn't compile for {}: by its version number it should know {}, but it says "
                  "{}",
                  name(), target.name(), fmt::join(nvrtc_archs(candidate_.version), " "),
                  fmt::join(archs, " ")),
      candidate_.library.native(), nvrtc_advice());
}

Artifact NvrtcCompiler::compile(const CompileRequest& request) {
  if (!serves(request.target, request.kind)) {
    throw ToolchainError(fmt::format("{} doesn't make {} for {}", name(),
                                     artifact_kind_name(request.kind), request.target.name()),
                         candidate_.library.native(), nvrtc_advice());
  }
  const auto throw_interrupted = [&] {
    throw InterruptedError(fmt::format("the compile of {}", request.entry_name));
  };
  if (request.stop.stop_requested()) throw_interrupted();
  const NvrtcLibrary& library = open_library();
  check_serves(library, request.target);

  std::vector<std::string> options = options_for(candidate_.version, request.target, request.kind);
  if (request.quality == Quality::kQuick) {
    KTJIT_CHECK(candidate_.version >= kFirstWithFastCompile);
    options.emplace_back(kFastCompile);
  }
  const auto start = std::chrono::steady_clock::now();
  Program program(library, candidate_);
  program.create(request);
  const NvrtcResult result = program.compile(options, request.stop);
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - start;
  // Whatever it says of a compile that was cut short; one that was done by then is of use.
  if (result != kNvrtcSuccess && request.stop.stop_requested()) throw_interrupted();
  std::string log = program.log();

  if (result == kNvrtcErrorBuiltinOperationFailure) {
    throw ToolchainError(fmt::format("NVRTC can't use its builtins: {}", log),
                         candidate_.builtins.native(), "reinstall that toolkit");
  }
  if (result != kNvrtcSuccess) {
    const std::string saved =
        save_failed_source(failed_source_folder_, request.entry_name + "-" + request.target.name(),
                           ".cu", request.source);
    throw CompileError(request.entry_name, name(), fmt::format("{}", fmt::join(options, " ")),
                       saved, fmt::format("{}\n{}", library.api().get_error_string(result), log));
  }

  Artifact artifact;
  artifact.kind = request.kind;
  artifact.entry_name = request.entry_name;
  artifact.bytes = request.kind == ArtifactKind::kPtx ? program.ptx() : program.cubin();
  artifact.resources = parse_ptxas_statistics(log, request.entry_name);
  artifact.log = std::move(log);
  artifact.compile_ms = elapsed.count();
  return artifact;
}

}  // namespace ktjit
