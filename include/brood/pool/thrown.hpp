// SPDX-License-Identifier: MIT
// internal
#pragma once

#include <cxxabi.h>

#include <exception>
#include <string>
#include <typeinfo>
#include <utility>

#include <brood/core/errors.hpp>
#include <brood/core/type_name.hpp>
#include <brood/worker/failure.hpp>

namespace brood::inline v0_1::detail {

/// What was thrown in the host as a failure; its exception() is the one that was thrown. What the library has thrown, such as
/// the WorkerDied of a task, keeps its kind.
inline Failure failure_of(const std::exception_ptr& thrown, TaskId task, const char* where) {
  FailureRecord record;
  record.kind = FailureKind::exception;
  record.task = task;
  record.where = where;
  record.cause = thrown;
  const auto known = [&](FailureKind kind, const std::exception& error) {
    record.kind = kind;
    record.message = error.what();
  };
  try {
    std::rethrow_exception(thrown);
  } catch (const WorkerDied& error) {
    known(FailureKind::worker_died, error);
    record.status = error.status();
    record.pid = error.pid();
    record.task = error.task();
    record.known = {error.callable(), error.peak_rss_kib(), error.out_of_memory(), error.captured_output(), error.backtrace()};
  } catch (const TaskTimeout& error) {
    known(FailureKind::timeout, error);
  } catch (const TaskCancelled& error) {
    known(FailureKind::cancelled, error);
  } catch (const LaunchError& error) {
    known(FailureKind::launch, error);
  } catch (const PreloadError& error) {
    known(FailureKind::preload, error);
  } catch (const PoolClosed& error) {
    known(FailureKind::closed, error);
  } catch (const ProtocolError& error) {
    known(FailureKind::protocol, error);
  } catch (const SerializationError& error) {
    known(FailureKind::serialization, error);
  } catch (const MessageTooLarge& error) {
    known(FailureKind::too_large, error);
  } catch (const ImageMismatch& error) {
    known(FailureKind::image_mismatch, error);
  } catch (const std::exception& error) {
    record.message = record.where + " threw " + readable_name(std::string(without_wrappers(demangled(typeid(error).name())))) +
                     ": " + error.what();
    if (const auto* const from = dynamic_cast<const FromTask*>(&error)) {
      record.pid = from->pid();
      record.task = from->task();
    }
  } catch (...) {
    const std::type_info* const type = ::abi::__cxa_current_exception_type();
    record.message = record.where + " threw " + (type != nullptr ? readable_name(demangled(type->name())) : "an unknown type");
  }
  return Failure(std::move(record));
}

}  // namespace brood::detail
