// An ordered list of named byte strings, and the one text form it has. Keys are hashed in this form
// (cache_key.h) and entries store keys and blobs in it (FORMAT.md).
//
// The form of the list [("arch", "sm_90a"), ("text", "a\nb")] under the heading "request" is
//
//     request 2\n
//     arch 6\n
//     sm_90a\n
//     text 3\n
//     a\nb\n
//
// Names hold no space and no line feed, and sizes are written out, so no two different lists have
// one form, however their names and values are cut; and people can read it.
#pragma once

#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit::cache {

struct Field {
  std::string name;
  std::string value;

  bool operator==(const Field&) const = default;
};

/// Errors:  InternalError if a name is empty or has other characters than a-z, 0-9, '_', '-' and
/// '.'.
class FieldList {
 public:
  /// Adds a field at the end. A name may come again: order and number of its values then count.
  FieldList& add(std::string_view name, std::string_view value);
  FieldList& add(std::string_view name, const char* value);
  FieldList& add(std::string_view name, bool value) { return add(name, value ? "true" : "false"); }
  FieldList& add(std::string_view name, std::integral auto value) {
    return add(name, std::string_view(std::to_string(value)));
  }

  const std::vector<Field>& fields() const { return fields_; }
  bool empty() const { return fields_.empty(); }

  /// Value of the first field of that name, or null.
  const std::string* find(std::string_view name) const;

  /// No fewer bytes than `append_text` adds: for reserve().
  std::size_t text_bytes(std::string_view heading) const;

  /// Appends the text form.
  void append_text(std::string_view heading, std::string& out) const;

  /// Reads one list at the front of `in`, and moves `in` past it; nothing if it is not such a list.
  static std::optional<FieldList> parse(std::string_view heading, std::string_view& in);

  bool operator==(const FieldList&) const = default;

 private:
  std::vector<Field> fields_;
};

/// One field in which two lists differ; a side without the field has no value.
struct FieldDifference {
  std::string name;
  std::optional<std::string> left;
  std::optional<std::string> right;
};

/// Differences field by field, the n-th field of a name against the n-th of that name. Lists that
/// differ in the order of their fields alone give one difference, named "(order)".
std::vector<FieldDifference> differences(const FieldList& left, const FieldList& right);

}  // namespace ktjit::cache
