#include <brood/brood.hpp>

// That pools work is for others to show; this is about the paths.
int main() { return brood::Outcome<int>(42).value() == 42 ? 0 : 1; }
