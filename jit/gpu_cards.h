// Well-known GPU cards and what a plan has to know of them: memory, its bandwidth, and how many
// instructions the card issues. Facts of vendors, each with its source; nothing here is measured.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/target.h"

namespace ktjit {

struct GpuCard {
  std::string_view name;       ///< as people say it: "A10", "RTX 3090", "H100 SXM"
  int sm = 0;                  ///< compute capability as one number
  int memory_gib = 0;          ///< as sold
  bool ecc_in_memory = false;  ///< ECC is on as delivered and takes 1/16 of the memory (GDDR cards)
  int bandwidth_gbps = 0;      ///< of the memory, 1e9 bytes a second
  int sms = 0;                 ///< streaming multiprocessors
  int boost_mhz = 0;           ///< highest clock the vendor states
  std::string_view source;     ///< where these facts are from

  /// What is left to programs: less ECC's part. The driver takes some hundred MiB of this.
  std::uint64_t memory_bytes() const;
};

/// The first card of an architecture is the one a plan assumes if none is named.
std::span<const GpuCard> all_gpu_cards();

/// Finds a card whatever the case, spaces, hyphens, and words like NVIDIA, GeForce, Tesla, RTX, GTX:
/// "3090", "rtx-3090" and "NVIDIA GeForce RTX 3090" are the same.
const GpuCard* find_gpu_card(std::string_view name);
/// Errors: SpecError with the known cards.
const GpuCard& get_gpu_card(std::string_view name);

/// The card that a plan for this target assumes. Nothing for CPUs, and architectures of which no
/// card is known.
const GpuCard* default_gpu_card(const Target& target);

/// Whether code for the target runs on the card: a cubin runs on its own compute capability and
/// later ones of the same major number, with a suffix on its own only.
bool runs_on(const Target& target, const GpuCard& card);

/// The target whose code is made for the card.
Target native_target(const GpuCard& card);

}  // namespace ktjit
