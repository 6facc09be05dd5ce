// SPDX-License-Identifier: MIT
#pragma once

#include <string>

/// Lives in the shared library shared_library_library.cpp.
std::string shout(const std::string& text);
