#include "runtime/fiber.h"

#include <catch2/catch.hpp>
#include <vector>

namespace ktjit::runtime {
namespace {

struct Walk {
  Fiber fiber;
  std::vector<int> steps;
  bool on_own_stack = false;
};

void take_three_steps(void* argument) {
  auto& walk = *static_cast<Walk*>(argument);
  const std::byte on_stack{};
  walk.on_own_stack = &on_stack >= walk.fiber.stack_begin() && &on_stack < walk.fiber.stack_end();
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
  CHECK(walk.on_own_stack);
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
