#include "cache/field_list.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace ktjit::cache {
namespace {

constexpr std::size_t kMaxSizeDigits = 20;  // of a 64-bit number

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

// "name 123\n", the line that opens a list or a field.
void append_line(std::string_view name, std::size_t number, std::string& out) {
  char digits[kMaxSizeDigits];
  const auto end = std::to_chars(digits, digits + kMaxSizeDigits, number).ptr;
  out.append(name).append(1, ' ').append(digits, end).append(1, '\n');
}

struct Line {
  std::string_view name;
  std::size_t number = 0;
};

std::optional<Line> take_line(std::string_view& in) {
  const std::size_t space = in.find_first_of(" \n");
  if (space == std::string_view::npos || !is_name(in.substr(0, space))) return std::nullopt;
  Line line{in.substr(0, space), 0};
  const char* const end = in.data() + in.size();
  const auto [rest, error] = std::from_chars(in.data() + space + 1, end, line.number);
  if (error != std::errc{} || rest == end || *rest != '\n') return std::nullopt;
  in.remove_prefix(static_cast<std::size_t>(rest + 1 - in.data()));
  return line;
}

// The n-th field of that name, counted from 0, or null.
const Field* find_nth(const FieldList& list, std::string_view name, std::size_t n) {
  for (const Field& field : list.fields()) {
    if (field.name == name && n-- == 0) return &field;
  }
  return nullptr;
}

std::optional<std::string> value_of(const Field* field) {
  return field ? std::optional(field->value) : std::nullopt;
}

}  // namespace

FieldList& FieldList::add(std::string_view name, std::string_view value) {
  KTJIT_CHECK(is_name(name));
  fields_.push_back({std::string(name), std::string(value)});
  return *this;
}

FieldList& FieldList::add(std::string_view name, const char* value) {
  return add(name, std::string_view(value));
}

const std::string* FieldList::find(std::string_view name) const {
  const Field* field = find_nth(*this, name, 0);
  return field ? &field->value : nullptr;
}

std::size_t FieldList::text_bytes(std::string_view heading) const {
  std::size_t bytes = heading.size() + kMaxSizeDigits + 2;
  for (const Field& field : fields_) {
    bytes += field.name.size() + kMaxSizeDigits + 3 + field.value.size();
  }
  return bytes;
}

void FieldList::append_text(std::string_view heading, std::string& out) const {
  append_line(heading, fields_.size(), out);
  for (const Field& field : fields_) {
    append_line(field.name, field.value.size(), out);
    out.append(field.value).append(1, '\n');
  }
}

std::optional<FieldList> FieldList::parse(std::string_view heading, std::string_view& in) {
  std::string_view rest = in;
  const auto head = take_line(rest);
  if (!head || head->name != heading) return std::nullopt;
  FieldList list;
  for (std::size_t i = 0; i < head->number; ++i) {
    const auto line = take_line(rest);
    if (!line || line->number >= rest.size() || rest[line->number] != '\n') return std::nullopt;
    list.fields_.push_back({std::string(line->name), std::string(rest.substr(0, line->number))});
    rest.remove_prefix(line->number + 1);
  }
  in = rest;
  return list;
}

std::vector<FieldDifference> differences(const FieldList& left, const FieldList& right) {
  std::vector<FieldDifference> result;
  std::vector<std::string_view> seen;
  for (const FieldList* list : {&left, &right}) {
    for (const Field& field : list->fields()) {
      if (std::find(seen.begin(), seen.end(), field.name) != seen.end()) continue;
      seen.push_back(field.name);
      for (std::size_t n = 0;; ++n) {
        const Field* a = find_nth(left, field.name, n);
        const Field* b = find_nth(right, field.name, n);
        if (!a && !b) break;
        if (value_of(a) != value_of(b)) result.push_back({field.name, value_of(a), value_of(b)});
      }
    }
  }
  if (result.empty() && left != right) result.push_back({"(order)", std::nullopt, std::nullopt});
  return result;
}

}  // namespace ktjit::cache
