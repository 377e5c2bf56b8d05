// ktjit-llvm: the program around Clang, LLVM and lld. It serves compile requests over the socket
// that is its standard input (see jit/worker_protocol.h) until the other side is gone.
//
// It is a process of its own because Clang is not safe on several threads, LLVM ends the process on
// an internal error, and its symbols clash with those of a host that has its own LLVM.
#include <chrono>
#include <cstdio>
#include <llvm/Config/llvm-config.h>
#include <poll.h>
#include <string_view>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

#include "worker/clang_job.h"
#include "worker/link_job.h"
#include "worker/simulator_job.h"

#include "jit/worker_protocol.h"

namespace {

using namespace ktjit::worker;

constexpr int kSocket = STDIN_FILENO;

enum ExitCode { kDone = 0, kUsage = 2, kMalformedFrame = 3, kLinkerCrashed = 4 };

/// Ends the process as soon as the other side hangs up, even in the middle of a compile.
/// PR_SET_PDEATHSIG would not do: it fires when the *thread* that started us ends.
void end_with_parent() {
  std::thread([] {
    pollfd entry{kSocket, POLLRDHUP, 0};
    while (poll(&entry, 1, -1) <= 0) {
    }
    _exit(kDone);
  }).detach();
}

struct Answer {
  Response response;
  bool can_go_on = true;
};

Answer serve(const Request& request) {
  const auto start = std::chrono::steady_clock::now();
  Answer answer;
  const bool for_simulator = request.output == OutputKind::kSimulatorObject;
  JobResult result = for_simulator ? run_simulator_job(request) : run_clang(request);
  if (result.ok && (for_simulator || request.output == OutputKind::kSharedObject)) {
    LinkResult linked = run_linker(request, result.bytes);
    answer.can_go_on = linked.can_run_again;
    result.ok = linked.job.ok;
    result.log += linked.job.log;
    result.bytes = std::move(linked.job.bytes);
  }
  const std::chrono::duration<double, std::milli> elapsed =
      std::chrono::steady_clock::now() - start;
  answer.response.id = request.id;
  answer.response.ok = result.ok;
  answer.response.log = std::move(result.log);
  if (result.ok) answer.response.bytes = std::move(result.bytes);
  answer.response.compile_ms = elapsed.count();
  return answer;
}

int serve_until_closed() {
  if (write_frame(kSocket,
                  {MessageType::kHello, encode(Hello{kProtocolVersion, LLVM_VERSION_STRING})}) !=
      FrameStatus::kOk) {
    return kUsage;
  }
  for (;;) {
    Frame frame;
    const FrameStatus status = read_frame(kSocket, frame);
    if (status == FrameStatus::kClosed) return kDone;
    const auto request = status == FrameStatus::kOk && frame.type == MessageType::kRequest
                             ? decode_request(frame.payload)
                             : std::nullopt;
    Answer answer;
    if (request) {
      answer = serve(*request);
    } else {
      answer.response.log = "malformed request";
    }
    write_frame(kSocket, {MessageType::kResponse, encode(answer.response)});
    if (!request) return kMalformedFrame;
    if (!answer.can_go_on) return kLinkerCrashed;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    std::printf("ktjit-llvm: LLVM %s, protocol %u\n", LLVM_VERSION_STRING, kProtocolVersion);
    return kDone;
  }
  if (argc != 2 || std::string_view(argv[1]) != "--serve") {
    std::fputs("ktjit-llvm compiles for ktjit, which starts it itself\n", stderr);
    return kUsage;
  }
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  end_with_parent();
  initialize_llvm();
  // No destructors: LLVM's globals take milliseconds, and nothing outlives the process.
  _exit(serve_until_closed());
}
