// Finds the NVRTC libraries of a machine without opening any, so that a warm start stays cheap and
// `ktjit doctor` can list them all.
//
// Order: an explicit path, extra folders, CUDA_HOME, the loader's path, the usual toolkit folders,
// NVIDIA's pip wheels in the Python environments. Every library appears once, where it was found
// first; within a folder the newest version comes first.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "jit/nvrtc_archs.h"

namespace ktjit {

/// Where to look. Whoever reads the environment fills this in; the search doesn't.
struct NvrtcSearch {
  std::filesystem::path explicit_path;  ///< a libnvrtc file, or a folder with one
  std::vector<std::filesystem::path> extra_folders;
  std::filesystem::path cuda_home;
  /// Roots of Python environments ($VIRTUAL_ENV, $CONDA_PREFIX, /usr), or site-packages folders.
  std::vector<std::filesystem::path> python_environments;
  bool loader_path = true;      ///< also where the dynamic loader looks
  bool toolkit_folders = true;  ///< also /usr/local/cuda and its like
};

/// One libnvrtc. It is used with the builtins library of its own folder and no other.
struct NvrtcCandidate {
  std::filesystem::path library;   ///< absolute, links resolved
  std::filesystem::path builtins;  ///< as library
  NvrtcVersion version;
  std::string library_id;   ///< build id
  std::string builtins_id;  ///< build id
  std::string found_by;     ///< "explicit path", "CUDA_HOME", "loader's path", ...
  std::string problem;      ///< why it can't be used, "" if it can

  bool usable() const { return problem.empty(); }
};

/// All candidates, usable or not, in the documented order. An explicit path without a library is
/// listed with that problem. Folders that can't be read are passed over.
std::vector<NvrtcCandidate> find_nvrtc(const NvrtcSearch& search);

/// What to install or set when no candidate serves, for messages.
std::string nvrtc_advice();

}  // namespace ktjit
