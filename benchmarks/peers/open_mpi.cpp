// SPDX-License-Identifier: MIT
// open_mpi call | result | argument, as two processes of mpirun (open_mpi.sh). Receives are busy waits; between the rounds
// the worker sleeps, so that it takes no time from the contestants beside it.
#include <mpi.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "serving.hpp"

namespace {

enum Tag { round_tag, call_tag, bulk_tag, stop_tag };

void work(std::string_view mode) {
  std::vector<double> values;
  for (;;) {
    MPI_Status status;
    for (int there = 0; there == 0;) {
      MPI_Iprobe(0, MPI_ANY_TAG, MPI_COMM_WORLD, &there, &status);
      if (there == 0) ::usleep(1'000);
    }
    std::uint64_t count = 0;
    MPI_Recv(&count, 1, MPI_UINT64_T, 0, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
    if (status.MPI_TAG == stop_tag) return;
    char byte = 0;
    if (mode == "call") {
      for (std::uint64_t n = 0; n <= count; ++n) {
        MPI_Recv(&byte, 1, MPI_CHAR, 0, call_tag, MPI_COMM_WORLD, &status);
        MPI_Send(&byte, 1, MPI_CHAR, 0, call_tag, MPI_COMM_WORLD);
      }
      continue;
    }
    values.assign(count / sizeof(double), 1.0);
    MPI_Recv(&byte, 1, MPI_CHAR, 0, call_tag, MPI_COMM_WORLD, &status);
    MPI_Send(&byte, 1, MPI_CHAR, 0, call_tag, MPI_COMM_WORLD);
    if (mode == "result") {
      MPI_Recv(&byte, 1, MPI_CHAR, 0, call_tag, MPI_COMM_WORLD, &status);
      MPI_Send(values.data(), static_cast<int>(values.size()), MPI_DOUBLE, 0, bulk_tag, MPI_COMM_WORLD);
    } else {
      std::vector<double>().swap(values);
      double* const fresh = new double[count / sizeof(double)];
      MPI_Recv(fresh, static_cast<int>(count / sizeof(double)), MPI_DOUBLE, 0, bulk_tag, MPI_COMM_WORLD, &status);
      MPI_Send(&byte, 1, MPI_CHAR, 0, call_tag, MPI_COMM_WORLD);
      delete[] fresh;
    }
  }
}

void measure(std::string_view mode) {
  std::vector<double> values;
  serving::serve([&](std::size_t count) {
    std::uint64_t number = count;
    char byte = 0;
    MPI_Status status;
    MPI_Send(&number, 1, MPI_UINT64_T, 1, round_tag, MPI_COMM_WORLD);
    const auto call = [&] {
      MPI_Send(&byte, 1, MPI_CHAR, 1, call_tag, MPI_COMM_WORLD);
      MPI_Recv(&byte, 1, MPI_CHAR, 1, call_tag, MPI_COMM_WORLD, &status);
    };
    if (mode == "argument") values.assign(count / sizeof(double), 1.0);
    call();  // wakes the worker
    if (mode == "call") {
      for (std::size_t n = 0; n < count; ++n) std::cout << ' ' << serving::timed_ns(call);
    } else if (mode == "result") {
      double* fresh = nullptr;
      std::cout << serving::timed_ns([&] {
        fresh = new double[count / sizeof(double)];
        MPI_Send(&byte, 1, MPI_CHAR, 1, call_tag, MPI_COMM_WORLD);
        MPI_Recv(fresh, static_cast<int>(count / sizeof(double)), MPI_DOUBLE, 1, bulk_tag, MPI_COMM_WORLD, &status);
      });
      delete[] fresh;
    } else {
      std::cout << serving::timed_ns([&] {
        MPI_Send(values.data(), static_cast<int>(values.size()), MPI_DOUBLE, 1, bulk_tag, MPI_COMM_WORLD);
        MPI_Recv(&byte, 1, MPI_CHAR, 1, call_tag, MPI_COMM_WORLD, &status);
      });
    }
  });
  std::uint64_t none = 0;
  MPI_Send(&none, 1, MPI_UINT64_T, 1, stop_tag, MPI_COMM_WORLD);
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const std::string_view mode = argc > 1 ? argv[1] : "call";
  if (rank == 0) {
    measure(mode);
  } else {
    work(mode);
  }
  MPI_Finalize();
}
