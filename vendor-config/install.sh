#!/bin/bash
# Installs joblet on a host with systemd, or upgrades it; run as root, after `cargo build --release --locked --bins`:
#
#   vendor-config/install.sh [--from DIR] [--host NAME]... [--port N] [--enforcement strict|best-effort] [--dry-run]
#   vendor-config/install.sh --uninstall [--purge] [--dry-run]
#
#   --from DIR       where the programs joblet, joblet-resolver, persist and rnx are ($CARGO_TARGET_DIR/release, else target/release of this checkout)
#   --host NAME      a name or address by which clients call this node, besides localhost; for its certificate
#   --port N         TCP port of the API (50051)
#   --enforcement M  what a limit means that this host cannot keep (strict: such a job, or the daemon, does not start)
#   --uninstall      ends all jobs, and removes programs and units; configuration, certificates and state stay
#   --purge          with --uninstall: removes those too, and the user joblet
#   --dry-run        says what would be done, and does nothing
#
# /opt/joblet/bin gets the programs, /opt/joblet what `joblet setup` makes where no configuration is: certificates,
# joblet-config.yml, rnx-config.yml. A configuration that is there is never touched. Run again it upgrades: programs and units
# are replaced, the daemon is restarted, and running jobs go on meanwhile.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
prefix=/opt/joblet
units=/etc/systemd/system
links=/usr/local/bin
from=${CARGO_TARGET_DIR:-$here/target}/release
setup=()
uninstall=no purge=no dry=no

say() { echo "install.sh: $*"; }
die() { echo "install.sh: $*" >&2; exit 1; }

# run COMMAND...: does it, or only says so
run() {
    if [ "$dry" = yes ]; then echo "would run: $*"; else "$@"; fi
}

# Is systemd the init of this machine? (sd_booted(3))
booted() { [ -d /run/systemd/system ]; }

# place FILE TARGET [MODE]: copied beside its place and renamed into it, so that nobody ever meets half a file
place() {
    [ "$dry" = no ] || { echo "would install: $2"; return; }
    install -D -m "${3:-0644}" "$1" "$2.new"
    mv -T "$2.new" "$2"
}

cgroup_mount() { sed -nE 's/^([^ ]+ ){4}([^ ]+) .* - cgroup2 .*/\2/p' /proc/self/mountinfo | head -1; }

# The daemon looks in the first place first.
configuration() {
    local file
    for file in "$prefix/config/joblet-config.yml" "$prefix/joblet-config.yml"; do
        [ ! -e "$file" ] || { echo "$file"; return; }
    done
}

# Refuses before anything is changed.
check() {
    local program file base wanted
    [ "$(id -u)" -eq 0 ] || die "this makes a user, units and /opt/joblet: run it as root"
    for program in joblet joblet-resolver persist rnx; do
        [ -x "$from/$program" ] || die "no $from/$program: build it (cargo build --release --locked --bins), or name its directory with --from"
    done
    "$from/joblet" --version >/dev/null || die "$from/joblet does not run on this machine"
    file=$(configuration)
    [ -n "$file" ] || return 0
    [ ${#setup[@]} -eq 0 ] || die "$file is there and stays as it is: --host, --port and --enforcement are for the first installation"
    "$from/joblet" --check-config --config "$file" >/dev/null || die "the new joblet cannot use $file: nothing was changed"
    booted || return 0
    base=$("$from/joblet" --check-config --config "$file" 2>/dev/null | sed -n 's/^ *baseDir: *//p' | tr -d "\"'")
    wanted=$(cgroup_mount)/joblet.slice/joblet-jobs.service
    case $base in
    '' | null | '~') die "$file has no cgroup.baseDir: set it to $wanted, so that jobs outlive the daemon (systemd/joblet-jobs.service says why)" ;;
    esac
}

make_user() {
    ! getent passwd joblet >/dev/null || return 0
    say "making the system user and group joblet"
    if command -v useradd >/dev/null; then
        run useradd --system --user-group --no-create-home --home-dir "$prefix" --shell /usr/sbin/nologin joblet
    elif [ "$dry" = yes ]; then
        echo "would run: systemd-sysusers"
    else
        echo "u joblet - \"joblet\" $prefix /usr/sbin/nologin" | systemd-sysusers -
    fi
}

install_programs() {
    local program dir
    for dir in "$prefix" "$prefix/bin" "$links"; do
        # One that is there keeps its mode.
        [ -d "$dir" ] || run install -d -m 0755 "$dir"
    done
    # joblet starts both: persist keeps history as the user joblet, joblet-resolver answers names of jobs.
    for program in persist joblet-resolver; do
        place "$from/$program" "$prefix/bin/$program" 0755
    done
    for program in joblet rnx; do
        place "$from/$program" "$prefix/bin/$program" 0755
        run ln -sfT "$prefix/bin/$program" "$links/$program"
    done
}

# What rnx says of itself, for shells and man: kind, place
words=(
    "completion bash" /usr/local/share/bash-completion/completions/rnx
    "completion zsh" /usr/local/share/zsh/site-functions/_rnx
    "completion fish" /usr/local/share/fish/vendor_completions.d/rnx.fish
    "man" /usr/local/share/man/man1/rnx.1
)

install_words() {
    local text i
    text=$(mktemp)
    for ((i = 0; i < ${#words[@]}; i += 2)); do
        # shellcheck disable=SC2086 # two words
        "$from/rnx" ${words[i]} >"$text"
        place "$text" "${words[i + 1]}"
    done
    rm -f "$text"
}

configure() {
    [ -z "$(configuration)" ] || { say "$(configuration) is there: kept"; return 0; }
    say "making certificates and configuration in $prefix"
    run "$from/joblet" setup --dir "$prefix" ${setup[@]+"${setup[@]}"}
    # The group of joblet-jobs.service, so that jobs outlive the daemon.
    if booted; then
        run sed -i "s|^cgroup:\$|cgroup:\\n  baseDir: $(cgroup_mount)/joblet.slice/joblet-jobs.service|" "$prefix/joblet-config.yml"
    fi
    # Where the client looks when it is told nothing; only root may read it.
    run install -d -m 0700 "$prefix/config"
    run ln -sfT ../rnx-config.yml "$prefix/config/rnx-config.yml"
}

install_units() {
    local unit changed=no
    for unit in joblet.service joblet-jobs.service; do
        [ "$(<"$here/systemd/$unit")" != "$(cat "$units/$unit" 2>/dev/null)" ] || continue
        place "$here/systemd/$unit" "$units/$unit"
        changed=yes
        if [ "$unit" = joblet-jobs.service ] && booted && systemctl is-active -q "$unit"; then
            say "the new $unit is in force when it is started next: a restart of it would end the jobs"
        fi
    done
    if booted && [ "$changed" = yes ]; then run systemctl daemon-reload; fi
}

# The service returns from its start when joblet listens.
start() {
    local config
    config=$(configuration)
    if ! booted; then
        say "systemd is not the init of this machine; start it with: $prefix/bin/joblet --foreground --config ${config:-$prefix/joblet-config.yml}"
        return
    fi
    run systemctl enable -q joblet
    if ! run systemctl restart joblet; then
        journalctl -q --no-pager -o cat -u joblet -n 20 >&2 || true
        die "joblet does not start; above is what it said last (joblet doctor tells what this host lacks)"
    fi
    [ "$dry" = yes ] || say "joblet $("$prefix/bin/joblet" --version | cut -d' ' -f2) runs; try: rnx job run --follow echo hello"
}

remove() {
    local file i files=("$units"/joblet{,-jobs}.service "$links"/{joblet,rnx} "$prefix"/bin/{joblet,joblet-resolver,persist,rnx})
    if booted; then
        [ ! -e "$units/joblet.service" ] || run systemctl disable -q joblet
        [ ! -e "$units/joblet-jobs.service" ] || run systemctl stop joblet joblet-jobs
    fi
    for ((i = 1; i < ${#words[@]}; i += 2)); do
        files+=("${words[i]}")
    done
    for file in "${files[@]}"; do
        if [ -e "$file" ] || [ -L "$file" ]; then run rm -f "$file"; fi
    done
    if booted; then run systemctl daemon-reload; fi
    if [ "$purge" = yes ]; then
        run rm -rf --one-file-system "$prefix"
        if getent passwd joblet >/dev/null && command -v userdel >/dev/null; then run userdel joblet; fi
    elif [ -d "$prefix" ]; then
        say "configuration, certificates and state stay in $prefix; --purge removes them too"
    fi
}

main() {
    while [ $# -gt 0 ]; do
        case $1 in
        --from) from=$(realpath -m "${2:?--from needs a directory}"); shift ;;
        --from=*) from=$(realpath -m "${1#*=}") ;;
        --host | --port | --enforcement) setup+=("$1" "${2:?$1 needs a value}"); shift ;;
        --host=* | --port=* | --enforcement=*) setup+=("${1%%=*}" "${1#*=}") ;;
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        --dry-run) dry=yes ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) echo "install.sh: unknown argument: $1 (try --help)" >&2; exit 2 ;;
        esac
        shift
    done
    if [ "$uninstall" = yes ]; then
        [ "$(id -u)" -eq 0 ] || die "this removes units and programs: run it as root"
        remove
        return
    fi
    [ "$purge" = no ] || die "--purge goes with --uninstall"
    check
    make_user
    install_programs
    configure
    install_words
    install_units
    start
}

main "$@"
