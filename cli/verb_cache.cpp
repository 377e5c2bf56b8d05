// ktjit cache: looks after the compiled kernels that are kept, in folders and packs.
#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <iterator>
#include <numeric>
#include <optional>

#include "cache/disk_cache_stats.h"
#include "cache/eviction.h"
#include "cache/maintenance.h"
#include "cli/argument_parser.h"
#include "cli/common_options.h"
#include "cli/exit_code.h"
#include "cli/explain_cache.h"
#include "cli/json_output.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/tune_report.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "core/error.h"

namespace po = boost::program_options;

namespace ktjit::cli {
namespace {

constexpr std::size_t kShownDigits = 12;  // of a digest: enough for `show`

std::string text_field(const nlohmann::json& manifest, const char* name) {
  const auto found = manifest.find(name);
  if (found == manifest.end()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

/// ", on NVIDIA H200" of a tuning record.
std::string on_device(const nlohmann::json& manifest) {
  const auto device = manifest.find("device");
  if (device == manifest.end() || !device->is_object()) return "";
  return fmt::format(", on {}", text_field(*device, "device"));
}

std::string counted_entries(std::size_t count) {
  return count == 1 ? "1 entry" : fmt::format("{} entries", count);
}

/// " (2 tuning records)" where some of the entries are.
std::string of_tuning(std::size_t count) {
  return count == 0 ? "" : fmt::format(" ({})", counted(count, "tuning record"));
}

std::string time_text(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(seconds));
}

using Roots = std::vector<cache::RootOptions>;

Json to_json(const cache::RootStats& stats) {
  return {{"path", stats.path},
          {"exists", stats.exists},
          {"writable", stats.writable},
          {"entries", stats.entries},
          {"tuning_records", stats.notes},
          {"allocated_bytes", stats.allocated_bytes},
          {"temporaries", stats.temporaries},
          {"strangers", stats.strangers},
          {"problem", stats.problem}};
}

std::string to_text(const cache::RootStats& stats, const cache::RootOptions& root, bool is_written,
                    std::uint64_t cap) {
  const bool is_pack = !stats.pack.is_null();
  std::string text = fmt::format(
      "{}{}{}\n  {}, {} on disk{}\n", stats.path,
      is_pack ? ", a pack" : (is_written ? "" : ", only read"), root.shared ? ", shared" : "",
      counted_entries(stats.entries) + of_tuning(stats.notes), human_bytes(stats.allocated_bytes),
      !is_written          ? ""
      : cap == kNoCacheCap ? ", no limit"
                           : fmt::format(", of {}", human_bytes(cap)));
  if (is_pack) {
    text += fmt::format("  for {}: {}\n", text_field(stats.pack, "model"),
                        fmt::join(stats.pack.value("targets", std::vector<std::string>()), ", "));
  }
  if (!stats.exists)
    text += is_written ? "  not there yet: the first compile makes it\n" : "  not there\n";
  if (is_written && stats.exists && !stats.writable)
    text += "  not writable: nothing new is kept\n";
  if (stats.temporaries > 0) {
    text += fmt::format("  {} of writers at work, or dead\n",
                        counted(stats.temporaries, "temporary file"));
  }
  if (stats.strangers > 0) {
    text += fmt::format("  {} that are not ktjit's\n", counted(stats.strangers, "file"));
  }
  if (!stats.problem.empty()) text += fmt::format("  {}\n", stats.problem);
  return text;
}

/// What the processes that used a root have counted, with names for people and for scripts.
struct Count {
  const char* name;
  std::uint64_t value;
};

std::vector<Count> counts_of(const cache::DiskCacheStats& counters) {
  const std::uint64_t damaged =
      std::accumulate(counters.rejected.begin(), counters.rejected.end(), std::uint64_t{0});
  return {{"hits", counters.hits},     {"misses", counters.misses},
          {"stores", counters.stores}, {"failed_stores", counters.failed_stores},
          {"damaged", damaged},        {"evicted", counters.evicted_entries},
          {"waits", counters.waits}};
}

std::string to_text(const std::vector<Count>& counts) {
  std::string text;
  for (const Count& count : counts) {
    std::string name = count.name;
    std::replace(name.begin(), name.end(), '_', ' ');
    text += fmt::format("{}{} {}", text.empty() ? "  " : ", ", count.value, name);
  }
  return text + " since it was made\n";
}

/// All roots in the order of search; `cap` belongs to the first one if that is written to.
int show_stats(const Roots& roots, bool first_is_written, std::uint64_t cap, bool json) {
  Json documents = Json::array();
  Json counters = Json::object();
  std::string text;
  for (const cache::RootOptions& root : roots) {
    const cache::RootStats stats = cache::Maintenance(root).stats();
    const bool is_written = first_is_written && documents.empty();
    Json document = to_json(stats);
    document["shared"] = root.shared;
    document["role"] = is_written ? "written" : "read";
    document["pack"] = stats.pack;
    document["max_bytes"] = is_written && cap != kNoCacheCap ? Json(cap) : Json(nullptr);
    documents.push_back(std::move(document));
    text += to_text(stats, root, is_written, cap);
    if (!is_written || !stats.problem.empty()) continue;
    const std::vector<Count> counts = counts_of(cache::Maintenance(root).counters());
    if (stats.exists) text += to_text(counts);
    for (const Count& count : counts) counters[count.name] = count.value;
  }
  if (!json) {
    print(text);
    return kDone;
  }
  // The first root's facts stand outside as well, as before there were others.
  Json document = documents.front();
  document["roots"] = std::move(documents);
  document["counters"] = std::move(counters);
  print_json(document);
  return kDone;
}

int list_entries(const Roots& roots, bool json) {
  Json documents = Json::array();
  Table table({{"entry"},
               {"kernel"},
               {"target"},
               {"kind"},
               {"compiler"},
               {"size", Align::kRight},
               {"last used"}});
  for (const cache::RootOptions& root : roots) {
    for (const cache::ListedEntry& entry : cache::Maintenance(root).list()) {
      const std::string used = entry.used ? time_text(*entry.used) : "";
      documents.push_back(
          {{"root", root.path},
           {"request", entry.name.request.hex()},
           {"artifact", entry.name.artifact.hex()},
           {"size_bytes", entry.size_bytes},
           {"allocated_bytes", entry.allocated_bytes},
           {"last_used", entry.used ? Json(used) : Json(nullptr)},
           {"damage", entry.rejected ? Json(cache::to_text(*entry.rejected)) : Json(nullptr)},
           {"manifest", entry.manifest}});
      const std::string kernel = entry.rejected
                                     ? fmt::format("DAMAGED: {}", cache::to_text(*entry.rejected))
                                     : text_field(entry.manifest, "kernel");
      table.add_row({entry.name.artifact.hex().substr(0, kShownDigits), kernel,
                     text_field(entry.manifest, "target"), text_field(entry.manifest, "kind"),
                     text_field(entry.manifest, "compiler") + on_device(entry.manifest),
                     human_bytes(entry.size_bytes), used});
    }
  }
  if (json) {
    print_json({{"entries", documents}});
  } else {
    print(table.empty() ? "no entries\n" : table.to_text());
  }
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

int show_entry(const Roots& roots, const std::string& prefix, bool json) {
  const cache::StoredEntry stored = find_entry(roots, prefix);
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
  const std::optional<TuningRecord> record = to_tuning_record(stored.entry);
  for (const auto& [name, value] : stored.entry.manifest.items()) {
    if (record && name == "sizes") continue;  // below, as tables
    std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
    while (!shown.empty() && shown.back() == '\n') shown.pop_back();
    for (std::size_t at = 0; (at = shown.find('\n', at)) != std::string::npos; at += 5) {
      shown.replace(at, 1, "\n    ");
    }
    text += shown.find('\n') == std::string::npos ? fmt::format("  {}: {}\n", name, shown)
                                                  : fmt::format("  {}:\n    {}\n", name, shown);
  }
  if (record) {
    text += "\nmeasurements" + measurements_text(*record);
  } else {
    text += "\nblobs\n";
  }
  for (const cache::Field& blob : stored.entry.blobs.fields()) {
    text += fmt::format("  {}: {}\n", blob.name, human_bytes(blob.value.size()));
  }
  text += fields_to_text("key: what was asked for", stored.key.request);
  text += fields_to_text(record ? "key: on what it was measured" : "key: who compiled it",
                         stored.key.compiler);
  print(text);
  return kDone;
}

int verify_entries(const Roots& roots, bool can_heal, bool json) {
  cache::VerifyReport report;
  for (const cache::RootOptions& root : roots) {
    cache::VerifyReport more = cache::Maintenance(root).verify();
    report.checked += more.checked;
    std::move(more.damaged.begin(), more.damaged.end(), std::back_inserter(report.damaged));
  }
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
                      report.damaged.empty() ? ""
                      : can_heal             ? ": the next use makes them again"
                                             : ": they are not used"));
  }
  return report.damaged.empty() ? kDone : kFailed;
}

int clear_entries(const cache::RootOptions& root, bool keep_tuning, bool json) {
  const cache::ClearReport report = cache::Maintenance(root).clear(
      keep_tuning ? cache::Maintenance::Notes::kKeep : cache::Maintenance::Notes::kRemove);
  if (json) {
    print_json({{"entries", report.entries},
                {"tuning_records", report.notes},
                {"temporaries", report.temporaries},
                {"allocated_bytes", report.allocated_bytes},
                {"kept", report.kept}});
    return kDone;
  }
  print(fmt::format("removed {}{}, {}\n", counted_entries(report.entries), of_tuning(report.notes),
                    human_bytes(report.allocated_bytes)));
  for (const std::string& path : report.kept) print(fmt::format("kept {}\n", path));
  return kDone;
}

int prune_entries(const cache::RootOptions& root, std::uint64_t most_bytes, bool json) {
  const cache::Eviction eviction = cache::Maintenance(root).prune(most_bytes);
  const bool failed = eviction.busy || !eviction.problem.empty();
  if (json) {
    print_json({{"max_bytes", most_bytes},
                {"entries", eviction.entries},
                {"allocated_bytes", eviction.bytes},
                {"temporaries", eviction.temporaries},
                {"left_entries", eviction.left_entries},
                {"left_bytes", eviction.left_bytes},
                {"in_use_entries", eviction.in_use_entries},
                {"busy", eviction.busy},
                {"problem", eviction.problem}});
    return failed ? kFailed : kDone;
  }
  if (eviction.busy) {
    print("another process is pruning at this moment: nothing was done\n");
    return kFailed;
  }
  std::string text =
      fmt::format("removed {}, {}; left {}, {} of at most {}\n", counted_entries(eviction.entries),
                  human_bytes(eviction.bytes), counted_entries(eviction.left_entries),
                  human_bytes(eviction.left_bytes), human_bytes(most_bytes));
  if (eviction.temporaries > 0) {
    text += fmt::format("removed {} of writers that died\n",
                        counted(eviction.temporaries, "temporary file"));
  }
  if (eviction.in_use_entries > 0) {
    text += fmt::format("{} would have gone, but are in use\n",
                        counted_entries(eviction.in_use_entries));
  }
  if (!eviction.problem.empty()) text += fmt::format("{}\n", eviction.problem);
  print(text);
  return failed ? kFailed : kDone;
}

/// What the actions look at, from options and environment.
struct Places {
  Roots written;  ///< the cache folder, or none
  Roots read;     ///< --from, else KTJIT_CACHE_PATH
  Roots from;     ///< --from alone

  /// The cache folder. Errors: UsageError if there is none.
  const cache::RootOptions& folder() const {
    if (written.empty()) {
      throw UsageError("there is no home folder to keep a cache in", "give --cache-dir");
    }
    return written.front();
  }
  /// What `list` and others look at: what --from named, else the cache folder.
  Roots chosen() const { return from.empty() ? Roots{folder()} : from; }
  Roots all() const {
    Roots roots = written;
    roots.insert(roots.end(), read.begin(), read.end());
    return roots;
  }
};

Places find_places(const CommonOptions& common, const Options& options) {
  const auto root = [&options](const std::filesystem::path& path) {
    return cache::RootOptions{path.string(), options.is_shared(path)};
  };
  Places places;
  if (!options.cache_dir.empty()) places.written.push_back(root(options.cache_dir));
  for (const auto& path : options.cache_path) places.read.push_back(root(path));
  for (const std::string& path : common.from) places.from.push_back(root(path));
  return places;
}

}  // namespace

int run_cache(const Arguments& arguments) {
  std::string action, first, second, max_size;
  bool keep_tuning = false;
  SubjectOptions subject;
  ExplainOptions explain;
  CommonOptions common;
  ArgumentParser parser(
      {"cache stats|list|show|verify|explain|prune|clear [arguments] [options]",
       "Looks after the compiled kernels that are kept:\n"
       "  stats             where they are, and how many\n"
       "  list              the entries\n"
       "  show PREFIX       one entry, by the first digits of its name: what was compiled, from "
       "what,\n"
       "                    by whom\n"
       "  verify            read every entry, and name the damaged ones\n"
       "  explain MODEL     whether its kernels are there, and if not, what differs from the "
       "nearest\n"
       "                    entry; also of --format F --shape RxC\n"
       "  explain PREFIX PREFIX  how two entries differ\n"
       "  prune             remove the least recently used entries, down to --max-size\n"
       "  clear             remove all entries; other files in the folder stay, and are listed\n"
       "list, show, verify and stats look at the packs and folders of --from in place of the "
       "cache\n"
       "folder, explain at both.\n",
       exit_code_help("done", "verify found damage, prune could not remove",
                      "a folder, a pack or the model can't be read, is damaged or not trusted",
                      "explain: no compiler for a target"),
       "ktjit cache explain model.gguf --target sm_86"});
  parser.add_positional("ACTION", &action);
  parser.add_positional("ARGUMENT", &first);
  parser.add_positional("ARGUMENT2", &second);
  common.add_cache_dir(parser);
  common.add_from(parser);
  common.add_json(parser);
  parser.add_options()("max-size", po::value(&max_size)->value_name("N"),
                       "prune: what may be left, such as 500M (default: KTJIT_CACHE_MAX_SIZE, else "
                       "2G)")("tensor", po::value(&explain.tensor)->value_name("NAME"),
                              "explain: the kernels of this tensor of the model")(
      "op", po::value(&explain.op)->value_name("OP"),
      "explain: dequant, matvec, matmul, quantize or nan_scan");
  parser.add_flag("keep-tuning", &keep_tuning, "clear: leave what 'ktjit tune' measured");
  common.add_targets(parser);
  subject.add_description(parser);
  common.add_compilers(parser);
  if (!parser.parse(arguments)) return kDone;

  const std::vector<std::string> actions = {"stats",   "list",  "show", "verify",
                                            "explain", "prune", "clear"};
  if (action.empty()) throw UsageError(fmt::format("give one of {}", fmt::join(actions, ", ")));
  if (std::find(actions.begin(), actions.end(), action) == actions.end()) {
    const std::string hint = closest_name_hint(action, actions);
    throw UsageError(
        fmt::format("unknown action '{}'", action),
        hint.empty() ? fmt::format("the actions are {}", fmt::join(actions, ", ")) : hint);
  }
  const bool explains = action == "explain";
  if (action == "show" && (first.empty() || !second.empty())) {
    throw UsageError("show needs the first digits of an entry's name");
  }
  if (action != "show" && !explains && !first.empty()) {
    throw UsageError(fmt::format("'{}' takes no argument", action));
  }
  const bool has_subject = subject.describes_tensor() || !subject.shape.empty() ||
                           !explain.tensor.empty() || !explain.op.empty() ||
                           !common.targets.empty();
  if (has_subject && (!explains || !second.empty())) {
    throw UsageError("--format, --tensor, --op, --target and what goes with them are for explain");
  }
  if (keep_tuning && action != "clear") throw UsageError("--keep-tuning is for clear");
  if (!max_size.empty() && action != "prune") throw UsageError("--max-size is for prune");
  if ((action == "clear" || action == "prune") && !common.from.empty()) {
    throw UsageError("what --from names is only read", "give --cache-dir");
  }

  const Options options = common.make_options();
  const Places places = find_places(common, options);
  if (action == "stats") {
    const bool whole = common.from.empty();
    if (whole) places.folder();
    return show_stats(whole ? places.all() : places.from, whole, *options.cache_max_bytes,
                      common.json);
  }
  if (action == "list") return list_entries(places.chosen(), common.json);
  if (action == "show") return show_entry(places.chosen(), first, common.json);
  if (action == "verify") {
    return verify_entries(places.chosen(), common.from.empty(), common.json);
  }
  if (action == "prune") {
    const std::uint64_t most =
        max_size.empty() ? *options.cache_max_bytes : parse_bytes("--max-size", max_size);
    if (most == kNoCacheCap) {
      throw UsageError("KTJIT_CACHE_MAX_SIZE sets no limit", "give --max-size");
    }
    return prune_entries(places.folder(), most, common.json);
  }
  if (action == "clear") return clear_entries(places.folder(), keep_tuning, common.json);
  if (!second.empty()) return explain_entries(first, second, places.all(), common.json);
  subject.model = first;
  return explain_subject(subject, explain, common, places.all());
}

}  // namespace ktjit::cli
