// SPDX-License-Identifier: MIT
// brood: process pools for C++. C++ callables run in child processes, typed results come back.
#pragma once

#include <brood/core/config.hpp>
#include <brood/core/errors.hpp>
#include <brood/core/exit_status.hpp>
#include <brood/core/limits.hpp>
#include <brood/core/random_engine.hpp>
#include <brood/core/version.hpp>
#include <brood/policy/fork.hpp>
#include <brood/policy/fork_server.hpp>
#include <brood/policy/inline.hpp>
#include <brood/policy/spawn.hpp>
#include <brood/policy/worker_policy.hpp>
#include <brood/pool/await.hpp>
#include <brood/pool/future.hpp>
#include <brood/pool/options.hpp>
#include <brood/pool/outcome.hpp>
#include <brood/pool/pool.hpp>
#include <brood/pool/stats.hpp>
#include <brood/pool/stream.hpp>
#include <brood/pool/when.hpp>
#include <brood/wire/channel.hpp>
#include <brood/wire/fd.hpp>
#include <brood/wire/serializer.hpp>
#include <brood/wire/shareable.hpp>
#include <brood/wire/shared_array.hpp>
#include <brood/worker/context.hpp>
#include <brood/worker/entry.hpp>
#include <brood/worker/failure.hpp>
#include <brood/worker/hook.hpp>
#include <brood/worker/preload.hpp>
#include <brood/worker/remote_exception.hpp>
