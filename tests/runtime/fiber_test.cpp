#include "runtime/fiber.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

namespace ktjit::runtime {
namespace {

struct Walk {
  Fiber fiber;
  std::vector<int> steps;
  std::uintptr_t stack_address = 0;
};

void take_three_steps(void* argument) {
  auto& walk = *static_cast<Walk*>(argument);
  const int on_stack = 0;
  walk.stack_address = reinterpret_cast<std::uintptr_t>(&on_stack);
  for (int step = 0; step < 3; ++step) {
    walk.steps.push_back(step);
    walk.fiber.suspend();
  }
}

}  // namespace

TEST_CASE("a fibre goes on where it suspended itself, until it ends") {
  Walk walk;
  walk.fiber.start(take_three_steps, &walk);
  CHECK(walk.steps.empty());
  for (int step = 0; step < 3; ++step) CHECK_FALSE(walk.fiber.resume());
  CHECK(walk.fiber.resume());
  CHECK(walk.steps == std::vector<int>{0, 1, 2});
  CHECK(walk.stack_address >= reinterpret_cast<std::uintptr_t>(walk.fiber.stack_begin()));
  CHECK(walk.stack_address < reinterpret_cast<std::uintptr_t>(walk.fiber.stack_end()));
}

TEST_CASE("a fibre starts again after its end, and after it was abandoned") {
  Walk walk;
  for (int round = 0; round < 2; ++round) {
    walk.fiber.start(take_three_steps, &walk);
    while (!walk.fiber.resume()) {
    }
  }
  walk.fiber.start(take_three_steps, &walk);
  walk.fiber.resume();
  walk.fiber.abandon();
  walk.fiber.start(take_three_steps, &walk);
  walk.fiber.resume();
  CHECK(walk.steps == std::vector<int>{0, 1, 2, 0, 1, 2, 0, 0});
  walk.fiber.abandon();
}

}  // namespace ktjit::runtime
