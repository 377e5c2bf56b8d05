#include "cache/cache_key.h"

#include <catch2/catch.hpp>
#include <set>

#include "tests/cache/cache_fixture.h"

namespace ktjit::cache::test {
namespace {

// The list with field `at` changed: another value, another name, dropped, or doubled.
std::vector<KeyFields> changed(const KeyFields& list, std::size_t at) {
  std::vector<KeyFields> result(4);
  const auto& fields = list.fields();
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const Field& field = fields[i];
    result[0].add(field.name, i == at ? field.value + "x" : field.value);
    result[1].add(i == at ? field.name + "x" : field.name, field.value);
    if (i != at) result[2].add(field.name, field.value);
    result[3].add(field.name, field.value);
    if (i == at) result[3].add(field.name, field.value);
  }
  return result;
}

TEST_CASE("changing any one field of the request changes both digests") {
  const CacheKey key = make_key();
  std::set<Digest> requests = {key.request_digest()};
  std::set<Digest> artifacts = {key.artifact_digest()};
  std::size_t keys = 1;
  for (std::size_t i = 0; i < key.request.fields().size(); ++i) {
    for (const KeyFields& request : changed(key.request, i)) {
      const CacheKey other{request, key.compiler};
      CHECK(requests.insert(other.request_digest()).second);
      CHECK(artifacts.insert(other.artifact_digest()).second);
      ++keys;
    }
  }
  CHECK(keys == 17);
}

TEST_CASE("changing any one field of the compiler changes the artefact digest alone") {
  const CacheKey key = make_key();
  std::set<Digest> artifacts = {key.artifact_digest()};
  for (std::size_t i = 0; i < key.compiler.fields().size(); ++i) {
    for (const KeyFields& compiler : changed(key.compiler, i)) {
      const CacheKey other{key.request, compiler};
      CHECK(other.request_digest() == key.request_digest());
      CHECK(artifacts.insert(other.artifact_digest()).second);
    }
  }
}

TEST_CASE("a field moved from the request to the compiler is another key") {
  CacheKey left;
  left.request.add("a", "1").add("b", "2");
  CacheKey right;
  right.request.add("a", "1");
  right.compiler.add("b", "2");
  CHECK(left.artifact_digest() != right.artifact_digest());
  CHECK(left.request_digest() != right.request_digest());
}

TEST_CASE("equal keys are equal however they were made, and one value is pinned") {
  CHECK(make_key().hashed().text == make_key().hashed().text);
  // A change here makes every stored entry a miss: raise the version in the key's text with it.
  CHECK(make_key().hashed().text ==
        "ktjit-key 1\n"
        "request 4\ntext 22\n__global__ void f() {}\nentry 1\nf\ntarget 5\nsm_86\nkind 5\ncubin\n"
        "compiler 3\nprelude 0\n\nflag 10\n-ftz=false\nidentity 10\nnvrtc 12.4\n");
  CHECK(make_key().artifact_digest() == digest_of(make_key().hashed().text));
}

TEST_CASE("the hashed text reads back as the key") {
  CHECK(CacheKey::parse(make_key().hashed().text) == make_key());
  CHECK(CacheKey::parse(CacheKey{}.hashed().text) == CacheKey{});
  CHECK_FALSE(CacheKey::parse(make_key().hashed().text + "\n"));
  CHECK_FALSE(CacheKey::parse("ktjit-key 2\nrequest 0\ncompiler 0\n"));
  CHECK(request_digest_of(make_key().request) == make_key().hashed().request);
}

}  // namespace
}  // namespace ktjit::cache::test
