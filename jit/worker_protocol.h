// What ktjit and its worker program ktjit-llvm say to each other: frames over a socket. Compiled
// into both sides, so it depends on neither, and throws nothing (the worker has LLVM's frames on
// its stack).
//
//   worker -> ktjit   hello, once
//   ktjit  -> worker  request
//   worker -> ktjit   response, one per request
//
// A frame is a header (magic, message type, payload length) and the payload. Integers are
// little-endian, a string is its length (8 bytes) and its bytes, a list its length and its strings.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit::worker {

/// Raised with every change of the messages below.
inline constexpr std::uint32_t kProtocolVersion = 2;

enum class MessageType : std::uint32_t { kHello = 1, kRequest = 2, kResponse = 3 };

struct Hello {
  std::uint32_t protocol_version = kProtocolVersion;
  std::string llvm_version;  ///< "19.1.7"
};

enum class OutputKind : std::uint32_t {
  kSharedObject = 0,  ///< ELF shared object, linked by lld
  kAssembly = 1,      ///< text; for NVPTX that is PTX
  kLlvmIr = 2,        ///< text, after optimisation
  kSimulatorObject =
      3,  ///< ELF shared object for this CPU from CUDA text, with every access checked
};

/// One text to compile. All choices are made by the sender: the worker adds no option of its own.
struct Request {
  std::uint64_t id = 0;
  OutputKind output = OutputKind::kSharedObject;
  std::string file_name;  ///< "kernel.cpp": what messages call the text
  std::string source;
  std::string prelude;                        ///< text to read before the source
  std::vector<std::string> clang_arguments;   ///< as `clang -cc1` takes them
  std::vector<std::string> linker_arguments;  ///< as `ld.lld` takes them; shared objects only
  std::vector<std::string> allowed_symbols;   ///< what a shared object may need from its loader
};

struct Response {
  std::uint64_t id = 0;
  bool ok = false;
  std::string log;    ///< warnings, or why it failed
  std::string bytes;  ///< the output, empty unless ok
  double compile_ms = 0.0;
};

std::string encode(const Hello& hello);
std::string encode(const Request& request);
std::string encode(const Response& response);
/// Nothing if the payload is not a whole message of that type.
std::optional<Hello> decode_hello(std::string_view payload);
std::optional<Request> decode_request(std::string_view payload);
std::optional<Response> decode_response(std::string_view payload);

/// A frame whose payload would be longer is malformed.
inline constexpr std::uint64_t kMaxPayloadBytes = std::uint64_t{1} << 28;

enum class FrameStatus {
  kOk,
  kClosed,     ///< the other side is gone
  kMalformed,  ///< not a frame of this protocol
  kTimedOut,
};

struct Frame {
  MessageType type = MessageType::kHello;
  std::string payload;
};

using Deadline = std::optional<std::chrono::steady_clock::time_point>;

/// Sends one frame on a socket. Raises no SIGPIPE.
FrameStatus write_frame(int socket, const Frame& frame, Deadline deadline = std::nullopt);
/// Receives one frame.
FrameStatus read_frame(int socket, Frame& frame, Deadline deadline = std::nullopt);

}  // namespace ktjit::worker
