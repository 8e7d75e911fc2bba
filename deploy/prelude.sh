# Sourced by every script, each run with `bash -p`, which takes no functions, options, CDPATH or
# BASH_ENV from the caller: goes to the project's folder, and takes out of the environment what would
# change what bash, Python, pip and uv do here. What leads to the internet and to an index stays.
# shellcheck shell=bash
set -euo pipefail
set +o posix

# the programs that are called, some of which are scripts, take none of it either
functions=()
while IFS= read -r -d '' name; do
  case $name in BASH_FUNC_*) functions+=("-u${name%%=*}") ;; esac
done < <(env -0 2>/dev/null)
if [ ${#functions[@]} != 0 ]; then exec env "${functions[@]}" "$0" "$@"; fi
export -n SHELLOPTS BASHOPTS
unset -v functions BASH_ENV CDPATH ENV GLOBIGNORE GREP_OPTIONS POSIXLY_CORRECT

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Waits until no other command holds the lock on a file or folder; it goes with this process.
hold() { # PATH WHAT
  command -v flock >/dev/null || return 0
  exec {lock}<"$1"
  flock -n "$lock" || { say "$2: waiting for its end"; flock "$lock"; }
}

[ -z "$(bash -p -c : 2>&1)" ] || export LC_ALL=C # the caller's locale is not on this machine
for name in "${!PYTHON@}"; do unset -v "$name"; done
export PYTHONUTF8=1 # whatever the locale
for name in "${!PIP_@}"; do
  case ${name#PIP_} in
    INDEX_URL | EXTRA_INDEX_URL | FIND_LINKS | NO_INDEX | TRUSTED_HOST | PROXY | CERT | CLIENT_CERT) ;;
    CONFIG_FILE | KEYRING_PROVIDER | CACHE_DIR | NO_CACHE_DIR | NO_INPUT) ;;
    TIMEOUT | DEFAULT_TIMEOUT | RETRIES | USE_FEATURE | USE_DEPRECATED) ;;
    *) unset -v "$name" ;; # where else to install, or something else
  esac
done
for name in "${!UV_@}"; do
  case ${name#UV_} in
    DEFAULT_INDEX | INDEX | INDEX_* | EXTRA_INDEX_URL | FIND_LINKS | INSECURE_HOST | OFFLINE) ;;
    NATIVE_TLS | SYSTEM_CERTS | KEYRING_PROVIDER | CACHE_DIR | NO_CACHE | HTTP_* | *TIMEOUT) ;;
    *) unset -v "$name" ;;
  esac
done
unset -v name
[ -d "${TMPDIR:-/tmp}" ] && [ -w "${TMPDIR:-/tmp}" ] || unset -v TMPDIR
