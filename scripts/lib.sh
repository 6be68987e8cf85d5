# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034 # variables used by the scripts that source this
# Sourced by the other scripts: paths, messages, long steps with visible progress.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/vfio-rs
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/cargo}
PATH=$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin
JOBS=$(nproc)
# Run from make or not, the builds below are on their own.
unset MAKEFLAGS MAKEOVERRIDES MAKELEVEL

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
# at_least HAVE WANT: is version HAVE the same as WANT or newer?
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
elapsed() { printf '%d:%02d' $((($(date +%s) - $1) / 60)) $((($(date +%s) - $1) % 60)); }

# Into CPU: seconds of processor time that the programs begun and ended so far took. Not in $(...),
# where it would be the subshell's own.
cpu_seconds() {
	local stat
	stat=$(<"/proc/$BASHPID/stat")
	# shellcheck disable=SC2086 # a list of words
	set -- ${stat##*) }
	CPU=$(((${14} + ${15}) / 100))
}

# steps LABEL LOG TOTAL COMMAND...: run a long command with its output in LOG and a progress line;
# shows the log's end on failure. TOTAL is how long it takes on two idle cores, as 45s, or how many
# lines it prints, or 0.
steps() {
	local label=$1 log=$2 total=$3 start pid every=15 shown=0 now lines status=0 usual= cpu
	shift 3
	start=$(date +%s)
	cpu_seconds
	cpu=$CPU
	case $total in *s) usual=${total%s} total=0 ;; esac
	[ -t 2 ] && every=1
	mkdir -p "$(dirname "$log")"
	say "$label ...${usual:+ usually $(elapsed $((start - usual)))} (log: $log)"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		now=$(date +%s)
		[ $((now - start - shown)) -ge "$every" ] || continue
		shown=$((now - start))
		lines=
		[ "$total" -eq 0 ] || lines=$(($(wc -l <"$log") * 100 / total))
		case $lines in [0-9] | [0-9][0-9]) lines+=" %" ;; *) lines= ;; esac
		[ -z "$usual" ] || lines="of about $(elapsed $((now - usual)))"
		[ -z "$usual" ] || [ "$shown" -le "$usual" ] || lines="longer than usual"
		if [ -t 2 ]; then
			printf '\r\033[K  %s  %s  %.60s' "$(elapsed "$start")" "$lines" "$(tail -n 1 "$log")" >&2
		else
			say "  $(elapsed "$start")  $lines  $(tail -n 1 "$log" | cut -c 1-60)"
		fi
	done
	wait "$pid" || status=$?
	[ -t 2 ] && printf '\r\033[K' >&2
	if [ "$status" -ne 0 ]; then
		tail -n 40 "$log" >&2
		die "$label failed after $(elapsed "$start"); the whole log: $log"
	fi
	cpu_seconds
	say "$label: done in $(elapsed "$start") (processor time: $((CPU - cpu)) s)"
}

# The LLVM= argument for the kernel's make: empty for plain clang, -19 for clang-19 and so on.
llvm_suffix() {
	local v
	if have clang && have ld.lld && at_least "$(clang -dumpversion)" 17; then
		echo 1
		return
	fi
	for v in 22 21 20 19 18 17; do
		if have "clang-$v" && have "ld.lld-$v"; then
			echo "-$v"
			return
		fi
	done
	die "no clang >= 17 with lld found; run scripts/setup"
}

codename() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# A sources list with SUITE alone, on the mirror that this system is set up to use.
private_sources() {
	local mirror
	# shellcheck disable=SC2016 # apt's own substitution
	mirror=$(apt-get indextargets --format '$(RELEASE) $(SITE)' 'Identifier: Packages' |
		sed -n "s/^$(codename) //p" | head -n 1)
	# Without downloaded lists there are no targets; the addresses are known all the same.
	[ -n "$mirror" ] || mirror=$(apt-get update --print-uris |
		sed -n "s,^'\(.*\)/dists/$(codename)/InRelease'.*,\1,p" | head -n 1)
	[ -n "$mirror" ] || die "no package mirror for $(codename) in this system's apt configuration"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main"
}

# private_apt FOLDER SUITE...: an apt state in FOLDER with these suites alone; apt's options in APT.
# The system's sources, lists and packages have no part in it.
private_apt() {
	local dir=$1 suite
	shift
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/state"
	for suite; do private_sources "$suite"; done >"$dir/sources.list"
	APT=(-o Dir::State="$dir/state" -o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache"
		-o Dir::State::status=/dev/null -o Dir::Etc::sourcelist="$dir/sources.list"
		-o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success=
		-o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
}

# One build at a time in FOLDER; the lock goes with this process.
lock() {
	exec 9>"$1.lock"
	flock -n 9 && return
	say "waiting for another build in $1"
	flock 9
}
