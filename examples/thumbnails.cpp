// SPDX-License-Identifier: MIT
// Thumbnails of many pictures on all cores, with a library that ends the process when a file is bad: libpng, used without
// an error handler, calls abort(). In a worker that costs one picture, and the others never notice.
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <brood/brood.hpp>
#include <png.h>

struct Picture {
  unsigned width = 0, height = 0;
  std::vector<unsigned char> grey = {};  // row by row
};

/// Every eighth point of every eighth row.
Picture thumbnail(const std::string& path) {
  FILE* const file = std::fopen(path.c_str(), "rb");
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);  // no handler: abort()
  png_infop info = png_create_info_struct(png);
  png_init_io(png, file);
  png_read_info(png, info);
  const Picture large{png_get_image_width(png, info), png_get_image_height(png, info)};
  Picture small{large.width / 8, large.height / 8};
  std::vector<unsigned char> row(png_get_rowbytes(png, info));
  for (unsigned y = 0; y < large.height; ++y) {
    png_read_row(png, row.data(), nullptr);
    for (unsigned x = 0; x < small.width && y % 8 == 0; ++x) small.grey.push_back(row[std::size_t{x} * 8]);
  }
  png_destroy_read_struct(&png, &info, nullptr);
  std::fclose(file);
  return small;
}

int main(int argc, char** argv) {
  brood::init(argc, argv);
  std::string folder = std::filesystem::temp_directory_path() / "thumbnails.XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  std::vector<std::string> paths;
  for (const unsigned width : {64U, 128U, 192U, 256U}) {  // real pictures, of which one is then cut short
    paths.push_back(folder + '/' + std::to_string(width) + ".png");
    const std::vector<unsigned char> grey(std::size_t{width} * 96, 200);
    png_image image{nullptr, PNG_IMAGE_VERSION, width, 96, PNG_FORMAT_GRAY, 0, 0, 0, {}};
    png_image_write_to_file(&image, paths.back().c_str(), 0, grey.data(), 0, nullptr);
  }
  std::filesystem::resize_file(paths[2], 60);

  brood::Pool<brood::ForkServerPolicy<>> pool({.output = brood::Output::discard});
  const auto thumbnails = pool.try_map(&thumbnail, paths);
  for (std::size_t at = 0; at < paths.size(); ++at) {
    const brood::Outcome<Picture>& result = thumbnails[at];
    std::cout << std::filesystem::path(paths[at]).filename().string() << ": "
              << (result ? std::to_string(result->width) + " x " + std::to_string(result->height)
                         : "bad: its worker " + result.failure().status().describe()) << '\n';
  }
  std::filesystem::remove_all(folder);
}
