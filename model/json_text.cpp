#include "model/json_text.h"

#include <fmt/format.h>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "model/mapped_file.h"
#include "model/utf8.h"

namespace ktjit::model {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxDepth = 32;
constexpr std::uint64_t kMaxFileBytes = 100'000'000;  // as safetensors limits its headers

/// Sees every value as it is parsed, and refuses what the parser lets pass.
class StrictnessCheck {
 public:
  explicit StrictnessCheck(std::string where) : where_(std::move(where)) {}

  bool operator()(int, Json::parse_event_t event, const Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        keys_.emplace_back();
        if (keys_.size() > kMaxDepth) {
          throw InputError(where_, fmt::format("is nested deeper than {} levels", kMaxDepth));
        }
        break;
      case Json::parse_event_t::object_end:
      case Json::parse_event_t::array_end:
        keys_.pop_back();
        break;
      case Json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second) {
          throw InputError(where_, fmt::format("has the key '{}' twice", escape_text(key)));
        }
        break;
      }
      case Json::parse_event_t::value:
        break;
    }
    return true;
  }

 private:
  std::string where_;
  std::vector<std::set<std::string>> keys_;  ///< of each object that is open
};

}  // namespace

std::string_view json_problem(const nlohmann::json::exception& error) {
  const std::string_view text = error.what();
  const auto end_of_name = text.find("] ");
  return end_of_name == std::string_view::npos ? text : text.substr(end_of_name + 2);
}

nlohmann::json parse_json(const std::filesystem::path& path, std::string_view text) {
  StrictnessCheck check(path.string());
  Json document;
  try {
    document = Json::parse(text, std::ref(check));
  } catch (const nlohmann::json::exception& error) {
    throw InputError(path.string(),
                     fmt::format("is no JSON: {}", escape_text(json_problem(error), 300)));
  }
  if (!document.is_object()) {
    throw InputError(path.string(),
                     fmt::format("is JSON, but {}, expected an object", document.type_name()));
  }
  return document;
}

nlohmann::json read_json_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  if (file.size() > kMaxFileBytes) {
    throw InputError(path.string(), fmt::format("has {} bytes, expected a JSON file of at most {}",
                                                file.size(), kMaxFileBytes));
  }
  return parse_json(path, {reinterpret_cast<const char*>(file.bytes().data()), file.size()});
}

}  // namespace ktjit::model
