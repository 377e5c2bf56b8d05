// The worker's messages: what is sent arrives, what is damaged is refused.
#include "jit/worker_protocol.h"

#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace ktjit::worker {
namespace {

class SocketPair {
 public:
  SocketPair() { REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds_.data()) == 0); }
  ~SocketPair() {
    close_left();
    close(fds_[1]);
  }
  SocketPair(const SocketPair&) = delete;
  SocketPair& operator=(const SocketPair&) = delete;

  int left() const { return fds_[0]; }
  int right() const { return fds_[1]; }
  void close_left() {
    if (fds_[0] >= 0) close(fds_[0]);
    fds_[0] = -1;
  }

 private:
  std::array<int, 2> fds_{-1, -1};
};

Request sample_request() {
  Request request;
  request.id = 7;
  request.output = OutputKind::kAssembly;
  request.file_name = "kernel.cpp";
  request.source = std::string("int x;\0y", 8);
  request.prelude = "#define A\n";
  request.clang_arguments = {"-O3", "", "-x"};
  request.linker_arguments = {"-shared"};
  request.allowed_symbols = {"memcpy"};
  return request;
}

TEST_CASE("a request is decoded as it was") {
  const Request request = sample_request();
  const auto decoded = decode_request(encode(request));
  REQUIRE(decoded);
  CHECK(decoded->id == 7);
  CHECK(decoded->output == OutputKind::kAssembly);
  CHECK(decoded->file_name == request.file_name);
  CHECK(decoded->source == request.source);
  CHECK(decoded->prelude == request.prelude);
  CHECK(decoded->clang_arguments == request.clang_arguments);
  CHECK(decoded->linker_arguments == request.linker_arguments);
  CHECK(decoded->allowed_symbols == request.allowed_symbols);
}

TEST_CASE("a response and a hello are decoded as they were") {
  const auto response = decode_response(encode(Response{9, true, "log", "bytes", 12.5}));
  REQUIRE(response);
  CHECK(response->id == 9);
  CHECK(response->ok);
  CHECK(response->log == "log");
  CHECK(response->bytes == "bytes");
  CHECK(response->compile_ms == 12.5);
  const auto hello = decode_hello(encode(Hello{3, "19.1.7"}));
  REQUIRE(hello);
  CHECK(hello->protocol_version == 3);
  CHECK(hello->llvm_version == "19.1.7");
}

TEST_CASE("a message cut at any byte, or longer, is refused") {
  const std::string request = encode(sample_request());
  for (std::size_t size = 0; size < request.size(); ++size)
    CHECK_FALSE(decode_request(std::string_view(request).substr(0, size)));
  CHECK_FALSE(decode_request(request + "x"));
  CHECK_FALSE(decode_response(request));
  CHECK_FALSE(decode_hello(""));
}

TEST_CASE("lengths beyond the message are refused without allocating them") {
  std::string request = encode(sample_request());
  for (std::size_t at = 12; at + 8 <= request.size(); ++at) {
    std::string damaged = request;
    std::memset(damaged.data() + at, 0xff, 8);
    const auto decoded = decode_request(damaged);  // text may change, lengths may not
    if (decoded) CHECK(decoded->source.size() < 100);
  }
}

TEST_CASE("frames of any size pass a socket") {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{3} << 20}) {
    const SocketPair sockets;
    const std::string payload(size, 'x');
    std::thread writer([&] {
      CHECK(write_frame(sockets.left(), {MessageType::kRequest, payload}) == FrameStatus::kOk);
    });
    Frame frame;
    CHECK(read_frame(sockets.right(), frame) == FrameStatus::kOk);
    writer.join();
    CHECK(frame.type == MessageType::kRequest);
    CHECK(frame.payload == payload);
  }
}

TEST_CASE("a closed socket, silence and noise are told apart") {
  SocketPair sockets;
  Frame frame;
  const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  CHECK(read_frame(sockets.right(), frame, soon) == FrameStatus::kTimedOut);
  REQUIRE(write(sockets.left(), "GET / HTTP/1.1\r\n\r\n", 18) == 18);
  CHECK(read_frame(sockets.right(), frame) == FrameStatus::kMalformed);

  SocketPair closed;
  closed.close_left();
  CHECK(read_frame(closed.right(), frame) == FrameStatus::kClosed);
  CHECK(write_frame(closed.right(), {}) == FrameStatus::kClosed);  // and no SIGPIPE
}

TEST_CASE("a frame that claims too much is refused before it is read") {
  const SocketPair sockets;
  std::string header = "KTJW";
  header += std::string("\2\0\0\0", 4) + std::string(8, '\x7f');
  REQUIRE(write(sockets.left(), header.data(), header.size()) == 16);
  Frame frame;
  CHECK(read_frame(sockets.right(), frame) == FrameStatus::kMalformed);
}

}  // namespace
}  // namespace ktjit::worker
