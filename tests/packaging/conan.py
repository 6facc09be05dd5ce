# SPDX-License-Identifier: MIT
"""conan.py <work> <compiler> <generator> <make program>

Runs packaging/conan/conanfile.py with stand-ins for Conan's modules, and looks at the package that it makes.
"""
import fnmatch
import os
import re
import runpy
import shutil
import subprocess
import sys
import types

work, compiler, generator, make_program = sys.argv[1:]
root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


class Invalid(Exception):
    pass


class Settings:
    os = "Linux"


class Info:
    def __init__(self):
        self.properties = {}

    def set_property(self, name, value):
        self.properties[name] = value

    def clear(self):
        pass


class ConanFile:
    def __init__(self):
        self.recipe_folder = os.path.join(root, "packaging", "conan")
        self.export_sources_folder = self.source_folder = os.path.join(work, "sources")
        self.package_folder = os.path.join(work, "package")
        self.build_folder = os.path.join(work, "build")
        self.settings, self.cpp_info, self.info, self.variables = Settings(), Info(), Info(), {}


class CMakeToolchain:
    def __init__(self, conanfile):
        self.conanfile, self.cache_variables = conanfile, {}

    def generate(self):
        self.conanfile.variables = self.cache_variables


class CMake:
    def __init__(self, conanfile):
        self.conanfile = conanfile

    def configure(self):
        options = [f"-D{name}={'ON' if on else 'OFF'}" for name, on in self.conanfile.variables.items()]
        subprocess.run(["cmake", "-S", self.conanfile.source_folder, "-B", self.conanfile.build_folder, "-G", generator,
                        f"-DCMAKE_MAKE_PROGRAM={make_program}", f"-DCMAKE_CXX_COMPILER={compiler}", *options], check=True)

    def install(self):
        subprocess.run(["cmake", "--install", self.conanfile.build_folder, "--prefix", self.conanfile.package_folder],
                       check=True)


def load(_, path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def copy(_, pattern, src, dst):
    for folder, _, files in os.walk(src):
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), src)
            if fnmatch.fnmatch(path, pattern):
                os.makedirs(os.path.dirname(os.path.join(dst, path)), exist_ok=True)
                shutil.copy2(os.path.join(src, path), os.path.join(dst, path))


def module(name, **contents):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(contents)


module("conan", ConanFile=ConanFile)
module("conan.errors", ConanInvalidConfiguration=Invalid)
module("conan.tools")
module("conan.tools.build", check_min_cppstd=lambda recipe, standard: None)
module("conan.tools.cmake", CMake=CMake, CMakeToolchain=CMakeToolchain, cmake_layout=lambda recipe: None)
module("conan.tools.files", copy=copy, load=load)

shutil.rmtree(work, ignore_errors=True)
recipe = runpy.run_path(os.path.join(root, "packaging", "conan", "conanfile.py"))["BroodConan"]()
recipe.set_version()
for step in ("export_sources", "validate", "layout", "generate", "build", "package", "package_id", "package_info"):
    getattr(recipe, step)()

version = ".".join(re.findall(r"version_(?:major|minor|patch) = (\d+);",
                              load(None, os.path.join(root, "include", "brood", "core", "version.hpp"))))
assert recipe.version == version, f"the recipe has version {recipe.version}, the headers {version}"
assert (recipe.name, recipe.license) == ("brood", "MIT")
for path in ("include/brood/brood.hpp", "share/brood/auto_init.cpp", "share/brood/source.cpp", "licenses/LICENSE",
             *(os.path.join(folder, "broodConfig.cmake") for folder in recipe.cpp_info.builddirs)):
    assert os.path.isfile(os.path.join(recipe.package_folder, path)), f"the package has no {path}"
assert recipe.cpp_info.properties["cmake_find_mode"] == "none"

recipe.settings.os = "Windows"
try:
    recipe.validate()
except Invalid:
    sys.exit(0)
sys.exit("the recipe accepts Windows")
