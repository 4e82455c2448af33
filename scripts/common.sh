# What the scripts beside this file share.  Source it first:  . "$(dirname -- "$0")/common.sh"
# It sets HOUSE (the top of the repository) and VENV, and offers `prepare_venv EXTRAS`.

HOUSE=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
VENV=$HOUSE/.venv
unset PYTHONHOME PYTHONPATH # they would lead the .venv's Python to somebody else's packages
unset PYTHONDONTWRITEBYTECODE # each of a thousand processes would compile all of src anew

# Who was started without a standard input gets an empty one: the next file opened would take its place.
(: <&0) 2>/dev/null || exec </dev/null

say() { printf '%s\n' "$*" >&2; }

# stop WHAT HINT: end as `moderator` does when the machine lacks something.
stop() {
    say "error: $1"
    say "  hint: $2"
    exit 4
}

require_git() {
    command -v git >/dev/null || stop "git was not found; 2.38 or newer is needed" "apt-get install git"
    found=$(git --version)
    found=${found#git version }
    major=${found%%.*}
    minor=${found#*.}
    minor=${minor%%[!0-9]*}
    [ "$major" -gt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -ge 38 ]; } ||
        stop "git $found was found in $(command -v git); 2.38 or newer is needed" \
            "install a newer git (apt-get install git on Debian 12 or newer) or put one first in PATH"
}

# Set `python` to the newest Python that can make a .venv; PYTHON in the environment goes before all others.
choose_python() {
    seen=''
    without_venv=''
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3.13 python3.12 python3.11 python3; fi
    for python in "$@"; do
        # Run it: a name in PATH may be a shim that leads nowhere.
        version=$("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null) || {
            [ -z "${PYTHON:-}" ] || seen="; $python does not run"
            continue
        }
        seen="$seen; $python is $version"
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue
        "$python" -c 'import ensurepip, venv' 2>/dev/null && return
        without_venv=${without_venv:-$python $version}
    done
    [ -z "$without_venv" ] ||
        stop "$without_venv was found, but without its venv module, which is needed" "apt-get install python3-venv"
    stop "Python 3.11 or newer is needed${seen:-; none was found}" \
        "apt-get install python3 python3-venv, or name one: PYTHON=/path/to/python3.11 $0"
}

# A .venv that was begun and not finished does not work, nor one of another Python than PYTHON asks for.
venv_works() {
    [ ! -e "$VENV/.unfinished" ] || return 1
    "$VENV/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || return 1
    [ -z "${PYTHON:-}" ] || [ "$(whose "$PYTHON")" = "$(whose "$VENV/bin/python")" ]
}
whose() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null || :; }

# One script at a time.  The lock is on this file, open as 9, and is gone with whoever held it, killed or not.
lock_venv() {
    exec 9<"$HOUSE/scripts/common.sh"
    "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null && return
    say "waiting for another script that prepares $VENV"
    "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
}

# prepare_venv EXTRAS: make .venv and install this package with its extras ("" or "test"), if that is not done yet.
prepare_venv() {
    require_git
    if venv_works; then python=$VENV/bin/python; else choose_python; fi
    lock_venv
    if ! venv_works; then
        say "making $VENV with Python $("$python" -c 'import platform; print(platform.python_version())')"
        rm -rf -- "$VENV"
        mkdir -- "$VENV"
        : >"$VENV/.unfinished"
        "$python" -m venv "$VENV" || stop "$python could not make $VENV" "apt-get install python3-venv"
    fi
    # The stamp tells what was installed, and where: a repository that was moved is installed again.
    stamp=$VENV/.installed${1:+-$1}
    state="$VENV $(cksum <"$HOUSE/pyproject.toml")"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ]; then
        say "installing moderator${1:+ with the extras '$1'}"
        : >"$VENV/.unfinished"
        if ! (cd -- "$HOUSE" && "$VENV/bin/python" -m pip install -qq --no-input --disable-pip-version-check -e ".${1:+[$1]}"); then
            rm -- "$VENV/.unfinished" # pip gave up by itself, and leaves nothing half done
            stop "pip could not install moderator and what it needs" "with the package index in reach, run $0 again"
        fi
        printf '%s\n' "$state" >"$stamp"
    fi
    rm -f -- "$VENV/.unfinished"
    exec 9<&-
}
