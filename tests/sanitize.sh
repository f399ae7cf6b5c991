#!/usr/bin/env bash
# Builds the core with a sanitizer in a temporary folder and runs the kernels' tests on it.
#
#   tests/sanitize.sh address [pytest arguments]   memory errors and undefined behaviour
#   tests/sanitize.sh thread  [pytest arguments]   data races
#
# PYTHON chooses the interpreter (default: python); it needs the build's and the tests' packages.
# Without pytest arguments: every test file except those of torch, files and the command line, and
# without the tests that fork, measure memory or start processes without the sanitizer's library;
# with the thread sanitizer, which is ten times as slow, of those the tests on several threads.
# SANITIZED names a folder that keeps the build for the next run.
set -euo pipefail
kind=${1:?usage: tests/sanitize.sh address|thread [pytest arguments]}
shift
case $kind in
  address) flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined" library=asan ;;
  thread) flags="-fsanitize=thread" library=tsan ;;
  *) echo "unknown sanitizer: $kind" >&2; exit 2 ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(command -v "${PYTHON:-python}")
folder=${SANITIZED:-$(mktemp -d)}
test -n "${SANITIZED:-}" || trap 'rm -rf "$folder"' EXIT

cd "$root"
MEDSEG_FAST_CXXFLAGS="$flags -O1 -g -fno-omit-frame-pointer" MEDSEG_FAST_BUILD_ISA=baseline \
  "$python" setup.py -q build --build-base "$folder/build" --build-lib "$folder/installed"

if [ $# -eq 0 ]; then
  cd "$root/tests"
  for file in test_*.py; do
    case $file in
      test_torch.py | test_cli*.py | test_io*.py | test_memory.py | test_packaging.py) ;;
      *) set -- "$@" "$root/tests/$file" ;;
    esac
  done
  kept="not fork and not multiprocessing and not interrupt and not process and not peak_memory"
  test "$kind" = address || kept="thread and $kept"
  set -- "$@" -k "$kept" -x
fi
# The installed copy is found first, by subprocesses of the tests too. Thread sanitizer knows
# nothing of what Python does between its own locks, but sees those, and every access of ours.
cd "$folder/installed"
# An editable installation would lend the builds that are missing here, without a sanitizer.
cat > sitecustomize.py <<'PYTHON'
import sys

sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "__name__", "") != "_EditableFinder"]
PYTHON
export PYTHONPATH="$folder/installed"
export LD_PRELOAD="$(g++ -print-file-name=lib$library.so) $(g++ -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
# OpenCV, a rival in some tests, has locks of its own that the sanitizer does not see.
echo "race:cv2.abi3.so" > "$folder/quiet"
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 report_signal_unsafe=0 suppressions=$folder/quiet"
export PYTHONMALLOC=malloc MEDSEG_FAST_NUM_THREADS=4 OPENBLAS_NUM_THREADS=1
"$python" -c "import os, medseg_fast._cpu as c; assert c.__file__.startswith(os.getcwd()), c
assert c.builds() == ['baseline'], c.builds()"
# Reports go to the file descriptor that pytest would keep for itself.
"$python" -m pytest -q --capture=sys -p no:cacheprovider --rootdir "$root" -c "$root/pyproject.toml" "$@"
