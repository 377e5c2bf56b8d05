// Where an output grows until it is whole: a hidden folder beside it, with the files at their full size, the
// plan that they follow, and a journal of what is done.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ktjit::convert {

/// One file of the output.
struct PlannedFile {
  std::string name;
  std::string head;         ///< its first bytes
  std::uint64_t bytes = 0;  ///< of the whole file
};

/// How an output appears: a folder, or one file.
enum class OutputKind { kFolder, kFile };

/// The folder `.NAME.converting` beside the output `NAME`:
///   plan      what is written from what; remains of a run are taken up only if this is equal
///   journal   a line for each batch whose bytes are on the disk
///   out/      the files
/// Whatever ends the process leaves it as it is, and the next run goes on from there.
///
/// Errors: model::OutputError, from all functions, that says what is kept and how to go on.
/// Threads: write_at may be called from several, the others from one.
class WorkFolder {
 public:
  /// Opens or makes it. Remains of another plan are removed.
  /// Errors: OutputError if another process works there.
  WorkFolder(const std::filesystem::path& output, OutputKind kind, std::string_view plan);
  ~WorkFolder();
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  static std::filesystem::path path_beside(const std::filesystem::path& output);

  /// Whether a batch was done in an earlier run.
  bool is_done(std::size_t batch) const { return batch < done_.size() && done_[batch]; }
  bool replaced_other_plan() const { return replaced_other_plan_; }

  /// Makes the files and their first bytes, and reserves the disk's room for them.
  /// Errors: OutputError if there is less room than they take.
  void make_files(std::vector<PlannedFile> files);
  void write_at(std::size_t file, std::uint64_t offset, std::span<const std::byte> bytes);
  /// Puts what was written on the disk, and notes the batch.
  void commit_batch(std::size_t batch);
  /// A small file beside the others.
  void write_text(const std::string& name, std::string_view text);

  /// Gives the output its name, in place of what may be there, and removes the folder.
  void publish();

  /// Called before every write: where tests let one fail.
  std::function<void()> before_write;

 private:
  [[noreturn]] void fail(const std::filesystem::path& path, std::string_view doing,
                         int error) const;
  void read_journal(std::string_view text);
  void sync_files();
  /// What a killed run left beside the output's files: texts that hadn't got their names.
  void remove_strangers();

  std::filesystem::path output_;
  OutputKind kind_;
  std::filesystem::path folder_;
  std::filesystem::path files_folder_;
  std::vector<PlannedFile> files_;
  std::set<std::string> texts_;
  std::vector<int> fds_;
  std::vector<std::mutex> writing_;  ///< one for each file
  int journal_ = -1;
  std::vector<bool> done_;
  bool replaced_other_plan_ = false;
  std::atomic<bool> may_skip_cache_ = true;
};

}  // namespace ktjit::convert
