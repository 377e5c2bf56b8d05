// Pieces are put into batches; the threads take pieces of a batch, and the journal notes it when its bytes are
// on the disk, which the next batch doesn't wait for.
#include "convert/model_conversion.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <fmt/format.h>
#include <future>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "convert/piece_worker.h"

#include "core/error.h"
#include "core/interrupted_error.h"
#include "model/gguf_writer.h"
#include "model/safetensors_writer.h"
#include "runtime/host_limits.h"

namespace ktjit::convert {
namespace {

namespace fs = std::filesystem;

/// Sources are never called: the files are filled by place.
const model::ByteSource kNoSource = [](const model::ByteSink&) {};

struct Piece {
  std::size_t job;
  std::int64_t piece;
  std::uint64_t bytes;
};
using Batch = std::vector<Piece>;

/// In the order of the jobs. All pieces of a job that has to be surveyed are in one batch.
std::vector<Batch> make_batches(const Conversion& conversion, std::uint64_t batch_bytes) {
  std::vector<Batch> batches;
  std::uint64_t bytes = 0;
  for (std::size_t job = 0; job < conversion.jobs.size(); ++job) {
    const TensorJob& work = *conversion.jobs[job];
    for (std::int64_t piece = 0; piece < work.pieces(); ++piece) {
      const bool may_part = piece == 0 || !work.needs_survey();
      if (batches.empty() || (bytes >= batch_bytes && may_part)) {
        batches.emplace_back();
        bytes = 0;
      }
      batches.back().push_back({job, piece, work.piece_input_bytes(piece)});
      bytes += batches.back().back().bytes;
    }
  }
  return batches;
}

/// Everything that the output's bytes follow from: equal texts, equal bytes.
std::string plan_text(const Conversion& conversion, std::size_t batches) {
  std::string text = "ktjit conversion 1\n";
  for (const model::Model* input : conversion.inputs) {
    for (const fs::path& path : input->files()) {
      struct stat facts{};
      if (::stat(path.c_str(), &facts) != 0)
        throw InputError(path.string(), "can't be read any more");
      text += fmt::format("input {} {} {}.{:09}\n", fs::absolute(path).string(), facts.st_size,
                          facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec);
    }
  }
  for (std::size_t job = 0; job < conversion.jobs.size(); ++job) {
    const TensorJob& work = *conversion.jobs[job];
    text += fmt::format("job {}: {}, {} pieces\n", conversion.tensors[job].source, work.recipe(),
                        work.pieces());
    for (std::size_t i = 0; i < work.outputs().size(); ++i) {
      const OutputTensor& output = work.outputs()[i];
      const Conversion::Place& place = conversion.places[job][i];
      text += fmt::format("  {} {} {} bytes in file {} at {}\n", output.name,
                          get_format(output.dtype).name, output.bytes, place.file, place.offset);
    }
  }
  for (const PlannedFile& file : conversion.files)
    text += fmt::format("file {} {}\n", file.name, file.bytes);
  return text + fmt::format("batches {}\n", batches);
}

/// Lets the pages of the mapped input go: they would count as ours until the memory is short.
void release_pages(const Conversion& conversion) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  for (const model::Model* input : conversion.inputs) {
    for (const model::TensorInfo& tensor : input->tensors()) {
      const auto first = reinterpret_cast<std::uintptr_t>(tensor.data.data());
      const std::uintptr_t begin = (first + page - 1) / page * page;
      const std::uintptr_t end = (first + tensor.data.size()) / page * page;
      if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
  }
}

/// Threads that take pieces until there are none, or one of them fails.
class Crew {
 public:
  using Work = std::function<void(const Piece&, PieceWorker&)>;

  Crew(Machine& fast, Machine& host, int threads) {
    for (int i = 0; i < threads; ++i) workers_.push_back(std::make_unique<PieceWorker>(fast, host));
  }

  /// Errors: the first of a piece's.
  void run(const Batch& batch, const Work& work) {
    std::atomic<std::size_t> next = 0;
    std::mutex mutex;
    std::exception_ptr failure;
    const auto take = [&](PieceWorker& worker) {
      try {
        for (std::size_t i = next++; i < batch.size(); i = next++) work(batch[i], worker);
      } catch (...) {
        next = batch.size();
        const std::scoped_lock lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    };
    {
      std::vector<std::jthread> threads;
      const std::size_t wanted = std::min(workers_.size(), batch.size());
      for (std::size_t i = 1; i < wanted; ++i)
        threads.emplace_back([&take, &worker = *workers_[i]] { take(worker); });
      take(*workers_[0]);
    }
    if (failure) std::rethrow_exception(failure);
  }

 private:
  std::vector<std::unique_ptr<PieceWorker>> workers_;
};

void place_outputs(Conversion& conversion, std::size_t job, std::size_t file,
                   const model::FileLayout& layout) {
  for (const OutputTensor& output : conversion.jobs[job]->outputs())
    conversion.places[job].push_back({file, layout.offsets.at(output.name)});
}

bool is_inside(const fs::path& path, const fs::path& folder) {
  const fs::path whole = fs::weakly_canonical(path);
  const fs::path root = fs::weakly_canonical(folder);
  const auto [end, ignored] = std::mismatch(root.begin(), root.end(), whole.begin(), whole.end());
  return end == root.end();
}

/// Nothing but files, one of them safetensors, or nothing at all.
bool is_checkpoint(const fs::path& folder) {
  bool has_tensors = false;
  bool is_empty = true;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file()) return false;
    is_empty = false;
    has_tensors = has_tensors || entry.path().extension() == ".safetensors";
  }
  return is_empty || has_tensors;
}

}  // namespace

std::uint64_t Conversion::input_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& job : jobs) {
    for (std::int64_t piece = 0; piece < job->pieces(); ++piece)
      bytes += job->piece_input_bytes(piece);
  }
  return bytes;
}

std::uint64_t Conversion::output_bytes() const {
  std::uint64_t bytes = 0;
  for (const PlannedFile& file : files) bytes += file.bytes;
  return bytes;
}

void lay_out_safetensors(Conversion& conversion, std::uint64_t shard_bytes,
                         const std::optional<std::string>& file_name) {
  std::vector<std::vector<std::size_t>> shards(1);
  std::uint64_t in_shard = 0;
  for (std::size_t job = 0; job < conversion.jobs.size(); ++job) {
    std::uint64_t bytes = 0;
    for (const OutputTensor& output : conversion.jobs[job]->outputs()) bytes += output.bytes;
    const bool is_full = in_shard > 0 && in_shard + bytes > shard_bytes;
    if (is_full && !file_name) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(job);
    in_shard += bytes;
  }
  conversion.places.assign(conversion.jobs.size(), {});
  nlohmann::json weight_map = nlohmann::json::object();
  std::uint64_t total = 0;
  for (std::size_t shard = 0; shard < shards.size(); ++shard) {
    const std::string name = file_name            ? *file_name
                             : shards.size() == 1 ? "model.safetensors"
                                                  : fmt::format("model-{:05}-of-{:05}.safetensors",
                                                                shard + 1, shards.size());
    model::SafetensorsWriter writer(name);
    writer.set("format", "pt");  // Hugging Face's loaders ask for it
    if (shard == 0 && !conversion.model_metadata.empty())
      writer.set(std::string(model::kModelMetadataKey), conversion.model_metadata);
    std::map<std::string, model::TensorDescription> descriptions;
    for (const std::size_t job : shards[shard]) {
      for (const OutputTensor& output : conversion.jobs[job]->outputs()) {
        if (output.description) descriptions[output.name] = *output.description;
        if (weight_map.contains(output.name))
          throw SpecError("tensor name", fmt::format("'{}'", output.name),
                          "one tensor of that name");
        writer.add_tensor(output.name, output.dtype, output.shape, kNoSource);
        weight_map[output.name] = name;
        total += output.bytes;
      }
    }
    if (!descriptions.empty()) {
      writer.set(std::string(model::kDescriptionsKey), model::descriptions_to_text(descriptions));
    }
    model::FileLayout layout = writer.layout();
    for (const std::size_t job : shards[shard]) place_outputs(conversion, job, shard, layout);
    conversion.files.push_back({name, std::move(layout.head), layout.bytes});
  }
  if (shards.size() == 1) return;
  const nlohmann::json index = {{"metadata", {{"total_size", total}}},
                                {"weight_map", std::move(weight_map)}};
  conversion.texts.push_back({"model.safetensors.index.json", index.dump(2) + "\n"});
}

void lay_out_gguf(Conversion& conversion, const model::Metadata& metadata,
                  const std::string& file_name) {
  model::GgufWriter writer(file_name);
  for (const auto& [key, value] : metadata.entries()) writer.set(key, value);
  for (const auto& job : conversion.jobs) {
    for (const OutputTensor& output : job->outputs()) {
      std::vector<std::int64_t> ne(output.shape.rbegin(), output.shape.rend());
      if (ne.empty()) ne.push_back(1);
      writer.add_tensor(output.name, output.dtype, ne, kNoSource);
    }
  }
  model::FileLayout layout = writer.layout();
  conversion.places.assign(conversion.jobs.size(), {});
  for (std::size_t job = 0; job < conversion.jobs.size(); ++job)
    place_outputs(conversion, job, 0, layout);
  conversion.files.push_back({file_name, std::move(layout.head), layout.bytes});
}

bool cpu_is_as_quick(int threads) {
  constexpr int kThreadsLikeAGpu = 8;
  return (threads > 0 ? threads : runtime::usable_threads()) >= kThreadsLikeAGpu;
}

void check_output(const fs::path& output, OutputKind kind,
                  const std::vector<const model::Model*>& inputs, bool force) {
  const auto refuse = [&](std::string_view allowed) {
    throw SpecError("output", output.string(), allowed);
  };
  for (const model::Model* input : inputs) {
    for (const fs::path& path : input->files()) {
      if (is_inside(path, output)) refuse("a path that is not the input's and doesn't hold it");
    }
  }
  std::error_code error;
  const fs::file_status there = fs::status(output, error);
  if (!fs::exists(there)) {
    const fs::path parent = fs::absolute(output).lexically_normal();
    const fs::path folder =
        parent.has_filename() ? parent.parent_path() : parent.parent_path().parent_path();
    if (!fs::is_directory(folder))
      refuse(fmt::format("a path in a folder that is there; {} is not", folder.string()));
    return;
  }
  if (!force) refuse("a path where nothing is yet, or --force to replace what is there");
  if (kind == OutputKind::kFile && !fs::is_regular_file(there))
    refuse("a file, or a path where nothing is yet");
  if (kind == OutputKind::kFolder && (!fs::is_directory(there) || !is_checkpoint(output))) {
    refuse("a folder that holds safetensors and no folders, or a path where nothing is yet");
  }
}

ConvertResult run_conversion(Engine& engine, runtime::Device& device, const Target& target,
                             const Conversion& conversion, const fs::path& output,
                             const ConvertOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Batch> batches = make_batches(conversion, options.batch_bytes);
  WorkFolder folder(output, conversion.kind, plan_text(conversion, batches.size()));
  folder.before_write = options.before_write;
  ConvertResult result;
  result.replaced_other_plan = folder.replaced_other_plan();
  folder.make_files(conversion.files);

  const auto cpu = make_single_thread_cpu();
  Machine host(engine, *cpu, device.name() == "cpu" ? target : cpu->native_target());
  std::optional<Machine> other;
  if (device.name() != "cpu") other.emplace(engine, device, target);
  Machine& fast = other ? *other : host;
  constexpr int kFeedingThreads = 4;  // enough to keep a GPU's link busy
  int threads = options.threads > 0 ? options.threads : runtime::usable_threads();
  if (other) threads = std::min(threads, kFeedingThreads);
  Crew crew(fast, host, threads);

  const std::uint64_t total = conversion.input_bytes();
  std::atomic<std::uint64_t> done = 0;
  std::atomic<std::uint64_t> since_release = 0;
  std::mutex progress_mutex;
  const auto note_piece = [&](const Piece& piece) {
    done += piece.bytes;
    if ((since_release += piece.bytes) >= options.batch_bytes) {
      since_release = 0;
      release_pages(conversion);
    }
    const std::scoped_lock lock(progress_mutex);
    if (options.on_progress) options.on_progress(done, total);
  };

  std::future<void> noted;  // the batch before is on its way to the disk
  const auto check_stop = [&] {
    if (options.stop.stop_requested()) throw InterruptedError("the conversion");
  };
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const Batch& batch = batches[i];
    if (folder.is_done(i)) {
      for (const Piece& piece : batch) result.resumed_bytes += piece.bytes;
      done += result.resumed_bytes - std::min<std::uint64_t>(done, result.resumed_bytes);
      continue;
    }
    Batch to_survey;
    std::ranges::copy_if(batch, std::back_inserter(to_survey), [&](const Piece& piece) {
      return conversion.jobs[piece.job]->needs_survey();
    });
    crew.run(to_survey, [&](const Piece& piece, PieceWorker& worker) {
      check_stop();
      conversion.jobs[piece.job]->survey(piece.piece, worker);
    });
    crew.run(batch, [&](const Piece& piece, PieceWorker& worker) {
      check_stop();
      const auto& places = conversion.places[piece.job];
      conversion.jobs[piece.job]->produce(
          piece.piece, worker,
          [&](std::size_t which, std::uint64_t offset, std::span<const std::byte> bytes) {
            const OutputTensor& tensor = conversion.jobs[piece.job]->outputs()[which];
            KTJIT_CHECK(offset + bytes.size() <= tensor.bytes);
            folder.write_at(places[which].file, places[which].offset + offset, bytes);
          });
      note_piece(piece);
    });
    for (const Piece& piece : batch) result.input_bytes += piece.bytes;
    if (noted.valid()) noted.get();
    noted = std::async(std::launch::async, [&folder, i] { folder.commit_batch(i); });
  }
  if (noted.valid()) noted.get();
  for (const Conversion::Text& text : conversion.texts) folder.write_text(text.name, text.content);
  folder.publish();
  result.output_bytes = conversion.output_bytes();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace ktjit::convert
