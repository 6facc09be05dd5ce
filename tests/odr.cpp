// SPDX-License-Identifier: MIT
// A second translation unit with every public header, in every test executable: a function or variable that lacks
// `inline` is a duplicate symbol there.
#include <brood/brood.hpp>
#include <brood/progress.hpp>
