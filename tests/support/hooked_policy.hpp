// SPDX-License-Identifier: MIT
// A policy whose source of workers lets a test look in: at what it says, what it is told, and its end. The moments at which
// the dispatcher calls it are known, so that what is a race otherwise happens in each run.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <brood/policy/fork_server.hpp>
#include <brood/policy/worker_policy.hpp>

namespace support {

struct Hooks {
  std::function<void(brood::SourceEvent&)> heard;       ///< an event, with the dispatcher's mutex held
  std::function<void(brood::detail::Ticket)> killing;   ///< a worker without pidfd is to be killed, with the mutex held
  std::function<void()> destroyed;  ///< a source that has ended is gone; in the driver, without the mutex
};

class HookedSource : public brood::WorkerSource {
 public:
  HookedSource(std::unique_ptr<brood::WorkerSource> inner, std::shared_ptr<Hooks> hooks)
      : inner_(std::move(inner)), hooks_(std::move(hooks)) {}
  ~HookedSource() override {
    inner_.reset();
    if (hooks_->destroyed) hooks_->destroyed();
  }

  int event_fd() const noexcept override { return inner_->event_fd(); }
  int end_fd() const noexcept override { return inner_->end_fd(); }
  std::optional<brood::SourceEvent> next() override {
    auto event = inner_->next();
    if (event && hooks_->heard) hooks_->heard(*event);
    return event;
  }
  std::optional<brood::WorkerEnds> start(brood::detail::Ticket ticket) override { return inner_->start(ticket); }
  void kill(brood::detail::Ticket ticket) noexcept override {
    if (hooks_->killing) hooks_->killing(ticket);
    inner_->kill(ticket);
  }
  void stop() noexcept override { inner_->stop(); }
  bool ended() noexcept override { return inner_->ended(); }
  void leave_until(std::chrono::steady_clock::time_point end) noexcept override { inner_->leave_until(end); }
  std::exception_ptr overdue(std::chrono::milliseconds timeout) const override { return inner_->overdue(timeout); }
  pid_t server_pid() const noexcept override { return inner_->server_pid(); }
  std::vector<brood::PreloadStats> preloads() const override { return inner_->preloads(); }

 private:
  std::unique_ptr<brood::WorkerSource> inner_;
  std::shared_ptr<Hooks> hooks_;
};

struct HookedPolicy {
  static constexpr std::string_view name = "HookedPolicy";

  std::unique_ptr<brood::WorkerSource> launch(const brood::LaunchOptions& options) const {
    return std::make_unique<HookedSource>(brood::ForkServerPolicy<>{}.launch(options), hooks);
  }

  std::shared_ptr<Hooks> hooks;
};

}  // namespace support
