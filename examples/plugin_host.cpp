// SPDX-License-Identifier: MIT
// A host that survives its plugins. They are opened in workers only: what a plugin breaks, leaks or changes is gone with
// its worker, and a crash says where it happened.
#include <dlfcn.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <string>

#include <brood/brood.hpp>

using namespace std::chrono_literals;

/// Calls int name(int) of a plugin.
int call_plugin(const std::string& path, const std::string& name, int argument) {
  void* const plugin = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // a worker that has it already opens it at no cost
  if (plugin == nullptr) throw std::runtime_error("not a plugin: " + std::filesystem::path(path).filename().string());
  const auto function = reinterpret_cast<int (*)(int)>(::dlsym(plugin, name.c_str()));
  if (function == nullptr) throw std::invalid_argument("the plugin has no function " + name);
  return function(argument);
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::string plugin = folder / "plugin_host_plugin.so";

  brood::Pool<brood::ForkServerPolicy<>> pool({.workers = 2, .task_timeout = 500ms, .output = brood::Output::discard});
  for (const std::string name : {"doubled", "crash", "hang", "leave", "missing", "doubled"}) {
    const auto outcome = pool.submit(&call_plugin, plugin, name, 21).outcome();
    std::cout << name << ": ";
    if (outcome) {
      std::cout << *outcome << '\n';
    } else if (outcome.failure().kind() == brood::FailureKind::worker_died) {
      std::cout << "its worker " << outcome.failure().status().describe() << '\n';
    } else if (outcome.failure().kind() == brood::FailureKind::timeout) {
      std::cout << "killed at its deadline\n";
    } else {
      try {
        outcome.value();
      } catch (const std::exception& error) {
        std::cout << error.what() << '\n';
      }
    }
  }
}
