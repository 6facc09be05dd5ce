#pragma once

/// What the framework's main calls, with the number of the program's arguments.
int run_program(int arguments);
