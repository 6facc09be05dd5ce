// SPDX-License-Identifier: MIT
// brood::init: programs that start themselves again. Each is a program of its own inside this executable.
#include <errno.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <brood/brood.hpp>

#include "support/child.hpp"
#include "support/leftovers.hpp"
#include "support/policies.hpp"
#include "support/program.hpp"
#include "support/sanitizer.hpp"

namespace {

using namespace std::string_literals;

int add_one(int n) { return n + 1; }

/// What became of a pool of this policy: "works", or the error's name and text.
template <class Policy>
std::string attempt(brood::PoolOptions options = {.workers = 2}) {
  try {
    brood::Pool<Policy> pool(options);
    const std::vector<int> results = pool.map(&add_one, std::vector{1, 2, 3}, {.chunk_size = 1});
    return results == std::vector{2, 3, 4} ? "works" : "wrong results";
  } catch (const brood::InitMissing& error) {
    return "InitMissing: "s + error.what();
  } catch (const brood::ImageMismatch& error) {
    return "ImageMismatch: "s + error.what();
  } catch (const brood::LaunchError& error) {
    return "LaunchError: "s + error.what();
  } catch (const std::exception& error) {
    return "other: "s + error.what();
  }
}

void report_policies() {
  std::printf("ForkPolicy %s\n", attempt<brood::ForkPolicy>().c_str());
  std::printf("SpawnPolicy %s\n", attempt<brood::SpawnPolicy>().c_str());
  std::printf("ForkServerPolicy %s\n", attempt<support::ForkServer>().c_str());
  std::printf("ForkServerWithPreloads %s\n", attempt<support::ForkServerWithPreloads>().c_str());
}

const std::string all_work = "ForkPolicy works\nSpawnPolicy works\nForkServerPolicy works\nForkServerWithPreloads works\n";

struct LeavesThread {
  LeavesThread() {
    std::thread([] {
      for (;;) ::pause();
    }).detach();
  }
};

bool hides_proc() {
  return ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::umount2("/proc", MNT_DETACH) == 0;
}

/// The end of a program without /proc: by exit(3), LeakSanitizer would want to look into it.
[[noreturn]] void end_without_proc() {
  std::fflush(nullptr);
  ::_exit(0);
}

/// Turns the program at `path` into another build of itself: the first byte of its build id differs.
bool change_build_id(const std::string& path) {
  std::string bytes = support::read_text(path);
  const std::string note("\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0", 16);
  const auto at = bytes.find(note);
  if (at == std::string::npos) return false;
  bytes[at + note.size()] = static_cast<char>(bytes[at + note.size()] ^ 0x55);
  std::filesystem::remove(path);  // what runs keeps the old file
  std::ofstream(path, std::ios::binary) << bytes;
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return true;
}

// ---- the programs --------------------------------------------------------------------------------------------------

const support::Program ordinary("ordinary", [](int argc, char** argv) {
  brood::init(argc, argv);
  std::printf("ordinary %d", argc);
  for (const std::string& each : support::own_descriptors()) std::printf(" [%s]", each.c_str());
  std::printf(" depth %u\n", brood::detail::process_depth);
  return 0;
});

const support::Program without_init("without-init", [](int, char**) {
  report_policies();
  for (const auto& process : support::all_processes()) {
    if (process.parent == ::getpid()) std::printf("child %d\n", process.pid);
  }
  return 0;
});

const support::Program all_policies("all-policies", [](int argc, char** argv) {
  brood::init(argc, argv);
  report_policies();
  return 0;
});

const support::Program deletes_itself("deletes-itself", [](int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> before({.workers = 1, .tasks_per_worker = 1});
  std::filesystem::remove(argv[0]);
  report_policies();
  for (int n = 0; n < 3; ++n) {
    if (before.submit(&add_one, n).get() != n + 1) std::puts("wrong");
  }
  return 0;
});

const support::Program replaces_itself("replaces-itself", [](int argc, char** argv) {
  brood::init(argc, argv);
  brood::Pool<brood::SpawnPolicy> before({.workers = 1, .tasks_per_worker = 1});
  std::filesystem::remove(argv[0]);
  std::filesystem::copy_file("/bin/false", argv[0]);
  report_policies();
  for (int n = 0; n < 3; ++n) {
    if (before.submit(&add_one, n).get() != n + 1) std::puts("wrong");
  }
  return 0;
});

const support::Program library_without_init("library-without-init", [](int, char**) {
  std::puts("main");
  void* const library = ::dlopen(BROOD_TEST_ISOLATED_PATH, RTLD_NOW);
  std::string spawn;
  std::string server;
  reinterpret_cast<void (*)(std::string&, std::string&)>(::dlsym(library, "opened_makes_pools"))(spawn, server);
  std::printf("%s\n%s\n", spawn.c_str(), server.c_str());
  return 0;
});

const support::Program threads_without_proc("threads-without-proc", [](int argc, char** argv) -> int {
  brood::init(argc, argv);
  if (!hides_proc()) return 77;
  std::thread([] {}).join();
  const auto fork = attempt<brood::ForkPolicy>();
  std::printf("ForkPolicy %s\n%s\n", fork.c_str(), attempt<brood::ForkServerPolicy<LeavesThread>>().c_str());
  end_without_proc();
});

const support::Program without_proc("without-proc", [](int argc, char** argv) -> int {
  brood::init(argc, argv);
  if (!hides_proc()) return 77;
  report_policies();
  end_without_proc();
});

const support::Program replaced_without_proc("replaced-without-proc", [](int argc, char** argv) -> int {
  brood::init(argc, argv);
  if (!change_build_id(argv[0]) || !hides_proc()) return 77;
  std::printf("%s\n%s\n", attempt<brood::SpawnPolicy>().c_str(), attempt<support::ForkServer>().c_str());
  end_without_proc();
});

const support::Program deleted_without_proc("deleted-without-proc", [](int argc, char** argv) -> int {
  brood::init(argc, argv);
  std::filesystem::remove(argv[0]);
  if (!hides_proc()) return 77;
  std::printf("%s\n%s\n", attempt<brood::SpawnPolicy>().c_str(), attempt<support::ForkServer>().c_str());
  end_without_proc();
});

const support::Program hangs_before_init("hangs-before-init", [](int argc, char** argv) {
  if (std::getenv("BROOD_TEST_AGAIN") != nullptr) {
    for (;;) ::pause();
  }
  brood::init(argc, argv);
  ::setenv("BROOD_TEST_AGAIN", "1", 1);
  std::puts(attempt<support::ForkServer>({.workers = 1, .start_timeout = std::chrono::milliseconds(300)}).c_str());
  return 0;
});

const support::Program exits_before_init("exits-before-init", [](int argc, char** argv) {
  if (std::getenv("BROOD_TEST_AGAIN") != nullptr) ::_exit(5);
  brood::init(argc, argv);
  ::setenv("BROOD_TEST_AGAIN", "1", 1);
  std::puts(attempt<support::ForkServer>().c_str());
  return 0;
});

/// Reaches init in the host only: started again, it makes a pool instead, and so on, if nothing stopped it.
const support::Program forks_a_bomb("forks-a-bomb", [](int argc, char** argv) {
  const char* const before = std::getenv("BROOD_TEST_GENERATION");
  const int generation = before != nullptr ? std::atoi(before) + 1 : 1;
  std::fprintf(stderr, "generation %d\n", generation);
  if (generation > 5) return 1;
  ::setenv("BROOD_TEST_GENERATION", std::to_string(generation).c_str(), 1);
  if (generation == 1) brood::init(argc, argv);
  std::fprintf(stderr, "%s\n", attempt<support::ForkServer>().c_str());
  return 0;
});

const support::Program inits_twice("inits-twice", [](int argc, char** argv) {
  brood::init(argc, argv);
  brood::init(argc, argv);
  report_policies();
  return 0;
});

/// Prints what a static destructor and atexit handlers of host and workers do.
struct Farewell {
  bool armed = false;
  ~Farewell() {
    if (armed) std::puts("static destructor");
  }
};
Farewell farewell;
const support::Program ends_once("ends-once", [](int argc, char** argv) {
  brood::init(argc, argv);
  farewell.armed = true;
  std::atexit([] { std::puts("atexit"); });
  std::printf("no newline,");
  report_policies();
  return 0;
});

std::string program(const std::string& name) { return "--program=" + name; }

/// A copy of this executable in a folder of its own.
class Copy {
 public:
  Copy() : folder_("/tmp/brood_entry_" + std::to_string(::getpid())) {
    std::filesystem::create_directory(folder_);
    std::filesystem::copy_file(support::own_path(), path(), std::filesystem::copy_options::overwrite_existing);
  }
  Copy(const Copy&) = delete;
  Copy& operator=(const Copy&) = delete;
  ~Copy() { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/program"; }

 private:
  std::string folder_;
};

}  // namespace

TEST_CASE_TEMPLATE("a task that runs this program again gets an ordinary program", Policy, WORKER_POLICIES) {
  const support::Leftovers audit;
  brood::Pool<Policy> pool({.workers = 1});
  const std::string own = support::own_path();
  const auto run = [](const std::string& path) { return support::run_program({path, "--program=ordinary"}).output; };
  const std::string expected = "ordinary 2 [0 /dev/null]";
  const std::string said = pool.submit(run, own).get();
  CHECK_MESSAGE(said.starts_with(expected), said);
  CHECK_MESSAGE(said.ends_with("depth 0\n"), said);
  if (!brood::CopiesHost<Policy>) CHECK_MESSAGE(said.find("[3 ") == std::string::npos, said);
  CHECK(pool.submit([] { return 1; }).get() == 1);
}

TEST_CASE("a program that never calls init: InitMissing with the line to add, and no process") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_program({support::own_path(), program("without-init")});
  CHECK(ran.status.describe() == "exited with code 0");
  CHECK_MESSAGE(ran.output.find("ForkPolicy works") == 0, ran.output);
  for (const std::string policy : {"SpawnPolicy", "ForkServerPolicy", "ForkServerWithPreloads"}) {
    CHECK_MESSAGE(ran.output.find(policy + " InitMissing: ") != std::string::npos, ran.output);
  }
  CHECK_MESSAGE(ran.output.find("brood::init(argc, argv);") != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("child") == std::string::npos, ran.output);
}

TEST_CASE("a program that never calls init, but has a library that makes pools: InitMissing, and one process for each") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_program({support::own_path(), program("library-without-init")});
  const std::string text = "brood::init(argc, argv);";
  const auto first = ran.output.find(text);
  CHECK_MESSAGE(first != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find(text, first + 1) != std::string::npos, ran.output);
  CHECK(ran.status.describe() == "exited with code 0");
}

TEST_CASE("without /proc threads are seen all the same") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_program({support::own_path(), program("threads-without-proc")});
  if (ran.status.exited() && ran.status.code() == 77) {
    MESSAGE("skipped: /proc can't be unmounted here (needs root)");
    return;
  }
  CHECK_MESSAGE(("\n" + ran.output).find("\nForkPolicy works\n") != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("LeavesThread") != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("it left threads running; threads and timers do not survive a fork") != std::string::npos, ran.output);
}

TEST_CASE("a program that reaches init in the host only does not multiply") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_program({support::own_path(), program("forks-a-bomb")});
  CHECK_MESSAGE(ran.output.find("generation 2") != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("generation 3") == std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("InitMissing") != std::string::npos, ran.output);
}

TEST_CASE("init may be called again") {
  const support::Leftovers audit;
  CHECK(support::run_program({support::own_path(), program("inits-twice")}).output == all_work);
}

TEST_CASE("a program that hangs before init: LaunchError at start_timeout") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_program({support::own_path(), program("hangs-before-init")});
  CHECK_MESSAGE(ran.output.find("LaunchError: ") == 0, ran.output);
  CHECK_MESSAGE(ran.output.find("brood::init") != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("300 ms") != std::string::npos, ran.output);
}

TEST_CASE("a program that ends before init: LaunchError") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_program({support::own_path(), program("exits-before-init")});
  CHECK_MESSAGE(ran.output.find("LaunchError: ") == 0, ran.output);
  CHECK_MESSAGE(ran.output.find("exited with code 5 before it reached brood::init") != std::string::npos, ran.output);
}

TEST_CASE("a program works that was deleted while it ran") {
  const support::Leftovers audit;
  const Copy copy;
  CHECK(support::run_program({copy.path(), program("deletes-itself")}).output == all_work);
  CHECK_FALSE(std::filesystem::exists(copy.path()));
}

TEST_CASE("a program works that was replaced while it ran") {
  const support::Leftovers audit;
  const Copy copy;
  CHECK(support::run_program({copy.path(), program("replaces-itself")}).output == all_work);
}

TEST_CASE("a program works that may be executed but not read") {
  if (support::has_sanitizer) return;  // LeakSanitizer can't look into such a process
  const support::Leftovers audit;
  const Copy copy;
  std::filesystem::permissions(copy.path(), static_cast<std::filesystem::perms>(0711));
  const support::Ran ran = support::run_in_child([&]() -> int {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) return 77;  // root may read everything
    support::exec({copy.path(), program("all-policies")});
  });
  if (ran.status.exited() && ran.status.code() == 77) {
    MESSAGE("skipped: needs root");
    return;
  }
  CHECK(ran.output == all_work);
}

TEST_CASE("a program works that was started by a relative path and another name") {
  const support::Leftovers audit;
  const Copy copy;
  const support::Ran ran = support::run_in_child([&]() -> int {
    std::filesystem::current_path(std::filesystem::path(copy.path()).parent_path());
    support::exec({"./program", program("all-policies")});
  });
  CHECK(ran.output == all_work);
}

TEST_CASE("without /proc every policy works, or says why not") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_program({support::own_path(), program("without-proc")});
  if (ran.status.exited() && ran.status.code() == 77) {
    MESSAGE("skipped: /proc can't be unmounted here (needs root)");
    return;
  }
  CHECK(ran.status.describe() == "exited with code 0");
  CHECK_MESSAGE(ran.output.find("SpawnPolicy works") != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("ForkServerPolicy works") != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("ForkServerWithPreloads works") != std::string::npos, ran.output);
  CHECK_MESSAGE((ran.output.find("ForkPolicy works") != std::string::npos || ran.output.find("how many is not to be seen here") != std::string::npos),
                ran.output);
}

TEST_CASE("a program that was replaced and has no /proc: ImageMismatch") {
  const support::Leftovers audit;
  const Copy copy;
  const support::Ran ran = support::run_program({copy.path(), program("replaced-without-proc")});
  if (ran.status.exited() && ran.status.code() == 77) {
    MESSAGE("skipped: /proc can't be unmounted here (needs root), or the program has no build id");
    return;
  }
  CHECK(ran.status.describe() == "exited with code 0");
  const std::string lines = "\n" + ran.output;  // a sanitizer that misses /proc adds some of its own
  const auto first = lines.find("\nImageMismatch: ");
  CHECK_MESSAGE(first != std::string::npos, ran.output);
  CHECK_MESSAGE(lines.find("\nImageMismatch: ", first + 1) != std::string::npos, ran.output);
  CHECK_MESSAGE(ran.output.find("restart it") != std::string::npos, ran.output);
}

TEST_CASE("a hand-over of another version of brood is refused, and both versions named") {
  const support::Leftovers audit;
  brood::detail::HandOverHeader header;
  header.identity = brood::detail::own_identity();
  CHECK(brood::detail::mismatch_with(header).empty());
  header.protocol = 0x01020304;
  const std::string mismatch = brood::detail::mismatch_with(header);
  CHECK_MESSAGE(mismatch.find("brood 1.2.3 (protocol 4)") != std::string::npos, mismatch);
  CHECK_MESSAGE(mismatch.find(brood::detail::brood_version(brood::detail::protocol_version)) != std::string::npos, mismatch);
}

TEST_CASE("a program that was deleted and has no /proc: LaunchError") {
  const support::Leftovers audit;
  const Copy copy;
  const support::Ran ran = support::run_program({copy.path(), program("deleted-without-proc")});
  if (ran.status.exited() && ran.status.code() == 77) {
    MESSAGE("skipped: /proc can't be unmounted here (needs root)");
    return;
  }
  CHECK_MESSAGE(ran.output.find("LaunchError: ") == 0, ran.output);
  CHECK_MESSAGE(ran.output.find("No such file") != std::string::npos, ran.output);
}

TEST_CASE("static destructors, atexit handlers and unflushed text are the host's, once") {
  const support::Leftovers audit;
  const support::Ran ran = support::run_program({support::own_path(), program("ends-once")});
  CHECK(ran.output == "no newline," + all_work + "atexit\nstatic destructor\n");
}
