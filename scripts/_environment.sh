# Sourced by the scripts beside it: virtual environments of the project's own, made when they are needed.

# Nothing that was left in the user's environment decides what runs.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV
export KERAS_BACKEND=tensorflow PYTHONUNBUFFERED=1

# What lock.txt is made for; elsewhere pip finds versions that suit.
locked_python=3.11
locked_platform=linux-x86_64

step() { printf '\n== %s\n' "$*"; }

fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

# find_python [LOWEST [HIGHEST]]: an interpreter of Python 3.LOWEST to 3.HIGHEST.
find_python() {
    local candidate lowest=${1:-11} highest=${2:-14}
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c "import sys
sys.exit(not (3, $lowest) <= sys.version_info[:2] <= (3, $highest))" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# make_environment FOLDER PYTHON: a new virtual environment there, unless one is there that works.
make_environment() {
    if ! "$1/bin/python" -c '' 2>/dev/null; then
        step "Making $1 with $("$2" --version)"
        "$2" -m venv --clear "$1" ||
            fail "No virtual environment could be made; on Debian, install python3-venv first."
    fi
}

# lock_of PYTHON: the constraints for this interpreter, if there are any.
lock_of() {
    "$1" -c "import sys, sysconfig
found = '%d.%d-%s' % (*sys.version_info[:2], sysconfig.get_platform())
sys.exit(found != '$locked_python-$locked_platform')" && echo scripts/lock.txt
}

# install_project FOLDER EXTRA,... [CONSTRAINTS]
install_project() {
    # Newer versions of pip take the constraints of the build from a variable of its own.
    PIP_CONSTRAINT=${3-} PIP_BUILD_CONSTRAINT=${3-} \
        "$1/bin/python" -m pip install --disable-pip-version-check -e ".[$2]" |
        { grep -v '^Requirement already satisfied' || true; }
}

# ensure_environment EXTRA...: .venv with the project and these extras.
ensure_environment() {
    local extra lock python wanted=""
    if ! .venv/bin/python -c '' 2>/dev/null; then
        python=$(find_python) || fail "Python 3.11 to 3.14 is needed, but is not on the PATH."
        make_environment .venv "$python"
    fi
    lock=$(lock_of .venv/bin/python) || lock=""
    # What was installed is remembered, and installed again when the project's needs changed.
    for extra in "$@"; do
        cat pyproject.toml $lock | cmp -s - ".venv/installed-$extra" || wanted+="${wanted:+,}$extra"
    done
    if [[ -n $wanted ]]; then
        step "Installing tensorstate[$wanted] into .venv (a few minutes the first time)"
        if [[ -n $lock ]] && ! install_project .venv "$wanted" "$lock"; then
            printf '\n%s\n' "The versions of $lock could not be installed (the lines above say why):" \
                "others are tried, with which the checks may find something else." \
                "bash scripts/lock.sh makes $lock anew from what the package index has." >&2
            lock=""
        fi
        if [[ -z $lock ]]; then
            install_project .venv "$wanted" ||
                fail "The packages could not be installed; is there a network to a package index?"
        fi
        for extra in ${wanted//,/ }; do
            cat pyproject.toml $lock >".venv/installed-$extra"
        done
    fi
}

# ensure_tools PACKAGE...: build/tools with programs that work on the project, but not in it.
ensure_tools() {
    local python
    python=$(find_python) || fail "Python 3.11 to 3.14 is needed, but is not on the PATH."
    make_environment build/tools "$python"
    build/tools/bin/python -m pip install --quiet --disable-pip-version-check "$@" ||
        fail "$* could not be installed; is there a network to a package index?"
}
