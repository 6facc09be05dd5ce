// SPDX-License-Identifier: MIT
// A task may live in a shared library. A function travels as the identity of its module and an offset in it, never as a
// raw address, so it is found wherever the worker has the library; a worker that has another build of it says so.
// SharedLibrary is a ready-made Preload: the server opens a library once, and no worker has to.
#include "shared_library.hpp"

#include <iostream>

#include <brood/brood.hpp>

using Mathematics = brood::SharedLibrary<"libm.so.6">;

double cosine(double angle) { return brood::preloaded<Mathematics>().symbol<double(double)>("cos")(angle); }

int main(int argc, char** argv) {
  brood::init(argc, argv);

  brood::Pool<brood::SpawnPolicy> spawned({.workers = 1});  // every worker loads the library on its own, elsewhere
  std::cout << spawned.submit(&shout, "from a spawned worker").get() << '\n';

  brood::Pool<brood::ForkServerPolicy<Mathematics>> forked({.workers = 1});
  std::cout << forked.submit(&shout, "from a forked worker").get() << '\n';
  std::cout << "cos(0) = " << forked.submit(&cosine, 0).get() << '\n';
}
