# Sourced by demo.sh and test.sh: a virtual environment of the project's own, made when it is needed.

# Nothing that was left in the user's environment decides what runs.
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV
export KERAS_BACKEND=tensorflow PYTHONUNBUFFERED=1

step() { printf '\n== %s\n' "$*"; }

fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# ensure_environment EXTRA...: .venv with the project and these extras.
ensure_environment() {
    local extra python wanted=""
    if ! .venv/bin/python -c '' 2>/dev/null; then
        python=$(find_python) || fail "Python 3.11 to 3.13 is needed, but is not on the PATH."
        step "Making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv ||
            fail "No virtual environment could be made; on Debian, install python3-venv first."
    fi
    # What was installed is remembered, and installed again when the project's needs changed.
    for extra in "$@"; do
        cmp -s pyproject.toml ".venv/installed-$extra" || wanted+="${wanted:+,}$extra"
    done
    if [[ -n $wanted ]]; then
        step "Installing tensorstate[$wanted] into .venv (a few minutes the first time)"
        .venv/bin/python -m pip install --disable-pip-version-check -e ".[$wanted]" |
            { grep -v '^Requirement already satisfied' || true; } ||
            fail "The packages could not be installed; is there a network to a package index?"
        for extra in ${wanted//,/ }; do
            cp pyproject.toml ".venv/installed-$extra"
        done
    fi
}
