// SPDX-License-Identifier: MIT
// Types of your own as arguments and results. A plain struct needs nothing, however deep it is nested. A class with
// private state says how it becomes bytes, in a brood::Serializer; its read may refuse what makes no sense.
#include <iostream>
#include <string>
#include <vector>

#include <brood/brood.hpp>

class Percent {
 public:
  explicit Percent(int value) : value_(value) {}
  int value() const { return value_; }

 private:
  int value_;
};

template <>
struct brood::Serializer<Percent> {
  static void write(Writer& writer, const Percent& percent) { writer.value(percent.value()); }
  static Percent read(Reader& reader) {
    const int value = reader.value<int>();
    if (value < 0 || value > 100) Reader::fail("a Percent is from 0 to 100");
    return Percent(value);
  }
};

struct Battery {
  std::string name;
  std::vector<Percent> history;
};

Battery charged(Battery battery) { return battery.history.emplace_back(100), battery; }

int main(int argc, char** argv) {
  brood::init(argc, argv);
  const Battery battery = brood::async<brood::ForkServerPolicy<>>(&charged, Battery{"roof", {Percent(50)}}).get();
  for (const Percent& each : battery.history) std::cout << battery.name << ": " << each.value() << " %\n";
}
