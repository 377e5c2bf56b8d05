#include "runtime/ptx_instructions.h"

#include <unordered_map>
#include <vector>

#include "runtime/ptx_tables.h"

namespace ktjit::runtime {
namespace {

std::vector<PtxInstruction> join_topics() {
  std::vector<PtxInstruction> all;
  for (const auto topic :
       {ptx::conversion_instructions(), ptx::integer_instructions(), ptx::float_instructions(),
        ptx::mma_instructions(), ptx::memory_instructions()})
    all.insert(all.end(), topic.begin(), topic.end());
  return all;
}

/// By name; the forms of one name in the order of the table.
using Index = std::unordered_map<std::string_view, std::vector<const PtxInstruction*>>;

Index make_index() {
  Index index;
  for (const PtxInstruction& instruction : all_ptx_instructions())
    index[instruction.opcode].push_back(&instruction);
  return index;
}

std::span<const PtxInstruction* const> forms_of(std::string_view opcode) {
  static const Index index = make_index();
  const auto found = index.find(opcode);
  if (found == index.end()) return {};
  return found->second;
}

}  // namespace

std::span<const PtxInstruction> all_ptx_instructions() {
  static const std::vector<PtxInstruction> all = join_topics();
  return all;
}

const PtxInstruction* find_ptx_instruction(std::string_view opcode) {
  const auto forms = forms_of(opcode);
  return forms.empty() ? nullptr : forms.front();
}

const PtxInstruction* find_ptx_instruction(std::string_view opcode, int results, int operands) {
  for (const PtxInstruction* form : forms_of(opcode))
    if (form->results == results && form->operands == operands) return form;
  return nullptr;
}

}  // namespace ktjit::runtime
