// SPDX-License-Identifier: MIT
// WorkerPolicy and what it is made of: what is a policy, and what is none.
#include <memory>
#include <string>
#include <string_view>

#include <brood/policy/fork.hpp>
#include <brood/policy/fork_server.hpp>
#include <brood/policy/inline.hpp>
#include <brood/policy/spawn.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/worker/preload.hpp>

namespace {

using namespace brood;

struct Model {};

// ---- the library's own ---------------------------------------------------------------------------------------------

static_assert(WorkerPolicy<ForkPolicy>);
static_assert(WorkerPolicy<SpawnPolicy>);
static_assert(WorkerPolicy<ForkServerPolicy<>>);
static_assert(WorkerPolicy<ForkServerPolicy<Model>>);
static_assert(WorkerPolicy<ForkServerPolicy<Model, SharedLibrary<"libm.so.6">>>);
static_assert(WorkerPolicy<InlinePolicy>);

static_assert(CopiesHost<ForkPolicy>);
static_assert(!CopiesHost<SpawnPolicy>);
static_assert(!CopiesHost<ForkServerPolicy<>>);
static_assert(!CopiesHost<InlinePolicy>);

static_assert(RunsInline<InlinePolicy>);
static_assert(!RunsInline<ForkPolicy>);
static_assert(!RunsInline<SpawnPolicy>);
static_assert(!RunsInline<ForkServerPolicy<Model>>);

static_assert(LaunchesWorkers<ForkPolicy>);
static_assert(LaunchesWorkers<SpawnPolicy>);
static_assert(LaunchesWorkers<ForkServerPolicy<Model>>);
static_assert(!LaunchesWorkers<InlinePolicy>);

// ---- a user's ------------------------------------------------------------------------------------------------------

struct Minimal {
  static constexpr std::string_view name = "Minimal";
  std::unique_ptr<WorkerSource> launch(const LaunchOptions&) const { return nullptr; }
};
static_assert(WorkerPolicy<Minimal>);
static_assert(!CopiesHost<Minimal>);

struct NamedByLiteral {
  static constexpr const char* name = "NamedByLiteral";
  std::unique_ptr<WorkerSource> launch(const LaunchOptions&) const { return nullptr; }
};
static_assert(WorkerPolicy<NamedByLiteral>);

struct WithState {
  static constexpr std::string_view name = "WithState";
  std::string host;
  std::unique_ptr<WorkerSource> launch(const LaunchOptions&) const { return nullptr; }
};
static_assert(WorkerPolicy<WithState>);

// ---- none ----------------------------------------------------------------------------------------------------------

static_assert(!WorkerPolicy<int>);
static_assert(!NamedPolicy<int>);
static_assert(!LaunchesWorkers<int>);

struct Nameless {
  std::unique_ptr<WorkerSource> launch(const LaunchOptions&) const { return nullptr; }
};
static_assert(!NamedPolicy<Nameless>);
static_assert(LaunchesWorkers<Nameless>);
static_assert(!WorkerPolicy<Nameless>);

struct NamedByNumber {
  static constexpr int name = 7;
  std::unique_ptr<WorkerSource> launch(const LaunchOptions&) const { return nullptr; }
};
static_assert(!NamedPolicy<NamedByNumber>);
static_assert(!WorkerPolicy<NamedByNumber>);

struct Helpless {
  static constexpr std::string_view name = "Helpless";
};
static_assert(NamedPolicy<Helpless>);
static_assert(!LaunchesWorkers<Helpless>);
static_assert(!WorkerPolicy<Helpless>);

struct LaunchNotConst {
  static constexpr std::string_view name = "LaunchNotConst";
  std::unique_ptr<WorkerSource> launch(const LaunchOptions&) { return nullptr; }
};
static_assert(!LaunchesWorkers<LaunchNotConst>);
static_assert(!WorkerPolicy<LaunchNotConst>);

struct LaunchOfAnother {
  static constexpr std::string_view name = "LaunchOfAnother";
  WorkerSource* launch(const LaunchOptions&) const { return nullptr; }
};
static_assert(!LaunchesWorkers<LaunchOfAnother>);
static_assert(!WorkerPolicy<LaunchOfAnother>);

struct MoveOnly {
  [[maybe_unused]] static constexpr std::string_view name = "MoveOnly";
  std::unique_ptr<int> state;
  std::unique_ptr<WorkerSource> launch(const LaunchOptions&) const { return nullptr; }
};
static_assert(LaunchesWorkers<MoveOnly>);
static_assert(!WorkerPolicy<MoveOnly>);

}  // namespace
