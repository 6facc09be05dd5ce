#include "framework.hpp"

int main(int argc, char**) { return run_program(argc - 1); }
