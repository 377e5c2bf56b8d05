// Tables for people: columns as wide as their widest cell.
#pragma once

#include <string>
#include <vector>

namespace ktjit::cli {

enum class Align { kLeft, kRight };

struct Column {
  std::string heading;
  Align align = Align::kLeft;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns);

  /// REQUIRES: one cell a column.
  void add_row(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }

  /// Lines that begin with `indent` spaces and have none at their end. A column whose cells are all
  /// empty is left out.
  std::string to_text(int indent = 0) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Columns that a UTF-8 text takes, if every code point takes one.
std::size_t display_width(std::string_view text);

}  // namespace ktjit::cli
