// ktjit cache: looks after the folder of compiled kernels.
#include <chrono>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "cache/maintenance.h"
#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/units.h"
#include "cli/verbs.h"

namespace ktjit::cli {
namespace {

constexpr std::size_t kShownDigits = 12;  // of a digest: enough for `show`

std::string text_field(const nlohmann::json& manifest, const char* name) {
  const auto found = manifest.find(name);
  if (found == manifest.end()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string time_text(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(seconds));
}

int show_stats(cache::Maintenance& maintenance, bool json) {
  const cache::RootStats stats = maintenance.stats();
  if (json) {
    print_json({{"path", stats.path},
                {"exists", stats.exists},
                {"writable", stats.writable},
                {"entries", stats.entries},
                {"allocated_bytes", stats.allocated_bytes},
                {"temporaries", stats.temporaries},
                {"strangers", stats.strangers},
                {"problem", stats.problem}});
    return kDone;
  }
  std::string text =
      fmt::format("{}\n{}, {} on disk\n", stats.path,
                  stats.entries == 1 ? "1 entry" : fmt::format("{} entries", stats.entries),
                  human_bytes(stats.allocated_bytes));
  if (!stats.exists) text += "not there yet: the first compile makes it\n";
  if (stats.exists && !stats.writable) text += "not writable: nothing new is kept\n";
  if (stats.temporaries > 0) {
    text += counted(stats.temporaries, "temporary file") + " of writers at work, or dead\n";
  }
  if (stats.strangers > 0) text += counted(stats.strangers, "file") + " that are not ktjit's\n";
  if (!stats.problem.empty()) text += stats.problem + "\n";
  print(text);
  return kDone;
}

int list_entries(cache::Maintenance& maintenance, bool json) {
  const std::vector<cache::ListedEntry> entries = maintenance.list();
  if (json) {
    Json documents = Json::array();
    for (const cache::ListedEntry& entry : entries) {
      documents.push_back(
          {{"request", entry.name.request.hex()},
           {"artifact", entry.name.artifact.hex()},
           {"size_bytes", entry.size_bytes},
           {"allocated_bytes", entry.allocated_bytes},
           {"modified", time_text(entry.modified)},
           {"damage", entry.rejected ? Json(cache::to_text(*entry.rejected)) : Json(nullptr)},
           {"manifest", entry.manifest}});
    }
    print_json({{"entries", documents}});
    return kDone;
  }
  Table table({{"entry"},
               {"kernel"},
               {"target"},
               {"kind"},
               {"compiler"},
               {"size", Align::kRight},
               {"modified"}});
  for (const cache::ListedEntry& entry : entries) {
    const std::string kernel = entry.rejected
                                   ? fmt::format("DAMAGED: {}", cache::to_text(*entry.rejected))
                                   : text_field(entry.manifest, "kernel");
    table.add_row({entry.name.artifact.hex().substr(0, kShownDigits), kernel,
                   text_field(entry.manifest, "target"), text_field(entry.manifest, "kind"),
                   text_field(entry.manifest, "compiler"), human_bytes(entry.size_bytes),
                   time_text(entry.modified)});
  }
  print(table.empty() ? "no entries\n" : table.to_text());
  return kDone;
}

Json fields_to_json(const cache::FieldList& fields) {
  Json array = Json::array();
  for (const cache::Field& field : fields.fields()) {
    array.push_back({{"name", field.name}, {"value", field.value}});
  }
  return array;
}

std::string fields_to_text(std::string_view heading, const cache::FieldList& fields) {
  constexpr std::size_t kLongestShown = 400;
  std::string text = fmt::format("\n{}\n", heading);
  for (const cache::Field& field : fields.fields()) {
    const bool one_line = field.value.find('\n') == std::string::npos;
    text += fmt::format("  {}: {}\n", field.name,
                        one_line && field.value.size() <= kLongestShown
                            ? field.value
                            : fmt::format("({} bytes, in --json)", field.value.size()));
  }
  return text;
}

int show_entry(cache::Maintenance& maintenance, const std::string& prefix, bool json) {
  const cache::StoredEntry stored = maintenance.show(prefix);
  if (json) {
    Json blobs = Json::array();
    for (const cache::Field& blob : stored.entry.blobs.fields()) {
      blobs.push_back({{"name", blob.name}, {"size_bytes", blob.value.size()}});
    }
    print_json({{"request", stored.name.request.hex()},
                {"artifact", stored.name.artifact.hex()},
                {"manifest", stored.entry.manifest},
                {"blobs", blobs},
                {"key",
                 {{"request", fields_to_json(stored.key.request)},
                  {"compiler", fields_to_json(stored.key.compiler)}}}});
    return kDone;
  }
  std::string text = fmt::format("request   {}\nartifact  {}\n\nmanifest\n",
                                 stored.name.request.hex(), stored.name.artifact.hex());
  for (const auto& [name, value] : stored.entry.manifest.items()) {
    std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
    while (!shown.empty() && shown.back() == '\n') shown.pop_back();
    for (std::size_t at = 0; (at = shown.find('\n', at)) != std::string::npos; at += 5) {
      shown.replace(at, 1, "\n    ");
    }
    text += shown.find('\n') == std::string::npos ? fmt::format("  {}: {}\n", name, shown)
                                                  : fmt::format("  {}:\n    {}\n", name, shown);
  }
  text += "\nblobs\n";
  for (const cache::Field& blob : stored.entry.blobs.fields()) {
    text += fmt::format("  {}: {}\n", blob.name, human_bytes(blob.value.size()));
  }
  text += fields_to_text("key: what was asked for", stored.key.request);
  text += fields_to_text("key: who compiled it", stored.key.compiler);
  print(text);
  return kDone;
}

int verify_entries(cache::Maintenance& maintenance, bool json) {
  const cache::VerifyReport report = maintenance.verify();
  if (json) {
    Json damaged = Json::array();
    for (const cache::DamagedEntry& entry : report.damaged) {
      damaged.push_back({{"path", entry.path},
                         {"reason", cache::to_text(entry.reason)},
                         {"detail", entry.detail}});
    }
    print_json({{"checked", report.checked}, {"damaged", damaged}});
  } else {
    for (const cache::DamagedEntry& entry : report.damaged) {
      print(fmt::format("{}: {}{}\n", entry.path, cache::to_text(entry.reason),
                        entry.detail.empty() ? "" : fmt::format(" ({})", entry.detail)));
    }
    print(fmt::format("{} checked, {} damaged{}\n", report.checked, report.damaged.size(),
                      report.damaged.empty() ? "" : ": the next use makes them again"));
  }
  return report.damaged.empty() ? kDone : kFailed;
}

int clear_entries(cache::Maintenance& maintenance, bool json) {
  const cache::ClearReport report = maintenance.clear();
  if (json) {
    print_json({{"entries", report.entries},
                {"temporaries", report.temporaries},
                {"allocated_bytes", report.allocated_bytes},
                {"kept", report.kept}});
    return kDone;
  }
  print(fmt::format("removed {}, {}\n",
                    report.entries == 1 ? "1 entry" : fmt::format("{} entries", report.entries),
                    human_bytes(report.allocated_bytes)));
  for (const std::string& path : report.kept) print(fmt::format("kept {}\n", path));
  return kDone;
}

}  // namespace

int run_cache(const Arguments& arguments) {
  std::string action, prefix;
  CommonOptions common;
  ArgumentParser parser(
      {"cache stats|list|show PREFIX|verify|clear [options]",
       "Looks after the folder of compiled kernels:\n"
       "  stats   where it is, and how much it holds\n"
       "  list    its entries\n"
       "  show    one entry, by the first digits of its name: what was compiled, from what, by "
       "whom\n"
       "  verify  read every entry, and name the damaged ones\n"
       "  clear   remove all entries; other files in the folder stay, and are listed\n",
       exit_code_help("done", "verify found damage", "the folder can't be read or is not trusted"),
       "ktjit cache stats"});
  parser.add_positional("ACTION", &action);
  parser.add_positional("PREFIX", &prefix);
  common.add_cache_dir(parser);
  common.add_json(parser);
  if (!parser.parse(arguments)) return kDone;

  const std::vector<std::string> actions = {"stats", "list", "show", "verify", "clear"};
  if (action.empty()) throw UsageError(fmt::format("give one of {}", fmt::join(actions, ", ")));
  if (action == "show" ? prefix.empty() : !prefix.empty()) {
    throw UsageError(action == "show" ? "show needs the first digits of an entry's name"
                                      : fmt::format("'{}' takes no argument", action));
  }
  const Options options = common.make_options();
  if (options.cache_dir.empty()) {
    throw UsageError("there is no home folder to keep a cache in", "give --cache-dir");
  }
  cache::Maintenance maintenance({options.cache_dir.string()});
  if (action == "stats") return show_stats(maintenance, common.json);
  if (action == "list") return list_entries(maintenance, common.json);
  if (action == "show") return show_entry(maintenance, prefix, common.json);
  if (action == "verify") return verify_entries(maintenance, common.json);
  if (action == "clear") return clear_entries(maintenance, common.json);
  const std::string hint = closest_name_hint(action, actions);
  throw UsageError(
      fmt::format("unknown action '{}'", action),
      hint.empty() ? fmt::format("the actions are {}", fmt::join(actions, ", ")) : hint);
}

}  // namespace ktjit::cli
