// Who may have written what is loaded.
#include <catch2/catch.hpp>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/disk_cache.h"
#include "cache/kernel_cache.h"
#include "cache/trust.h"
#include "tests/cache/cache_fixture.h"
#include "tests/cache/fleet.h"

namespace ktjit::cache::test {
namespace {

namespace fs = std::filesystem;

void set_mode(const fs::path& path, mode_t mode) { REQUIRE(::chmod(path.c_str(), mode) == 0); }

// False, with a message, if this process may not give files away.
bool give_to_stranger(const fs::path& path) {
  constexpr uid_t kStranger = 12345;
  if (::geteuid() != 0) {
    WARN("not run: only root can give a file to another user");
    return false;
  }
  return ::chown(path.c_str(), kStranger, kStranger) == 0;
}

TEST_CASE("the rule of trust") {
  FileInfo info;
  info.kind = FileKind::kDirectory;
  info.owner = 1000;
  info.mode = 0755;
  const auto refused = [&](std::uint32_t user, bool shared) {
    return trust_problem("/x", info, user, shared).has_value();
  };
  CHECK_FALSE(refused(1000, false));
  CHECK(refused(1001, false));
  CHECK(refused(0, false));
  CHECK_FALSE(refused(1001, true));
  info.owner = 0;
  CHECK_FALSE(refused(1000, false));
  info.mode = 0775;
  CHECK(refused(0, false));
  CHECK_FALSE(refused(0, true));
  info.mode = 01777;
  CHECK(refused(0, false));
  CHECK(refused(0, true));
}

TEST_CASE("a root or folder that its group can write to is refused once, unless it is shared") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry());
  const std::size_t level = GENERATE(0u, 1u, 2u);
  const fs::path folders[] = {temp.root(), temp.root() + "/v1",
                              shard_path(temp.root(), make_key())};
  const fs::path& folder = folders[level];
  set_mode(folder, 0770);
  for (int i = 0; i < 2; ++i) {
    CHECK_FALSE(cache.find(make_key()));
    cache.store(make_key(), make_entry("another"));
  }
  REQUIRE(log.lines.size() == 1);
  CHECK_THAT(log.lines[0], Catch::Contains("can be written by its group (mode 0770)") &&
                               Catch::Contains("chmod g-w '" + folder.string() + "'"));
  CHECK(cache.stats().failed_stores == 2);

  DiskCacheOptions options = options_for(temp.root(), log);
  options.writable->shared = true;
  DiskCache shared(std::move(options));
  CHECK(shared.find(make_key()) == make_entry());
  set_mode(folder, 0777);
  CHECK_FALSE(shared.find(make_key()));
}

TEST_CASE("an entry that others can write to is refused") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry());
  set_mode(entry_path(temp.root(), make_key()), 0602);
  CHECK_FALSE(cache.find(make_key()));
  CHECK(cache.stats().rejected_for(RejectReason::kUntrusted) == 1);
  CHECK(log.lines.size() == 1);
  cache.store(make_key(), make_entry());  // a file of our own takes its place
  CHECK(cache.find(make_key()) == make_entry());
}

TEST_CASE("a root of another user is refused with one warning, unless it is shared") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry());
  if (!give_to_stranger(temp.root())) return;
  CHECK_FALSE(cache.find(make_key()));
  cache.store(make_key(), make_entry());
  REQUIRE(log.lines.size() == 1);
  CHECK_THAT(log.lines[0], Catch::Contains("belongs to user 12345") &&
                               Catch::Contains("use a cache folder of your own"));
  DiskCacheOptions options = options_for(temp.root(), log);
  options.writable->shared = true;
  CHECK(DiskCache(std::move(options)).find(make_key()));
}

TEST_CASE("an entry of another user is refused") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry());
  if (!give_to_stranger(entry_path(temp.root(), make_key()))) return;
  CHECK_FALSE(cache.find(make_key()));
  CHECK(cache.stats().rejected_for(RejectReason::kUntrusted) == 1);
}

TEST_CASE("a link in place of an entry is refused, and replaced by the next store") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry());
  const fs::path path = entry_path(temp.root(), make_key());
  const fs::path target = temp.path() / "elsewhere";
  fs::rename(path, target);
  fs::create_symlink(target, path);
  CHECK_FALSE(cache.find(make_key()));
  CHECK(cache.stats().rejected_for(RejectReason::kNotAFile) == 1);
  const std::string before = read_file(target);
  cache.store(make_key(), make_entry("new"));
  CHECK(cache.find(make_key()) == make_entry("new"));
  CHECK(read_file(target) == before);
  CHECK_FALSE(fs::is_symlink(path));
}

TEST_CASE("a pipe or folder in place of an entry is refused without waiting for it") {
  const TempDir temp;
  Log log;
  DiskCache cache(options_for(temp.root(), log));
  cache.store(make_key(), make_entry());
  const fs::path path = entry_path(temp.root(), make_key());
  fs::remove(path);
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  CHECK_FALSE(cache.find(make_key()));
  fs::remove(path);
  fs::create_directory(path);
  CHECK_FALSE(cache.find(make_key()));
  CHECK(cache.stats().rejected_for(RejectReason::kNotAFile) == 2);
  cache.store(make_key(), make_entry());
  CHECK(cache.stats().failed_stores == 1);
}

TEST_CASE("links below the root are not followed, links to the root are") {
  const TempDir temp;
  Log log;
  DiskCache(options_for(temp.root(), log)).store(make_key(), make_entry());
  const std::string link = (temp.path() / "link").string();
  fs::create_directory_symlink(temp.root(), link);
  CHECK(DiskCache(options_for(link, log)).find(make_key()));
  CHECK(log.lines.empty());

  const fs::path shard = shard_path(temp.root(), make_key());
  fs::rename(shard, temp.path() / "elsewhere");
  fs::create_directory_symlink(temp.path() / "elsewhere", shard);
  CHECK_FALSE(DiskCache(options_for(temp.root(), log)).find(make_key()));
  CHECK(log.lines.size() == 1);
}

// A process's umask for the time of a test.
class Umask {
 public:
  explicit Umask(mode_t mask) : before_(::umask(mask)) {}
  ~Umask() { ::umask(before_); }

 private:
  mode_t before_;
};

mode_t mode_of(const fs::path& path) {
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777u;
}

TEST_CASE("in a shared root the group can read and write all that is made, whatever the umask") {
  const Umask mask(GENERATE(077, 027, 022, 0));
  const TempDir temp;
  const fs::path team = temp.path() / "team";
  fs::create_directory(team);
  set_mode(team, 02770);  // folders below take its group, and hand it on
  const std::string root = (team / "of" / "kernels").string();
  Log log;
  {
    DiskCacheOptions options = options_for(root, log);
    options.writable->shared = true;
    KernelCache cache(std::move(options));
    cache.get_or_make(make_key(), [] { return make_entry(); });
  }
  CHECK(log.lines.empty());
  for (const fs::path& folder :
       {team / "of", fs::path(root), fs::path(root) / "v1", shard_path(root, make_key())}) {
    CAPTURE(folder);
    CHECK(mode_of(folder) == 02770);
  }
  for (const fs::path& file : {fs::path(root) / "v1" / "lock", fs::path(root) / "v1" / "ledger",
                               entry_path(root, make_key())}) {
    CAPTURE(file);
    CHECK(mode_of(file) == 0660);
  }
}

TEST_CASE("a root that is not shared is the user's alone, whatever the umask") {
  const Umask mask(GENERATE(077, 022, 0));
  const TempDir temp;
  Log log;
  KernelCache(options_for(temp.root(), log)).get_or_make(make_key(), [] { return make_entry(); });
  const fs::path root = temp.root();
  CHECK(mode_of(root) == 0700);
  CHECK(mode_of(root / "v1") == 0700);
  CHECK(mode_of(root / "v1" / "lock") == 0600);
  CHECK(mode_of(root / "v1" / "ledger") == 0600);
}

TEST_CASE("users of one group work in one shared root") {
  if (::geteuid() != 0) {
    WARN("not run: only root can become two users");
    return;
  }
  constexpr gid_t kGroup = 54321;
  const TempDir temp;
  set_mode(temp.path(), 0755);
  const fs::path team = temp.path() / "team";
  fs::create_directory(team);
  REQUIRE(::chown(team.c_str(), 0, kGroup) == 0);
  set_mode(team, 02770);
  const std::string root = (team / "kernels").string();
  for (const uid_t user : {20001, 20002, 20003}) {
    Fleet fleet;
    fleet.add([&] {
      if (::setgroups(0, nullptr) != 0 || ::setgid(kGroup) != 0 || ::setuid(user) != 0)
        return false;
      ::umask(077);
      Log log;
      DiskCacheOptions options = options_for(root, log);
      options.writable->shared = true;
      KernelCache cache(std::move(options));
      const auto all = cache.get_or_make(make_key("all"), [] { return make_entry("all"); });
      const auto own =
          cache.get_or_make(make_key(std::to_string(user)), [] { return make_entry(); });
      const bool is_first = user == 20001;
      return (all.origin == Origin::kMade) == is_first && own.origin == Origin::kMade &&
             cache.disk().stats().failed_stores == 0 && log.lines.empty();
    });
    fleet.start();
    CAPTURE(user);
    CHECK(fleet.count_succeeded() == 1);
  }
  CHECK(read_ledger(CacheRoot(posix_file_system(), RootOptions{root, true})).statistics.makes == 4);
}

}  // namespace
}  // namespace ktjit::cache::test
