// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include <brood/pool/task.hpp>

namespace brood::inline v0_1::detail {

/// Tasks that wait: those of the highest priority first, among equals the first that came. Most pools know priority 0 only,
/// and pay for no other. Cancelled tasks stay until they are passed over, or dropped.
class TaskQueue {
 public:
  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }
  /// Whether tasks of several priorities wait.
  bool mixed() const noexcept { return others_.size() + (usual_.empty() ? 0U : 1U) > 1; }
  /// Whether a task had another priority than 0, ever.
  bool ranked() const noexcept { return ranked_; }

  void push_back(const TaskPtr& task) {
    line_of(task->priority).push_back(task);
    ++size_;
  }
  /// In front of those of its priority.
  void push_front(const TaskPtr& task) {
    line_of(task->priority).push_front(task);
    ++size_;
  }
  /// Precondition: it is in front of those of its priority.
  void remove_front(const TaskPtr& task) {
    const int priority = task->priority;
    line_of(priority).pop_front();
    --size_;
    if (priority != 0 && others_.at(priority).empty()) others_.erase(priority);
  }

  /// Takes the next task that has not been cancelled; null when there is none.
  TaskPtr next() {
    while (size_ != 0) {
      const TaskPtr task = first_line().front();
      remove_front(task);
      if (task->state == Task::State::queued) return task;
    }
    return nullptr;
  }

  /// All of them, in their order.
  std::vector<TaskPtr> all() const {
    std::vector<TaskPtr> tasks;
    tasks.reserve(size_);
    const auto after = others_.upper_bound(0);  // the order of the map is that of falling priorities
    for (auto line = others_.begin(); line != after; ++line) tasks.insert(tasks.end(), line->second.begin(), line->second.end());
    tasks.insert(tasks.end(), usual_.begin(), usual_.end());
    for (auto line = after; line != others_.end(); ++line) tasks.insert(tasks.end(), line->second.begin(), line->second.end());
    return tasks;
  }

  void drop_resolved() {
    const auto resolved = [](const TaskPtr& task) { return task->state == Task::State::resolved; };
    size_ -= std::erase_if(usual_, resolved);
    for (auto line = others_.begin(); line != others_.end();) {
      size_ -= std::erase_if(line->second, resolved);
      line = line->second.empty() ? others_.erase(line) : std::next(line);
    }
  }

  void clear() noexcept {
    usual_.clear();
    others_.clear();
    size_ = 0;
  }

 private:
  using Line = std::deque<TaskPtr>;

  Line& line_of(int priority) {
    if (priority == 0) return usual_;
    ranked_ = true;
    return others_[priority];
  }

  Line& first_line() {
    const bool usual = !usual_.empty() && (others_.empty() || others_.begin()->first < 0);
    return usual ? usual_ : others_.begin()->second;
  }

  Line usual_;  ///< priority 0
  std::map<int, Line, std::greater<>> others_;  ///< no line is empty
  std::size_t size_ = 0;
  bool ranked_ = false;
};

}  // namespace brood::detail
