// Encoding of the worker's messages, and frames over a socket with a deadline.
#include "jit/worker_protocol.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>

namespace ktjit::worker {
namespace {

static_assert(std::endian::native == std::endian::little, "frames are written as they lie");

constexpr std::uint32_t kMagic = 0x574a544b;  // "KTJW"

struct Header {
  std::uint32_t magic;
  std::uint32_t type;
  std::uint64_t payload_bytes;
};
static_assert(sizeof(Header) == 16);

class Writer {
 public:
  template <typename T>
  void number(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(std::string_view text) {
    number(std::uint64_t{text.size()});
    out_.append(text);
  }
  void list(const std::vector<std::string>& items) {
    number(std::uint64_t{items.size()});
    for (const std::string& item : items) string(item);
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

/// Reads what Writer wrote. A value that isn't there is zero, and whole() tells.
class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}

  template <typename T>
  T number() {
    T value{};
    if (in_.size() < sizeof value) {
      fail();
      return value;
    }
    std::memcpy(&value, in_.data(), sizeof value);
    in_.remove_prefix(sizeof value);
    return value;
  }
  std::string string() {
    const auto size = number<std::uint64_t>();
    if (size > in_.size()) {
      fail();
      return {};
    }
    std::string text(in_.substr(0, size));
    in_.remove_prefix(size);
    return text;
  }
  std::vector<std::string> list() {
    std::vector<std::string> items;
    const auto size = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < size && !failed_; ++i) items.push_back(string());
    return items;
  }
  /// Every value was there, and nothing is left.
  bool whole() const { return !failed_ && in_.empty(); }

 private:
  void fail() {
    failed_ = true;
    in_ = {};
  }

  std::string_view in_;
  bool failed_ = false;
};

/// Waits until the socket is ready for `events`.
FrameStatus wait_ready(int socket, short events, Deadline deadline) {
  for (;;) {
    int timeout_ms = -1;
    if (deadline) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(
          *deadline - std::chrono::steady_clock::now());
      if (left.count() <= 0) return FrameStatus::kTimedOut;
      timeout_ms = static_cast<int>(std::min<std::int64_t>(left.count(), 1 << 30));
    }
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, timeout_ms);
    if (ready > 0) return FrameStatus::kOk;
    if (ready < 0 && errno != EINTR) return FrameStatus::kClosed;
  }
}

bool would_block() { return errno == EAGAIN || errno == EINTR; }

FrameStatus send_all(int socket, std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    if (const auto status = wait_ready(socket, POLLOUT, deadline); status != FrameStatus::kOk)
      return status;
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && !would_block()) return FrameStatus::kClosed;
    if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return FrameStatus::kOk;
}

FrameStatus receive_all(int socket, char* to, std::size_t bytes, Deadline deadline) {
  while (bytes > 0) {
    if (const auto status = wait_ready(socket, POLLIN, deadline); status != FrameStatus::kOk)
      return status;
    const ssize_t got = recv(socket, to, bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && !would_block())) return FrameStatus::kClosed;
    if (got > 0) {
      to += got;
      bytes -= static_cast<std::size_t>(got);
    }
  }
  return FrameStatus::kOk;
}

}  // namespace

std::string encode(const Hello& hello) {
  Writer out;
  out.number(hello.protocol_version);
  out.string(hello.llvm_version);
  return out.take();
}

std::string encode(const Request& request) {
  Writer out;
  out.number(request.id);
  out.number(static_cast<std::uint32_t>(request.output));
  out.string(request.file_name);
  out.string(request.source);
  out.string(request.prelude);
  out.list(request.clang_arguments);
  out.list(request.linker_arguments);
  out.list(request.allowed_symbols);
  return out.take();
}

std::string encode(const Response& response) {
  Writer out;
  out.number(response.id);
  out.number(std::uint32_t{response.ok});
  out.string(response.log);
  out.string(response.bytes);
  out.number(response.compile_ms);
  return out.take();
}

std::optional<Hello> decode_hello(std::string_view payload) {
  Reader in(payload);
  Hello hello;
  hello.protocol_version = in.number<std::uint32_t>();
  hello.llvm_version = in.string();
  return in.whole() ? std::optional(std::move(hello)) : std::nullopt;
}

std::optional<Request> decode_request(std::string_view payload) {
  Reader in(payload);
  Request request;
  request.id = in.number<std::uint64_t>();
  const auto output = in.number<std::uint32_t>();
  request.output = static_cast<OutputKind>(output);
  request.file_name = in.string();
  request.source = in.string();
  request.prelude = in.string();
  request.clang_arguments = in.list();
  request.linker_arguments = in.list();
  request.allowed_symbols = in.list();
  const bool known = output <= static_cast<std::uint32_t>(OutputKind::kSimulatorObject);
  return in.whole() && known ? std::optional(std::move(request)) : std::nullopt;
}

std::optional<Response> decode_response(std::string_view payload) {
  Reader in(payload);
  Response response;
  response.id = in.number<std::uint64_t>();
  response.ok = in.number<std::uint32_t>() != 0;
  response.log = in.string();
  response.bytes = in.string();
  response.compile_ms = in.number<double>();
  return in.whole() ? std::optional(std::move(response)) : std::nullopt;
}

FrameStatus write_frame(int socket, const Frame& frame, Deadline deadline) {
  if (frame.payload.size() > kMaxPayloadBytes) return FrameStatus::kMalformed;
  const Header header{kMagic, static_cast<std::uint32_t>(frame.type), frame.payload.size()};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += frame.payload;
  return send_all(socket, bytes, deadline);
}

FrameStatus read_frame(int socket, Frame& frame, Deadline deadline) {
  Header header{};
  const FrameStatus status =
      receive_all(socket, reinterpret_cast<char*>(&header), sizeof header, deadline);
  if (status != FrameStatus::kOk) return status;
  if (header.magic != kMagic || header.payload_bytes > kMaxPayloadBytes)
    return FrameStatus::kMalformed;
  frame.type = static_cast<MessageType>(header.type);
  frame.payload.resize(header.payload_bytes);
  return receive_all(socket, frame.payload.data(), frame.payload.size(), deadline);
}

}  // namespace ktjit::worker
