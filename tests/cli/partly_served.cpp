// Safetensors byte by byte: 8 bytes with the size of the header, the header, the tensors.
#include "tests/cli/partly_served.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace ktjit::test {

std::string make_partly_served(CliFixture& cli) {
  const std::string header = R"({"weights":{"dtype":"F32","shape":[4,16],"data_offsets":[0,256]},)"
                             R"("codes":{"dtype":"U8","shape":[4,16],"data_offsets":[256,320]}})";
  const std::uint64_t header_bytes = header.size();
  std::string file(sizeof header_bytes, '\0');
  std::memcpy(file.data(), &header_bytes, sizeof header_bytes);
  file += header;
  std::array<float, 64> weights;
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.25f * static_cast<float>(i) - 7;
  file.append(reinterpret_cast<const char*>(weights.data()), sizeof weights);
  file.append(64, '\x5a');
  cli.write_text("partly_served.safetensors", file);
  return cli.path("partly_served.safetensors");
}

}  // namespace ktjit::test
