# SPDX-License-Identifier: MIT
# An overlay port, of the sources that it lies in: vcpkg install brood --overlay-ports=<brood>/packaging/vcpkg
# A registry's port has vcpkg_from_github (or the like), with a release's hash, in the place of the next line.
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)

set(VCPKG_BUILD_TYPE release)  # headers only
vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS
    -DBROOD_BUILD_TESTS=OFF
    -DBROOD_BUILD_EXAMPLES=OFF
    -DBROOD_VERIFY_HEADERS=OFF
    -DBROOD_INSTALL=ON)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/brood)
vcpkg_fixup_pkgconfig()

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
