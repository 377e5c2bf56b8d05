# shellcheck shell=bash
# Sourced by the other scripts, from the root of the tree: how many jobs, and where NVRTC is.

# Jobs side by side: one per core, at 1.5 GiB of memory each, which is what the largest need.
default_jobs() {
  local cores memory_kib by_memory
  cores=$(nproc)
  memory_kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
  by_memory=$((memory_kib / (1536 * 1024)))
  ((by_memory >= 1)) || by_memory=1
  echo $((cores < by_memory ? cores : by_memory))
}

# NVRTC that scripts/setup put in .venv is found as an active Python environment.
use_own_nvrtc() {
  if [[ -z "${VIRTUAL_ENV:-}" && -d .venv ]]; then export VIRTUAL_ENV="$PWD/.venv"; fi
}
