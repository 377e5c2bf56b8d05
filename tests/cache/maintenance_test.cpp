#include "cache/maintenance.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "cache/pack_writer.h"
#include "tests/cache/cache_fixture.h"
#include "tests/cache/faulty_file_system.h"

namespace ktjit::cache::test {
namespace {

namespace fs = std::filesystem;

// A root with three good entries; two of them are of one request.
struct FilledRoot {
  TempDir temp;
  Log log;
  CacheKey first = make_key("first");
  CacheKey second = make_key("second");
  CacheKey sibling = make_key("second");
  std::string root = temp.root();

  FilledRoot() {
    sibling.compiler.add("driver", "550");
    DiskCache cache(options_for(root, log));
    cache.store(first, make_entry("first"));
    cache.store(second, make_entry("second"));
    cache.store(sibling, make_entry("sibling"));
    REQUIRE(log.lines.empty());
  }
  Maintenance maintenance() const { return Maintenance({root, false}); }
};

TEST_CASE("list shows every entry, in the order of names, with what is in it") {
  FilledRoot filled;
  write_file(entry_path(filled.root, filled.first), "damaged");
  const auto entries = filled.maintenance().list();
  REQUIRE(entries.size() == 3);
  CHECK(std::is_sorted(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return a.name < b.name; }));
  for (const ListedEntry& entry : entries) {
    CHECK(entry.size_bytes > 0);
    CHECK(entry.allocated_bytes > 0);
    CHECK(entry.modified <= std::chrono::system_clock::now() + std::chrono::seconds(5));
    if (entry.name == name_of(filled.first)) {
      CHECK(entry.rejected == RejectReason::kTruncated);
      CHECK(entry.blobs.empty());
    } else {
      CHECK_FALSE(entry.rejected);
      CHECK(entry.manifest["registers"] == 40);
      REQUIRE(entry.blobs.size() == 2);
      CHECK(entry.blobs[0].name == "artifact");
    }
  }
}

TEST_CASE("stats count without opening entries") {
  FilledRoot filled;
  write_file(fs::path(filled.root) / "stranger", "x");
  write_file(shard_path(filled.root, filled.first) / "writing-1-2-3.tmp", "x");
  const RootStats stats = filled.maintenance().stats();
  CHECK(stats.path == filled.root);
  CHECK(stats.exists);
  CHECK(stats.writable);
  CHECK(stats.entries == 3);
  CHECK(stats.allocated_bytes > 0);
  CHECK(stats.strangers == 1);
  CHECK(stats.temporaries == 1);
  CHECK(stats.problem.empty());
}

TEST_CASE("an absent root is an empty one") {
  const TempDir temp;
  Maintenance maintenance({temp.root(), false});
  CHECK(maintenance.list().empty());
  CHECK(maintenance.verify().checked == 0);
  CHECK(maintenance.clear().entries == 0);
  CHECK_FALSE(maintenance.stats().exists);
  CHECK_FALSE(fs::exists(temp.root()));
}

TEST_CASE("a root that is not trusted is named, and nothing in it is touched") {
  FilledRoot filled;
  fs::permissions(filled.root, fs::perms::group_write, fs::perm_options::add);
  CHECK_THAT(filled.maintenance().stats().problem, Catch::Contains("written by its group"));
  CHECK_THROWS_AS(filled.maintenance().list(), InputError);
  CHECK_THROWS_AS(filled.maintenance().clear(), InputError);
  CHECK(fs::exists(entry_path(filled.root, filled.first)));
}

TEST_CASE("show finds one entry by the start of either digest") {
  FilledRoot filled;
  const std::string request = filled.first.request_digest().hex();
  const StoredEntry shown = filled.maintenance().show(request);
  CHECK(shown.key == filled.first);
  CHECK(shown.entry == make_entry("first"));
  const std::string artifact = filled.sibling.artifact_digest().hex();
  CHECK(filled.maintenance().show(artifact).key == filled.sibling);
  CHECK(filled.maintenance().show(artifact.substr(0, 12)).key == filled.sibling);
  CHECK(filled.maintenance().show(name_of(filled.second).file_name()).key == filled.second);
}

TEST_CASE("show refuses a prefix of none, of several, and of a damaged entry") {
  FilledRoot filled;
  CHECK_THROWS_AS(filled.maintenance().show("zz"), SpecError);
  CHECK_THROWS_WITH(filled.maintenance().show(filled.second.request_digest().hex()),
                    Catch::Contains("2 entries"));
  write_file(entry_path(filled.root, filled.first), "damaged");
  CHECK_THROWS_AS(filled.maintenance().show(filled.first.request_digest().hex()), InputError);
}

TEST_CASE("verify names each damaged entry with its reason, and changes nothing") {
  FilledRoot filled;
  CHECK(filled.maintenance().verify().damaged.empty());
  const fs::path first = entry_path(filled.root, filled.first);
  write_file(first, "damaged");
  // A whole entry under a name that is not its own.
  fs::copy_file(entry_path(filled.root, filled.second), entry_path(filled.root, filled.sibling),
                fs::copy_options::overwrite_existing);
  const VerifyReport report = filled.maintenance().verify();
  CHECK(report.checked == 3);
  REQUIRE(report.damaged.size() == 2);
  for (const DamagedEntry& damaged : report.damaged) {
    const bool is_first = damaged.path == first.string();
    CHECK(damaged.reason == (is_first ? RejectReason::kTruncated : RejectReason::kOtherKey));
    CHECK_FALSE(damaged.detail.empty());
  }
  CHECK(read_file(first) == "damaged");
}

TEST_CASE("clear removes our files and leaves strangers'") {
  FilledRoot filled;
  const fs::path root = filled.root;
  const fs::path shard = shard_path(filled.root, filled.first);
  const std::vector<fs::path> strangers = {root / "notes.txt", root / "v1" / "zz",
                                           shard / "kernel.cu", shard / "00-11.ktk",
                                           // A name of ours in a folder where we would not put it.
                                           root / "v1" / name_of(filled.first).file_name()};
  for (const fs::path& path : strangers) write_file(path, "mine");
  fs::create_directory(root / "v2");
  const fs::path link = shard_path(filled.root, filled.second) / "link.ktk";
  fs::create_symlink(root / "notes.txt", link);

  const ClearReport report = filled.maintenance().clear();
  CHECK(report.entries == 3);
  CHECK(report.allocated_bytes > 0);
  CHECK(report.kept.size() == strangers.size() + 2);
  for (const fs::path& path : strangers) {
    CAPTURE(path);
    CHECK(read_file(path) == "mine");
    CHECK(std::find(report.kept.begin(), report.kept.end(), path.string()) != report.kept.end());
  }
  CHECK(fs::is_symlink(link));
  CHECK(fs::is_directory(root / "v2"));
  CHECK_FALSE(fs::exists(entry_path(filled.root, filled.second)));
}

TEST_CASE("clear of a folder with nothing else leaves the empty root") {
  FilledRoot filled;
  CHECK(filled.maintenance().clear().kept.empty());
  CHECK(fs::is_empty(filled.root));
}

TEST_CASE("clear does not go through links") {
  FilledRoot filled;
  FilledRoot other;
  fs::remove_all(fs::path(filled.root) / "v1");
  fs::create_directory_symlink(fs::path(other.root) / "v1", fs::path(filled.root) / "v1");
  CHECK_THROWS_AS(filled.maintenance().clear(), InputError);
  CHECK(fs::exists(entry_path(other.root, other.first)));
}

TEST_CASE("clear removes a temporary only when its writer must be dead") {
  FilledRoot filled;
  const fs::path temporary = shard_path(filled.root, filled.first) / "writing-1-2-3.tmp";
  write_file(temporary, "half an entry");
  FaultyFileSystem files;
  const auto clear = [&] { return Maintenance({filled.root, false}, files).clear(); };
  CHECK(clear().temporaries == 0);
  CHECK(fs::exists(temporary));
  files.later = std::chrono::hours(2);
  CHECK(clear().temporaries == 1);
  CHECK(fs::is_empty(filled.root));
}

TEST_CASE("an entry that can't be removed is reported and the rest is removed") {
  FilledRoot filled;
  FaultyFileSystem files;
  files.fail_calls_named("remove_file_at", EPERM);
  const ClearReport report = Maintenance({filled.root, false}, files).clear();
  CHECK(report.entries == 0);
  REQUIRE(report.kept.size() == 5);  // and what lies beside the entries
  CHECK_THAT(report.kept[0], Catch::Contains("not permitted"));
}

TEST_CASE("list, stats, show and verify look into packs") {
  TempDir temp;
  const std::string path = (temp.path() / "a.ktpack").string();
  write_pack(path, {{"model", "tiny"}},
             {{make_key("a"), make_entry("of a")}, {make_key("b"), make_entry("of b")}});
  Maintenance pack({path, false});
  const RootStats stats = pack.stats();
  CHECK(stats.exists);
  CHECK_FALSE(stats.writable);
  CHECK(stats.entries == 2);
  CHECK(stats.allocated_bytes == fs::file_size(path));
  CHECK(stats.pack.at("model") == "tiny");
  const auto entries = pack.list();
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].name < entries[1].name);
  CHECK_FALSE(entries[0].modified);
  CHECK(entries[0].manifest["registers"] == 40);
  const EntryName name = name_of(make_key("a"));
  CHECK(pack.show(name.artifact.hex().substr(0, 8)).entry == make_entry("of a"));
  CHECK_THROWS_AS(pack.show(""), SpecError);
  CHECK(pack.verify().checked == 2);
  CHECK(pack.verify().damaged.empty());
  CHECK_THROWS_AS(pack.clear(), InputError);
  CHECK_THROWS_AS(pack.prune(0), InputError);

  std::string bytes = read_file(path);
  bytes.back() ^= 1;
  write_file(path, bytes);
  const VerifyReport report = pack.verify();
  CHECK(report.checked == 2);
  REQUIRE(report.damaged.size() == 1);
  CHECK(report.damaged[0].reason == RejectReason::kBadChecksum);
  CHECK_THAT(report.damaged[0].path, Catch::Contains(path));

  write_file(path, bytes.substr(0, 70));
  CHECK_THROWS_AS(pack.list(), InputError);
  CHECK_THAT(pack.stats().problem, Catch::Contains("cut"));
}

TEST_CASE("an entry in a folder tells when it was used last") {
  FilledRoot filled;
  const auto entries = filled.maintenance().list();
  REQUIRE(entries.size() == 3);
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  for (const ListedEntry& entry : entries) {
    REQUIRE(entry.used);
    CHECK(*entry.used <= now + std::chrono::seconds(5));
    CHECK(*entry.used >= now - std::chrono::hours(1));
  }
}

TEST_CASE("prune leaves what fits, and counters tell what went on") {
  FilledRoot filled;
  CHECK(filled.maintenance().counters().stores == 3);
  const std::uint64_t all = filled.maintenance().stats().allocated_bytes;
  CHECK(filled.maintenance().prune(all).entries == 0);
  const Eviction eviction = filled.maintenance().prune(all - 1);
  CHECK(eviction.entries == 1);
  CHECK(eviction.left_entries == 2);
  CHECK(filled.maintenance().prune(0).entries == 2);
  CHECK(filled.maintenance().stats().entries == 0);
  CHECK(Maintenance({(filled.temp.path() / "absent").string(), false}).prune(0).entries == 0);
}

}  // namespace
}  // namespace ktjit::cache::test
