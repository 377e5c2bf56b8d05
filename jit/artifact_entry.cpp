// The names of the manifest's fields stand here and nowhere else.
#include "jit/artifact_entry.h"

#include <cstring>
#include <nlohmann/json.hpp>

namespace ktjit {
namespace {

using nlohmann::json;

void put(json& object, const char* name, const std::optional<int>& value) {
  if (value) object[name] = *value;
}

std::optional<int> get(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<int>();
}

std::string text(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

cache::Entry to_entry(const Artifact& artifact, const KernelSpec& spec,
                      const codegen::EmittedKernel& emitted, const std::string& compiler) {
  cache::Entry entry;
  json& manifest = entry.manifest;
  manifest["kernel"] = emitted.entry_name;
  manifest["kind"] = artifact_kind_name(artifact.kind);
  manifest["spec"] = to_text(spec);
  manifest["target"] = spec.target.name();
  manifest["lowering"] = emitted.lowering.summary;
  manifest["compiler"] = compiler;
  manifest["compile_ms"] = artifact.compile_ms;
  put(manifest, "registers", artifact.resources.registers);
  put(manifest, "spill_bytes", artifact.resources.spill_bytes);
  put(manifest, "stack_bytes", artifact.resources.stack_bytes);
  put(manifest, "static_smem_bytes", artifact.resources.static_smem_bytes);
  const auto* bytes = reinterpret_cast<const char*>(artifact.bytes.data());
  entry.blobs.add("artifact", std::string_view(bytes, artifact.bytes.size()));
  entry.blobs.add("log", std::string_view(artifact.log));
  return entry;
}

std::optional<Artifact> to_artifact(const cache::Entry& entry, ArtifactKind kind) {
  const std::string* bytes = entry.blobs.find("artifact");
  if (bytes == nullptr || bytes->empty() ||
      text(entry.manifest, "kind") != artifact_kind_name(kind)) {
    return std::nullopt;
  }
  Artifact artifact;
  artifact.kind = kind;
  artifact.entry_name = text(entry.manifest, "kernel");
  artifact.bytes.resize(bytes->size());
  std::memcpy(artifact.bytes.data(), bytes->data(), bytes->size());
  artifact.resources = {get(entry.manifest, "registers"), get(entry.manifest, "spill_bytes"),
                        get(entry.manifest, "stack_bytes"),
                        get(entry.manifest, "static_smem_bytes")};
  if (const std::string* log = entry.blobs.find("log")) artifact.log = *log;
  if (const auto ms = entry.manifest.find("compile_ms");
      ms != entry.manifest.end() && ms->is_number()) {
    artifact.compile_ms = ms->get<double>();
  }
  return artifact;
}

std::string compiler_of(const cache::Entry& entry) { return text(entry.manifest, "compiler"); }

}  // namespace ktjit
