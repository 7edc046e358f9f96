#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Makes .venv: a Python environment with exact versions, ROS 2 from wheels, and this package in it.
#
# Run it as often as you like: it redoes only what is out of date, and an interrupted run is recovered by
# the next one. Python, launch and configuration files are installed as links: edits are seen at once.
# PYTHON=python3.12 tools/setup_env.sh makes the environment with another interpreter.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(pwd -P)
venv=$root/.venv
log=$venv/setup.log
download_mb=690 disk_mb=3600   # measured; the environment itself is 2.9 GB

# Nothing of a sourced ROS or of another environment may leak in.
unset PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH \
  LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
lacks() { echo "setup: $*" >&2; complete=no; }   # goes on, to name everything that is missing at once
complete=yes

# --- What is up to date -------------------------------------------------------------------------------
# Each of the three steps leaves a stamp in .venv: a hash of all that it was made from.

hash() { sha256sum | cut -d' ' -f1; }
identity() { echo "$root" "$(readlink -e "$venv/bin/python")" | hash; }
packages() { cat requirements/*.txt tools/setup_env.sh | hash; }
build() {
  {
    packages
    cat CMakeLists.txt package.xml cmake/* msg/* srv/*
    find netvlad_ros launch config -name __pycache__ -prune -o -type f -print | LC_ALL=C sort
  } | hash
}
is_done() { [ -e "$venv/.$1" ] && [ "$(cat "$venv/.$1")" = "$($1)" ]; }
set_done() { "$1" >"$venv/.$1"; }

# --- What has to be there -----------------------------------------------------------------------------

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
is_suitable() { case $(python_version "$1") in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if is_suitable "$candidate"; then echo "$candidate"; return; fi
  done
  candidate=${PYTHON:-python3}
  [ -n "$(python_version "$candidate")" ] ||
    fail "$candidate does not run; Python 3.11, 3.12 or 3.13 is needed: sudo apt install python3 python3-venv python3-dev"
  fail "$candidate is Python $(python_version "$candidate"), but the pinned numpy and TensorFlow have wheels for 3.11," \
    "3.12 and 3.13 only: sudo apt install python3.11 python3.11-venv python3.11-dev, then PYTHON=python3.11 make ..."
}

check_machine() {
  [ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
    fail "the ROS 2 wheels exist for Linux on x86_64, this is $(uname -s) on $(uname -m);" \
      "use a ROS 2 installation and colcon build, or pip install . for the library without ROS."
  case $root in *[[:space:]]*) fail "the path '$root' has a space in it, which scripts' first lines can't hold; move the checkout." ;; esac
  command -v g++ >/dev/null || lacks "no C++ compiler (g++), which the messages need: sudo apt install g++"
}

check_python() {
  local package=python3
  case $1 in *python3.1?) package=${1##*/} ;; esac
  "$1" -c 'import ensurepip, venv' 2>/dev/null ||
    lacks "$1 can't make virtual environments (no venv or ensurepip): sudo apt install $package-venv"
  "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    lacks "$1 has no header files (Python.h), which the messages need: sudo apt install $package-dev"
}

check_disk() {
  local free_mb
  free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
  [ "$free_mb" -ge "$disk_mb" ] ||
    fail "$root has $free_mb MB of free disk space, and $disk_mb MB are needed; make room, then run this again."
}

# --- The three steps ----------------------------------------------------------------------------------

make_environment() {
  local python=$1
  if [ -d "$venv" ] && [ -n "$(ls -A "$venv")" ] && [ ! -e "$log" ]; then
    fail "$venv is there already but was not made by this script; move it away, then run this again."
  fi
  say "1/3 making .venv with Python $(python_version "$python")"
  rm -rf "$venv"
  mkdir "$venv"
  touch "$log"
  "$python" -m venv "$venv" >>"$log" 2>&1 || fail_with_log "$python can't make a virtual environment"
  set_done identity
}

install_packages() {
  say "2/3 installing the packages in requirements/ (first time: $download_mb MB, 2 to 10 minutes)"
  rm -f "$venv/.packages" "$venv/.build"
  # Wheels only, so that nothing is compiled for an hour; empy has none, but is one Python file.
  "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off --retries 2 \
    --only-binary :all: --no-binary empy \
    -r requirements/runtime.txt -r requirements/export.txt -r requirements/worlds.txt -r requirements/graph.txt -r requirements/ros.txt -r requirements/dev.txt -c requirements/constraints.txt \
    2>&1 | tee "$log" | show_large_downloads || explain_pip
  repair_include_paths
  make_prefix_known
  set_done packages
}

show_large_downloads() {
  awk '/(Downloading|Using cached) .*\([0-9.]+ MB\)/ {
         file = $(NF - 2); sub(/.*\//, "", file); sub(/-(cp|py)[0-9].*/, "", file)
         megabytes = substr($(NF - 1), 2) + 0
         if (megabytes >= 20) { printf "setup:     %s, %d MB\n", file, megabytes; fflush() }
       }
       /^Installing collected packages/ { print "setup:     unpacking (about a minute)"; fflush() }'
}

explain_pip() {
  if grep -q "No space left on device" "$log"; then
    fail "the disk is full; make room ($disk_mb MB are needed), then run this again."
  elif grep -qE "NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|NameResolutionError" "$log"; then
    fail "pip can't reach a package index; check the network, or name a mirror or proxy (PIP_INDEX_URL," \
      "https_proxy), then run this again. pip's own words are in $log"
  fi
  fail_with_log "pip could not install the pinned packages"
}

fail_with_log() {
  tail -n 25 "$log" >&2
  fail "$1; the last lines of $log are above."
}

# The wheels' CMake targets name the headers of the machine they were built on.
repair_include_paths() {
  local python_headers numpy_headers
  python_headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  numpy_headers=$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')
  find "$venv/share" -name '*rosidl_generator_pyExport.cmake' -exec sed -i -E \
    "s#/opt/python/[^;\"]*/numpy/_core/include#$numpy_headers#; s#/opt/python/[^;\"]*/include/python[^;\"]*#$python_headers#" {} +
}

# Every Python of the environment finds the ROS packages in it: nothing has to be sourced.
make_prefix_known() {
  local site_packages
  site_packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  cat >"$site_packages/ros_prefix.pth" <<'PTH'
import os, sys; p = [d for d in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if d]; os.environ["AMENT_PREFIX_PATH"] = ":".join(p if sys.prefix in p else p + [sys.prefix])
PTH
}

install_this_package() {
  local made_from
  made_from=$(build)   # files may change meanwhile, which wants another build
  local tree=$venv/build/netvlad_ros
  say "3/3 generating, compiling and installing the messages, linking the sources (about a minute)"
  rm -f "$venv/.build"
  (
    export AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv PATH=$venv/bin:$PATH
    cmake --fresh -G Ninja -S . -B "$tree" -DCMAKE_INSTALL_PREFIX="$venv" -DPython3_EXECUTABLE="$venv/bin/python" \
      -DAMENT_CMAKE_SYMLINK_INSTALL=ON -DBUILD_TESTING=OFF &&
      cmake --build "$tree" &&
      cd "$tree" && cmake --install .   # leaves its manifest in the current folder
  ) >"$log" 2>&1 || fail_with_log "this package could not be built"
  drop_links_to_removed_files
  "$venv/bin/python" -c 'import rclpy, netvlad_ros.msg' >"$log" 2>&1 || fail_with_log "the built messages can't be imported"
  echo "$made_from" >"$venv/.build"
}

drop_links_to_removed_files() {
  local installed=("$venv"/lib/python3*/site-packages/netvlad_ros "$venv/share/netvlad_ros" "$venv/lib/netvlad_ros")
  find "${installed[@]}" -xtype l -delete
  # A folder that holds nothing but __pycache__ would still be importable.
  find "${installed[@]}" -type d -name __pycache__ -prune -exec rm -r {} +
  find "${installed[@]}" -type d -empty -delete
}

# --- One after the other ------------------------------------------------------------------------------

exec 9<tools/setup_env.sh
flock -n 9 || { say "waiting for another set-up of this checkout"; flock 9; }

wants_other_python() {
  [ -n "${PYTHON:-}" ] && [ "$(python_version "$PYTHON")" != "$(python_version "$venv/bin/python")" ]
}
# Without the stamp of the packages, an installation was interrupted and may hold halves of them.
can_keep_environment() { is_done identity && [ -e "$venv/.packages" ] && ! wants_other_python; }

can_keep_environment && is_done packages && is_done build && exit

check_machine
if can_keep_environment; then
  check_python "$venv/bin/python"
  [ $complete = yes ] || exit 1
else
  python=$(find_python)
  check_python "$python"
  check_disk
  [ $complete = yes ] || exit 1
  make_environment "$python"
fi
is_done packages || install_packages
install_this_package
say "done"
